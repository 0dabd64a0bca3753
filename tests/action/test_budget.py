"""The budget: past a tenant's limit its messages are shadowed, the same after a restart and in a replay."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import codec
from services.action.budget import MAX_TENANTS, Budget
from services.action.policy import parse
from services.action.stage import act, decide
from services.records import Decision, Degraded, Standing
from services.spans import HOUR_MS
from services.topics import DECISIONS, QUARANTINE
from tests.builders import NOON_MS, message, score, score_record

POLICY = parse(
    b"""
[default]
threshold = 0.8
budget = 2
[default.senders]
block = ["u-66"]
[tenants.free]
budget = 1000000
"""
)


def decided(budget: Budget, at_s: float = 0, standing: Standing | None = None, **parts: Any) -> Decision:
    sent = message(at_s=at_s, **parts)
    caught = score(text_score=0.99, message=sent, campaign_id=parts.get("conversation_id"))
    return decide(caught, POLICY, lambda _: standing, False, NOON_MS, budget)


def modes(budget: Budget, *at_s: float, **parts: Any) -> list[str]:
    return [decided(budget, at, **parts).mode for at in at_s]


def test_past_the_limit_of_an_hour_the_verdict_is_shadowed_and_says_so() -> None:
    budget = Budget()
    assert modes(budget, 0, 1, 2, 3) == ["enforce", "enforce", "shadow", "shadow"]
    over = decided(budget)
    assert (over.verdict, over.degraded) == ("quarantine", (Degraded.BUDGET_EXHAUSTED,))
    assert budget.ran_out() == ["default"]
    assert budget.ran_out() == []
    assert modes(budget, 3600) == ["enforce"], "a new hour begins"


def test_nothing_is_dropped_over_the_limit() -> None:
    records = [score_record(text_score=0.99, message=message(event_id=f"e-{number}")) for number in range(5)]
    batch = act(records, POLICY, lambda _: None, False, NOON_MS, Budget())
    assert [output.topic for output in batch.outputs] == [DECISIONS, QUARANTINE] * 2 + [DECISIONS] * 3


def test_a_late_message_counts_in_the_hour_that_the_lane_has_reached() -> None:
    assert modes(Budget(), 3600, 0, 1, 3601) == ["enforce", "enforce", "shadow", "shadow"]


def test_a_tenant_pays_for_itself_alone() -> None:
    budget = Budget()
    assert modes(budget, 0, 1, 2, tenant="loud") == ["enforce", "enforce", "shadow"]
    assert modes(budget, 0, tenant="calm") == ["enforce"]


def test_what_is_allowed_or_shadowed_anyway_costs_nothing() -> None:
    budget = Budget()
    for _ in range(5):
        decide(score(text_score=0.1), POLICY, lambda _: None, False, NOON_MS, budget)
        decide(score(text_score=0.99), POLICY, lambda _: None, True, NOON_MS, budget)
    assert modes(budget, 0, 0) == ["enforce", "enforce"]


@pytest.mark.parametrize(
    "parts",
    [
        {"sender_id": "u-66"},
        {"standing": Standing(v=1, sender="default/default/u-17", block_until_ms=NOON_MS + HOUR_MS)},
        {"conversation_id": "k-bad"},
    ],
    ids=["block list", "block by review", "confirmed campaign"],
)
def test_what_a_person_found_unwelcome_neither_counts_nor_is_spared(parts: dict[str, Any]) -> None:
    budget = Budget(is_confirmed=lambda _, campaign_id, __: campaign_id == "k-bad")
    assert modes(budget, 0, 0, 0, **parts) == ["enforce"] * 3, "it does not count"
    assert modes(budget, 0, 0, 0) == ["enforce", "enforce", "shadow"]
    assert modes(budget, 0, **parts) == ["enforce"], "it is not spared"


@given(st.integers(0, 10**9), st.integers(1, 64))
def test_the_parts_of_all_lanes_add_up_to_the_limit(limit: int, lanes: int) -> None:
    parts = [Budget(lane, lanes)._share(limit) for lane in range(lanes)]
    assert sum(parts) == limit
    assert max(parts) - min(parts) <= 1


SPENDING = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3 * HOUR_MS)), max_size=40)


@given(SPENDING, st.integers(0, 40))
def test_whoever_takes_a_lane_over_comes_to_the_same_decisions(spending: list[tuple[str, int]], at: int) -> None:
    whole, first, second = Budget(), Budget(), Budget()
    expected = [whole.is_over(tenant, 4, None, event_ms) for tenant, event_ms in spending]
    found = [first.is_over(tenant, 4, None, event_ms) for tenant, event_ms in spending[:at]]
    second.resume(first.written())
    found += [second.is_over(tenant, 4, None, event_ms) for tenant, event_ms in spending[at:]]
    assert found == expected
    assert second.written() == whole.written() if spending[at:] else True


def test_what_is_committed_fits_beside_an_offset_whoever_sends() -> None:
    budget = Budget()
    for number in range(5 * MAX_TENANTS):
        for _ in range(1 + number % 3):
            assert not budget.is_over(f"tenant-{number}", 10**9, None, NOON_MS)
    assert len(budget.written()) <= MAX_TENANTS * 20 + 10 <= 4096
    again = Budget()
    again.resume(budget.written())
    assert again.written() == budget.written()


@pytest.mark.parametrize("written", ["", "x", "5 a", "5 a:b", "5 a:1 ", codec.dumps({"v": 2}).decode()])
def test_what_cannot_be_read_is_an_hour_in_which_nothing_was_spent(written: str) -> None:
    budget = Budget()
    budget.resume(written)
    assert modes(budget, 0, 1, 2) == ["enforce", "enforce", "shadow"]
