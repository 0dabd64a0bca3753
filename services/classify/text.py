"""What the classifier sees of a text: the part that is read, folded, its link hosts, and its features.

    visible(text)     what is read of a long text
    fold(text)        the same words however they are disguised: width, case, invisible characters, look-alikes, spacing
    in_letters(text)  the visible part, folded, without digits that stand for letters
    hosts(text)       the hosts it links to
    features(texts)   hashed n-grams of a whole batch, as index matrices for the model's table

Features are laid out on grids: texts of one length class are padded to one width, so that every step is one numpy call
for hundreds of texts. Position i of a grid holds the n-gram that starts at character i, so nothing is packed or sorted;
index 0 means "no feature" and is a row of zeros in the table. What a text becomes depends on that text alone.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from json import dumps

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint32]
Marks = NDArray[np.bool_]
Indices = NDArray[np.int32]
Places = NDArray[np.int64]

HEAD_CHARS = 3_000
TAIL_CHARS = 1_000


def visible(text: str) -> str:
    """The first 3,000 and the last 1,000 characters, which is what is read of a text."""
    return text if len(text) <= HEAD_CHARS + TAIL_CHARS else text[:HEAD_CHARS] + text[-TAIL_CHARS:]


# Format characters, variation selectors, joiners, fillers, and the accents that are stacked on letters to hide a word.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\u0300-\u036f\U000e0000-\U000e0fff]+"
)
# Letters that NFKC leaves alone and nobody writes words with: white on black, and small capitals.
_ORNATE = re.compile("[\u0262\u026a\u0274\u0280\u028f\u0299\u029c\u029f\u1d00-\u1d22\U0001f150-\U0001f189]")
_FROM_ORNATE = {start + i: ord("a") + i for start in (0x1F150, 0x1F170) for i in range(26)} | {
    ord(ornate): letter for ornate, letter in zip("ᴀʙᴄᴅᴇɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ", "abcdeghijklmnoprtuvwyz", strict=True)
}
_SPACED = re.compile(r"(?<!\w)[^\W\d_]([ .\-_*·])[^\W\d_](?:\1[^\W\d_]){2,}(?!\w)")
_APART = re.compile(r"([ .\-_*·])[^\W\d_]\1[^\W\d_]\1")  # what that cannot do without, found in half the time
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[a-zA-Z\u00c0-\u024f]")
_FOREIGN = re.compile("[\u0250-\u02af\u0370-\u03ff\u0400-\u052f\u0530-\u058f\u13a0-\u13ff]")
_CYRILLIC_ALONE = re.compile("[бвгджзийлнптфцчшщъыьэюяёБГДЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯЁ]")

# Letters that are taken for another script's, each before the one it is taken for.
_LOOK_ALIKES = (
    "аa вb еe кk мm нh оo рp сc тt уy хx іi јj ѕs ԁd ԛq ѡw һh ӏl ьb иu пn гr АA ВB ЕE КK МM НH ОO РP "
    "СC ТT УY ХX ІI ЈJ ЅS "
    "αa βb γy εe ιi κk νv οo ρp τt υu χx ωw ηn ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX "
    "օo սu ոn հh ցg եe ԱU ՏS ՕO ᎪA ᏴB ᏟC ᎬE ᎻH ᎫJ ᏦK ᏞL ᎷM ᏢP ᎡR ᏚS ᎢT ᏙV ᎳW ᏃZ "
    "ɑa ɡg ɩi"
)
_TO_LATIN = str.maketrans({pair[0]: pair[1] for pair in _LOOK_ALIKES.split()})
_TO_CYRILLIC = str.maketrans("aABbeEkKMmHoOpPcCTyYxXiIjJsSurn", "аАВьеЕкКМмНоОрРсСТуУхХіІјЈѕЅигп")


def fold(text: str) -> str:
    """The text in one spelling: NFKC, case, without invisible characters, look-alikes and spacing tricks undone.

    A look-alike letter is replaced only in a word that mixes scripts: Cyrillic, Greek or Turkish text stays what it is.
    """
    return _plain(text).lower() if text.isascii() else _plain(text).casefold().replace("i\u0307", "i")


_AMONG_LETTERS = re.compile(r"(?<=[^\W\d_])[0-9](?=[^\W\d_])")
# What 0 to 9 stand for inside a word (m0ney, fr3e).
_MEANT = "oi0eas0t00"


def in_letters(text: str) -> str:
    """The visible part, folded, a digit between two letters as the letter it is written for."""
    return _AMONG_LETTERS.sub(lambda digit: _MEANT[int(digit[0])], fold(visible(text)))


def _plain(text: str) -> str:
    """`fold` without the folding of case, which the features still look at."""
    if not text.isascii():
        text = _undisguised(text)
    return _SPACED.sub(_closed_up, text) if _APART.search(text) else text


def _undisguised(text: str) -> str:
    if not unicodedata.is_normalized("NFKC", text):
        text = unicodedata.normalize("NFKC", text)
    if _INVISIBLE.search(text):
        text = _INVISIBLE.sub("", text)
    if _ORNATE.search(text):
        text = text.translate(_FROM_ORNATE)
    return _WORD.sub(_one_script, text) if _FOREIGN.search(text) and _LATIN.search(text) else text


def _closed_up(match: re.Match[str]) -> str:
    return match[0].replace(match[1], "")


def _one_script(match: re.Match[str]) -> str:
    """A word in the script of its letters that have no twin; Latin if all of them have one."""
    word = match[0]
    if not (_FOREIGN.search(word) and _LATIN.search(word)):
        return word
    return word.translate(_TO_CYRILLIC if _CYRILLIC_ALONE.search(word) else _TO_LATIN)


_LINK = re.compile(
    r"[hH][tT]{2}[pP][sS]?://(?:[^\s/?#@]*@)?(?P<url>[\w.-]+)"
    r"|(?<![\w.@/-])(?P<bare>(?:[\w-]+\.)+[^\W\d_]{2,24})(?=(?P<path>/)|(?![\w-]))"
)
_DOTTED = re.compile(r"\.(?<=[\w-]\.)[^\W\d_]{2}")  # what a link without a scheme cannot do without
_DOMAINS = (
    "com net org info biz io co me app dev ai gg tv ly to be fm shop store link site online xyz top club live page pro "
    "click website space fun vip cc ws us uk de fr es it nl pl ru ua tr br in id jp kr cn eu ch at se no dk fi pt gr "
    "cz ca au nz mx ar cl za ng ke example test "
)


def hosts(text: str) -> tuple[str, ...]:
    """The hosts that the visible part links to, lower case, without `www.`, each once, in order of appearance."""
    if not _DOTTED.search(text) and "://" not in text:
        return ()
    found = (_host(match) for match in _LINK.finditer(visible(text)))
    return tuple(dict.fromkeys(host for host in found if host))


def _host(match: re.Match[str]) -> str:
    """The host of a link; empty where a full stop without a blank only looks like one."""
    host = (match["url"] or match["bare"]).lower().strip("._-").removeprefix("www.")
    told = match["url"] or match["path"] or f"{host.rpartition('.')[2]} " in _DOMAINS
    return host if told and "." in host else ""


# A word, or a few letters of a script that writes without blanks.
_PIECE = re.compile("[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]{1,4}|[^\\s\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text cut into words: `spans` of each in the text as it was written, `text` what features see of them, and the
    place `at` which each begins in that, the blank before it included."""

    spans: list[tuple[int, int]]
    text: str
    at: list[int]


