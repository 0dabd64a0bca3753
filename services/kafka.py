"""aiokafka's clients, with the options that make them safe. The only importer of aiokafka.

A lane has a `Reader` and a `Sender` of its own; `Membership` only says which partitions are ours and keeps their
offsets; `View` holds a full copy of a compacted topic. Why the clients are apart: one consumer does not fetch for any
of its partitions while one of them has unread records (aiokafka 0.14, `Fetcher._get_actions_per_node`), so a slow lane
would stall its neighbours; and a lane that rebuilds its state can seek without disturbing the group.
"""

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import aiokafka.producer.sender
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    InvalidProducerEpoch,
    KafkaError,
    ProducerFenced,
    RebalanceInProgressError,
    UnknownMemberIdError,
    for_code,
)
from murmurhash2 import murmurhash2

from services.errors import BadSetup, DoormanError, Unavailable
from services.observe import event
from services.records import Inbound, Output
from services.settings import Compression, Delivery, Settings
from services.topics import EVENTS, TOPICS, Topic

log = logging.getLogger(__name__)

C = TypeVar("C", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)

SESSION_MS = 10_000
REBALANCE_MS = 60_000
TRANSACTION_MS = 30_000
REQUEST_MS = 20_000
# While brokers are away much of aiokafka tries for ever. These bound what is waited for: an exchange, a connection, the
# end of a client. Between two ticks of a lane stands no more of them than health's stall limit has room for.
ANSWER_SECONDS = REQUEST_MS / 1000
CONNECT_SECONDS = 10.0
STOP_SECONDS = 3.0
BATCH_BYTES = 512 * 1024
FETCH_BYTES = 4 * 1024 * 1024
# Kafka answers a fetch as soon as there is data; aiokafka lets other requests of the connection wait for it. Tansu,
# which has no transactions, answers only when the wait is over: there it is half of the latency.
FETCH_WAIT_MS = {Delivery.EXACTLY_ONCE: 100, Delivery.AT_LEAST_ONCE: 20}

# How long a missing offset may still come. Tansu hands out the offsets of two producers before it stores their batches:
# on a busy machine the later batch can be read before the earlier one is there, and who reads on has lost that. What
# Kafka leaves out, markers and compacted records, never comes: with transactions nothing is waited for.
GAP_SECONDS = 0.25

# A transaction begun while the markers of the last are being written is told to come again; aiokafka waits 20 ms then,
# several times what the markers take. Measured: a transaction after a pause of 3 ms took 23.6 ms, with this 9.5.
aiokafka.producer.sender.BACKOFF_OVERRIDE = 0.003

_KAFKA_SEED = 0x9747B28C


class Fenced(DoormanError):
    """Another process has taken the lane over: what this one holds is no longer true."""


_TAKEN_OVER = (
    ProducerFenced,
    InvalidProducerEpoch,
    CommitFailedError,
    IllegalGenerationError,
    UnknownMemberIdError,
    RebalanceInProgressError,
)


@contextlib.asynccontextmanager
async def _asking(what: str) -> AsyncIterator[None]:
    """An exchange with the brokers: raises Fenced; Unavailable for any other failure, and when it takes too long."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except _TAKEN_OVER as error:
        raise Fenced(f"{what}: {type(error).__name__}") from error
    except (KafkaError, OSError) as error:
        raise Unavailable(f"{what}: {type(error).__name__}") from error


def is_told(error: object) -> bool:
    """Whether an unretrieved exception is aiokafka's: a failure reaches us once, and its other futures repeat it."""
    return isinstance(error, KafkaError)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Kafka's own default partitioner chooses it (murmur2)."""
    return (murmurhash2(key, _KAFKA_SEED) & 0x7FFFFFFF) % partitions


