"""What a reader takes: every record of its partition, also where a broker shows a later one first."""

import asyncio
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c

from services import settings as environment
from services.cli.brokers import Broker
from services.errors import BadSetup
from services.kafka import GAP_SECONDS, Admin, Gaps, Reader, Sender, View
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import MESSAGES, STANDING, TOPICS

_prefixes = (f"reader{number}-" for number in count())


@dataclass
class Record:
    offset: int


def at(*offsets: int) -> list[Record]:
    return [Record(offset) for offset in offsets]


def taken(gaps: Gaps, *offsets: int, end: int, now: float) -> list[int]:
    return [record.offset for record in gaps.before(at(*offsets), end, now)]  # type: ignore[arg-type]


async def with_messages(kafka: Broker, **variables: str) -> Settings:
    """Settings under which `dm.messages` is there, empty, with one partition."""
    own = {"DOORMAN_TOPIC_PREFIX": next(_prefixes), "DOORMAN_PARTITIONS": "1"}
    configured = environment.load({"DOORMAN_KAFKA": kafka.bootstrap, **own, **variables})
    async with Admin(configured) as admin:
        await admin.create([TOPICS[MESSAGES]])
    return configured


async def first(reader: Reader, count: int) -> list[Inbound]:
    """The records from the beginning, at least so many."""
    reader.seek(0)
    found: list[Inbound] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            found += await reader.fetch(100, 100)
    return found


def test_a_record_that_comes_late_is_taken_in_its_place() -> None:
    gaps = Gaps(5)
    assert taken(gaps, 5, 6, 9, 10, end=11, now=100.0) == [5, 6]
    assert gaps.next == 7
    assert taken(gaps, 9, 10, end=11, now=100.02) == []
    assert taken(gaps, 7, 8, 9, 10, end=11, now=100.04) == [7, 8, 9, 10]
    assert gaps.next == 11


def test_a_record_that_never_comes_is_passed_once_the_gap_is_old() -> None:
    gaps = Gaps(0)
    now, steps = 100.0, 0
    while not taken(gaps, 3, 4, end=5, now=now):
        now, steps = now + GAP_SECONDS / 2, steps + 1
    assert 1 < steps < 8
    assert gaps.next == 5


def test_gaps_far_behind_the_end_are_passed_without_a_wait() -> None:
    gaps = Gaps(0)
    for now in (100.0, 101.0):
        gaps.before(at(0), 1000, now)  # type: ignore[arg-type]
    assert taken(gaps, 1, 5, 9, 700, end=1000, now=101.1) == [1, 5, 9, 700]


@pytest.mark.kafka
async def test_a_view_of_a_topic_that_is_not_there_leaves_nothing_running(kafka: Broker) -> None:
    configured = environment.load({"DOORMAN_KAFKA": kafka.bootstrap, "DOORMAN_TOPIC_PREFIX": "absent-"})
    before = asyncio.all_tasks()
    with pytest.raises(BadSetup, match="doorman topics create"):
        await View(configured, STANDING, print).start()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


@pytest.mark.kafka
async def test_a_header_that_cannot_be_read_costs_the_rest_of_its_batch_and_no_more(
    kafka: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    configured = await with_messages(kafka)
    topic = configured.topic_prefix + MESSAGES
    producer, reader = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, acks="all"), Reader(configured, MESSAGES, 0)
    await producer.start()
    for names in (["fine", "name", "after"], ["fine"], ["name"], ["fine"]):
        batch = producer.create_batch()
        for name in names:
            batch.append(key=b"k", value=name.encode(), timestamp=1, headers=[(name, b"")])
        _spoil(batch, b"\x08name")
        await (await producer.send_batch(batch, topic, partition=0))
    await producer.stop()
    await reader.start()
    found = await first(reader, 6)
    await reader.stop()
    assert [(record.offset, record.value) for record in found] == [
        (0, b"fine"),
        (1, b""),
        (2, b""),
        (3, b"fine"),
        (4, b""),
        (5, b"fine"),
    ]
    told = [record.__dict__["fields"] for record in caplog.records if record.getMessage() == "header_unreadable"]
    assert told == [{"topic": topic, "partition": 0, "offset": offset} for offset in (1, 2, 4)]


def _spoil(batch: Any, header: bytes) -> None:
    """Make a header's name (its length before it) no UTF-8, and the batch whole again: its CRC follows byte 21."""
    data = bytearray(batch._build().replace(header, header[:1] + b"\xff" * (len(header) - 1)))
    data[17:21] = calc_crc32c(data[21:]).to_bytes(4, "big")
    batch._buffer = bytes(data)


@pytest.mark.kafka
@pytest.mark.parametrize("compression", ["gzip", "lz4", "snappy", "zstd"])
async def test_compressed_records_of_ours_and_of_others_are_read(kafka: Broker, compression: str) -> None:
    configured = await with_messages(kafka, DOORMAN_COMPRESSION=compression)
    theirs = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, compression_type=compression)
    await theirs.start()
    await theirs.send_and_wait(configured.topic_prefix + MESSAGES, b"theirs" * 100, partition=0)
    await theirs.stop()
    ours, reader = Sender(configured), Reader(configured, MESSAGES, 0)
    await ours.start()
    await ours.learn([MESSAGES])
    await ours.send(ours.pack([Output(topic=MESSAGES, key=b"k", value=b"ours" * 100, timestamp_ms=1)]))
    await ours.stop()
    await reader.start()
    found = await first(reader, 2)
    await reader.stop()
    assert [record.value for record in found] == [b"theirs" * 100, b"ours" * 100]


@pytest.mark.kafka
@pytest.mark.parametrize("compression", ["none", "lz4"])
async def test_what_is_produced_is_as_small_as_the_setting_says(kafka: Broker, compression: str) -> None:
    configured = environment.load({"DOORMAN_KAFKA": kafka.bootstrap, "DOORMAN_COMPRESSION": compression})
    sender = Sender(configured)
    await sender.start()
    output = Output(topic=MESSAGES, key=b"k", value=b"ours" * 1000, timestamp_ms=1, partition=0)
    (batch,) = sender.pack([output])[MESSAGES, 0]
    await sender.stop()
    assert (len(batch._build()) < 500) == (compression == "lz4")


@pytest.mark.kafka
def test_markers_of_transactions_do_not_stop_a_reader_without_them(kafka: Broker) -> None:
    sent = [b"%d" % number for number in range(8)]
    assert asyncio.run(_through_transactions(kafka, sent)) == sent


async def _through_transactions(kafka: Broker, values: list[bytes]) -> list[bytes]:
    """Each value in a transaction of its own, so that a marker follows it; read without transactions."""
    configured = await with_messages(kafka, DOORMAN_DELIVERY="at_least_once")
    sender, reader = Sender(configured, "writer"), Reader(configured, MESSAGES, 0)
    await sender.start()
    await sender.learn([MESSAGES])
    await reader.start()
    try:
        for value in values:
            producer = sender._started
            await producer.begin_transaction()
            await sender.send(sender.pack([Output(topic=MESSAGES, key=b"k", value=value, timestamp_ms=1)]))
            await producer.commit_transaction()
        return [record.value or b"" for record in await first(reader, len(values))]
    finally:
        await reader.stop()
        await sender.stop()
