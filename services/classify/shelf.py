"""A map that stays within its bytes: rows under 64-bit keys, the longest silent leave first. Pure.

Rows lie in buckets by their keys. A bucket knows only its own: which rows leave depends on the messages that came to
it, and so neither on batching nor on a restart, and a checkpoint can take it by itself.
"""

from struct import Struct

BUCKETS = 1024
# What a row costs beside its own bytes: its key, its place in the dict, the heads of two objects. Measured.
ROW_BYTES = 150
# The share of a full bucket that leaves at once: sorting a bucket for each newcomer would cost more than it holds.
LEAVING = 8

MOMENT = Struct(">q")
"""How every row begins: the milliseconds of its last message, so that rows compare by them."""

_MASK = BUCKETS - 1
_ROW = Struct("<QI")


class Shelf:
    """Rows of bytes, at most about `max_bytes` of them with what they cost beside.

    `offset`: of the record that is taken in, while a log is read again: a bucket that came from a checkpoint holds what
    was before its own offset already, and does not change by that.
    """

    __slots__ = ("_buckets", "_floors", "_held", "_most", "offset")

    def __init__(self, max_bytes: int) -> None:
        self._buckets: list[dict[int, bytes]] = [{} for _ in range(BUCKETS)]
        self._held = [0] * BUCKETS
        self._floors: list[int] = []
        self._most = max(max_bytes // BUCKETS, 4 * ROW_BYTES)
        self.offset = 0

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    @property
    def held_bytes(self) -> int:
        """What the rows cost, by our own count."""
        return sum(self._held)

    def get(self, key: int) -> bytes | None:
        return self._buckets[key & _MASK].get(key)

    def put(self, key: int, row: bytes) -> None:
        """Set a row. It begins with its `MOMENT`."""
        place = key & _MASK
        if self._floors and self.offset < self._floors[place]:
            return
        bucket = self._buckets[place]
        old = bucket.get(key)
        bucket[key] = row
        self._held[place] += len(row) + ROW_BYTES if old is None else len(row) - len(old)
        if self._held[place] > self._most:
            self._make_room(place)

    def packed(self, place: int) -> bytes:
        """The rows of one bucket, for a checkpoint."""
        return b"".join(part for key, row in self._buckets[place].items() for part in (_ROW.pack(key, len(row)), row))

    def load(self, place: int, packed: bytes, offset: int) -> None:
        """Fill a bucket from a checkpoint that reflects every record before `offset`."""
        self._floors = self._floors or [0] * BUCKETS
        self._floors[place] = offset
        bucket, begin = self._buckets[place], 0
        while begin < len(packed):
            key, size = _ROW.unpack_from(packed, begin)
            begin += _ROW.size + size
            bucket[key] = packed[begin - size : begin]
        self._held[place] = len(packed) + len(bucket) * (ROW_BYTES - _ROW.size)

    def go_on(self) -> None:
        """The log was read again as far as it was taken in."""
        self._floors = []

    def _make_room(self, place: int) -> None:
        bucket = self._buckets[place]
        silent = sorted(bucket, key=lambda key: (bucket[key][: MOMENT.size], key))
        for key in silent[: len(silent) // LEAVING + 1]:
            self._held[place] -= len(bucket.pop(key)) + ROW_BYTES
