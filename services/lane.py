"""THE loop: one partition, batch in, pure stage, transaction out. Every data-plane service is lanes and nothing else.

    assignment ─▶ start the sender ─▶ read the committed offset ─▶ rebuild ─▶ ┌▶ fetch ─▶ stage ─▶ transaction ─┐
                  (ends what a         (true only now)             from the   └─────────── pause ◀──────────────┘
                  predecessor began)                               log

A transaction that failed is sent again with the same outputs, if the committed offset shows that it did not happen.
The lane and its state are thrown away only when it is fenced or its partition goes to somebody else: a lane that stays
with its owner through a rebalance keeps its state.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from services import metrics
from services.errors import BadRecord, BadSetup, Unavailable
from services.kafka import REBALANCE_MS, Fenced, Membership, Packed, Reader, Sender, View
from services.observe import Health, announce, application, event, serve
from services.process import START_SECONDS, stop_on_signals
from services.records import Inbound, Output
from services.settings import Delivery, Settings

POLL_MS = 500
RETRY_SECONDS = 0.5
RECALL_RECORDS = 500
HOLD_SECONDS = REBALANCE_MS / 1000 / 2
LEAVE_SECONDS = 10.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class Work(Protocol):
    """What one lane does with its records, and the state it keeps. Called in a worker thread, never concurrently."""

    def replay(self, records: Sequence[Inbound]) -> None:
        """Take in records that were decided before: state only."""

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        """Take in a batch and return all that it gives."""

    def resume(self, metadata: str, lanes: int) -> None:
        """Take up what was committed with the offset; `lanes`: the partitions of the topic."""
        return

    def recalls(self) -> int | None:
        """Since which moment of `Plan.recalls` there may be state to take back; None: there is none."""
        return None

    def recall(self, records: Sequence[Inbound]) -> None:
        """Take state back."""
        return

    def recalled(self) -> int:
        """The first record that the state does not reflect; where none came back, or not all of it, 0."""
        return 0

    def metadata(self) -> str:
        """What to commit with the offset of the batch that was taken in last."""
        return ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What distinguishes one service. `rebuilds`: its lanes' state is the log before the committed offset;
    `recalls`: the topic with checkpoints of it.

    `views` are loaded before the first lane starts, `background` runs beside them. `open` makes a lane's work from its
    partition and a function (topic, key) -> partition of the topics written; `waiting_for` names what besides lanes the
    service needs before it is ready.
    """

    service: str
    topic: str
    writes: tuple[str, ...]
    open: Callable[[int, Sender], Work]
    rebuilds: bool = False
    recalls: str | None = None
    views: tuple[View, ...] = ()
    background: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()
    waiting_for: Callable[[], list[str]] = list


def tolerant(service: str, what: str, apply: Callable[[Inbound], None]) -> Callable[[Inbound], None]:
    """`apply` for a view: where it raises BadRecord, that is counted and told of, and what was known stays.

    `what` names the records in the log.
    """

    def take(record: Inbound) -> None:
        try:
            apply(record)
        except BadRecord as bad:
            metrics.DEAD_LETTERS.labels(service, bad.fault.value).inc()
            event(log, f"{what}_ignored", logging.ERROR, why=bad.fault.value, offset=record.offset)

    return take