def connection(settings: Settings) -> dict[str, Any]:
    """How to reach the brokers: what every client shares."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka,
        "security_protocol": settings.kafka_security,
        "request_timeout_ms": REQUEST_MS,
        "retry_backoff_ms": 50,
    }
    if settings.kafka_security.endswith("SSL"):
        try:
            context = ssl.create_default_context(cafile=settings.kafka_ca)
            if settings.kafka_cert:
                context.load_cert_chain(settings.kafka_cert, settings.kafka_key)
        except OSError as error:  # ssl's own errors are such
            raise BadSetup(f"DOORMAN_KAFKA_CA, _CERT or _KEY cannot be used: {error}") from None
        options["ssl_context"] = context
    if settings.kafka_security.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl,
            "sasl_plain_username": settings.kafka_username,
            "sasl_plain_password": settings.kafka_password,
        }
    return options


def _consumer(settings: Settings, *topics: str, **options: Any) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        *topics,
        **connection(settings),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=FETCH_WAIT_MS[settings.delivery],
        **options,
    )


async def connect(client: C, name: str) -> C:
    """Start a client; raises Unavailable when no broker answers."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.start()
    except BaseException as error:
        await _end(client)
        if not isinstance(error, (KafkaError, OSError)):
            raise
        raise Unavailable(f"{name}: no broker answers ({type(error).__name__}); is DOORMAN_KAFKA right?") from error
    return client


