"""A lane's state in the log: piece by piece into `dm.memory`, and back. Pure.

Nothing pauses for a snapshot: a few pieces go out a second, each as it is at that moment, with the offset that it
reflects. What is written later may lean on what was written before it, never the other way round:

    head        highest event time, the memory's begin, the events of the minute under way
    seen        the other minutes of the last hour: they do not change any more
    talks       buckets of conversations
    senders     buckets of windows: what goes in there depends on conversations, and on what was seen

A start takes the newest generation that is whole, and reads `dm.messages` again from its head on. What a record before
a piece's offset would change there has happened (`Shelf.offset`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from services import codec
from services.classify.shelf import BUCKETS
from services.classify.stage import Looks, State
from services.records import VERSION, Checkpoint, Output
from services.spans import MINUTE_MS
from services.topics import MEMORY

PIECES_A_SECOND = 16
MINUTES = 62
HEAD, SEEN, TALKS, SENDERS = "head", "seen", "talks", "senders"
PIECES = (
    HEAD,
    *(f"{SEEN}/{number}" for number in range(MINUTES)),
    *(f"{TALKS}/{number}" for number in range(BUCKETS)),
    *(f"{SENDERS}/{number}" for number in range(BUCKETS)),
)

_HEAD = Struct("<qq")
_NEVER = -(2**63)


class Mark(NamedTuple):
    """What a lane commits with an offset, as of that record: the newest whole generation, 0 for none, and its budget of
    second looks."""

    generation: int
    saved: int
    received_ms: int

    @classmethod
    def of(cls, generation: int, looks: Looks) -> "Mark":
        return cls(generation, looks.saved, looks.received_ms)

    @classmethod
    def read(cls, metadata: str) -> "Mark | None":
        """The mark of a committed offset; None where there is none."""
        numbers = [int(number) for number in metadata.split() if number.isdecimal()]
        return cls(*numbers) if len(numbers) == len(cls._fields) else None

    @property
    def metadata(self) -> str:
        return " ".join(map(str, self))

    @property
    def looks(self) -> Looks:
        return Looks(self.saved, self.received_ms)


@dataclass(slots=True)
class Writer:
    """Writes generation after generation, each named by the clock's milliseconds when it was begun, or one more.

    `whole`: the newest that is complete; 0: none yet.
    """

    partition: int
    whole: int = 0
    _generation: int = 0
    _next: int = 0
    _last_ms: int = 0
    _minute: int = 0

    def due(self, state: State, offset: int, now_ms: int) -> Iterator[Output]:
        """The pieces of a state that reflects every record before `offset`, at most once a second of `now_ms`."""
        if now_ms - self._last_ms < 1000:
            return
        self._last_ms = now_ms
        for _ in range(PIECES_A_SECOND):
            if self._next == 0:
                self._begin(state, now_ms)
            yield self._output(PIECES[self._next], state, offset, now_ms)
            self._next += 1
            if self._next == len(PIECES):
                self.whole, self._next = self._generation, 0

    def _begin(self, state: State, now_ms: int) -> None:
        """Of the other parity than the last whole one: they have different keys, and compaction keeps both."""
        self._generation = now_ms if (now_ms - self.whole) % 2 else now_ms + 1
        self._minute = state.high_ms // MINUTE_MS

    def _output(self, piece: str, state: State, offset: int, now_ms: int) -> Output:
        value = Checkpoint(
            v=VERSION, generation=self._generation, piece=piece, offset=offset, state=self._packed(piece, state)
        )
        key = f"{self.partition}/{self._generation % 2}/{piece}"
        return Output(
            topic=MEMORY, key=key.encode(), value=codec.encode(value), timestamp_ms=now_ms, partition=self.partition
        )

    def _packed(self, piece: str, state: State) -> bytes:
        kind, _, number = piece.partition("/")
        if kind == TALKS:
            return state.memory.shelf.packed(int(number))
        if kind == SENDERS:
            return state.windows.shelf.packed(int(number))
        if kind == SEEN:
            return state.seen.packed(self._minute - 1 - int(number))
        begin_ms = state.memory.begin_ms
        head = _HEAD.pack(state.high_ms, _NEVER if begin_ms is None else begin_ms)
        return head + state.seen.packed(self._minute)


@dataclass(slots=True)
class Reading:
    """Takes a generation back, piece by piece. `begin`: where `dm.messages` is to be read again from."""

    generation: int
    begin: int = 0
    _left: set[str] = field(default_factory=lambda: set(PIECES))

    @property
    def is_whole(self) -> bool:
        return not self._left

    def take(self, checkpoint: Checkpoint, state: State) -> None:
        """Put a piece into a state; one of another generation is passed over."""
        if checkpoint.generation != self.generation:
            return
        self._left.discard(checkpoint.piece)
        kind, _, number = checkpoint.piece.partition("/")
        load: dict[str, Callable[[], None]] = {
            HEAD: lambda: self._begin(checkpoint, state),
            SEEN: lambda: state.seen.load(checkpoint.state),
            TALKS: lambda: state.memory.shelf.load(int(number), checkpoint.state, checkpoint.offset),
            SENDERS: lambda: state.windows.shelf.load(int(number), checkpoint.state, checkpoint.offset),
        }
        load[kind]()

    def _begin(self, checkpoint: Checkpoint, state: State) -> None:
        self.begin = checkpoint.offset
        high_ms, begin_ms = _HEAD.unpack_from(checkpoint.state)
        state.high_ms = max(state.high_ms, high_ms)
        state.memory.begin_ms = None if begin_ms == _NEVER else begin_ms
        state.seen.load(checkpoint.state[_HEAD.size :])
