"""What a process says in its log: each thing once, not at the rate at which a library tries again."""

import logging

import pytest

from services.observe import MAX_SAYINGS, REPEAT_SECONDS, Repeats


def said(template: str, *arguments: object, at_s: float, logger: str = "aiokafka.client") -> logging.LogRecord:
    record = logging.LogRecord(logger, logging.WARNING, "", 0, template, arguments, None)
    record.created = at_s
    return record


def test_a_library_that_repeats_itself_is_heard_once_and_its_repeats_are_counted() -> None:
    repeats = Repeats()
    heard = [repeats.filter(said("no broker at %s", node, at_s=100 + node / 10)) for node in range(50)]
    assert heard == [True] + [False] * 49
    later = said("no broker at %s", 1, at_s=100 + REPEAT_SECONDS)
    assert repeats.filter(later)
    assert later.__dict__["fields"] == {"left_out": 49}


@pytest.mark.parametrize("logger", ["services.lane", "__main__"])
def test_what_doorman_says_itself_is_never_left_out(logger: str) -> None:
    repeats = Repeats()
    assert all(repeats.filter(said("batch_failed", at_s=100.0, logger=logger)) for _ in range(3))


def test_another_saying_is_heard_at_once() -> None:
    repeats = Repeats()
    assert repeats.filter(said("no broker", at_s=100.0))
    assert repeats.filter(said("no leader", at_s=100.1))
    assert repeats.filter(said("no broker", at_s=100.2, logger="faust.app"))


def test_sayings_do_not_pile_up() -> None:
    repeats = Repeats()
    for number in range(3 * MAX_SAYINGS):
        repeats.filter(said(f"number {number}", at_s=100.0))
    assert len(repeats._told) == MAX_SAYINGS