async def _end(client: Any) -> None:
    """Stop a client; one whose brokers are away would not come to an end, or ends in a CancelledError of its own."""
    stopping = asyncio.ensure_future(client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if stopping.done() and not stopping.cancelled() and stopping.exception() is None:
        return
    stopping.cancel()
    with contextlib.suppress(Exception):
        # One that did not get to the end of stop() has not closed its connections.
        await (client.client if isinstance(client, AIOKafkaProducer) else client._client).close()


async def _abandon(producer: AIOKafkaProducer) -> None:
    """End the attempts of a producer that did not stop: it would send what is given up, once there is a broker."""
    task = producer._sender.sender_task
    while task is not None and not task.done():
        task.cancel()  # the first time it still waits for what is under way
        await asyncio.wait([task], timeout=0.1)
    queued = producer._message_accumulator
    for batch in [*queued._pending_batches, *(batch for batches in queued._batches.values() for batch in batches)]:
        batch.future.cancel()


class Gaps:
    """Tells offsets that are missing for good from those that may still come."""

    def __init__(self, offset: int) -> None:
        self.next = offset
        self._settled = self._marked = 0  # ends of the partition: GAP_SECONDS ago or more, and since
        self._marked_at = 0.0

    def before(self, records: list[Inbound], end: int, now: float) -> list[Inbound]:
        """The records before the first offset that may still come, which is `next` then; `now` in seconds."""
        if now - self._marked_at > GAP_SECONDS:
            self._settled, self._marked, self._marked_at = self._marked, end, now
        for number, record in enumerate(records):
            if record.offset > self.next and record.offset >= self._settled:
                return records[:number]
            self.next = record.offset + 1
        return records


@contextlib.contextmanager
def _unheard(logger: str) -> Iterator[None]:
    """Keep a logger quiet while something is tried that may well fail."""

    def nothing(_: logging.LogRecord) -> bool:
        return False

    logging.getLogger(logger).addFilter(nothing)
    try:
        yield
    finally:
        logging.getLogger(logger).removeFilter(nothing)


@dataclass(frozen=True, slots=True)
class _Emptied:
    """A record that is there and cannot be read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = b""
    headers: Sequence[tuple[str, bytes]] = ()


class Reader:
    """Reads one partition, outside any group, committed records only."""

    def __init__(self, settings: Settings, topic: str, partition: int) -> None:
        self._settings = settings
        self._at = TopicPartition(settings.topic_prefix + topic, partition)
        self._consumer: Any = None
        self._gaps: Gaps | None = None

    async def start(self) -> None:
        self._consumer = await connect(_consumer(self._settings), "reader")
        self._consumer.assign([self._at])

    async def stop(self) -> None:
        if self._consumer is not None:
            await _end(self._consumer)

    def seek(self, offset: int) -> None:
        self._consumer.seek(self._at, offset)
        self._gaps = Gaps(offset) if self._settings.delivery is Delivery.AT_LEAST_ONCE else None

    async def begin(self) -> int:
        """The first offset that the log still holds."""
        async with _asking(f"where {self._at.topic} begins"):
            return int((await self._consumer.beginning_offsets([self._at]))[self._at])

    async def end(self) -> int:
        """The offset after the last committed record."""
        async with _asking(f"where {self._at.topic} ends"):
            return int((await self._consumer.end_offsets([self._at]))[self._at])

    async def since(self, timestamp_ms: int) -> int:
        """The first offset with a timestamp from then on; the first of all where the broker cannot tell."""
        async with _asking(f"the place in {self._at.topic}"):
            with contextlib.suppress(KafkaError):
                found = (await self._consumer.offsets_for_times({self._at: timestamp_ms}))[self._at]
                return await self.end() if found is None else int(found.offset)
            return await self.begin()

    async def position(self) -> int:
        async with _asking(f"the place in {self._at.topic}"):
            return int(await self._consumer.position(self._at))

    def end_seen(self) -> int | None:
        """The partition's end as the last fetch saw it."""
        end: int | None = self._consumer.highwater(self._at)
        return end

    async def fetch(self, most: int, timeout_ms: int) -> list[Inbound]:
        """The next records, none after `timeout_ms`; raises Unavailable."""
        async with _asking(f"cannot read {self._at.topic}"):
            try:
                records = await self._take(most, timeout_ms)
            except UnicodeDecodeError:
                records = await self._take_around(most)
        return self._without_gap(records, self._gaps) if self._gaps and records else records

    async def _take(self, most: int, timeout_ms: int) -> list[Inbound]:
        batches = await self._consumer.getmany(self._at, timeout_ms=timeout_ms, max_records=most)
        return list(batches.get(self._at, ()))

    async def _take_around(self, most: int) -> list[Inbound]:
        """The records up to one with a header name that is not UTF-8, and that one, emptied: aiokafka fails on it.

        So is what follows it in its producer's batch, which aiokafka reads from the start every time.
        """
        self.seek(await self.position())
        records: list[Inbound] = []
        try:
            while len(records) < most:
                records += await self._take(1, REQUEST_MS)
        except UnicodeDecodeError:
            offset = self._consumer._fetcher._records[self._at]._partition_records.next_fetch_offset
            event(log, "header_unreadable", logging.ERROR, **self._at._asdict(), offset=offset)
            self.seek(offset + 1)
            records.append(_Emptied(self._at.topic, self._at.partition, offset, int(time.time() * 1000)))
        return records

    def _without_gap(self, records: list[Inbound], gaps: Gaps) -> list[Inbound]:
        """The records up to a gap that may close; from there on they are fetched again."""
        end = records[-1].offset + 1
        taken = gaps.before(records, max(end, self.end_seen() or 0), time.monotonic())
        if gaps.next != end:
            self._consumer.seek(self._at, gaps.next)
        return taken


async def whole(settings: Settings, topic: str, partition: int) -> AsyncIterator[list[Inbound]]:
    """All that a partition holds by now, from its beginning on."""
    reader = Reader(settings, topic, partition)
    try:
        await reader.start()
        end = await reader.end()
        reader.seek(await reader.begin())
        while await reader.position() < end:
            yield await reader.fetch(5000, 500)
    finally:
        await reader.stop()


class Sender:
    """Produces for one lane: everything of a batch, then its offsets, in one transaction.

    Without a `transactional_id`: idempotent where the broker can, offsets by `Membership.commit`.
    """

    def __init__(self, settings: Settings, transactional_id: str | None = None) -> None:
        self._settings = settings
        self._id = f"{settings.topic_prefix}{transactional_id}" if transactional_id else None
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}

    async def start(self) -> None:
        """Connect. With a transactional id this ends what a predecessor of the same id had begun."""
        if self._id:
            self._producer = await connect(
                self._new(transactional_id=self._id, transaction_timeout_ms=TRANSACTION_MS), self._id
            )
            return
        try:
            with _unheard("aiokafka.producer.sender"):
                self._producer = await connect(self._new(enable_idempotence=True), "sender")
        except Unavailable:
            self._producer = await connect(self._new(acks="all"), "sender")

    def _new(self, **options: Any) -> AIOKafkaProducer:
        size = max(topic.max_bytes for topic in TOPICS.values() if topic.name != EVENTS)
        compression = self._settings.compression
        return AIOKafkaProducer(
            **connection(self._settings),
            compression_type=None if compression is Compression.NONE else compression.value,
            max_batch_size=BATCH_BYTES,
            max_request_size=size,
            **options,
        )

    async def stop(self) -> None:
        """Disconnect; an open transaction is aborted by the successor or by its timeout."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _end(producer)
            await _abandon(producer)

    @property
    def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise Unavailable("sender is not connected")
        return self._producer

    async def learn(self, topics: Iterable[str]) -> None:
        """Learn the number of partitions of `topics`; raises BadSetup for one that does not exist."""
        for topic in topics:
            self._partitions[topic] = await partitions(self._started.client, self._settings, topic)

    def count(self, topic: str) -> int:
        """The partitions of a topic that was learnt."""
        return self._partitions[topic]

    def locate(self, topic: str, key: bytes) -> int:
        """The partition of a key in a topic that was learnt."""
        return partition_of(key, self._partitions[topic])

    def pack(self, outputs: Sequence[Output]) -> "Packed":
        """Outputs as record batches by partition. Pure work, for a worker thread."""
        groups: dict[tuple[str, int], list[Any]] = {}
        for output in outputs:
            partition = self._partition(output)
            batches = groups.setdefault((output.topic, partition), [])
            if not (batches and _append(batches[-1], output)):
                batches.append(self._started.create_batch())
                if not _append(batches[-1], output):
                    raise BadSetup(f"an output for {output.topic} does not fit an empty batch")
        return groups

    def _partition(self, output: Output) -> int:
        if output.partition is not None:
            return output.partition
        if output.key is not None:
            return self.locate(output.topic, output.key)
        return output.timestamp_ms % self._partitions[output.topic]

    async def send(self, packed: "Packed") -> None:
        """Produce, and wait until the brokers have all of it; raises Unavailable or Fenced."""
        async with _asking("cannot produce"):
            await self._send(packed)

    async def _send(self, packed: "Packed") -> None:
        prefix = self._settings.topic_prefix
        streams = (self._send_stream(prefix + topic, number, batches) for (topic, number), batches in packed.items())
        for failure in await asyncio.gather(*streams, return_exceptions=True):
            if isinstance(failure, BaseException):
                raise failure

    async def _send_stream(self, topic: str, partition: int, batches: list[Any]) -> None:
        """One partition's batches, in their order. aiokafka fails on a batch under way that is cancelled."""
        for batch in batches:
            await asyncio.shield(await self._started.send_batch(batch, topic, partition=partition))

    async def transact(
        self, packed: "Packed", membership: "Membership", partition: int, offset: int, metadata: str
    ) -> None:
        """Produce and commit the offset as one; raises Unavailable or Fenced.

        The broker has every record before the offset goes in: the other way round aiokafka waits 100 ms for each
        retry of the broker's check.
        """
        at = TopicPartition(membership.topic, partition)
        producer = self._started
        async with _asking(f"transaction of {self._id}"):
            await producer.begin_transaction()
            await self._send(packed)
            await producer.send_offsets_to_transaction({at: OffsetAndMetadata(offset, metadata)}, membership.group)
            await producer.commit_transaction()


