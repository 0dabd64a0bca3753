"""What a sender did in the last day: a window of its messages, and the signals that it gives. Pure, in event time.

A message counts from its own time on, whenever it arrives: a late one lands among its own, and one that is dated back
sees everything that came after it too, so it cannot slip out of a window. Dates in the future are clamped by ingest,
and a window ends a day before its own sender's last message: nobody's date can empty another's.

A window is one row of bytes, and so a million of them fit:

    head     last message, first two-way conversation, how many of those there were, number of cells
    cells    hours of a sender that sent more than is held exactly: a count, and sketches of whom it reached
    entries  the latest messages, oldest first, exactly
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from math import log
from statistics import median
from struct import Struct
from typing import NamedTuple

from services.classify.shelf import MOMENT, Shelf
from services.records import Bond, Message
from services.spans import DAY_MS, HOUR_MS, MINUTE_MS

DEFAULT_BYTES = 256 * 1024 * 1024
# Messages held exactly. What is older than these goes into the cells of its hours, so many at once.
MAX_SENT = 128
FOLDED = 32
# A group is one act: its members count, but not all of them.
MAX_RECIPIENTS = 8
MIN_GAPS, MAX_GAPS = 8, 24
MIN_GAP_MS = 2 * MINUTE_MS
# Messages to strangers from which on a sender's conversations are looked into as well.
BROADCAST = 8
# People written to unasked from which on the words of a conversation are compared.
AROUND = 4

WARM, COLD, UNKNOWN, ANSWERED, WORDY, NOTICE, ASKED = 0, 1, 2, 4, 8, 16, 32
_STRANGE = COLD | UNKNOWN
_UNANSWERED = tuple(bond | rest for bond in (COLD, UNKNOWN) for rest in (0, WORDY, NOTICE, WORDY | NOTICE))
BOND_FLAG = {Bond.WARM: WARM, Bond.COLD: COLD, Bond.UNKNOWN: UNKNOWN}

_HEAD = Struct(">qqHB")
_CELL = Struct("<iI32s32s")
_ENTRY = Struct("<qQIIIIIBB")
_FLAGS = _ENTRY.size - 1
_CELL_BITS = 256


class Sent(NamedTuple):
    """One message in a window, in the order of its entry. Keys are hashes of 64 or 32 bits; 0: none.

    `who`: the recipient, or the conversation where it has several or none is named; `reach`: how many those are;
    `skeleton`, `band_a`, `band_b`: its fingerprint; `flags`: bond, whether answered, whether more than two words, a
    notice, or asked for: said to one who began the conversation, and wrote within the day.
    """

    event_ms: int
    who: int
    skeleton: int
    band_a: int
    band_b: int
    host: int
    event: int
    reach: int
    flags: int


@dataclass(slots=True)
class Windows:
    """The senders of a lane."""

    shelf: Shelf = field(default_factory=lambda: Shelf(DEFAULT_BYTES))

    def __len__(self) -> int:
        return len(self.shelf)

    def get(self, sender: int) -> bytes | None:
        """The window of a sender before its next message."""
        return self.shelf.get(sender)

    def add(self, sender: int, row: bytes | None, sent: Sent) -> bytes:
        """Put a message into its sender's window, which is `row` so far; returns the window."""
        row = _HEAD.pack(sent[0], 0, 0, 0) + _ENTRY.pack(*sent) if row is None else _added(row, sent)
        self.shelf.put(sender, row)
        return row

    def answered(self, sender: int, who: int, conversation: int) -> None:
        """Somebody that a sender had written to wrote back for the first time."""
        row = self.shelf.get(sender)
        if row is not None:
            self.shelf.put(sender, _answered(row, who, conversation))

    def conversed(self, sender: int, sent: Sent) -> None:
        """A sender answered somebody, with a message that is in its window by now."""
        row = self.shelf.get(sender)
        if row is not None and _is_own(row, sent.skeleton.to_bytes(4, "little"), sent.flags):
            self.shelf.put(sender, _befriended(row, sent.event_ms))

    def forget(self, sender: int, event: int) -> None:
        """Take a message back that was wrongly counted."""
        row = self.shelf.get(sender)
        if row is not None:
            start = _start(row)
            kept = (_ENTRY.pack(*entry) for entry in _ENTRY.iter_unpack(row[start:]) if entry[6] != event)
            self.shelf.put(sender, row[:start] + b"".join(kept))


def _start(row: bytes) -> int:
    """Where the entries of a row begin."""
    return _HEAD.size + row[_HEAD.size - 1] * _CELL.size