def pieces(text: str) -> Pieces:
    """The words of the visible part and where they stand, for an explanation."""
    cut = Pieces([], "", [])
    folded: list[str] = []
    length, last = 0, -1
    for match in _visible_pieces(text):
        piece = ("" if match[0] == last else " ") + _plain(text[match[0] : match[1]])
        if length + len(piece) > SPEC.max_chars:
            break
        if piece.strip():
            cut.spans.append(match)
            cut.at.append(length)
            folded.append(piece)
            length += len(piece)
        last = match[1]
    return Pieces(cut.spans, "".join(folded)[1:], cut.at)


def _visible_pieces(text: str) -> Iterator[tuple[int, int]]:
    if len(text) <= HEAD_CHARS + TAIL_CHARS:
        yield from (match.span() for match in _PIECE.finditer(text))
        return
    yield from (match.span() for match in _PIECE.finditer(text, 0, HEAD_CHARS))
    yield from (match.span() for match in _PIECE.finditer(text, len(text) - TAIL_CHARS))


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """How texts become features. A model is only good with the spec that it was trained on: `digest` tells.

    `orders`: characters in an n-gram, inside a word and the blank on either side of it; `bits`: the table has 2**bits
    rows and the zeros; `max_chars`: what is left of a folded text; `chunk`: characters in a line of `Grams`.
    """

    version: int = 3
    orders: tuple[int, ...] = (2, 4)
    bits: int = 18
    max_chars: int = 4094
    chunk: int = 16

    @property
    def rows(self) -> int:
        """Rows of the model's table, the zeros of row 0 included."""
        return (1 << self.bits) + 1

    @property
    def width(self) -> int:
        """Rows of the table that a line of text names."""
        return self.chunk * len(self.orders)

    @property
    def digest(self) -> str:
        return sha256(dumps(asdict(self), sort_keys=True).encode()).hexdigest()


