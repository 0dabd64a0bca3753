"""What action holds of senders in memory: the latest word on each, small."""

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from services import codec
from services.action.standings import Standings, is_over
from services.errors import BadRecord
from services.records import VERSION, Standing
from services.spans import DAY_MS
from tests.builders import NOON_MS, Record

SENDER = "default/default/u-17"


def record(standing: Standing | None, sender: str = SENDER) -> Record:
    return Record(None if standing is None else codec.encode(standing), key=sender.encode(), topic="dm.standing")


def test_the_latest_word_on_a_sender_counts() -> None:
    held = Standings()
    assert held.find(SENDER) is None
    for strikes in (1.0, 2.0):
        held.apply(record(Standing(v=VERSION, sender=SENDER, strikes=strikes)))
    assert held.find(SENDER) == Standing(v=VERSION, sender=SENDER, strikes=2.0)
    held.apply(record(None))
    assert (held.find(SENDER), len(held)) == (None, 0)


def test_an_unreadable_word_leaves_what_was_known() -> None:
    held = Standings()
    held.apply(record(Standing(v=VERSION, sender=SENDER, strikes=1.0)))
    with pytest.raises(BadRecord):
        held.apply(Record(b"{}", key=SENDER.encode()))
    assert held.find(SENDER) is not None


@pytest.mark.parametrize(
    ("left", "over"),
    [
        ({}, True),
        ({"block_until_ms": NOON_MS}, False),
        ({"trust_until_ms": NOON_MS - 1, "exempt": {"a": NOON_MS - 1}}, True),
        ({"exempt": {"a": NOON_MS - 1, "b": NOON_MS}}, False),
        ({"strikes": 1.0, "strikes_ms": NOON_MS - 180 * DAY_MS}, False),
        ({"strikes": 1.0, "strikes_ms": NOON_MS - 210 * DAY_MS}, True),
    ],
)
def test_standing_is_over_when_nothing_of_it_counts(left: dict[str, Any], over: bool) -> None:
    assert is_over(Standing(v=VERSION, sender=SENDER, **left), NOON_MS) is over


def many(number: int) -> Iterator[Record]:
    for n in range(number):
        sender = f"default/example/u-{n:08d}"
        exempt = {f"default/example/u-{n + 7:08d}": NOON_MS + n}
        yield record(Standing(v=VERSION, sender=sender, exempt=exempt), sender)


def test_a_hundred_thousand_senders_take_less_than_50_mb() -> None:
    held = Standings()
    tracemalloc.start()
    for one in many(100_000):
        held.apply(one)
    bytes_held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(held) == 100_000
    assert bytes_held < 50e6