def _added(row: bytes, sent: Sent) -> bytes:
    """The row with a message among its own, without what is a day older than its last."""
    event_ms, last_ms = sent[0], MOMENT.unpack_from(row)[0]
    start = _start(row)
    if event_ms < last_ms:
        return row if event_ms <= last_ms - DAY_MS else _inserted(row, start, sent)
    begin, horizon_ms = start, event_ms - DAY_MS
    while begin < len(row) and _at(row, begin) <= horizon_ms:
        begin += _ENTRY.size
    crowded = len(row) - begin >= MAX_SENT * _ENTRY.size
    if crowded or start > _HEAD.size:
        end = begin + FOLDED * _ENTRY.size if crowded else begin
        cells = _folded(row[_HEAD.size : start], _ENTRY.iter_unpack(row[begin:end]), horizon_ms)
        head = row[MOMENT.size : _HEAD.size - 1] + bytes((len(cells),)) + b"".join(cells)
        return MOMENT.pack(event_ms) + head + row[end:] + _ENTRY.pack(*sent)
    kept = row[MOMENT.size :] if begin == start else row[MOMENT.size : start] + row[begin:]
    return MOMENT.pack(event_ms) + kept + _ENTRY.pack(*sent)


def _inserted(row: bytes, place: int, sent: Sent) -> bytes:
    while place < len(row) and _at(row, place) <= sent[0]:
        place += _ENTRY.size
    return row[:place] + _ENTRY.pack(*sent) + row[place:]


def _at(row: bytes, place: int) -> int:
    """The moment of an entry."""
    return int.from_bytes(row[place : place + 8], "little", signed=True)


def _folded(cells: bytes, entries: Iterable[tuple[int, ...]], horizon_ms: int) -> list[bytes]:
    """The cells of the last day with these entries in them."""
    hours = {hour: (count, *map(_bits, both)) for hour, count, *both in _CELL.iter_unpack(cells)}
    for event_ms, who, *_, reach, flags in entries:
        hour = event_ms // HOUR_MS
        count, cold, warm = hours.get(hour, (0, 0, 0))
        marks = 0
        for other in range(reach):
            marks |= 1 << ((who + other) % _CELL_BITS)
        strange = _is_strange(flags)
        hours[hour] = (count + 1, cold | marks if strange else cold, warm if strange else warm | marks)
    kept = sorted(hour for hour in hours if (hour + 1) * HOUR_MS > horizon_ms)[-25:]
    return [
        _CELL.pack(hour, hours[hour][0], *(bits.to_bytes(32, "little") for bits in hours[hour][1:])) for hour in kept
    ]


def _bits(sketch: bytes) -> int:
    return int.from_bytes(sketch, "little")


def _is_strange(flags: int) -> bool:
    return flags & (_STRANGE | ANSWERED) in (COLD, UNKNOWN)


def _answered(row: bytes, who: int, conversation: int) -> bytes:
    """The row with the messages to somebody marked as answered, and a two-way conversation more if it was one."""
    own = False
    for key in (who, conversation):
        for place in _places(row, key.to_bytes(8, "little")):
            mark = place + _FLAGS
            own = own or _is_own(row, row[place + 16 : place + 20], row[mark])
            row = row[:mark] + bytes((row[mark] | ANSWERED,)) + row[mark + 1 :]
    return _befriended(row, _HEAD.unpack_from(row)[0]) if own else row


def _places(row: bytes, who: bytes) -> Iterator[int]:
    """Where the entries of somebody begin."""
    start = _start(row)
    found = row.find(who, start)
    while found >= 0:
        if (found - start) % _ENTRY.size == 8:
            yield found - 8
        found = row.find(who, found + 1)


def _is_own(row: bytes, skeleton: bytes, flags: int) -> bool:
    """Whether a message earns trust: more than two words, and sent once."""
    return bool(flags & WORDY) and row.count(skeleton, _start(row)) <= 1


def _befriended(row: bytes, event_ms: int) -> bytes:
    last_ms, since_ms, partners, cells = _HEAD.unpack_from(row)
    return _HEAD.pack(last_ms, since_ms or event_ms, min(partners + 1, 65_535), cells) + row[_HEAD.size :]


def is_broadcasting(row: bytes | None) -> bool:
    """Whether a window holds more messages to strangers than others, and enough of them to tell."""
    if row is None or len(row) < _HEAD.size + BROADCAST * _ENTRY.size:
        return False
    flags = row[_start(row) + _FLAGS :: _ENTRY.size]
    strange = sum(map(flags.count, _UNANSWERED))
    return strange >= BROADCAST and 2 * strange > len(flags)


