"""Simulated traffic judged habit by habit, in the small: the bars themselves stand in `doorman bench habits`."""

import pytest

from services import settings
from services.action import policy
from services.classify.scorer import ModelFolder
from services.cli import main
from services.cli.bench.habits import AFTER_TENTH, MOST_PEOPLE, PERSON, Habit, Report, judged
from services.cli.replay import Fixed

EVENTS = 20_000

pytestmark = pytest.mark.long


def report(seed: int, *, alone: bool = False, relation: bool = True, whole: bool = True) -> Report:
    configured = settings.load({})
    scorer = Fixed(0.05) if alone else ModelFolder(configured.model).load()
    found = Report(alone)
    for truth, decision in judged(seed, EVENTS, scorer, policy.read(configured.policy), relation=relation, whole=whole):
        found.take(seed, truth, decision)
    return found


def held(found: Report, habit: str, past: int = 0) -> float:
    (row,) = (row for row in found.rows() if row["habit"] == habit)
    return float(row[f"held_past_{past}" if past else "held"])


def test_by_behaviour_alone_bots_are_held_past_their_tenth_message_and_people_are_not() -> None:
    found = report(1003, alone=True)
    assert held(found, "all bots", 10) >= AFTER_TENTH
    assert held(found, PERSON) <= MOST_PEOPLE


@pytest.mark.parametrize("relation", [True, False])
def test_on_the_first_day_people_are_no_strangers_and_bots_do_not_go_free(relation: bool) -> None:
    found = report(1004, relation=relation, whole=False)
    assert held(found, "all bots", 10) >= AFTER_TENTH
    assert held(found, PERSON) <= MOST_PEOPLE


def test_a_missed_bar_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["bench", "habits", "--seeds", "5", "--events", "2000", "--text-score", "0.95"])
    assert status == 1
    assert "person: " in capsys.readouterr().err


def test_a_habit_counts_what_came_past_its_fifth_message() -> None:
    habit = Habit("auto")
    for nth in range(1, 9):
        habit.take(nth, caught=nth >= 7)
    assert (habit.share(0), habit.share(5), habit.share(10)) == (0.25, 2 / 3, None)
