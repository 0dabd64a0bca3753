"""What is written: texts from our own corpus by role, dealt, composed, reworded and personalised.

A deck deals every row a few times as it stands. After that it composes: pieces of different rows, reworded, so that in
a long simulation ten strangers do not happen to send the same words, which would be a campaign.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Generic, TypeVar

from services import codec
from services.cli.simulate.words import SHORT_REPLIES, SYNONYMS
from services.errors import BadSetup
from services.settings import ROOT

CORPUS = ROOT / "models" / "corpus"

T = TypeVar("T")
Row = tuple[str, str]
"""Text and corpus category."""

# Roles of legitimate rows, by category. The corpus spells some categories in several ways.
_LEGIT = {
    "chat": "personal_chat arranging money_between_people sharing_link thanks friend-chat friends family flatmates",
    "first": "introduction personal_intro introduction_mutual question feedback thanks ask contact_request collab-ask "
    "work quote",
    "ask": "question quote_request customer-inquiry customer-question customer_question order_question complaint "
    "customer_complaint license_problem buyer client-question support-question refund_request buyer_to_seller",
    "answer": "customer_service support-reply support_reply support-staff support_staff reply-to-inquiry seller-reply "
    "shop_reply staff-reply staff_reply quote_reply",
    "notice": "notification legit_notification order_notice login-code bank-alert order-update",
    "club": "community event_coordination mailing_list organizer-note",
    "group": "community arranging event_coordination personal_chat",
    "refusal": "decline_pitch polite_decline decline_recruiter decline_invitation",
}
# Kinds of automated rows.
_AUTO = {
    "follow_thanks": "follow_thanks follow-thanks thanks-for-follow thanks-follow follow-promo",
    "pitch": "pitch pitch_product sales-pitch b2b-pitch agency-pitch freelance-pitch cold_offer linkedin_pitch",
    "finance": "finance crypto_finance hype hype_opportunity",
    "giveaway": "giveaway giveaway_scam phishing",
    "adult": "adult",
    "cross_platform": "cross_platform cross_platform_connect",
    "engagement_bait": "engagement_bait survey",
    "recruiting": "recruiting recruiting_mass fake-job",
    "newsletter": "newsletter newsletter_content",
    "shop": "shop",
    "music": "music music-promo",
    "opener": "opener bot-opener",
}
LANGUAGES = ("en", "es", "pt", "de", "fr", "ru", "tr", "it", "id")
_FEWEST = 8

_SLOT = re.compile(r"\{\{?[^{}\n]{1,24}\}?\}")
_GREETING = re.compile(r"^(hi|hey|hello|dear|hola|olá|oi|bonjour|salut|hallo|ciao|merhaba|halo)\b(?: there)?", re.I)
_CALLED = re.compile(
    r"^(?:Hi|Hey|Hello|Dear|Hola|Olá|Bonjour|Hallo|Ciao) "
    r"(?!Sir|Madam|Customer|Friend|Everyone|All|There|Follower|Valued|User)([A-Z][a-z]{2,11})\b"
)
_LINK = re.compile(r"https?://\S+|\b[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}/\S*", re.I)
_NUMBER = re.compile(r"\d{2,}")
_SELF = re.compile(r"\bI\b|\b[Mm]y\b|\bme\b")
_PIECE = re.compile(r"(?<=[.!?…])\s+|\n+")
_CLAUSE = re.compile(r"(?<=[,;:])\s+")
_EMOJI = ("😊", "🙌", "🔥", "✨", "🚀", "❤️", "🙏", "👇", "💯", "🎉", "😉", "👋")
_PALETTE = 4


def _pieces(text: str) -> list[str]:
    """Sentences, long ones cut at commas: what a composed text is made of."""
    found: list[str] = []
    for sentence in _PIECE.split(text):
        found += _CLAUSE.split(sentence) if len(sentence) > 70 else [sentence]
    return [piece for piece in found if 12 <= len(piece) <= 90]


def reword(text: str, rng: Random, most: int) -> str:
    """The text with up to so many words exchanged for others of about the same meaning."""
    words = text.split(" ")
    places = [place for place, word in enumerate(words) if word.lower() in SYNONYMS]
    rng.shuffle(places)
    for place in places[:most]:
        other = pick(SYNONYMS[words[place].lower()], rng)
        words[place] = other.capitalize() if words[place][0].isupper() else other
    return " ".join(words)


def pick(choices: Sequence[T], rng: Random) -> T:
    return choices[int(rng.random() * len(choices))]


class Shuffled(Generic[T]):
    """The items in shuffled order, again and again in a new one: none comes twice before all have come once."""

    def __init__(self, items: Sequence[T], rng: Random) -> None:
        self._items, self._rng = list(items), rng
        self._next = len(self._items)
        self.passes = 0

    def deal(self) -> T:
        if self._next == len(self._items):
            self._rng.shuffle(self._items)
            self._next, self.passes = 0, self.passes + 1
        self._next += 1
        return self._items[self._next - 1]


class Deck:
    """Rows of one role and language, dealt in shuffled order; from the fourth pass on, composed.

    `filler`: where the further pieces of a composed text come from, else from the same rows.
    """

    plain_passes = 3

    def __init__(self, rows: Sequence[Row], rng: Random, filler: "Deck | None" = None) -> None:
        self._rows, self._rng, self._filler = rows, rng, filler or self
        self._dealt = Shuffled(rows, rng)
        self._split: Shuffled[Row] | None = None

    def deal(self) -> Row:
        """A text and its category."""
        row = self._dealt.deal()
        return row if self._dealt.passes <= self.plain_passes else self.compose()

    def any(self) -> Row:
        """Any row, as it stands."""
        return pick(self._rows, self._rng)

    def piece(self) -> Row:
        """A sentence, or part of a long one, and its category."""
        if self._split is None:
            split = [(piece, kind) for text, kind in self._rows for piece in _pieces(text)]
            self._split = Shuffled(split or self._rows, self._rng)
        return self._split.deal()

    def compose(self) -> Row:
        """Pieces of different rows, none of them half of the whole, some words exchanged."""
        first, kind = self.piece()
        parts = [first, self._filler.piece()[0]]
        while len(parts) < 5 and 2.2 * max(map(len, parts)) > sum(map(len, parts)):
            parts.append(self._filler.piece()[0])
        return reword(" ".join(parts), self._rng, 2), kind


class Texts:
    """Decks by role and language; a language with too few rows of a role gets English ones."""

    def __init__(self, rng: Random, corpus: Path = CORPUS) -> None:
        self._rng = rng
        self._rows = _by_role(corpus)
        self._decks: dict[tuple[str, str], Deck] = {}

    def deck(self, role: str, language: str = "en") -> Deck:
        found = self._decks.get((role, language))
        if found is None:
            rows = self._rows.get((role, language), [])
            enough = len(rows) >= _FEWEST or language == "en"
            filler = self.deck("chat", language) if role in ("first", "ask") else None
            found = Deck(rows, self._rng, filler) if enough else self.deck(role)
            self._decks[role, language] = found
        return found

    def reply(self, language: str) -> Row:
        """What is said back in a chat: often a word or two."""
        if self._rng.random() < 0.3:
            return pick(SHORT_REPLIES, self._rng), "short"
        return self.deck("chat", language).any()


@cache
def _by_role(corpus: Path) -> dict[tuple[str, str], list[Row]]:
    """Rows by (role, language); raises BadSetup where the corpus is not there."""
    roles: dict[tuple[str, str], list[str]] = {}
    for label, table in (("legit", _LEGIT), ("auto", _AUTO)):
        for role, categories in table.items():
            for category in categories.split():
                roles.setdefault((label, category), []).append(role)
    found: dict[tuple[str, str], list[Row]] = {}
    for row in _read(corpus):
        for role in roles.get((row["label"], row["category"]), ()):
            if _fits(role, row["text"]):
                found.setdefault((role, row["lang"]), []).append((row["text"], row["category"]))
    if not found:
        raise BadSetup(f"no texts in {corpus}: simulate reads models/corpus of a checkout")
    return found


def _read(corpus: Path) -> Iterable[dict[str, str]]:
    for path in sorted(corpus.glob("**/*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            yield from (codec.loads_object(line) for line in lines if line.strip())


def _fits(role: str, text: str) -> bool:
    """A notice has a number in it and nobody who says "I"; what goes to a whole club is not a word or two."""
    if role == "notice":
        return bool(_NUMBER.search(text)) and len(text) < 300 and not _SELF.search(text)
    return role != "club" or len(text) >= 60


@dataclass(slots=True, frozen=True)
class Style:
    """What a sender of one text to many changes from one to the next."""

    name: bool = False
    emoji: bool = False
    numbers: bool = False
    links: bool = False
    words: int = 0

    @classmethod
    def drawn(cls, rng: Random) -> "Style":
        return cls(rng.random() < 0.6, rng.random() < 0.5, rng.random() < 0.35, rng.random() < 0.3)


class Template:
    """One text for many: `fill` puts in the recipient's name, changes the emoji, the numbers, the link's tail."""

    def __init__(self, row: Row, style: Style, rng: Random) -> None:
        self.kind = row[1]
        self._text, self._style = row[0], style
        self._palette = tuple(rng.sample(_EMOJI, _PALETTE))
        called = _CALLED.match(self._text)
        if called:
            self._text = self._text[: called.start(1)] + "{name}" + self._text[called.end(1) :]
        elif style.name and not _SLOT.search(self._text):
            self._text = _GREETING.sub(r"\1 {name}", self._text, count=1)
            if "{name}" not in self._text:
                self._text = "Hey {name}! " + self._text

    def fill(self, name: str, rng: Random) -> str:
        style = self._style
        text = _SLOT.sub(name, self._text)
        if style.words:
            text = reword(text, rng, style.words)
        if style.links:
            text = _LINK.sub(lambda link: f"{link[0]}?r={rng.randrange(36**3):x}", text)
        if style.numbers:
            text = _outside_links(text, lambda part: _NUMBER.sub(lambda digits: _same_length(digits[0], rng), part))
        if style.emoji and rng.random() < 0.8:
            text = f"{text} {pick(self._palette, rng)}"
        return text


def _outside_links(text: str, change: Callable[[str], str]) -> str:
    end, parts = 0, []
    for link in _LINK.finditer(text):
        parts += [change(text[end : link.start()]), link[0]]
        end = link.end()
    return "".join([*parts, change(text[end:])])


def _same_length(digits: str, rng: Random) -> str:
    return str(rng.randrange(10 ** (len(digits) - 1), 10 ** len(digits)))