def is_writing_around(row: bytes | None) -> bool:
    """Whether a window holds messages to several people who had not asked."""
    if row is None or len(row) < _HEAD.size + AROUND * _ENTRY.size:
        return False
    places = range(_start(row), len(row), _ENTRY.size)
    return len({row[place + 8 : place + 16] for place in places if not row[place + _FLAGS] & ASKED}) >= AROUND


def signals(row: bytes, sent: Sent, message: Message, bond: Bond, broadcasting: bool) -> dict[str, float]:
    """The behaviour numbers of a message, itself counted, from its sender's window. Zeros are left out.

    A conversation excuses what is said in it, but no broadcast: there the window is asked only for the same words to
    strangers, and for the same words or link to anybody who did not ask.
    """
    if bond is not Bond.WARM:
        return _pair(message) | _nonzero(_window(row, sent)) | _kind(sent)
    told = _broadcast(row, sent) if broadcasting else {}
    if (sent.flags & WORDY or sent.host) and not sent.flags & ASKED:
        told |= _spread(row, sent)
    return _nonzero(told)


def _nonzero(told: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in told.items() if value}


def _pair(message: Message) -> dict[str, float]:
    """What the event says of sender and pair."""
    found: dict[str, float] = {}
    relation, sender, event_ms = message.relation, message.sender, message.event_ms
    if relation is not None:
        if relation.followed_ms is not None and event_ms >= relation.followed_ms:
            found["seconds_since_follow"] = (event_ms - relation.followed_ms) / 1000
        if relation.recipient_follows_sender and relation.sender_follows_recipient:
            found["mutual_follow"] = 1.0
    if sender is not None and sender.created_ms is not None and event_ms >= sender.created_ms:
        found["account_days"] = (event_ms - sender.created_ms) // DAY_MS
    return found


