"""Both ends of a running pipeline: events in, decisions out. For demo, benches and tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from services import codec
from services.kafka import Admin, Reader, Sender
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DECISIONS, EVENTS, TOPICS

FETCH_RECORDS = 10_000
TICK_SECONDS = 0.02


@dataclass(slots=True)
class Wire:
    """Sends events, reads committed decisions. `sent` holds each event's due time, seconds (monotonic)."""

    settings: Settings
    sender: Sender
    readers: list[Reader]
    sent: dict[str, float] = field(default_factory=dict)

    async def send(self, events: Sequence[dict[str, object]], due: float | None = None) -> None:
        """Produce events, keyed by their sender; `due` is when they should have gone out (default: now)."""
        at = time.monotonic() if due is None else due
        now_ms = int(time.time() * 1000)
        outputs = [
            Output(topic=EVENTS, key=str(event["sender_id"]).encode(), value=codec.dumps(event), timestamp_ms=now_ms)
            for event in events
        ]
        self.sent.update((str(event["event_id"]), at) for event in events)
        await self.sender.send(self.sender.pack(outputs))

    async def send_at_rate(self, events: Sequence[dict[str, Any]], rate: float) -> None:
        """Send at an even rate, whatever comes back: an open loop. A chunk is due when it should have gone out."""
        began = time.monotonic()
        size = max(int(rate * TICK_SECONDS), 1)
        for start in range(0, len(events), size):
            due = began + start / rate
            await asyncio.sleep(max(due - time.monotonic(), 0))
            await self.send(events[start : start + size], due)

    async def receive(self, timeout_ms: int = 200) -> list[Inbound]:
        """The next decisions of all partitions, none after the timeout."""
        batches = await asyncio.gather(*(reader.fetch(FETCH_RECORDS, timeout_ms) for reader in self.readers))
        return [record for batch in batches for record in batch]

    async def follow(self, number: int) -> AsyncIterator[tuple[str, float]]:
        """(event id, when it was seen) of each decision of one partition, for ever."""
        while True:
            records = await self.readers[number].fetch(FETCH_RECORDS, 200)
            seen = time.monotonic()
            for record in records:
                yield codec.decode(record.value, Decided).event_id, seen


class Decided(msgspec.Struct):
    """As much of a decision as it takes to know its event."""

    event_id: str


@asynccontextmanager
async def wire(settings: Settings) -> AsyncIterator[Wire]:
    """Create the topics, connect both ends; decisions are read from the start of the log."""
    async with Admin(settings) as admin:
        await admin.create(TOPICS.values())
    sender = Sender(settings)
    await sender.start()
    await sender.learn([EVENTS, DECISIONS])
    readers = [Reader(settings, DECISIONS, number) for number in range(sender.count(DECISIONS))]
    try:
        for reader in readers:
            await reader.start()
            reader.seek(0)
        yield Wire(settings, sender, readers)
    finally:
        await asyncio.gather(*(reader.stop() for reader in readers))
        await sender.stop()
