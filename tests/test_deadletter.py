"""`doorman deadletter` against a real broker."""

import asyncio
import json
from itertools import count

import pytest
from msgspec.structs import replace

from services import codec
from services import settings as environment
from services.cli import main
from services.cli.brokers import Broker
from services.deadletter import dead_letter
from services.errors import Fault
from services.kafka import Admin, Sender, whole
from services.records import Output
from services.settings import Settings
from services.topics import DEAD_LETTER, EVENTS, TOPICS
from tests.builders import NOON_MS, Record

DAY_MS = 86_400_000
_prefixes = (f"letters{number}-" for number in count())


@pytest.fixture
def configured(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("DOORMAN_KAFKA", broker.bootstrap)
    monkeypatch.setenv("DOORMAN_TOPIC_PREFIX", next(_prefixes))
    monkeypatch.setenv("DOORMAN_DELIVERY", "exactly_once" if broker.transactions else "at_least_once")
    monkeypatch.setenv("DOORMAN_PARTITIONS", "2")
    settings = environment.load()
    asyncio.run(_fill(settings))
    return settings


async def _fill(settings: Settings) -> None:
    """A letter of each of two days in each of two partitions, and one that was cut."""
    sender = Sender(settings)
    async with Admin(settings) as admin:
        await admin.create(TOPICS.values())
    await sender.start()
    try:
        await sender.learn([DEAD_LETTER])
        letters = [
            _letter(settings, 0, b"first", NOON_MS),
            _letter(settings, 0, b"second", NOON_MS + DAY_MS),
            _letter(settings, 1, b"third", NOON_MS),
            _letter(settings, 1, b"fourth", NOON_MS + DAY_MS),
            _letter(settings, 1, b"x" * 300_000, NOON_MS + DAY_MS),
        ]
        await sender.send(sender.pack(letters))
    finally:
        await sender.stop()


def _letter(settings: Settings, partition: int, value: bytes, time_ms: int) -> Output:
    record = Record(value, topic=settings.topic_prefix + EVENTS, partition=partition, headers=[("h", b"kept")])
    letter = dead_letter(record, Fault.NOT_JSON, "ingest", time_ms)
    return replace(letter, partition=partition)


async def _events(settings: Settings) -> list[bytes]:
    return [
        record.value or b""
        for partition in (0, 1)
        async for records in whole(settings, EVENTS, partition)
        for record in records
        if list(record.headers) == [("h", b"kept")]
    ]


@pytest.mark.usefixtures("configured")
def test_the_letters_of_every_partition_are_listed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["deadletter", "list", "--since", "2020-01-01T00:00:00Z"]) == 0
    lines = [json.loads(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [line["bytes"] for line in lines] == [5, 6, 5, 6, 65_536]
    assert {line["reason"] for line in lines} == {"not_json"}


def test_what_is_put_back_is_named_with_where_the_next_run_begins(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    second_day = codec.rfc3339(NOON_MS + DAY_MS)
    assert main(["deadletter", "redrive", "--since", second_day]) == 0
    told = capsys.readouterr().err
    assert "2 sent again, 1 were cut" in told
    assert asyncio.run(_events(configured)) == [b"second", b"fourth"]
    assert main(["deadletter", "redrive", "--since", told.split()[-1]]) == 0
    assert "0 sent again, 0 were cut" in capsys.readouterr().err
    assert asyncio.run(_events(configured)) == [b"second", b"fourth"]


def test_a_dry_run_sends_nothing(configured: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deadletter", "redrive", "--dry-run"]) == 0
    assert capsys.readouterr().err == "4 to send again, 1 were cut and cannot be\n"
    assert asyncio.run(_events(configured)) == []