def _window(row: bytes, sent: Sent) -> dict[str, float]:
    """Reach among strangers: how many, how many got the same words or link, how evenly; less those who talk back."""
    event_ms, reach, flags = sent[0], sent[7], sent[8]
    if len(row) == _HEAD.size + _ENTRY.size:  # most who write to a stranger do it once
        strangers = reach if flags & COLD else reach / 2
        return dict.fromkeys(_MESSAGES, 1) | dict.fromkeys(_STRANGERS, strangers)
    _, since_ms, partners, cells = _HEAD.unpack_from(row)
    start, hour_ms = _HEAD.size + cells * _CELL.size, event_ms - HOUR_MS
    entries = list(_ENTRY.iter_unpack(row[start:]))
    hours = _Hours.of(row[_HEAD.size : start]) if cells else _NO_HOURS
    cold, talking_back, copied, linked = _reach(entries, sent)
    talking = hours.with_warm(talking_back)
    hour = hours.with_cold(sum([weight for at_ms, weight in cold.values() if at_ms > hour_ms]), cold, hour_ms)
    day = hours.with_cold(sum([weight for _, weight in cold.values()]), cold, 0)
    return {
        "messages_1m": len(entries) - bisect_left(entries, (event_ms - MINUTE_MS + 1,)),
        "messages_1h": len(entries) - bisect_left(entries, (hour_ms + 1,)) + hours.count(hour_ms),
        "messages_24h": len(entries) + hours.count(0),
        "cold_recipients_1h": hour,
        "cold_recipients_24h": day,
        "partners_24h": talking,
        "one_sided_1h": max(hour - talking, 0),
        "one_sided_24h": max(day - talking, 0),
        "repeats_1h": max(sum([at_ms > hour_ms for at_ms in copied.values()]) - 1 - talking, 0),
        "repeats_24h": max(len(copied) - 1 - talking, 0),
        "link_repeats_24h": max(len(linked) - 1 - talking, 0),
        "even_gaps": _evenness(entries) if len(cold) > MIN_GAPS else 0,
        "trust": min(partners, (event_ms - since_ms) // DAY_MS),
    }


_MESSAGES = ("messages_1m", "messages_1h", "messages_24h")
_STRANGERS = ("cold_recipients_1h", "cold_recipients_24h", "one_sided_1h", "one_sided_24h")


def _kind(sent: Sent) -> dict[str, float]:
    """What a text is worth that says little, or that names a code or an order."""
    found: dict[str, float] = {}
    if not sent[8] & WORDY and not sent[5] and sent[7] == 1:
        found["short_text"] = 1
    if sent[8] & NOTICE:
        found["notice"] = 1
    return found


def _broadcast(row: bytes, sent: Sent) -> dict[str, float]:
    """How many strangers got what is said here, less those in conversation."""
    start = _start(row)
    reach = _reach(_ENTRY.iter_unpack(row[start:]), sent)
    talking = _Hours.of(row[_HEAD.size : start]).with_warm(reach.partners)
    return {"broadcast_24h": max(len(reach.copied) - talking, 0)}


def _spread(row: bytes, sent: Sent) -> dict[str, float]:
    """How many others got these words, or this link within the hour, who had not asked."""
    event_ms, _, skeleton, band_a, band_b, host, _, _, flags = sent
    hour_ms = event_ms - HOUR_MS
    words, links = set[int](), set[int]()
    for at_ms, who, text, a, b, link, _, _, marks in _ENTRY.iter_unpack(row[_start(row) :]):
        if marks & ASKED:
            continue
        if text == skeleton or (band_a and (a == band_a or b == band_b)):
            words.add(who)
        if link == host and at_ms > hour_ms:
            links.add(who)
    return {
        "word_spread_24h": len(words) - 1 if flags & WORDY else 0,
        "link_spread_1h": len(links) - 1 if host else 0,
    }


class _Reach(NamedTuple):
    """The recipients of a window: strangers with the moment and weight of the last message, copies of a text, and a
    link, by recipient; and who talks back."""

    cold: dict[int, tuple[int, float]]
    partners: set[int]
    copied: dict[int, int]
    linked: set[int]


def _reach(entries: Iterable[tuple[int, ...]], sent: Sent) -> _Reach:
    found = cold, partners, copied, linked = _Reach({}, set(), {}, set())
    _, _, skeleton, band_a, band_b, host, _, _, _ = sent
    for event_ms, who, text, a, b, link, _, reach, flags in entries:
        if not flags & _STRANGE or flags & ANSWERED:
            partners.add(who)
            continue
        cold[who] = (event_ms, reach if flags & COLD else reach / 2)
        if (skeleton and text == skeleton) or (band_a and (a == band_a or b == band_b)):
            copied[who] = event_ms
        if host and link == host:
            linked.add(who)
    for who in partners & cold.keys() if partners else ():
        del cold[who]
        copied.pop(who, None)
        linked.discard(who)
    return found


class _Hours(NamedTuple):
    """The cells of a window: hour, messages, and sketches of the strangers and the others reached."""

    cells: list[tuple[int, int, bytes, bytes]]

    @classmethod
    def of(cls, cells: bytes) -> "_Hours":
        return cls(list(_CELL.iter_unpack(cells)))

    def count(self, begin_ms: int) -> int:
        return sum(count for hour, count, _, _ in self.cells if (hour + 1) * HOUR_MS > begin_ms)

    def with_cold(self, exact: float, recent: Iterable[int], begin_ms: int) -> float:
        """Distinct strangers since a moment: `exact` so many in the entries, `recent` all that are there."""
        sketches = [cold for hour, _, cold, _ in self.cells if (hour + 1) * HOUR_MS > begin_ms]
        return max(exact, _estimate(recent, sketches)) if sketches else exact

    def with_warm(self, recent: set[int]) -> float:
        """Distinct ones in conversation."""
        return max(len(recent), _estimate(recent, [cell[3] for cell in self.cells])) if self.cells else len(recent)


_NO_HOURS = _Hours([])


def _estimate(recent: Iterable[int], sketches: Iterable[bytes]) -> int:
    """How many distinct ones set the bits of sketches (linear counting), or would: within a tenth up to 500, 1,400
    when all are set."""
    bits = 0
    for who in recent:
        bits |= 1 << who % _CELL_BITS
    for sketch in sketches:
        bits |= _bits(sketch)
    clear = _CELL_BITS - bits.bit_count()
    return round(_CELL_BITS * log(_CELL_BITS / max(clear, 1)))


def _evenness(entries: Iterable[tuple[int, ...]]) -> float:
    """0..1: how even the latest gaps between messages to strangers are; 0 where they are few, or short: who pastes a
    text again and again does that evenly too. 1 less their median deviation, as a share of their median: a pause or
    two, or a lost message, change little."""
    moments = [entry[0] for entry in entries if _is_strange(entry[8])][-MAX_GAPS - 1 :]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    middle = median(gaps)
    if middle < MIN_GAP_MS:
        return 0.0
    return round(max(1 - median(abs(gap - middle) for gap in gaps) / middle, 0.0), 3)