SPEC = FeatureSpec()


@dataclass(frozen=True, slots=True)
class Grams:
    """The features of a batch: `rows` [lines, chunk × orders] of the table, 0 for none; `owners` [lines]: whose text
    each line is.

    A text fills one line or more, which stand together and in its order. Of each character a line holds the n-grams
    that begin there, side by side.
    """

    rows: Indices
    owners: Places

    def of(self, texts: Places) -> "Grams":
        """The features of some of the texts, which are counted afresh."""
        wanted = np.flatnonzero(np.isin(self.owners, texts))
        return Grams(self.rows[wanted], np.searchsorted(texts, self.owners[wanted]))


# Characters hashed at once: the temporary arrays of 4 bytes each stay within a core's cache.
_PART_CHARS = 32_768
_BLANK, _DIGIT = 32, 48
# So that what follows the last character of a part can be looked at.
_AFTER = " " * 8
# What fills a text's last line, by how many characters stand there.
_PADS = [" " * (SPEC.chunk - 1 - count) for count in range(SPEC.chunk)]
# The last is for digits of other scripts.
_WRITTEN_FOR = np.frombuffer(f"{_MEANT}0".encode("utf-32-le"), dtype=np.uint32)
_TABLED = 0x1FFFF
# What `_characters` says of a code point beside its letter.
_LETTER = 0xFFFFFF
_WORDY, _SYMBOL, _ODD, _OTHER_SCRIPT, _LATIN_SCRIPT = (1 << bit for bit in range(24, 29))
_MIXED = _OTHER_SCRIPT | _LATIN_SCRIPT
_K1, _K2, _K3 = np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_WORD_SEED, _PAIR_SEED = np.uint32(0x27D4EB2F), np.uint32(0x165667B1)
_BASE = 0x01000193


def features(texts: Sequence[str]) -> Grams:
    """The features of a batch under `SPEC`. Any string is taken, surrogates included."""
    parts = [_grams(part) for part in _parts([visible(text) for text in texts])]
    lines = np.concatenate([np.zeros(0, np.int64), *(sizes for _, sizes in parts)])
    rows = [rows for rows, _ in parts]
    return Grams(
        np.concatenate(rows) if rows else np.zeros((0, SPEC.width), np.int32), np.repeat(np.arange(len(lines)), lines)
    )


