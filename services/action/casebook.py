"""`python -m services.action.casebook`: quarantined messages become cases, reviews are applied (Faust, database).

A change of state and the records that tell of it are one database transaction; the outbox is published after it, at
least once, with ids that make a repeat harmless.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services import codec, metrics
from services.action.api import Api
from services.action.cases import Cases
from services.action.policy import Expiry
from services.action.policy_file import PolicyFile
from services.action.tokens import Tokens
from services.process import launch
from services.records import Evidence, Inbound, Output, Review
from services.settings import Settings
from services.stateplane import StatePlane
from services.topics import AUDIT, CAMPAIGNS, DECISIONS, LABELS, MESSAGES, QUARANTINE, REVIEWS, STANDING

SERVICE = "casebook"
PUBLISH_BATCH = 500
# Another copy has its turn at publishing, and ours comes after it.
TURN_SECONDS = 0.1
# Another copy may have ended before it published.
POLL_SECONDS = 5.0
EXPIRY_SECONDS = 30.0
PURGE_SECONDS = 3600.0
# Nobody waits for a case to open: what comes within this is one transaction.
OPEN_WITHIN_SECONDS = 1.0
COMPACTED = (STANDING, CAMPAIGNS)

T = TypeVar("T")


class Casebook:
    """The cases, the agents that feed them, and the publisher of their outbox."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._policy = PolicyFile(settings.policy)
        self.plane = StatePlane(SERVICE, settings, (DECISIONS, LABELS, AUDIT, *COMPACTED, MESSAGES))
        self.plane.agent(QUARANTINE, self._open, OPEN_WITHIN_SECONDS)
        self.plane.agent(REVIEWS, self._review)
        self.plane.background += [self._policy.watch, self._publish, self._expire, self._purge, self._stir]
        self.cases = Cases(settings.database_url, self.plane.sender.locate, self._lets_go)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._news = asyncio.Event()
        self._api = Api(self.cases, Tokens(settings.api_tokens), self.plane.publish)
        self._api.add_to(self.plane.web)
        self.plane.closing = self._close

    def _lets_go(self, tenant: str) -> bool:
        return self._policy.policy.of(tenant).expiry is Expiry.ALLOW

    async def _open(self, records: Sequence[Inbound]) -> None:
        evidences = [codec.decode(record.value, Evidence) for record in records]
        await self._in_thread(self.cases.open, evidences)
        await self._count()

    async def _review(self, records: Sequence[Inbound]) -> None:
        reviews = [codec.decode(record.value, Review) for record in records]
        outcomes = await self._in_thread(self.cases.review, reviews, _now_ms())
        for review, outcome in zip(reviews, outcomes, strict=True):
            metrics.REVIEWS.labels(review.command.value, outcome.value).inc()
        await self._count()

    async def _count(self) -> None:
        came_to, has_said = await self._in_thread(self.cases.came_to)
        for state, number in came_to.items():
            metrics.CASES.labels(state.value).inc(number)
        if has_said:
            await self._show_outbox()
            self._news.set()

    async def _show_outbox(self) -> int:
        number = await self._in_thread(self.cases.waiting)
        metrics.OUTBOX.set(number)
        return number

    async def _publish(self) -> None:
        """Publish what waits, as soon as there is something; after a crash, what waited then."""
        while True:
            waiting = await self._in_thread(self.cases.claim, PUBLISH_BATCH)
            if waiting:
                await self._show_outbox()
                await self.plane.publish([output for _, output in waiting])
                await self._in_thread(self.cases.published, [number for number, _ in waiting])
                continue
            self._news.clear()
            number = await self._show_outbox()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), TURN_SECONDS if number else POLL_SECONDS)

    async def _expire(self) -> None:
        while True:
            await self._in_thread(self.cases.expire, _now_ms())
            await self._count()
            await asyncio.sleep(EXPIRY_SECONDS)

    async def _purge(self) -> None:
        while True:
            await self._in_thread(self.cases.purge, _now_ms())
            await self._count()
            await asyncio.sleep(PURGE_SECONDS)

    async def _stir(self) -> None:
        """Write something into every partition that is compacted: a broker closes a segment, and compacts it, only
        when a record comes after it. What was erased last would else stay until somebody writes there again."""
        while True:
            await asyncio.sleep(self._settings.compaction_ms / 1000)
            await self.plane.publish(
                [
                    Output(topic=topic, key=b"", value=None, timestamp_ms=_now_ms(), partition=partition)
                    for topic in COMPACTED
                    for partition in range(self.plane.sender.count(topic))
                ]
            )

    def _close(self) -> None:
        self._thread.shutdown()
        self._api.close()
        self.cases.close()

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _now_ms() -> int:
    return int(time.time() * 1000)


def service(settings: Settings) -> StatePlane:
    """Casebook, wired."""
    return Casebook(settings).plane


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service))
