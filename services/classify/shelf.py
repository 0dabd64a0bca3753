"""A map that stays within its bytes: rows under 64-bit keys, the longest silent leave first. Pure.

Rows lie in buckets by their keys. A bucket knows only its own: which rows leave depends on the messages that came to
it, and so neither on batching nor on a restart, and a checkpoint can take it by itself.
"""

from collections.abc import Iterator
from struct import Struct

BUCKETS = 1024
# What a row costs beside its own bytes: its key, its place in the dict, the heads of two objects. Measured.
ROW_BYTES = 150
# The share of a full bucket that leaves at once: sorting a bucket for each newcomer would cost more than it holds.
LEAVING = 8

MOMENT = Struct(">q")
"""How every row begins: the milliseconds of its last message, so that rows compare by them."""

_MASK = BUCKETS - 1


class Shelf:
    """Rows of bytes, at most about `max_bytes` of them with what they cost beside."""

    __slots__ = ("_buckets", "_held", "_most")

    def __init__(self, max_bytes: int) -> None:
        self._buckets: list[dict[int, bytes]] = [{} for _ in range(BUCKETS)]
        self._held = [0] * BUCKETS
        self._most = max(max_bytes // BUCKETS, 4 * ROW_BYTES)

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def get(self, key: int) -> bytes | None:
        return self._buckets[key & _MASK].get(key)

    def put(self, key: int, row: bytes) -> None:
        """Set a row. It begins with its `MOMENT`."""
        place = key & _MASK
        bucket = self._buckets[place]
        old = bucket.get(key)
        bucket[key] = row
        self._held[place] += len(row) + ROW_BYTES if old is None else len(row) - len(old)
        if self._held[place] > self._most:
            self._make_room(place)

    def rows(self, place: int) -> Iterator[tuple[int, bytes]]:
        """The rows of one bucket."""
        return iter(self._buckets[place].items())

    def _make_room(self, place: int) -> None:
        bucket = self._buckets[place]
        silent = sorted(bucket, key=lambda key: (bucket[key][: MOMENT.size], key))
        for key in silent[: len(silent) // LEAVING + 1]:
            self._held[place] -= len(bucket.pop(key)) + ROW_BYTES
