"""classify on a real Apache Kafka, stopped in the middle of a campaign: its state comes back from `dm.memory`."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

import pytest

from services import codec
from services import settings as environment
from services.classify import checkpoint
from services.classify.__main__ import service
from services.classify.checkpoint import PIECES
from services.classify.stage import State, classify
from services.cli import main
from services.cli.brokers import Broker
from services.kafka import Admin, Reader, Sender
from services.records import Message, Output, Score
from services.settings import Settings
from services.topics import MESSAGES, SCORES, TOPICS
from tests.builders import NOON_MS, Record, message

pytestmark = [pytest.mark.kafka, pytest.mark.long]

TEXT = "my cousin shows people how the harbour market really works, ask her for the list"


@pytest.fixture
async def settings(kafka: Broker) -> Settings:
    variables = {
        "DOORMAN_KAFKA": kafka.bootstrap,
        "DOORMAN_TOPIC_PREFIX": "restart-",
        "DOORMAN_PARTITIONS": "1",
        "DOORMAN_HTTP": "127.0.0.1:0",
    }
    found = environment.load(variables)
    async with Admin(found) as admin:
        await admin.create(TOPICS.values())
    return found


def campaign(begin: int, end: int) -> list[Message]:
    """Six senders in turn, all the same words, each time to somebody else; now and then somebody answers."""
    sent = []
    for n in range(begin, end):
        one, other = f"u-{n % 6}", f"r-{n // 2}"
        if n % 5 == 4:
            one, other = f"r-{(n - 1) // 2}", f"u-{(n - 1) % 6}"
        pair = f"c-{min(one, other)}-{max(one, other)}"
        sent.append(
            message(event_id=f"e-{n}", sender_id=one, recipient_id=other, conversation_id=pair, text=TEXT, at_s=n * 30)
        )
    return sent


async def produce(settings: Settings, messages: Sequence[Message]) -> None:
    sender = Sender(settings)
    await sender.start()
    await sender.learn([MESSAGES])
    outputs = [
        Output(topic=MESSAGES, key=b"k", value=codec.encode(taken), timestamp_ms=taken.received_ms)
        for taken in messages
    ]
    await sender.send(sender.pack(outputs))
    await sender.stop()


async def scores(settings: Settings, wanted: int) -> list[Score]:
    reader = Reader(settings, SCORES, 0)
    await reader.start()
    reader.seek(0)
    found: list[Score] = []
    async with asyncio.timeout(60):
        while len(found) < wanted:
            found += [codec.decode(record.value, Score) for record in await reader.fetch(1000, 100)]
    await reader.stop()
    return found


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[None]:
    """classify in this process, its state gone at the end."""
    begun = service(settings)
    task = asyncio.create_task(begun.run())
    async with asyncio.timeout(60):
        while begun.health.ready():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.05)
    yield
    begun._over.set()
    assert await task == 0


async def test_a_restart_in_the_middle_of_a_campaign_changes_no_score(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(checkpoint, "PIECES_A_SECOND", len(PIECES))
    caplog.set_level(logging.INFO)
    async with running(settings):
        await produce(settings, campaign(0, 40))
        await scores(settings, 40)
        await asyncio.sleep(1.1)
        await produce(settings, campaign(40, 60))
        await scores(settings, 60)
        await asyncio.sleep(1.1)
        await produce(settings, campaign(60, 70))
        await scores(settings, 70)
    assert "state_recalled" not in caplog.text
    async with running(settings):
        await produce(settings, campaign(70, 110))
        live = await scores(settings, 110)
    assert "state_recalled" in caplog.text
    log = [Record(codec.encode(taken), offset=n) for n, taken in enumerate(campaign(0, 110))]
    undisturbed = classify(log, State(), None, lambda *_: None, lambda *_: 0, NOON_MS).scores
    assert [(found.bond, found.signals) for found in live] == [(found.bond, found.signals) for found in undisturbed]
    assert any(found.signals.get("repeats_1h", 0) > 5 for found in undisturbed[70:])


def test_the_bench_of_a_restart_finds_the_state_that_it_wrote(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["bench", "restart", "--senders", "2000", "--rate", "20", "--json"]) == 0
    result = codec.loads_object(capfdbinary.readouterr().out)
    assert (result["senders"], result["recalled"]) == (2000, True)
