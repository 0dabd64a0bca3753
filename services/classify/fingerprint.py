"""What near-identical texts share: the words of a text without names, handles, numbers, links and emoji."""

import re
from collections.abc import Collection

from xxhash import xxh3_64_intdigest

from services.classify.text import fold, visible
from services.records import Message

# "ok", "happy birthday" and a one-time code are sent by everybody: fewer words or letters than this is no campaign.
CAMPAIGN_WORDS = 5
CAMPAIGN_LETTERS = 20

_ASIDE = re.compile(r"https?://\S+|www\.\S+|\b[\w-]+(?:\.[\w-]+)+/\S*|[@#]\w+|\{[^}]*\}|%\w+%")
_WORD = re.compile(r"[^\W\d_]+")
_GREETINGS = frozenset(
    {"hi", "hey", "hello", "dear", "hola", "hallo", "salut", "bonjour", "ciao", "ola", "oi", "привет", "merhaba", "yo"}
)


def words(message: Message) -> list[str]:
    """The words that a mass mailer does not change, in their order."""
    found = _WORD.findall(_ASIDE.sub(" ", fold(visible(message.text))))
    names = _names(message)
    return [
        word
        for place, word in enumerate(found)
        if word not in names and not (place and found[place - 1] in _GREETINGS and place < 3)
    ]


def fingerprint(found: Collection[str]) -> int:
    """64 bits of a skeleton; 0 for none."""
    return xxh3_64_intdigest(" ".join(found).encode("utf-8", "surrogatepass")) if found else 0


def is_telling(found: Collection[str]) -> bool:
    """Whether a skeleton says enough that many senders of it are a campaign."""
    return len(found) >= CAMPAIGN_WORDS and sum(map(len, found)) >= CAMPAIGN_LETTERS


def _names(message: Message) -> frozenset[str]:
    person = message.recipient
    if person is None:
        return frozenset()
    return frozenset(_WORD.findall(f"{person.display_name or ''} {person.handle or ''}".casefold()))
