"""Many small entries in one record: what is told to a partition rather than to a key. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec

from services import codec
from services.records import Output

# An entry holds scoped ids of up to 768 bytes: a record of them stays far below its topic's limit.
ENTRIES_PER_RECORD = 1000
# Says what a record of `dm.messages` is, where it is no message.
TYPE_HEADER = "doorman-type"
CONTACTS, CORRECTIONS = b"contacts", b"corrections"

E = TypeVar("E")


def packed(
    topic: str,
    entries: Mapping[int, Sequence[E]],
    wrap: Callable[[tuple[E, ...]], msgspec.Struct],
    timestamp_ms: int,
    *,
    kind: bytes | None = None,
    most: int = ENTRIES_PER_RECORD,
) -> Iterator[Output]:
    """Records with null keys for each partition of `entries`, at most `most` of them in each."""
    headers = ((TYPE_HEADER, kind),) if kind else ()
    for partition, told in entries.items():
        for start in range(0, len(told), most):
            yield Output(
                topic=topic,
                key=None,
                value=codec.encode(wrap(tuple(told[start : start + most]))),
                timestamp_ms=timestamp_ms,
                headers=headers,
                partition=partition,
            )
