"""The whole pipeline as real processes: every event is decided, once, whatever is killed."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from services import codec
from services import settings as environment
from services.action import policy
from services.classify.scorer import ModelFolder
from services.cli import fleet
from services.cli.brokers import Broker
from services.cli.fleet import Fleet
from services.cli.replay import replay
from services.cli.simulate import simulate
from services.cli.wire import Wire, wire
from services.codec import epoch_ms
from services.ingest.event import message
from services.kafka import Reader
from services.records import Decision, Output
from services.topics import DEAD_LETTER, EVENTS
from tests.builders import event

LANES = ("ingest", "classify", "action")
HOURS = 20
_prefixes = (f"pipe{number}-" for number in count())


@pytest.fixture
def variables(broker: Broker, tmp_path: Path) -> dict[str, str]:
    """A fleet's environment on either broker, with topics of its own."""
    return fleet.environment(
        broker.bootstrap, tmp_path, transactions=broker.transactions, partitions=2, prefix=next(_prefixes)
    )


@pytest.fixture
def on_kafka(kafka: Broker, tmp_path: Path) -> dict[str, str]:
    return fleet.environment(kafka.bootstrap, tmp_path, transactions=True, partitions=2, prefix=next(_prefixes))


def traffic(events: int) -> list[dict[str, Any]]:
    began_ms = int(time.time() * 1000) - HOURS * 3_600_000
    return list(simulate(events, 11, start_ms=began_ms, hours=HOURS))


async def collect(ends: Wire, wanted: int, seconds: float = 90) -> list[Decision]:
    """Decisions until `wanted` events have one, and those that come within half a second after."""
    found: list[Decision] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while len({decision.event_id for decision in found}) < wanted:
                found += [codec.decode(record.value, Decision) for record in await ends.receive()]
    await asyncio.sleep(0.5)
    return found + [codec.decode(record.value, Decision) for record in await ends.receive()]


@contextlib.asynccontextmanager
async def running(variables: dict[str, str], names: tuple[str, ...] = LANES) -> AsyncIterator[tuple[Wire, Fleet]]:
    async with wire(environment.load(variables)) as ends:
        started = await asyncio.to_thread(Fleet(variables, names).__enter__)
        try:
            yield ends, started
        finally:
            await asyncio.to_thread(started.stop)


async def test_each_kind_of_input_gets_its_answer(variables: dict[str, str]) -> None:
    good = event(event_id="good", sent_at=int(time.time() * 1000))
    records: list[bytes | None] = [
        b"{",
        None,
        codec.dumps(good | {"text": None}),
        codec.dumps(good),
        b"\xff" * 10_000_000,
    ]
    async with running(variables) as (ends, _):
        outputs = [
            Output(topic=EVENTS, key=b"k", value=value, timestamp_ms=int(time.time() * 1000)) for value in records
        ]
        await ends.sender.send(ends.sender.pack(outputs))
        decisions = await collect(ends, 1)
        letters = await dead_letters(ends, 4)
    assert [(decision.event_id, decision.degraded) for decision in decisions][:1] == [("good", ("unreadable",))]
    assert letters == {"not_json": 1, "tombstone": 1, "missing_field": 1, "too_large": 1}


async def dead_letters(ends: Wire, wanted: int) -> Counter[str]:
    found: Counter[str] = Counter()
    await ends.sender.learn([DEAD_LETTER])
    for number in range(ends.sender.count(DEAD_LETTER)):
        reader = Reader(ends.settings, DEAD_LETTER, number)
        await reader.start()
        reader.seek(0)
        for _ in range(5):
            found.update(dict(record.headers)["doorman-reason"].decode() for record in await reader.fetch(100, 300))
        await reader.stop()
    return found


@pytest.mark.kafka
async def test_every_event_is_decided_once_while_each_process_is_killed(on_kafka: dict[str, str]) -> None:
    events = traffic(12_000)
    async with running(on_kafka) as (ends, started):
        sending = asyncio.create_task(steadily(events, ends))
        for name in LANES:
            await asyncio.sleep(2)
            await asyncio.to_thread(started[name].kill)
            started.start(name)
        await sending
        decisions = await collect(ends, len(events))
        statuses = await asyncio.to_thread(started.stop)
    decided = Counter(decision.event_id for decision in decisions)
    assert set(decided) == {item["event_id"] for item in events}, "none is lost"
    assert decided.most_common(1)[0][1] == 1, "none is decided twice"
    assert statuses == dict.fromkeys(LANES, 0), "SIGTERM ends each with 0"


async def steadily(events: list[dict[str, Any]], ends: Wire) -> None:
    for start in range(0, len(events), 200):
        await ends.send(events[start : start + 200])
        await asyncio.sleep(0.1)


@pytest.mark.kafka
async def test_the_pipeline_decides_as_a_replay_does(kafka: Broker, tmp_path: Path) -> None:
    one_lane = fleet.environment(kafka.bootstrap, tmp_path, transactions=True, partitions=1, prefix=next(_prefixes))
    events = traffic(3000)
    async with running(one_lane) as (ends, _):
        await ends.send(events)
        live = {decision.event_id: decision for decision in await collect(ends, len(events))}
    configured = environment.load(one_lane)
    taken = [message(item, epoch_ms(live[item["event_id"]].ingested_at, "ingested_at")) for item in events]
    scorer = ModelFolder(configured.model).load()
    replayed = list(replay(taken, scorer, policy.read(configured.policy), whole=False))
    assert {decision.decision_id for decision in replayed} == {decision.decision_id for decision in live.values()}
    for decision in replayed:
        if decision.campaign_id is None:  # campaigns are asynchronous input, and were not running
            other = live[decision.event_id]
            assert (decision.score, decision.verdict, decision.reasons) == (other.score, other.verdict, other.reasons)


async def test_a_service_is_seen_from_outside(variables: dict[str, str]) -> None:
    async with running(variables) as (_, started):
        for process in started:
            pages = await asyncio.to_thread(look, process.address)
            assert pages["/healthz"] == pages["/readyz"] == 200
            assert process.address.startswith("127.0.0.1:")


def look(address: str) -> dict[str, int]:
    def status(path: str) -> int:
        with urlopen(f"http://{address}{path}") as answer:
            return int(answer.status)

    return {path: status(path) for path in ("/metrics", "/healthz", "/readyz")}


def test_a_service_with_wrong_settings_is_refused_with_all_faults(tmp_path: Path) -> None:
    process = fleet.Process("action", {"DOORMAN_KAFKA": "nowhere", "DOORMAN_MODE": "off"})
    assert process.ended() == 2
    told = "\n".join(process.tail)
    assert "DOORMAN_KAFKA" in told
    assert "DOORMAN_MODE" in told
