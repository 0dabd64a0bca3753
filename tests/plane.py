"""A service of the state plane as a real process on a real broker, with topics of its own."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

import msgspec
from aiohttp import ClientSession

from services import codec
from services import settings as environment
from services.cli import fleet
from services.cli.brokers import Broker
from services.kafka import Admin, Reader, Sender
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import TOPICS

R = TypeVar("R", bound=msgspec.Struct)

PARTITIONS = 2
_prefixes = (f"plane{number}-" for number in count())


@dataclass(slots=True)
class Plane:
    """The service, what goes in and what comes out."""

    variables: dict[str, str]
    settings: Settings
    sender: Sender
    process: fleet.Process

    async def put(self, *outputs: Output) -> None:
        await self.sender.send(self.sender.pack(outputs))

    async def abort(self, *outputs: Output) -> None:
        """Produce in a transaction that is aborted."""
        sender = Sender(self.settings, "unlucky")
        await sender.start()
        await sender.learn(TOPICS)
        producer = sender._started
        await producer.begin_transaction()
        await sender.send(sender.pack(outputs))
        await producer.abort_transaction()
        await sender.stop()

    async def read(self, topic: str, wanted: int, seconds: float = 30) -> list[Inbound]:
        """A topic's committed records from the start, once there are `wanted`, and those of half a second after."""
        readers = [Reader(self.settings, topic, number) for number in range(PARTITIONS)]
        found: list[Inbound] = []
        for reader in readers:
            await reader.start()
            reader.seek(await reader.begin())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while len(found) < wanted:
                    found += await _fetch(readers, 50)
        found += await _fetch(readers, 500)
        await asyncio.gather(*(reader.stop() for reader in readers))
        return found

    async def told(self, topic: str, kind: type[R], wanted: int) -> list[R]:
        return [codec.decode(record.value, kind) for record in await self.read(topic, wanted)]

    def another(self) -> fleet.Process:
        """A second copy of the service."""
        return fleet.Process(self.process.name, self.variables)

    async def start(self) -> None:
        """Start the service again."""
        self.process = self.another()
        await asyncio.to_thread(self.process.wait_ready)

    async def kill(self) -> None:
        await asyncio.to_thread(self.process.kill)

    async def stop(self) -> int:
        return await asyncio.to_thread(self.process.stop)

    async def waits(self, wanted: list[str], seconds: float = 60) -> None:
        """Until this is what the service says that it waits for."""
        async with asyncio.timeout(seconds), ClientSession() as session:
            while await self._waiting_for(session) != wanted:
                await asyncio.sleep(0.1)

    async def _waiting_for(self, session: ClientSession) -> object:
        async with session.get(f"http://{self.process.address}/readyz") as answer:
            return (await answer.json())["waiting_for"]

    async def left(self) -> list[str]:
        """The files in its state directory."""
        return await asyncio.to_thread(os.listdir, self.settings.state)


async def _fetch(readers: list[Reader], timeout_ms: int) -> list[Inbound]:
    batches = await asyncio.gather(*(reader.fetch(10_000, timeout_ms) for reader in readers))
    return [record for batch in batches for record in batch]


@contextlib.asynccontextmanager
async def plane(service: str, broker: Broker, state: Path, **variables: str) -> AsyncIterator[Plane]:
    """The service, ready, on topics of its own."""
    names = variables | fleet.environment(
        broker.bootstrap, state, transactions=broker.transactions, partitions=PARTITIONS, prefix=next(_prefixes)
    )
    settings = environment.load(names)
    async with Admin(settings) as admin:
        await admin.create(TOPICS.values())
    sender = Sender(settings)
    await sender.start()
    await sender.learn(TOPICS)
    started = Plane(names, settings, sender, fleet.Process(service, names))
    try:
        await asyncio.to_thread(started.process.wait_ready)
        yield started
    finally:
        await started.stop()
        await sender.stop()


async def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)