Packed = dict[tuple[str, int], list[Any]]


def _append(batch: Any, output: Output) -> bool:
    return (
        batch.append(timestamp=output.timestamp_ms, key=output.key, value=output.value, headers=list(output.headers))
        is not None
    )


@dataclass(frozen=True, slots=True)
class Committed:
    """Where a group stands in a partition. `offset` None: nowhere yet."""

    offset: int | None
    metadata: str


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]
    """Belongs to a group and reads nothing: says which partitions are ours, and keeps their offsets.

    `revoke` is awaited before partitions are given back, `assign` after they are given; both get the partitions.
    """

    def __init__(
        self,
        settings: Settings,
        group: str,
        topic: str,
        revoke: Callable[[set[int]], Awaitable[None]],
        assign: Callable[[set[int]], Awaitable[None]],
    ) -> None:
        self.group = settings.topic_prefix + group
        self.topic = settings.topic_prefix + topic
        self._revoke, self._assign = revoke, assign
        self._settings, self._base = settings, topic
        self._options = {
            "group_id": self.group,
            "session_timeout_ms": SESSION_MS,
            "heartbeat_interval_ms": SESSION_MS // 5,
            "rebalance_timeout_ms": REBALANCE_MS,
            "group_instance_id": f"{group}-{settings.instance}" if settings.instance else None,
        }
        self._consumer: Any = None

    async def start(self) -> None:
        """Join; raises Unavailable, or BadSetup when the topic does not exist."""
        self._consumer = await connect(_consumer(self._settings, **self._options), self.group)
        try:
            await partitions(self._consumer._client, self._settings, self._base)
        except BadSetup:
            await self._consumer.stop()
            raise
        self._consumer.subscribe([self.topic], listener=self)

    async def stop(self) -> None:
        """Leave the group."""
        if self._consumer is not None:
            await _end(self._consumer)

    async def alive(self) -> None:
        """Tell aiokafka that this member works: it leaves a group whose consumer is not asked for records."""
        with contextlib.suppress(KafkaError):
            await self._consumer.getmany(timeout_ms=0)

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._revoke({at.partition for at in revoked})

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        await self._assign({at.partition for at in assigned})

    @property
    def connected(self) -> bool:
        """Whether the group's broker is known and answers."""
        return self._consumer is not None and self._consumer._coordinator.coordinator_id is not None

    def owned(self) -> set[int]:
        """The partitions that are ours now."""
        return {at.partition for at in self._consumer.assignment()}

    async def committed(self, partition: int) -> Committed:
        """The group's offset in a partition, with its metadata; raises Unavailable."""
        at = TopicPartition(self.topic, partition)
        async with _asking(f"cannot read offsets of {self.group}"):
            found = await self._consumer._coordinator.fetch_committed_offsets([at])
        entry = found.get(at)
        return Committed(None, "") if entry is None or entry.offset < 0 else Committed(entry.offset, entry.metadata)

    async def commit(self, partition: int, offset: int, metadata: str) -> None:
        """Commit outside a transaction; raises Fenced when the partition is no longer ours, else Unavailable."""
        at = TopicPartition(self.topic, partition)
        async with _asking(f"cannot commit partition {partition} of {self.group}"):
            await self._consumer.commit({at: OffsetAndMetadata(offset, metadata)})