def _parts(texts: list[str]) -> Iterator[list[str]]:
    """The texts in parts of about `_PART_CHARS`."""
    start = chars = 0
    for stop, text in enumerate(texts):
        if chars > _PART_CHARS:
            yield texts[start:stop]
            start, chars = stop, 0
        chars += len(text)
    if texts:
        yield texts[start:]


def _grams(texts: list[str]) -> tuple[Indices, Places]:
    """Rows of the table [lines, width], and how many lines each text has."""
    raw, known, lines = _joined(texts)
    odd = _odd(known, lines)
    if odd.any():
        texts = [_plain(text)[: SPEC.max_chars] if is_odd else text for text, is_odd in zip(texts, odd, strict=True)]
        raw, known, lines = _joined(texts)
    return _hashed(raw, known, lines), lines


def exactly(texts: list[str]) -> Grams:
    """The features of texts from `pieces`, which are folded; a row at each character, the blank before it counted."""
    raw, known, lines = _joined(texts)
    return Grams(_hashed(raw, known, lines), np.repeat(np.arange(len(lines)), lines))


def _joined(texts: list[str]) -> tuple[Codes, Codes, Places]:
    """All texts, a blank before each and blanks after it to the end of its last line: the code points, what is known of
    each, and how many lines each text has."""
    lines = np.fromiter(map(len, texts), np.int64, len(texts)) // SPEC.chunk + 1
    stream = [f" {text}{_PADS[len(text) % SPEC.chunk]}" for text in texts]
    raw = np.frombuffer("".join([*stream, _AFTER]).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return raw, _characters()[np.minimum(raw, _TABLED)], lines


def _odd(known: Codes, lines: Places) -> Marks:
    """The texts that `_plain` might change, so that Python looks only at those."""
    starts = (np.cumsum(lines) - lines) * SPEC.chunk
    found = np.bitwise_or.reduceat(known, starts)
    odd: Marks = ((found & _ODD) != 0) | ((found & _MIXED) == _MIXED)
    alone = np.flatnonzero(np.logical_and(*_bounds(known)))
    spaced = alone[:-3][alone[3:] - alone[:-3] == 6]
    odd[np.searchsorted(starts, spaced, side="right") - 1] = True
    return odd


def _hashed(raw: Codes, known: Codes, lines: Places) -> Indices:
    """The rows of the table [lines, width].

    At a word's last two characters the shorter n-grams give way to the pair that the word makes with the one before it,
    whatever symbols lie between, and to the word itself.
    """
    codes = _letters(raw, known)
    rows = _char_rows(codes)
    begins, ends = _bounds(known)
    firsts, lasts = np.flatnonzero(begins), np.flatnonzero(ends)
    words = _words(codes, firsts, lasts)
    written = np.flatnonzero(known[lasts] & _WORDY)
    pairs, ends_of_pairs = words[written], lasts[written]
    owners = np.repeat(np.arange(len(lines)), lines)[ends_of_pairs // SPEC.chunk]
    inside = np.flatnonzero(owners[1:] == owners[:-1]) + 1
    rows[ends_of_pairs[inside] - 1, 0] = _rows((pairs[inside - 1] * _K2 + pairs[inside]) ^ _PAIR_SEED)
    rows[lasts, 0] = _rows(words ^ _WORD_SEED)
    return rows.reshape(-1, SPEC.width)


def _letters(raw: Codes, known: Codes) -> Codes:
    """The letter that stands for each character; a digit alone among letters as the one it is written for."""
    codes = known & np.uint32(_LETTER)
    digits = np.flatnonzero(codes == _DIGIT)
    before, after = digits - 1, digits + 1
    inside = ((known[before] | known[after]) & _WORDY) != 0
    alone = digits[inside & (codes[before] != _DIGIT) & (codes[after] != _DIGIT)]
    written = raw[alone] - np.uint32(_DIGIT)
    codes[alone] = _WRITTEN_FOR[np.minimum(written, len(_WRITTEN_FOR) - 1)]
    return codes


def _char_rows(codes: Codes) -> Indices:
    """The n-gram of each order at each character [characters, orders], inside words and the blanks around them."""
    count = len(codes) - len(_AFTER)
    blank = codes == _BLANK
    hashes = codes[:count] * _K1
    apart = blank[:count] & blank[1 : 1 + count]
    rows = np.empty((count, len(SPEC.orders)), dtype=np.int32)
    for order in range(2, SPEC.orders[-1] + 1):
        hashes *= _K2
        hashes += codes[order - 1 : order - 1 + count]
        if order > 2:
            apart |= blank[order - 2 : order - 2 + count]
        if order in SPEC.orders:
            rows[:, SPEC.orders.index(order)] = _rows(hashes) * ~apart
    return rows


def _bounds(known: Codes) -> tuple[Marks, Marks]:
    """Where words begin and where they end, at the same character for a symbol."""
    wordy, symbol = (known & _WORDY) != 0, (known & _SYMBOL) != 0
    begins, ends = wordy.copy(), wordy.copy()
    begins[1:] &= ~wordy[:-1]
    ends[:-1] &= ~wordy[1:]
    return begins | symbol, ends | symbol


def _words(codes: Codes, firsts: Places, lasts: Places) -> Codes:
    """A hash of each word, the same wherever it stands.

    With powers of p: sum(code × p^place) over the word, divided by p^(place of its first), all modulo 2^32.
    """
    powers, inverses = _powers(1 << len(codes).bit_length())
    terms = codes * powers[: len(codes)]
    sums = np.cumsum(terms, dtype=np.uint32)
    return (sums[lasts] - sums[firsts] + terms[firsts]) * inverses[firsts]


@cache
def _powers(count: int) -> tuple[Codes, Codes]:
    """p, p², … and their inverses modulo 2^32."""
    bases = (_BASE, pow(_BASE, -1, 1 << 32))
    rising, falling = (np.cumprod(np.full(count, base, np.uint32), dtype=np.uint32) for base in bases)
    return rising, falling


def _rows(hashes: Codes) -> Indices:
    """Rows of the table for hashes."""
    mixed = hashes ^ (hashes >> np.uint32(15))
    mixed *= _K3
    mixed >>= np.uint32(32 - SPEC.bits)
    mixed += np.uint32(1)
    return mixed.view(np.int32)


@cache
def _characters() -> Codes:
    """What is known of each code point up to `_TABLED`, which stands for those beyond: the letter that stands for it
    (lower case, no accent, 0 for digits, 32 for blanks); part of a word, a word by itself, or neither; what might make
    a text odd."""
    known = [_letter(char) | _kind(char) | _flags(char) for char in map(chr, range(_TABLED))]
    return np.array([*known, _letter(chr(_TABLED)) | int(_ODD)], dtype=np.uint32)


def _letter(char: str) -> int:
    category = unicodedata.category(char)
    if category[0] == "Z" or category == "Cc":
        return _BLANK
    if category == "Nd":
        return _DIGIT
    lower = char.lower()
    base = unicodedata.normalize("NFD", lower)[0]
    return ord(base if base.isascii() else lower[0])


def _kind(char: str) -> int:
    category = unicodedata.category(char)
    if category[0] in "LNM":
        return _WORDY
    return _SYMBOL if category == "So" else 0


def _flags(char: str) -> int:
    if char.isascii():
        return _LATIN_SCRIPT if char.isalpha() else 0
    combines = unicodedata.combining(char) or not unicodedata.is_normalized("NFKC", "a" + char)
    if combines or _INVISIBLE.match(char) or _ORNATE.match(char):
        return _ODD
    return _OTHER_SCRIPT if _FOREIGN.match(char) else _LATIN_SCRIPT if _LATIN.match(char) else 0