class Lane:
    """One partition being worked on."""

    def __init__(
        self, plan: Plan, settings: Settings, membership: Membership, shell: "Service", partition: int
    ) -> None:
        self.ready = False
        self.position = 0
        self._plan, self._settings, self._membership, self._shell = plan, settings, membership, shell
        self._partition = partition
        self._name = f"{plan.service}-{plan.topic}-{partition}"
        exactly_once = settings.delivery is Delivery.EXACTLY_ONCE
        self._exactly_once = exactly_once
        self._sender = Sender(settings, self._name if exactly_once else None)
        self._reader = Reader(settings, plan.topic, partition)
        self._free = asyncio.Event()  # cleared while a rebalance is under way
        self._free.set()
        self._idle = asyncio.Event()  # cleared while a batch is under way
        self._idle.set()
        self._count_records = metrics.LANE_RECORDS.labels(plan.service)
        self._count_stage = metrics.LANE_STAGE.labels(plan.service)
        self._count_commit = metrics.LANE_COMMIT.labels(plan.service)
        self._lag = metrics.LANE_LAG.labels(plan.service, str(partition))
        self._last = metrics.LANE_LAST.labels(plan.service, str(partition))

    async def run(self) -> None:
        """Work until cancelled; raises Fenced when the lane must be thrown away."""
        await self._start()
        self.ready = True
        event(log, "lane_ready", partition=self._partition, offset=self.position)
        while True:
            self._tick()
            records = await self._fetch()
            if not self._free.is_set():
                self._shell.health.forget(self._name)
                await self._free.wait()
            if records:
                self._idle.clear()
                try:
                    await self._step(records)
                finally:
                    self._idle.set()
                await asyncio.sleep(self._shell.pause_seconds)

    async def hold(self) -> None:
        """Finish the batch under way and take no other until `resume`."""
        self._free.clear()
        await self._idle.wait()

    def resume(self) -> None:
        self._free.set()

    async def close(self) -> None:
        self._shell.health.forget(self._name)
        for gauge in (metrics.LANE_LAG, metrics.LANE_LAST):
            gauge.remove(self._plan.service, str(self._partition))
        await self._sender.stop()
        await self._reader.stop()

    def _tick(self) -> None:
        self._shell.health.tick(self._name)

    async def _start(self) -> None:
        self._tick()
        await self._retry(self._sender.start)
        await self._retry(lambda: self._sender.learn((*self._plan.writes, self._plan.topic)))
        await self._retry(self._reader.start)
        self._work = self._plan.open(self._partition, self._sender)
        begin = await self._retry(self._reader.begin)
        committed = await self._retry(lambda: self._membership.committed(self._partition))
        self.position = max(begin, committed.offset or 0)
        self._work.resume(committed.metadata, self._sender.count(self._plan.topic))
        if self._plan.rebuilds and self.position > begin:
            with metrics.LANE_REBUILD.labels(self._plan.service).time():
                await self._rebuild(max(begin, await self._recall()), self.position)
        self._reader.seek(self.position)

    async def _recall(self) -> int:
        """Take the state back from its checkpoints; returns the first record that they do not reflect."""
        since_ms = self._work.recalls()
        if self._plan.recalls is None or since_ms is None:
            return 0
        reader = Reader(self._settings, self._plan.recalls, self._partition)
        try:
            await self._retry(reader.start)
            end = await self._retry(reader.end)
            reader.seek(await self._retry(lambda: reader.since(since_ms)))
            while await self._retry(reader.position) < end:
                records = await self._retry(lambda: reader.fetch(RECALL_RECORDS, POLL_MS))
                await self._shell.in_thread(self._work.recall, records)
        finally:
            await reader.stop()
        return self._work.recalled()

    async def _rebuild(self, begin: int, end: int) -> None:
        """Replay what was decided before, without emitting."""
        self._reader.seek(begin)
        while await self._retry(self._reader.position) < end:
            records = [record for record in await self._fetch() or () if record.offset < end]
            if records:
                await self._shell.in_thread(self._work.replay, records)

    async def _fetch(self) -> list[Inbound] | None:
        """The next records; None where they could not be asked for."""
        try:
            records = await self._reader.fetch(self._settings.batch, POLL_MS)
            # With nothing to read the reader has passed the markers of transactions, which nobody waits for.
            self._show_lag(records[0].offset if records else await self._reader.position())
            return records
        except Unavailable as error:
            event(log, "fetch_failed", logging.WARNING, why=str(error), partition=self._partition)
            await asyncio.sleep(RETRY_SECONDS)
            return None

    async def _step(self, records: list[Inbound]) -> None:
        """One batch through the stage and out, its offset with it."""
        began = time.perf_counter()
        outputs, packed = await self._shell.in_thread(self._stage, records, int(time.time() * 1000))
        staged = time.perf_counter()
        await self._deliver(outputs, packed, records[-1].offset + 1, self._work.metadata())
        self._count_stage.observe(staged - began)
        self._count_commit.observe(time.perf_counter() - staged)
        self._count(records, outputs)

    def _stage(self, records: list[Inbound], now_ms: int) -> tuple[list[Output], Packed]:
        """What a batch gives, packed in the same turn: a second one would wait for the stages of the other lanes."""
        outputs = self._work.run(records, now_ms)
        return outputs, self._sender.pack(outputs)

    async def _deliver(self, outputs: list[Output], packed: Packed, offset: int, metadata: str) -> None:
        """Commit the batch, however often it takes; raises Fenced."""
        while True:
            try:
                await self._commit(packed, offset, metadata)
                break
            except Unavailable as error:
                self.ready = False
                event(log, "batch_failed", logging.WARNING, why=str(error), partition=self._partition)
            if await self._retry(lambda: self._happened(offset)):
                break
            metrics.LANE_FAILURES.labels(self._plan.service, "sent_again").inc()
            packed = await self._shell.in_thread(self._sender.pack, outputs)
        self.position = offset
        self.ready = True

    async def _commit(self, packed: Packed, offset: int, metadata: str) -> None:
        if self._exactly_once:
            await self._sender.transact(packed, self._membership, self._partition, offset, metadata)
        else:
            await self._sender.send(packed)
            self._tick()
            await self._membership.commit(self._partition, offset, metadata)

    async def _happened(self, offset: int) -> bool:
        """After a failure: a new producer settles the open transaction, and only then is the committed offset true."""
        await self._sender.stop()
        if self._partition not in self._membership.owned():
            raise Fenced(f"{self._name} went to another process")
        await self._sender.start()
        self._tick()
        committed = (await self._membership.committed(self._partition)).offset
        if committed is not None and committed not in (self.position, offset):
            raise Fenced(f"{self._name} was moved on by another process")
        return committed == offset

    async def _retry(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until the broker answers."""
        while True:
            self._tick()
            try:
                return await attempt()
            except Unavailable as error:
                event(log, "unavailable", logging.WARNING, why=str(error), partition=self._partition)
                await asyncio.sleep(RETRY_SECONDS)

    def _count(self, records: list[Inbound], outputs: list[Output]) -> None:
        self._count_records.inc(len(records))
        self._last.set(records[-1].timestamp / 1000)
        self._show_lag(self.position)
        self._shell.count(outputs)

    def _show_lag(self, position: int) -> None:
        end = self._reader.end_seen()
        if end is not None:
            self._lag.set(max(end - position, 0))


class Service:
    """A process of lanes: as many as the group gives it, one worker thread for their stages, one HTTP port."""

    def __init__(self, plan: Plan, settings: Settings) -> None:
        self.health = Health(self._missing)
        self._plan, self._settings = plan, settings
        self._membership = Membership(settings, plan.service, plan.topic, self._revoked, self._assigned)
        self._lanes: dict[int, Lane] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._joined = False
        self._over = asyncio.Event()
        self._failure: BaseException | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="stage")

    @property
    def pause_seconds(self) -> float:
        """A transaction begun while the markers of the last are still being written is told to come again; a pause that
        grows with the lanes of the process avoids that, and fills the batch."""
        return self._settings.pause_ms * max(len(self._lanes), 1) / 1000

    async def run(self) -> int:
        """Work until SIGTERM; returns the exit status."""
        stop_on_signals(self._over)
        runner, address = await serve(self._plan.service, self._settings, application(self.health))
        helpers = [self._helper(announce(self._plan.service, address, self.health))]
        helpers += [self._helper(work()) for work in self._plan.background]
        try:
            await self._join(helpers)
            await self._stay()
        finally:
            await self._leave(helpers)
            await runner.cleanup()
        return 1 if self._failure else 0

    async def in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        """Run in the worker thread, so that heartbeats go on."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def count(self, outputs: list[Output]) -> None:
        for topic, number in Counter(output.topic for output in outputs).items():
            metrics.LANE_OUTPUTS.labels(self._plan.service, topic).inc(number)

    def _missing(self) -> list[str]:
        lanes = [f"lane {partition}" for partition, lane in self._lanes.items() if not lane.ready]
        broker = [] if self._membership.connected else ["broker"]
        return [*broker, *([] if self._joined else ["assignment"]), *lanes, *self._plan.waiting_for()]

    def _helper(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A task that fails takes the process with it: whoever started us starts us again."""
        if not task.cancelled() and task.exception() is not None:
            self._failure = task.exception()
            event(log, "failed", logging.ERROR, why=str(self._failure) if isinstance(self._failure, BadSetup) else "")
            log.error("task failed", exc_info=self._failure)
            self._over.set()

    async def _join(self, helpers: list[asyncio.Task[None]]) -> None:
        """Load the views, join the group."""
        for view in self._plan.views:
            await self._begin(view.start)
            helpers.append(self._helper(view.follow()))
        await self._begin(self._membership.start)

    async def _begin(self, start: Callable[[], Awaitable[None]]) -> None:
        """Try for a minute: the broker and the topics may still be on their way."""
        deadline = time.monotonic() + START_SECONDS
        while not self._over.is_set():
            try:
                await start()
                return
            except (Unavailable, BadSetup) as error:
                event(log, "not_joined", logging.WARNING, why=str(error))
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(1)

    async def _stay(self) -> None:
        while not self._over.is_set():
            await self._membership.alive()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), timeout=5)

    async def _leave(self, helpers: list[asyncio.Task[None]]) -> None:
        """Finish the batches, commit, leave the group."""
        await self._hold(LEAVE_SECONDS)
        await asyncio.gather(*(self._drop(partition) for partition in list(self._tasks)))
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
        await asyncio.gather(*(view.stop() for view in self._plan.views), self._membership.stop())
        self._pool.shutdown(wait=False)

    async def _revoked(self, partitions: set[int]) -> None:
        """Before a rebalance."""
        await self._hold(HOLD_SECONDS)

    async def _hold(self, seconds: float) -> None:
        """Every lane finishes its batch, or is thrown away when it cannot in time."""
        holds = {partition: asyncio.create_task(lane.hold()) for partition, lane in self._lanes.items()}
        if holds:
            await asyncio.wait(holds.values(), timeout=seconds)
        for partition, hold in holds.items():
            if not hold.done():
                hold.cancel()
                await self._drop(partition)

    async def _assigned(self, partitions: set[int]) -> None:
        """After a rebalance: lanes that stayed go on, those that went are closed, new ones start."""
        for partition in list(self._tasks):
            if partition not in partitions or not await self._untouched(partition):
                await self._drop(partition)
        for partition in partitions:
            if partition in self._tasks:
                self._lanes[partition].resume()
            else:
                self._tasks[partition] = self._helper(self._keep(partition))
        self._joined = True
        metrics.LANES.labels(self._plan.service).set(len(partitions))

    async def _untouched(self, partition: int) -> bool:
        """Whether nobody else worked on the partition since our lane's last commit."""
        lane = self._lanes.get(partition)
        if lane is None or not lane.ready:
            return False
        with contextlib.suppress(Unavailable):
            return (await self._membership.committed(partition)).offset in (lane.position, None)
        return False

    async def _keep(self, partition: int) -> None:
        """Keep a lane for the partition while it is ours."""
        while partition in self._membership.owned():
            lane = self._lanes[partition] = Lane(self._plan, self._settings, self._membership, self, partition)
            try:
                await lane.run()
            except Fenced as error:
                event(log, "lane_fenced", logging.WARNING, why=str(error), partition=partition)
                metrics.LANE_FAILURES.labels(self._plan.service, "thrown_away").inc()
            finally:
                await lane.close()
            await asyncio.sleep(RETRY_SECONDS)
        self._lanes.pop(partition, None)
        self._tasks.pop(partition, None)

    async def _drop(self, partition: int) -> None:
        task = self._tasks.pop(partition, None)
        self._lanes.pop(partition, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