class View:
    """A full copy of a compacted topic: `apply` gets every record, from the start of the log on."""

    def __init__(self, settings: Settings, topic: str, apply: Callable[[Inbound], None]) -> None:
        self._settings = settings
        self._topic = settings.topic_prefix + topic
        self._name = topic
        self._apply = apply
        self._consumer: Any = None

    async def start(self) -> None:
        """Connect and read all that is there."""
        consumer = await connect(_consumer(self._settings), f"view of {self._topic}")
        try:
            async with _asking(f"view of {self._topic}"):
                count = await partitions(consumer._client, self._settings, self._name)
                all_of_it = [TopicPartition(self._topic, number) for number in range(count)]
                consumer.assign(all_of_it)
                ends = await consumer.end_offsets(all_of_it)
                await consumer.seek_to_beginning(*all_of_it)
        except BaseException:
            await _end(consumer)
            raise
        self._consumer = consumer
        while any([await consumer.position(at) < ends[at] for at in all_of_it]):
            await self._take(100)

    async def follow(self) -> None:
        """Apply what comes, for ever."""
        failing = False
        while True:
            try:
                await self._take(1000)
                failing = False
            except KafkaError as error:
                if not failing:
                    event(log, "view_failed", logging.WARNING, topic=self._topic, why=type(error).__name__)
                failing = True
                await asyncio.sleep(0.5)

    async def _take(self, timeout_ms: int) -> None:
        for records in (await self._consumer.getmany(timeout_ms=timeout_ms)).values():
            for record in records:
                self._apply(record)

    async def stop(self) -> None:
        if self._consumer is not None:
            await _end(self._consumer)


