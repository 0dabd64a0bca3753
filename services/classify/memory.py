"""Who wrote in which conversation, and which events were seen: a lane's memory, in event time, bounded.

Keys are 64-bit hashes of scoped ids, so that an entry costs the same whatever the platform's ids look like.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from xxhash import xxh3_64_intdigest

from services.classify.shelf import MOMENT, Shelf
from services.records import Bond, Message, scoped
from services.spans import DAY_MS

MEMORY_MS = 90 * DAY_MS
# Until the memory is this old, a pair that it does not know may still have talked before.
YOUNG_MS = 14 * DAY_MS
MINUTE_S = 60
REPEAT_S = 60 * MINUTE_S
DEFAULT_BYTES = 192 * 1024 * 1024
MAX_WRITERS = 8
MAX_SEEN = 4_000_000
_NEVER_MS = -(1 << 62)

_WRITER = Struct("<Qqq")
_SEEN = Struct("<QI")


def key_of(scoped_id: str) -> int:
    """The 64-bit key of a scoped id."""
    return xxh3_64_intdigest(scoped_id.encode())


class Met(NamedTuple):
    """What a conversation held before a message.

    `heard`: somebody else had written there in the 90 days before; `asked`: somebody else began it, and wrote within
    the day; `answers`: whom the writer answers for the first time.
    """

    heard: bool = False
    asked: bool = False
    answers: tuple[int, ...] = ()


@dataclass(slots=True)
class Memory:
    """Conversations of the last 90 days. `whole`: what it was given is the whole history, so nothing is unknown.

    A conversation is a row: its last message, then each writer with first and last, the longest silent first.
    """

    whole: bool = False
    begin_ms: int | None = None
    shelf: Shelf = field(default_factory=lambda: Shelf(DEFAULT_BYTES))

    def meet(self, conversation: int, writer: int, event_ms: int) -> Met:
        """`writer` writes in `conversation`. A late message counts from its own time."""
        if self.begin_ms is None or event_ms < self.begin_ms:
            self.begin_ms = event_ms
        row = self.shelf.get(conversation)
        if row is None:
            self.shelf.put(conversation, MOMENT.pack(event_ms) + _WRITER.pack(writer, event_ms, event_ms))
            return Met()
        place, own, others = MOMENT.size, 0, list[int]()
        span, begun_ms, heard_ms = (writer, event_ms, event_ms), event_ms + 1, _NEVER_MS
        for known, first_ms, last_ms in _WRITER.iter_unpack(row[MOMENT.size :]):
            if known == writer:
                own, span = place, (writer, min(first_ms, event_ms), max(last_ms, event_ms))
            elif first_ms <= event_ms:
                begun_ms, heard_ms = min(begun_ms, first_ms), max(heard_ms, last_ms)
                others.append(known)
            place += _WRITER.size
        heard = heard_ms > event_ms - MEMORY_MS
        asked = heard_ms > event_ms - DAY_MS and begun_ms < span[1]
        moment = MOMENT.pack(max(MOMENT.unpack_from(row)[0], event_ms))
        if own:
            row = moment + row[MOMENT.size : own] + _WRITER.pack(*span) + row[own + _WRITER.size :]
            self.shelf.put(conversation, row)
            return Met(heard, asked)
        kept = row[MOMENT.size :][-(MAX_WRITERS - 1) * _WRITER.size :]
        self.shelf.put(conversation, moment + kept + _WRITER.pack(writer, event_ms, event_ms))
        return Met(heard, asked, tuple(others))

    def bond(self, message: Message, heard: bool) -> Bond:
        """What is known of the message's pair. `heard`: somebody else wrote in its conversation before."""
        relation = message.relation
        prior = relation.prior_messages_from_recipient if relation else None
        if heard or prior or message.in_reply_to is not None:
            return Bond.WARM
        return Bond.COLD if prior == 0 or self._knows(message) else Bond.UNKNOWN

    def _knows(self, message: Message) -> bool:
        """Whether a pair that the memory does not hold is a pair of strangers."""
        if self.whole:
            return True
        if self.begin_ms is None:
            return False
        created_ms = message.sender.created_ms if message.sender else None
        younger = created_ms is not None and created_ms >= self.begin_ms
        return younger or message.event_ms - self.begin_ms >= YOUNG_MS


@dataclass(slots=True)
class Seen:
    """Events of the last hour of lane time. Values are seconds, one shared object each, to keep an entry small.

    A minute's events are forgotten together, and never change once it is over.
    """

    _second: int = -1
    _events: dict[int, int] = field(default_factory=dict)
    _minutes: dict[int, list[int]] = field(default_factory=dict)

    def repeat(self, message: Message, high_ms: int) -> bool:
        """Whether this event and revision was seen within the hour before `high_ms`, the lane's highest event time."""
        if high_ms // 1000 != self._second:
            self._advance(high_ms // 1000)
        event = key_of(f"{scoped(message.tenant, message.platform, message.event_id)}\n{message.revision}")
        known = self._events.get(event)
        if known is not None and known >= self._second - REPEAT_S:
            return True
        self._events[event] = self._second
        self._minutes.setdefault(self._second // MINUTE_S, []).append(event)
        return False

    def packed(self, minute: int) -> bytes:
        """The events of a minute, for a checkpoint."""
        events = ((event, self._events.get(event, 0)) for event in self._minutes.get(minute, ()))
        return b"".join(_SEEN.pack(event, second) for event, second in events if second // MINUTE_S == minute)

    def load(self, packed: bytes) -> None:
        """Take up the events of a minute; minutes in any order."""
        seconds: dict[int, int] = {}
        for event, second in _SEEN.iter_unpack(packed):
            self._events[event] = seconds.setdefault(second, second)
            self._minutes.setdefault(second // MINUTE_S, []).append(event)
        self._minutes = dict(sorted(self._minutes.items()))
        self._second = max(self._second, *seconds, -1)

    def _advance(self, second: int) -> None:
        self._second = second
        while self._minutes and (len(self._events) > MAX_SEEN or self._is_over(next(iter(self._minutes)))):
            minute = next(iter(self._minutes))
            for event in self._minutes.pop(minute):
                if self._events.get(event, second) // MINUTE_S == minute:
                    del self._events[event]

    def _is_over(self, minute: int) -> bool:
        return minute < (self._second - REPEAT_S) // MINUTE_S
