"""A Faust app to our settings: the state plane's counterpart of the lane. No other service imports faust.

Faust sees little of the traffic and gets it at least once; what it updates is idempotent by id. Its traps, and what is
done about them here: an agent acks what it fails on, so nothing escapes the loop body and acks are ours, after the work
(`noack_take`); concurrency above one commits past unfinished records, so it is one; it cannot be told to read committed
records only, so a transport of ours says so for it; its web server would show everything to everybody, so it is off.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import faust
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types.auth import AuthProtocol
from mode.services import WaitResults

from services import metrics
from services.deadletter import dead_letter
from services.errors import BadRecord, BadSetup, Fault, Unavailable
from services.kafka import FETCH_WAIT_MS, SESSION_MS, Sender, connection
from services.observe import Health, announce, application, event, serve
from services.process import START_SECONDS, stop_on_signals
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER

TAKE = 500
WITHIN_SECONDS = 0.1
RETRY_SECONDS = 0.5
# What is away is tried again within this, and then says so again.
AWAY_SECONDS = 30.0
# How long the members of a group have to join anew. Nothing of ours delays them; Tansu lets the first wait for half.
REBALANCE_SECONDS = 6.0
STOP_SECONDS = 20.0
# A Faust app that crashed may wait for ever for a thread of its own that has ended.
CRASH_SECONDS = 3.0
CANCEL_SECONDS = 3.0

log = logging.getLogger(__name__)

Handle = Callable[[Sequence[Inbound]], Awaitable[None]]


class _CommittedThread(AIOKafkaConsumerThread):
    fetch_wait_ms: int

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust reads committed records only for apps that write transactions: here it is told that this one does.

        It has no setting for the wait of a fetch either: 1.5 s, all of which Tansu uses.
        """
        self.consumer.in_transaction = True
        try:
            client = super()._create_worker_consumer(transport)
        finally:
            self.consumer.in_transaction = False
        client._fetch_max_wait_ms = self.fetch_wait_ms
        return client

    async def on_thread_stop(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # aiokafka's own, while the brokers are away
            await super().on_thread_stop()


class _CommittedConsumer(Consumer):
    def _new_consumer_thread(self) -> Any:
        thread = _CommittedThread(self, loop=self.loop, beacon=self.beacon)
        thread.fetch_wait_ms = cast(_CommittedTransport, self.transport).fetch_wait_ms
        return thread

    @property
    def connected(self) -> bool:
        """Whether the group's broker is known and answers."""
        client = self._thread._consumer
        return client is not None and client._coordinator.coordinator_id is not None

    async def wait_first(self, *coros: Any, **options: Any) -> Any:
        """Faust puts each record into its stream beside three events that may end the wait: four tasks a record.

        Nearly always there is room, and the first is done at once. Measured on 9,900 cases: 173 to 122 us a case.
        """
        first, *ends = coros
        if not asyncio.iscoroutine(first):
            return await super().wait_first(*coros, **options)
        putting = asyncio.ensure_future(first)
        await asyncio.sleep(0)
        if not putting.done():
            return await super().wait_first(putting, *ends, **options)
        for end in ends:
            end.close()
        return WaitResults([first], [putting.result()], stopped=False)


class _CommittedTransport(Transport):
    Consumer = _CommittedConsumer

    def __init__(self, app: faust.App, fetch_wait_ms: int) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.fetch_wait_ms = fetch_wait_ms


class _App(faust.App):
    def _create_directories(self) -> None:
        """Faust keeps its tables in the working directory; we have none, and may not write there."""


# mode names a service's logger after its module; these speak for Faust, not for us.
_App.logger = _CommittedThread.logger = _CommittedConsumer.logger = logging.getLogger("faust.transport")


@dataclass(frozen=True, slots=True)
class Taken:
    """A record as Faust's agent gets it, in our words."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]

    @classmethod
    def of(cls, found: Any) -> "Taken":
        message = found.message
        headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
        moment_ms = round((message.timestamp or 0) * 1000)
        return cls(
            message.topic, message.partition, message.offset, moment_ms, message.key, message.value, tuple(headers)
        )


class StatePlane:
    """One service of the state plane as a process: Faust's agents, a sender of ours, one HTTP port, until SIGTERM.

    `prepare` gets the partitions that were assigned, before any of their records are handled: for a service of one
    topic; `background` runs beside the agents. Both are begun again when something outside was away. `web` is what
    the port serves. `closing` is called when all of it has ended.
    """

    def __init__(self, service: str, settings: Settings, writes: Sequence[str]) -> None:
        self.service, self.settings = service, settings
        self.sender = Sender(settings)
        self.health = Health(self._missing)
        self.web = application(self.health)
        self.prepare: Callable[[set[int]], Awaitable[None]] | None = None
        self.background: list[Callable[[], Awaitable[None]]] = []
        self.closing: Callable[[], None] = lambda: None
        self._writes = (*writes, DEAD_LETTER)
        self._handlers: list[tuple[str, Handle, float]] = []
        self._busy: set[str] = set()
        self._running: faust.App | None = None
        self._prepared = asyncio.Event()
        self._preparing: asyncio.Task[None] | None = None
        self._sending = asyncio.Lock()
        self._over = asyncio.Event()
        self._failed = False
        self._away: dict[str, float] = {}  # what was found to be away, and when

    def agent(self, topic: str, handle: Handle, within_seconds: float = WITHIN_SECONDS) -> None:
        """Give every record of a topic to `handle`, in batches, and again those that a crash left unfinished.

        A batch is what comes within so many seconds, or TAKE records.
        What it raises: Unavailable, the batch is tried again; else its records one by one, and the bad ones are
        dead-lettered. So a batch that raises must have changed nothing.
        """
        self._handlers.append((topic, handle, within_seconds))

    async def run(self) -> int:
        """Work until SIGTERM; returns the exit status."""
        stop_on_signals(self._over)
        runner, address = await serve(self.service, self.settings, self.web)
        tasks = [asyncio.create_task(announce(self.service, address, self.health))]
        try:
            await self._connect()
            tasks += [asyncio.create_task(self._beside(work)) for work in self.background]
            while not self._over.is_set():
                await self._work()
        finally:
            await _cancel(*tasks)
            await self.sender.stop()
            await runner.cleanup()
            self.closing()
        return int(self._failed)

    async def _connect(self) -> None:
        """Try for a minute: the broker and the topics may still be on their way."""
        deadline = time.monotonic() + START_SECONDS
        while not self._over.is_set():
            try:
                await self._reconnect()
                return
            except (Unavailable, BadSetup) as error:
                event(log, "not_joined", logging.WARNING, why=str(error))
                if time.monotonic() > deadline:
                    raise
                await self._rest(1)

    async def _reconnect(self) -> None:
        await self.sender.stop()
        await self.sender.start()
        await self.sender.learn({*self._writes, *(topic for topic, *_ in self._handlers)})

    async def _work(self) -> None:
        """Run one Faust app until the end, or until it crashes: a failed commit is enough. Its successor goes on."""
        self._running = app = self._app()
        over, life = asyncio.create_task(self._over.wait()), asyncio.create_task(_life(app))
        try:
            await asyncio.wait((over, life), return_when=asyncio.FIRST_COMPLETED)
            error = app.crash_reason or (life.exception() if life.done() else None)
        finally:
            await _cancel(over, life, *([self._preparing] if self._preparing else []))
            self._prepared.clear()
            await _stop(app, STOP_SECONDS if self._over.is_set() else CRASH_SECONDS)
        if not self._over.is_set():
            event(log, "faust_crashed", logging.WARNING, why=type(error).__name__ if error else "it ended")
            await self._rest(RETRY_SECONDS)

    async def _rest(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    def _missing(self) -> list[str]:
        since = time.monotonic() - AWAY_SECONDS
        self._away = {why: seen for why, seen in self._away.items() if seen > since}
        if self._running is None or not self._prepared.is_set():
            return ["assignment", *self._away]
        broker = [] if cast(_CommittedConsumer, self._running.consumer).connected else ["broker"]
        return [*broker, *self._away]

    async def _beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run work of the background; one that fails takes the process with it: whoever started us starts us again."""
        while True:
            try:
                await work()
                return
            except Unavailable as error:
                await self._wait_for(error)
            except Exception:
                log.exception("background work failed")
                self._failed = True
                self._over.set()
                return

    def _app(self) -> faust.App:
        prefix, instance = self.settings.topic_prefix, self.settings.instance
        servers = self.settings.kafka.split(",")
        app = _App(
            prefix + self.service,
            broker=[f"kafka://{server.strip()}" for server in servers],
            **_security(self.settings),
            web_enabled=False,
            topic_disable_leader=True,
            topic_allow_declare=False,
            table_standby_replicas=0,
            value_serializer="raw",
            key_serializer="raw",
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=f"{self.service}-{instance}" if instance else None,
            broker_session_timeout=SESSION_MS / 1000,
            broker_heartbeat_interval=SESSION_MS / 5000,
            broker_rebalance_timeout=REBALANCE_SECONDS,
            broker_commit_interval=1.0,
            stream_wait_empty=False,
            stream_buffer_maxsize=16384,
            worker_redirect_stdouts=False,
            loop=asyncio.get_running_loop(),
        )
        app.transport = _CommittedTransport(app, FETCH_WAIT_MS[self.settings.delivery])
        for topic, handle, within_seconds in self._handlers:
            source = app.topic(prefix + topic, value_serializer="raw", key_serializer="raw", value_type=bytes)
            app.agent(source, concurrency=1, name=f"{self.service}.{topic}")(self._body(topic, handle, within_seconds))
        app.on_partitions_assigned.connect(self._on_assigned, weak=False)  # type: ignore[arg-type]
        app.finalize()
        return app

    async def _on_assigned(self, _: object, assigned: set[Any], **__: object) -> None:
        """Prepare in a task of its own: until this returns the group gets no heartbeats."""
        self._prepared.clear()
        if self._preparing is not None:
            await _cancel(self._preparing)
        self._preparing = asyncio.create_task(self._beside(partial(self._prepare, {at.partition for at in assigned})))

    async def _prepare(self, partitions: set[int]) -> None:
        if self.prepare is not None:
            await self.prepare(partitions)
        self._prepared.set()

    def _body(self, topic: str, handle: Handle, within_seconds: float) -> Callable[[Any], Awaitable[None]]:
        async def body(stream: Any) -> None:
            async for found in stream.noack_take(TAKE, within=within_seconds):
                await self._prepared.wait()
                with self._watched(topic):
                    await self._handle([Taken.of(one) for one in found], handle)
                    metrics.LANE_RECORDS.labels(self.service).inc(len(found))
                    for one in found:
                        await stream.ack(one)

        return body

    @contextlib.contextmanager
    def _watched(self, topic: str) -> Iterator[None]:
        self._busy.add(topic)
        self._tick()
        try:
            yield
        finally:
            self._busy.discard(topic)
            self.health.forget(topic)

    def _tick(self) -> None:
        for topic in self._busy:
            self.health.tick(topic)

    async def _handle(self, records: Sequence[Inbound], handle: Handle) -> None:
        """Handle a batch until it is done. One that fails as a whole is tried record by record: the bad one shows."""
        while True:
            try:
                await handle(records)
                return
            except Unavailable as error:
                await self._wait_for(error)
            except Exception as error:
                if len(records) == 1:
                    await self._bury(records[0], error)
                    return
                break
        for record in records:
            await self._handle([record], handle)

    async def _wait_for(self, error: Unavailable) -> None:
        """Something is away: that is no stall of ours."""
        event(log, "unavailable", logging.WARNING, why=str(error))
        self._away[str(error)] = time.monotonic()
        self._tick()
        await asyncio.sleep(RETRY_SECONDS)

    async def _bury(self, record: Inbound, error: Exception) -> None:
        fault = error.fault if isinstance(error, BadRecord) else Fault.INTERNAL
        if fault is Fault.INTERNAL:
            log.error("a record could not be handled", exc_info=error)
        metrics.DEAD_LETTERS.labels(self.service, fault.value).inc()
        await self.publish([dead_letter(record, fault, self.service, int(time.time() * 1000))])

    async def publish(self, outputs: Sequence[Output]) -> None:
        """Produce until the brokers have all of it; raises BadSetup for what is too large for them."""
        while outputs:
            try:
                async with self._sending:
                    await self._send(outputs)
                return
            except Unavailable as error:
                await self._wait_for(error)

    async def _send(self, outputs: Sequence[Output]) -> None:
        """Produce, or leave a new producer behind: an idempotent one that lost its place stays lost."""
        try:
            await self.sender.send(self.sender.pack(outputs))
        except Unavailable:
            self._tick()
            with contextlib.suppress(Unavailable, BadSetup):
                await self._reconnect()
            raise


async def _life(app: faust.App) -> None:
    """Ends when the app does."""
    await app.start()
    await app.wait_until_stopped()


async def _stop(app: faust.App, seconds: float) -> None:
    with contextlib.suppress(Exception):  # of one that crashed half of its services are gone
        await asyncio.wait_for(app.stop(), seconds)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel, and wait; but not for Faust's, some of which go on while the brokers are away."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=CANCEL_SECONDS)


def _security(settings: Settings) -> dict[str, Any]:
    """TLS and SASL in Faust's words; nothing for a plain connection."""
    context = connection(settings).get("ssl_context")
    if not settings.kafka_security.startswith("SASL"):
        return {"broker_credentials": faust.SSLCredentials(context)} if context else {}
    credentials = faust.SASLCredentials(
        mechanism=settings.kafka_sasl,
        username=settings.kafka_username,
        password=settings.kafka_password,
        ssl_context=context,
    )
    credentials.protocol = AuthProtocol(settings.kafka_security)
    return {"broker_credentials": credentials}
