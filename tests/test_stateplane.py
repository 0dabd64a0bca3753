"""The state plane on a real Apache Kafka: what it promises when handlers fail, Faust crashes and things are away."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list

from services import settings as environment
from services import stateplane
from services.cli.brokers import Broker
from services.errors import BadRecord, Fault, Unavailable
from services.kafka import Admin, Reader, Sender, connection
from services.records import Inbound, Output
from services.settings import Settings
from services.stateplane import StatePlane
from services.topics import DEAD_LETTER, LABELS, REVIEWS, TOPICS
from tests.plane import until

pytestmark = pytest.mark.kafka

_prefixes = (f"state{number}-" for number in count())


@contextlib.asynccontextmanager
async def topics(broker: Broker) -> AsyncIterator[Settings]:
    settings = environment.load(
        {
            "DOORMAN_KAFKA": broker.bootstrap,
            "DOORMAN_TOPIC_PREFIX": next(_prefixes),
            "DOORMAN_PARTITIONS": "1",
            "DOORMAN_HTTP": "127.0.0.1:0",
        }
    )
    async with Admin(settings) as admin:
        await admin.create(TOPICS.values())
    yield settings


class Noted:
    """A service that notes what it is given."""

    def __init__(self, settings: Settings) -> None:
        self.plane = StatePlane("noted", settings, (LABELS,))
        self.plane.agent(REVIEWS, self._take)
        self.plane.prepare = self._prepare
        self.apps: list[Any] = []
        self.batches: list[list[bytes]] = []
        self.prepared: list[set[int]] = []
        self.fail: Callable[[list[bytes]], None] = lambda _: None
        build = self.plane._app
        self.plane._app = lambda: self.apps.append(build()) or self.apps[-1]  # type: ignore[method-assign,func-returns-value]

    async def _prepare(self, partitions: set[int]) -> None:
        self.prepared.append(partitions)

    async def _take(self, records: Sequence[Inbound]) -> None:
        values = [record.value or b"" for record in records]
        self.fail(values)
        self.batches.append(values)

    @property
    def values(self) -> list[bytes]:
        return [value for batch in self.batches for value in batch]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Noted"]:
        task = asyncio.create_task(self.plane.run())
        await until(lambda: task.done() or not self.plane.health.ready())
        try:
            yield self
        finally:
            self.plane._over.set()
            assert await task == 0


async def put(settings: Settings, *values: bytes) -> None:
    sender = Sender(settings)
    await sender.start()
    await sender.learn([REVIEWS])
    now_ms = int(time.time() * 1000)
    outputs = [Output(topic=REVIEWS, key=b"k", value=value, timestamp_ms=now_ms) for value in values]
    await sender.send(sender.pack(outputs))
    await sender.stop()


async def letters(settings: Settings) -> list[tuple[bytes | None, bytes]]:
    reader = Reader(settings, DEAD_LETTER, 0)
    await reader.start()
    reader.seek(0)
    found = await reader.fetch(100, 1000)
    await reader.stop()
    return [(letter.value, dict(letter.headers)["doorman-reason"]) for letter in found]


async def test_records_come_in_batches_in_their_order_and_not_again(kafka: Broker) -> None:
    wanted = [f"{n}".encode() for n in range(2000)]
    async with topics(kafka) as settings:
        await put(settings, *wanted)
        async with Noted(settings).running() as noted:
            await until(lambda: len(noted.values) >= 2000)
            assert noted.values == wanted
            assert len(noted.batches) < 50
        async with Noted(settings).running() as noted:
            await put(settings, b"new")
            await until(lambda: bool(noted.values))
            assert (noted.values, noted.prepared) == ([b"new"], [{0}])


async def test_it_writes_nothing_where_it_is_started(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with topics(kafka) as settings, Noted(settings).running():
        pass
    assert list(tmp_path.iterdir()) == []


async def test_only_the_record_that_fails_is_dead_lettered(kafka: Broker) -> None:
    def fail(values: list[bytes]) -> None:
        if b"odd" in values:
            raise ZeroDivisionError
        if b"bad" in values:
            raise BadRecord(Fault.WRONG_TYPE)

    async with topics(kafka) as settings:
        noted = Noted(settings)
        noted.fail = fail
        await put(settings, b"1", b"odd", b"2", b"bad", b"3")
        async with noted.running():
            await until(lambda: len(noted.values) >= 3)
            assert noted.values == [b"1", b"2", b"3"]
        assert await letters(settings) == [(b"odd", b"internal"), (b"bad", b"wrong_type")]


async def test_what_needs_something_that_is_away_waits_and_is_no_stall(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stateplane, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(stateplane, "AWAY_SECONDS", 1.0)
    monkeypatch.setattr("services.observe.STALL_SECONDS", 0.5)
    away = [True]

    def fail(_: list[bytes]) -> None:
        if away[0]:
            raise Unavailable("the database is away")

    async with topics(kafka) as settings:
        noted = Noted(settings)
        noted.fail = fail
        async with noted.running():
            await put(settings, b"1", b"2")
            await asyncio.sleep(1.5)
            assert (noted.values, noted.plane.health.stalled()) == ([], [])
            assert noted.plane.health.ready() == ["the database is away"]
            away.clear()
            away.append(False)
            await until(lambda: len(noted.values) == 2 and noted.plane.health.ready() == [])
        assert await letters(settings) == []


async def test_a_handler_that_hangs_is_a_stall(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.observe.STALL_SECONDS", 0.2)
    async with topics(kafka) as settings:
        noted = Noted(settings)
        hung = asyncio.Event()

        async def hang(_: Sequence[Inbound]) -> None:
            await hung.wait()

        noted.plane._handlers[:] = [(REVIEWS, hang, 0.1)]
        async with noted.running():
            await put(settings, b"1")
            await until(lambda: noted.plane.health.stalled() == [REVIEWS])
            hung.set()
            await until(lambda: noted.plane.health.stalled() == [])


async def test_a_crash_of_faust_loses_nothing_and_ends_nothing(kafka: Broker) -> None:
    async with topics(kafka) as settings, Noted(settings).running() as noted:
        await put(settings, b"1")
        await until(lambda: noted.values == [b"1"])
        for number in range(2, 4):
            await noted.apps[-1].crash(RuntimeError("a commit failed"))
            await put(settings, str(number).encode())
            await until(lambda number=number: str(number).encode() in noted.values)  # type: ignore[misc]
        assert len(noted.apps) == len(noted.prepared) == 3
        assert noted.plane.health.ready() == []


async def test_background_work_that_fails_ends_the_process(kafka: Broker) -> None:
    tried = []

    async def work() -> None:
        tried.append(1)
        raise Unavailable("not yet") if len(tried) == 1 else ZeroDivisionError

    async with topics(kafka) as settings:
        noted = Noted(settings)
        noted.plane.background.append(work)
        assert await asyncio.wait_for(noted.plane.run(), 30) == 1
        assert len(tried) == 2


async def test_a_service_without_topics_says_what_to_do(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stateplane, "START_SECONDS", 0.0)
    settings = environment.load(
        {"DOORMAN_KAFKA": kafka.bootstrap, "DOORMAN_TOPIC_PREFIX": "absent-", "DOORMAN_HTTP": "127.0.0.1:0"}
    )
    with pytest.raises(Exception, match="doorman topics create"):
        await Noted(settings).plane.run()


@pytest.mark.parametrize("security", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
async def test_faust_reaches_the_brokers_as_our_own_clients_do(security: str) -> None:
    settings = environment.load(
        {
            "DOORMAN_KAFKA": "one:9092,two:9093",
            "DOORMAN_KAFKA_SECURITY": security,
            "DOORMAN_KAFKA_SASL": "SCRAM-SHA-512",
            "DOORMAN_KAFKA_USERNAME": "doorman",
            "DOORMAN_KAFKA_PASSWORD": "secret",
        }
    )
    conf = Noted(settings).plane._app().conf
    given = credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context)
    wanted = {name: value for name, value in connection(settings).items() if name.startswith(("sasl", "security"))}
    assert {name: value for name, value in given.items() if name != "ssl_context"} == wanted
    assert bool(given.get("ssl_context")) == security.endswith("SSL")
    assert server_list(conf.broker_consumer, 9092) == ["one:9092", "two:9093"]
    assert "secret" not in repr(conf.broker_credentials)
