"""The lane on a real Apache Kafka: what it promises when transactions fail, owners change and brokers go."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

import pytest
from prometheus_client import REGISTRY

from services import settings as environment
from services.cli import brokers
from services.cli.brokers import Broker
from services.kafka import Admin, Reader, Sender
from services.lane import Lane, Plan, Service, Work
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER, EVENTS, MESSAGES, TOPICS

pytestmark = pytest.mark.kafka

PARTITIONS = 4
_prefixes = (f"lane{number}-" for number in count())


@dataclass
class Copy(Work):
    """Work that copies records and remembers how many it has seen: its state."""

    partition: int
    seen: int = 0
    rebuilt: int = 0
    values: list[bytes] = field(default_factory=list)

    def replay(self, records: Sequence[Inbound]) -> None:
        self.rebuilt += len(records)
        self.seen += len(records)

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        self.seen += len(records)
        return [
            Output(topic=MESSAGES, key=b"k", value=record.value, timestamp_ms=now_ms, partition=self.partition)
            for record in records
        ]


class Copier:
    """A service of lanes that copy."""

    def __init__(self, settings: Settings) -> None:
        self.works: list[Copy] = []
        self.service = Service(Plan("copier", EVENTS, (MESSAGES, DEAD_LETTER), self._open, rebuilds=True), settings)
        self._task: asyncio.Task[int] | None = None

    def _open(self, partition: int, _: Sender) -> Copy:
        self.works.append(Copy(partition))
        return self.works[-1]

    @property
    def lanes(self) -> dict[int, Lane]:
        return self.service._lanes

    async def start(self) -> None:
        self._task = asyncio.create_task(self.service.run())
        task = self._task
        await until(lambda: task.done() or not self.service.health.ready())
        assert not task.done(), task.exception()

    async def stop(self) -> int:
        assert self._task is not None
        self.service._over.set()
        return await self._task


async def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def topics(broker: Broker, **variables: str) -> AsyncIterator[Settings]:
    settings = environment.load(
        {
            "DOORMAN_KAFKA": broker.bootstrap,
            "DOORMAN_TOPIC_PREFIX": next(_prefixes),
            "DOORMAN_PARTITIONS": str(PARTITIONS),
            "DOORMAN_HTTP": "127.0.0.1:0",
        }
        | variables
    )
    async with Admin(settings) as admin:
        await admin.create(TOPICS.values())
    yield settings


async def produce(settings: Settings, values: Sequence[int]) -> None:
    sender = Sender(settings)
    await sender.start()
    await sender.learn([EVENTS])
    outputs = [
        Output(topic=EVENTS, key=None, value=str(value).encode(), timestamp_ms=1, partition=value % PARTITIONS)
        for value in values
    ]
    await sender.send(sender.pack(outputs))
    await sender.stop()


async def copied(settings: Settings, wanted: int) -> Counter[int]:
    """What a read_committed reader sees, once it sees `wanted` records or half a minute has passed."""
    found: Counter[int] = Counter()
    readers = [Reader(settings, MESSAGES, number) for number in range(PARTITIONS)]
    for reader in readers:
        await reader.start()
        reader.seek(0)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while found.total() < wanted:
                for reader in readers:
                    found.update(int(record.value or b"") for record in await reader.fetch(10_000, 50))
    await asyncio.sleep(0.3)
    for reader in readers:
        found.update(int(record.value or b"") for record in await reader.fetch(10_000, 50))
        await reader.stop()
    return found


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
async def test_every_record_goes_through_once(kafka: Broker, delivery: str) -> None:
    async with topics(kafka, DOORMAN_DELIVERY=delivery, DOORMAN_BATCH="100") as settings:
        copier = Copier(settings)
        await copier.start()
        await produce(settings, range(5000))
        assert await copied(settings, 5000) == Counter(range(5000))
        assert await copier.stop() == 0


async def test_a_new_process_goes_on_where_the_last_stopped_with_its_state_rebuilt(kafka: Broker) -> None:
    async with topics(kafka) as settings:
        for start in (0, 1000):
            copier = Copier(settings)
            await copier.start()
            await produce(settings, range(start, start + 1000))
            assert await copied(settings, start + 1000) == Counter(range(start + 1000))
            assert await copier.stop() == 0
        assert sum(work.rebuilt for work in copier.works) == 1000
        assert sum(work.seen for work in copier.works) == 2000


async def test_a_lane_that_stays_keeps_its_state_through_a_rebalance(kafka: Broker) -> None:
    async with topics(kafka) as settings:
        first, second = Copier(settings), Copier(settings)
        await first.start()
        await produce(settings, range(1000))
        await copied(settings, 1000)
        await second.start()
        await until(lambda: len(first.lanes) == len(second.lanes) == PARTITIONS // 2)
        await produce(settings, range(1000, 2000))
        assert await copied(settings, 2000) == Counter(range(2000))
        assert len(first.works) == PARTITIONS, "no lane of the first was opened again"
        assert all(work.rebuilt == 250 for work in second.works), "those of the second were rebuilt"
        assert (await first.stop(), await second.stop()) == (0, 0)


async def test_rebalances_under_load_lose_and_repeat_nothing(kafka: Broker) -> None:
    async with topics(kafka, DOORMAN_BATCH="50") as settings:
        steady = Copier(settings)
        await steady.start()
        for start in range(0, 4000, 2000):
            await produce(settings, range(start, start + 2000))
            guest = Copier(settings)
            await guest.start()
            await guest.stop()
        assert await copied(settings, 4000) == Counter(range(4000))
        await steady.stop()


async def test_a_zombie_is_fenced_and_starts_anew(kafka: Broker) -> None:
    async with topics(kafka) as settings:
        copier = Copier(settings)
        await copier.start()
        await produce(settings, range(400))
        await copied(settings, 400)
        usurpers = [Sender(settings, f"copier-{EVENTS}-{number}") for number in range(PARTITIONS)]
        for usurper in usurpers:
            await usurper.start()
        await produce(settings, range(400, 800))
        assert await copied(settings, 800) == Counter(range(800))
        assert len(copier.works) == 2 * PARTITIONS, "each lane was thrown away and opened again"
        assert sorted(work.seen for work in copier.works[PARTITIONS:]) == [200] * PARTITIONS
        for usurper in usurpers:
            await usurper.stop()
        await copier.stop()


@contextlib.asynccontextmanager
async def under_load() -> AsyncIterator[tuple[Broker, Settings, Copier]]:
    """A broker of its own, and a copier amidst its first 4,000 records."""
    with brokers.kafka() as broker:
        async with topics(broker, DOORMAN_BATCH="20", DOORMAN_PAUSE_MS="1") as settings:
            copier = Copier(settings)
            await copier.start()
            await produce(settings, range(4000))
            await until(lambda: sum(work.seen for work in copier.works) > 400)
            yield broker, settings, copier


async def test_a_broker_that_dies_under_load_costs_nothing() -> None:
    async with under_load() as (broker, settings, copier):
        await asyncio.to_thread(broker.restart)
        await produce(settings, range(4000, 5000))
        assert await copied(settings, 5000) == Counter(range(5000))
        assert len(copier.works) == PARTITIONS, "a failed transaction is sent again, the lane stays"
        assert await copier.stop() == 0


async def test_a_broker_that_stays_away_is_no_stall_and_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("services.kafka.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("services.kafka.CONNECT_SECONDS", 1.0)
    monkeypatch.setattr("services.kafka.STOP_SECONDS", 0.5)
    monkeypatch.setattr("services.observe.STALL_SECONDS", 4.0)
    async with under_load() as (broker, settings, copier):
        await asyncio.to_thread(broker.kill)
        for _ in range(100):
            await asyncio.sleep(0.1)
            assert copier.service.health.stalled() == []
        assert {"broker", "lane 0"} <= set(copier.service.health.ready())
        assert {record.getMessage() for record in caplog.records} >= {"batch_failed", "unavailable"}
        await asyncio.to_thread(broker.start)
        await produce(settings, range(4000, 5000))
        assert await copied(settings, 5000) == Counter(range(5000))
        await until(lambda: copier.service.health.ready() == [])
        assert await copier.stop() == 0


def lag(partition: int) -> float | None:
    return REGISTRY.get_sample_value("doorman_lane_lag_records", {"service": "copier", "partition": str(partition)})


async def test_lag_is_what_waits_markers_left_out(kafka: Broker) -> None:
    async with topics(kafka) as settings:
        copier = Copier(settings)
        await copier.start()
        writer = Sender(settings, "platform")
        await writer.start()
        await writer.learn([EVENTS])
        outputs = [Output(topic=EVENTS, key=None, value=b"1", timestamp_ms=1, partition=0)] * 5
        await writer._started.begin_transaction()
        await writer.send(writer.pack(outputs))
        await until(lambda: lag(0) == 5)
        await writer._started.commit_transaction()
        await until(lambda: lag(0) == 0)
        assert await copied(settings, 5) == Counter({1: 5})
        await writer.stop()
        await copier.stop()


async def test_a_service_without_topics_says_what_to_do(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.lane.START_SECONDS", 0.0)
    settings = environment.load(
        {"DOORMAN_KAFKA": kafka.bootstrap, "DOORMAN_TOPIC_PREFIX": "absent-", "DOORMAN_HTTP": "127.0.0.1:0"}
    )
    with pytest.raises(Exception, match="doorman topics create"):
        await Copier(settings).service.run()
