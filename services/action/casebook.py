"""`python -m services.action.casebook`: quarantined messages become cases, reviews are applied (Faust, database).

A change of state and the records that tell of it are one database transaction; the outbox is published after it, at
least once, with ids that make a repeat harmless.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services import codec, metrics
from services.action.cases import Cases
from services.process import launch
from services.records import Evidence, Inbound, Review
from services.settings import Settings
from services.stateplane import StatePlane
from services.topics import AUDIT, DECISIONS, LABELS, MESSAGES, QUARANTINE, REVIEWS, STANDING

SERVICE = "casebook"
PUBLISH_BATCH = 500
POLL_SECONDS = 0.5
EXPIRY_SECONDS = 30.0

T = TypeVar("T")


class Casebook:
    """The cases, the agents that feed them, and the publisher of their outbox."""

    def __init__(self, settings: Settings) -> None:
        settings.state.mkdir(parents=True, exist_ok=True)
        self.plane = StatePlane(SERVICE, settings, (DECISIONS, LABELS, AUDIT, STANDING, MESSAGES))
        self.plane.agent(QUARANTINE, self._open)
        self.plane.agent(REVIEWS, self._review)
        self.plane.background += [self._publish, self._expire]
        self._cases = Cases(settings.database_url, self.plane.sender.locate)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._news = asyncio.Event()
        self.plane.closing = self._close

    async def _open(self, records: Sequence[Inbound]) -> None:
        evidences = [codec.decode(record.value, Evidence) for record in records]
        await self._in_thread(self._cases.open, evidences)
        await self._count()

    async def _review(self, records: Sequence[Inbound]) -> None:
        reviews = [codec.decode(record.value, Review) for record in records]
        outcomes = await self._in_thread(self._cases.review, reviews, _now_ms())
        for review, outcome in zip(reviews, outcomes, strict=True):
            metrics.REVIEWS.labels(review.command.value, outcome.value).inc()
        await self._count()

    async def _count(self) -> None:
        for state, number in (await self._in_thread(self._cases.came_to)).items():
            metrics.CASES.labels(state.value).inc(number)
        self._news.set()

    async def _publish(self) -> None:
        """Publish what waits, as soon as there is something; after a crash, what waited then."""
        while True:
            waiting = await self._in_thread(self._cases.outbox, PUBLISH_BATCH)
            if waiting:
                await self.plane.publish([output for _, output in waiting])
                await self._in_thread(self._cases.published, [number for number, _ in waiting])
                continue
            metrics.OUTBOX.set(await self._in_thread(self._cases.waiting))
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            await self._in_thread(self._cases.expire, _now_ms())
            await self._count()

    def _close(self) -> None:
        self._thread.shutdown()
        self._cases.close()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _now_ms() -> int:
    return int(time.time() * 1000)


def service(settings: Settings) -> StatePlane:
    """Casebook, wired."""
    return Casebook(settings).plane


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service))
