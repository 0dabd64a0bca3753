"""Scenarios: events as people, shops and bots send them, and the verdicts that a person would give (`verdict`)."""

from pathlib import Path

import pytest

from services import codec
from services.cli import main
from services.records import Decision

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.jsonl"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_ends_as_a_person_would_have_it(path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["replay", str(path)]) == 0
    decisions = [codec.decode(line, Decision) for line in capfdbinary.readouterr().out.splitlines()]
    events = [codec.loads_object(line) for line in path.read_bytes().splitlines()]
    wanted = {event["event_id"]: event["verdict"] for event in events if "verdict" in event}
    assert wanted
    given = {decision.event_id: decision.verdict.value for decision in decisions}
    assert {event: given[event] for event in wanted} == wanted