async def partitions(client: Any, settings: Settings, topic: str) -> int:
    """The number of a topic's partitions; raises BadSetup when the topic does not exist, Unavailable."""
    name = settings.topic_prefix + topic
    try:
        async with asyncio.timeout(5):
            return len(await client._wait_on_metadata(name))
    except (TimeoutError, KafkaError) as error:
        async with _asking(f"topic {name}"):
            answered = await client.force_metadata_update()
        if not answered:
            raise Unavailable(f"no broker tells of topic {name}") from error
        raise BadSetup(f"topic {name} does not exist: run `doorman topics create`") from None


class Admin:
    """Creates topics and compares them with the table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = AIOKafkaAdminClient(**connection(settings))

    async def __aenter__(self) -> "Admin":
        await connect(self._client, "admin")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    def _name(self, topic: Topic) -> str:
        return self._settings.topic_prefix + topic.name

    def _wanted(self, topic: Topic) -> dict[str, str]:
        return topic.config(self._settings.compaction_ms, self._settings.replication)

    async def create(self, topics: Iterable[Topic]) -> list[str]:
        """Create the topics that are missing; returns their names."""
        present = set(await self._client.list_topics())
        missing = [topic for topic in topics if self._name(topic) not in present]
        new = [
            NewTopic(
                self._name(topic),
                self._settings.partitions,
                self._settings.replication,
                topic_configs=self._wanted(topic),
            )
            for topic in missing
        ]
        if new:
            response = await self._client.create_topics(new)
            for name, code, *_ in response.topic_errors:
                if code not in (0, 36):  # 36: somebody else created it at the same time
                    raise BadSetup(f"cannot create {name}: {for_code(code).__name__}")
            await self._wait_for({self._name(topic) for topic in missing})
        return [self._name(topic) for topic in missing]

    async def _wait_for(self, names: set[str]) -> None:
        """Until every broker's answer knows the topics: their creation is told of a moment later."""
        for _ in range(100):
            if names <= set(await self._client.list_topics()):
                return
            await asyncio.sleep(0.05)

    async def differences(self, topics: Iterable[Topic]) -> list[str]:
        """What differs from the table, a line each: a missing topic, another setting, uneven partitions."""
        present = set(await self._client.list_topics())
        faults: list[str] = []
        counts: dict[str, int] = {}
        for topic in topics:
            name = self._name(topic)
            if name not in present:
                faults.append(f"{name}: missing")
                continue
            counts[name] = await self._count(name)
            actual = await self._config(name)
            faults += [
                f"{name}: {setting} is {actual.get(setting)}, not {wanted}"
                for setting, wanted in self._wanted(topic).items()
                if actual and actual.get(setting) != wanted
            ]
        if len(set(counts.values())) > 1:
            faults.append(f"partitions differ: {counts}; topics that share a key need the same number")
        return faults

    async def _count(self, name: str) -> int:
        described = await self._client.describe_topics([name])
        return len(described[0]["partitions"])

    async def _config(self, name: str) -> Mapping[str, str]:
        responses = await self._client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        return {
            entry[0]: entry[1] for response in responses for resource in response.resources for entry in resource[4]
        }
