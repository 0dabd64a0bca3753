"""Action as real processes on real brokers: the switch that reaches all of them, and a budget that outlives a kill."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import pytest

from services import codec
from services.action import policy
from services.action.budget import Budget
from services.action.stage import decide
from services.cli import fleet, main
from services.cli.brokers import Broker
from services.kafka import partition_of
from services.records import AuditEntry, Decision, Mode, Output, Score
from services.topics import AUDIT, CAMPAIGNS, DECISIONS, SCORES
from tests.builders import NOON_MS, message, score
from tests.plane import PARTITIONS, Plane, plane

SENDERS = ("u-1", "u-2", "u-3", "u-4")
REACH_SECONDS = 1.0


def caught(number: int, sender: str = "u-1") -> Score:
    return score(text_score=0.99, message=message(event_id=f"e-{number}", sender_id=sender))


def outputs(scores: Sequence[Score]) -> list[Output]:
    return [
        Output(
            topic=SCORES,
            key=f"default/default/{one.message.sender_id}".encode(),
            value=codec.encode(one),
            timestamp_ms=NOON_MS,
        )
        for one in scores
    ]


async def modes_of(running: Plane, number: int) -> set[Mode]:
    """The modes of one round of messages, one for each sender."""
    await running.put(*outputs([caught(number * 10 + place, sender) for place, sender in enumerate(SENDERS)]))
    wanted = {f"e-{number * 10 + place}" for place in range(len(SENDERS))}
    decisions = await running.told(DECISIONS, Decision, (number + 1) * len(SENDERS))
    return {decision.mode for decision in decisions if decision.event_id in wanted}


async def command(running: Plane, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    for name, value in running.variables.items():
        monkeypatch.setenv(name, value)
    assert await asyncio.to_thread(main, list(words)) == 0


async def test_one_command_reaches_every_process_within_a_second_and_those_that_start_later(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plane("action", broker, tmp_path) as running:
        another = running.another()
        await asyncio.to_thread(another.wait_ready)
        try:
            assert len({partition_of(f"default/default/{name}".encode(), PARTITIONS) for name in SENDERS}) == PARTITIONS
            assert await modes_of(running, 0) == {Mode.ENFORCE}
            await command(running, monkeypatch, "control", "shadow", "--reason", "a wrong policy", "--actor", "ana")
            await asyncio.sleep(REACH_SECONDS)
            assert await modes_of(running, 1) == {Mode.SHADOW}
        finally:
            await asyncio.to_thread(another.kill)
        await running.kill()
        await running.start()
        assert await modes_of(running, 2) == {Mode.SHADOW}
        await command(running, monkeypatch, "control", "enforce", "--reason", "mended", "--actor", "ana")
        await asyncio.sleep(REACH_SECONDS)
        assert await modes_of(running, 3) == {Mode.ENFORCE}
        audit = await running.told(AUDIT, AuditEntry, 2)
        assert [(entry.actor, entry.action, entry.reason) for entry in audit] == [
            ("ana", "shadow", "a wrong policy"),
            ("ana", "enforce", "mended"),
        ]


@pytest.mark.kafka  # Tansu keeps nothing beside an offset
async def test_a_budget_outlives_a_kill_and_a_replay_agrees(kafka: Broker, tmp_path: Path) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text("[default]\nthreshold = 0.5\nbudget = 11\n")
    scores = [caught(number) for number in range(9)]
    async with plane("action", kafka, tmp_path, DOORMAN_POLICY=str(rules)) as running:
        await running.put(*outputs(scores[:4]))
        await running.read(DECISIONS, 4)
        await running.kill()
        await running.start()
        await running.put(*outputs(scores[4:]))
        live = {decision.event_id: decision for decision in await running.told(DECISIONS, Decision, 9)}
    lane = partition_of(b"default/default/u-1", PARTITIONS)
    budget, tenants = Budget(lane, PARTITIONS), policy.read(rules)
    replayed = [decide(one, tenants, lambda _: None, False, NOON_MS, budget) for one in scores]
    assert [live[decision.event_id].mode for decision in replayed] == [decision.mode for decision in replayed]
    assert [decision.mode for decision in replayed].count(Mode.ENFORCE) == (6, 5)[lane]


@pytest.mark.kafka
async def test_every_tenant_is_in_shadow_by_setting(kafka: Broker, tmp_path: Path) -> None:
    async with plane("action", kafka, tmp_path, DOORMAN_MODE="shadow") as running:
        await running.put(*outputs([caught(0)]))
        (decision,) = await running.told(DECISIONS, Decision, 1)
    assert (decision.verdict, decision.mode) == ("quarantine", "shadow")


@pytest.mark.kafka
async def test_a_live_process_takes_a_changed_policy_refuses_a_wrong_one_and_asks_the_shadow_policy(
    kafka: Broker, tmp_path: Path
) -> None:
    rules, rival = tmp_path / "rules.toml", tmp_path / "rival.toml"
    rules.write_text("[default]\nthreshold = 0.5\n")
    rival.write_text("[default]\nthreshold = 0.995\n")
    variables = {"DOORMAN_POLICY": str(rules), "DOORMAN_SHADOW_POLICY": str(rival)}
    async with plane("action", kafka, tmp_path, **variables) as running:
        versions = [policy.read(rules).version]
        await running.put(*outputs([caught(0)]))
        await running.read(DECISIONS, 1)
        assert 'doorman_shadow_policy_flips_total{outcome="allow",reason="text"} 1.0' in await page(running)
        for number, (content, outcome) in enumerate(
            {"[default]\nthreshold = 0.999\n": "loaded", "[default]\nthreshold = 9\n": "refused"}.items(), 1
        ):
            rules.write_text(content)
            await counted(running, f'doorman_policy_loads_total{{outcome="{outcome}"}} 1.0')
            await running.put(*outputs([caught(number)]))
            await running.read(DECISIONS, number + 1)
        decisions = await running.told(DECISIONS, Decision, 3)
    versions.append(policy.parse(b"[default]\nthreshold = 0.999\n").version)
    assert [(decision.verdict, decision.policy and decision.policy.version) for decision in decisions] == [
        ("quarantine", versions[0]),
        ("allow", versions[1]),
        ("allow", versions[1]),
    ]


@pytest.mark.kafka
async def test_a_campaign_that_a_review_confirmed_is_held_though_the_budget_is_spent(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text("[default]\nthreshold = 0.5\nbudget = 0\n")
    async with plane("action", kafka, tmp_path, DOORMAN_POLICY=str(rules)) as running:
        casebook = fleet.Process("casebook", running.variables)
        try:
            await asyncio.to_thread(casebook.wait_ready)
            await running.put(*outputs([of_campaign(0), of_campaign(1, tenant="another")]))
            await running.read(DECISIONS, 2)
            words = ("confirm", "--campaign", "k-1", "--reason", "a fraud", "--actor", "ana")
            await command(running, monkeypatch, "review", *words)
            await running.read(CAMPAIGNS, 1)
            await asyncio.sleep(REACH_SECONDS)
            await running.put(*outputs([of_campaign(2), of_campaign(3, tenant="another")]))
            decisions = await running.told(DECISIONS, Decision, 4)
        finally:
            await asyncio.to_thread(casebook.kill)
    modes = {decision.event_id: decision.mode for decision in decisions}
    assert modes == {"e-0": "shadow", "e-1": "shadow", "e-2": "enforce", "e-3": "shadow"}


def of_campaign(number: int, tenant: str = "default") -> Score:
    sent = message(event_id=f"e-{number}", tenant=tenant)
    return score(text_score=0.99, campaign_id="k-1", message=sent)


async def page(running: Plane) -> str:
    def read() -> str:
        with urlopen(f"http://{running.process.address}/metrics") as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


async def counted(running: Plane, line: str) -> None:
    async with asyncio.timeout(10):
        while line not in await page(running):
            await asyncio.sleep(0.1)
