"""What near-identical texts share: the words of a text without names, handles, numbers, links and emoji.

Three keys. The skeleton is those words in their order. The two bands are sketches of which words they are, the least
and the greatest of their hashes (MinHash's bottom-k): a text in which a word or two was exchanged, added or dropped
shares at least one of them more often than not. Four words in each: at three, 3 of a simulated day's 27,000 first
messages shared a band with ten other senders by chance, at two 2,100.
"""

import re
from collections.abc import Collection, Sequence
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from services.classify.text import fold, hosts, visible
from services.records import Message

# "ok" and "happy birthday" are sent by everybody: fewer words or letters are no campaign. So are "is this still
# available?" and "merry Christmas to you and your family": so few letters must lead somewhere, by a link or a handle.
CAMPAIGN_WORDS = 5
CAMPAIGN_LETTERS = 20
ANYBODYS_LETTERS = 40
# A notice names what it is about: a code, an order, a flight. Up to so many words with such a number, and no link.
NOTICE_WORDS = 30
# Letters of a word that tells texts apart, how many such words a sketch needs, and how many make a band.
LONG = 4
SKETCHED = 6
ROWS = 4

_ASIDE = re.compile(r"[/@#{}%.](?:(?<!\.)|(?<=\w\.)(?=\w))")  # in links, handles, tags, slots, shares; in no word
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(f"[{_UNSPACED}]{{1,2}}|[^\\W\\d_{_UNSPACED}]+")
_ASCII_WORD = re.compile("[a-z]+")
_HANDLE = re.compile(r"[@#]\w")
# A code, an order's number, the year of a date. A round one is an amount ("from 100 to 5000").
_REFERENCE = re.compile(r"(?<![\w$€£₹¥.,+])(?=[A-Z]*\d)(?![A-Z]*(?:\d?\d00|\d+000)(?![\d-]))[A-Z\d-]{4,}(?![\w%$€£₹¥])")
_DIGIT = re.compile(r"\d")
_GREETINGS = frozenset(
    {"hi", "hey", "hello", "dear", "hola", "hallo", "salut", "bonjour", "ciao", "ola", "oi", "привет", "merhaba", "yo"}
)
_GREETING = "hello"  # which of them it is tells no texts apart
_ROWS = Struct(f"<{ROWS}Q")


class Prints(NamedTuple):
    """The keys of a text, 64 bits each; 0: none. `words`: how many it has, names and numbers aside; `notice`: it tells
    of a code, an order or the like; `telling`: it says enough that many senders of it are a campaign."""

    skeleton: int = 0
    band_a: int = 0
    band_b: int = 0
    words: int = 0
    notice: bool = False
    telling: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """What campaigns look a text up by, the most tolerant first; none where it says too little."""
        if not self.telling:
            return ()
        bands = (f"a{self.band_a:016x}", f"b{self.band_b:016x}") if self.band_a else ()
        return (*bands, f"{self.skeleton:016x}")


def words(message: Message) -> list[str]:
    """The words that a mass mailer does not change, in their order."""
    text = fold(visible(message.text))
    if _ASIDE.search(text):
        text = " ".join([word for word in text.split() if not _ASIDE.search(word)])
    found: list[str] = (_ASCII_WORD if text.isascii() else _WORD).findall(text)
    person = message.recipient
    names = person.display_name.casefold().split() if person is not None and person.display_name else ()
    if any(name in found for name in names):
        found = [word for word in found if word not in names]
    for place in (2, 1):
        if len(found) > place and found[place - 1] in _GREETINGS:
            del found[place]
    if found and found[0] in _GREETINGS:
        found[0] = _GREETING
    elif len(found) > CAMPAIGN_WORDS:
        del found[0]  # a name may lead without one
    return found


def prints(message: Message) -> Prints:
    """The fingerprint of a message."""
    found = words(message)
    if not found:
        return Prints()
    skeleton = xxh3_64_intdigest(" ".join(found).encode())
    notice = len(found) <= NOTICE_WORDS and _is_notice(message.text)
    telling = not notice and len(found) >= CAMPAIGN_WORDS and _is_somebodys(found, message.text)
    sketched = _sketched(found, message.text) if telling else ()
    if len(sketched) < SKETCHED:
        return Prints(skeleton, 0, 0, len(found), notice, telling)
    hashes = sorted(map(xxh3_64_intdigest, map(str.encode, sketched)))
    return Prints(skeleton, _band(hashes[:ROWS]), _band(hashes[-ROWS:]), len(found), notice, telling)


def _sketched(found: Sequence[str], text: str) -> Collection[str]:
    """The words that tell a text apart: the long ones, or all where those are few and the text leads somewhere. What
    people ask of strangers in short words ("could you do 20 for it?") they ask in much the same ones."""
    long = {word for word in found if len(word) >= LONG or not word.isascii()}
    return long if len(long) >= SKETCHED or not _leads_somewhere(text) else set(found)


def _is_somebodys(found: Sequence[str], text: str) -> bool:
    """Whether a text says more than what anybody may say."""
    letters = sum(map(len, found))
    return letters >= ANYBODYS_LETTERS or (letters >= CAMPAIGN_LETTERS and _leads_somewhere(text))


def _is_notice(text: str) -> bool:
    return bool(_DIGIT.search(text) and _REFERENCE.search(text) and not _leads_somewhere(text))


def _leads_somewhere(text: str) -> bool:
    return bool(_HANDLE.search(text) or hosts(text))


def _band(hashes: Sequence[int]) -> int:
    return xxh3_64_intdigest(_ROWS.pack(*hashes))
