"""The embedded brokers: what they hold, and that nothing of them stays behind."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.cli import brokers
from services.cli.brokers import Broker
from services.errors import BadSetup, Unavailable
from services.settings import ROOT

MIB = 1024 * 1024


async def topic(broker: Broker, **config: str) -> str:
    """A new topic of one partition."""
    name = f"brokers-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, 1, topic_configs=config)])
    finally:
        await admin.close()
    return name


@asynccontextmanager
async def producer(broker: Broker, **options: Any) -> AsyncIterator[Any]:
    client = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def read(broker: Broker, name: str) -> list[Any]:
    """All committed records of the topic."""
    client = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await client.start()
    try:
        at = TopicPartition(name, 0)
        client.assign([at])
        end = (await client.end_offsets([at]))[at]
        records: list[Any] = []
        async with asyncio.timeout(20):
            while await client.position(at) < end:
                records += (await client.getmany(at, timeout_ms=100)).get(at, [])
        return records
    finally:
        await client.stop()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def eventually(holds: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def test_what_is_produced_is_read_back_as_it_was(broker: Broker) -> None:
    name = await topic(broker)
    async with producer(broker) as client:
        await client.send_and_wait(name, b"value", key=b"key", headers=[("h", b"1"), ("h", b"2")], timestamp_ms=17)
        await client.send_and_wait(name, None, key=b"tombstone")
        await client.send_and_wait(name, b"no key")
    records = await read(broker, name)
    assert [(record.key, record.value) for record in records] == [
        (b"key", b"value"),
        (b"tombstone", None),
        (None, b"no key"),
    ]
    assert records[0].headers == (("h", b"1"), ("h", b"2"))
    assert records[0].timestamp == 17


async def test_a_record_of_12_mb_gets_in_and_out(broker: Broker) -> None:
    name = await topic(broker, **{"max.message.bytes": str(16 * MIB)})
    async with producer(broker, max_request_size=16 * MIB) as client:
        await client.send_and_wait(name, bytes(12 * MIB))
    assert [len(record.value) for record in await read(broker, name)] == [12 * MIB]


@pytest.mark.kafka
async def test_an_aborted_transaction_is_not_read(kafka: Broker) -> None:
    name = await topic(kafka)
    async with producer(kafka, transactional_id=name) as client:
        async with client.transaction():
            await client.send_and_wait(name, b"committed")
        await client.begin_transaction()
        await client.send_and_wait(name, b"aborted")
        await client.abort_transaction()
        async with client.transaction():
            await client.send_and_wait(name, b"committed too")
    assert [record.value for record in await read(kafka, name)] == [b"committed", b"committed too"]


@pytest.mark.kafka
def test_only_kafka_claims_transactions(kafka: Broker, tansu: Broker) -> None:
    assert (kafka.transactions, tansu.transactions) == (True, False)


def sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets; it may open and close files meanwhile."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if match := re.match(r"socket:\[(\d+)\]", os.readlink(descriptor)):
                found.add(match[1])
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="linux: reads /proc")
def test_it_listens_on_loopback_only(broker: Broker) -> None:
    inodes = sockets(broker.pid)
    rows = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{broker.pid}/net/{table}").read_text().splitlines()[1:]
    ]
    listening = [row[1].partition(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]
    assert listening
    assert {address[-8:] for address in listening} == {"0100007F"}


@pytest.mark.kafka
async def test_a_killed_kafka_comes_back_with_its_port_and_data() -> None:
    with brokers.kafka() as broker:
        name = await topic(broker)
        async with producer(broker, acks="all") as client:
            await client.send_and_wait(name, b"kept")
        first = broker.pid
        broker.kill()
        assert gone(first)
        assert not brokers.answers(broker.port)
        broker.restart()
        assert broker.pid != first
        assert [record.value for record in await read(broker, name)] == [b"kept"]


def test_a_restarted_tansu_has_its_port(tmp_path: Path) -> None:
    with brokers.tansu(tmp_path) as broker:
        first = broker.pid
        broker.restart()
        assert gone(first)
        assert brokers.answers(broker.port)


@pytest.mark.parametrize("name", [pytest.param("kafka", marks=pytest.mark.kafka), "tansu"])
def test_nothing_is_left_when_the_block_ends(name: str, tmp_path: Path) -> None:
    with getattr(brokers, name)(tmp_path) as broker:
        assert list(tmp_path.iterdir())
    assert gone(broker.pid)
    assert port_is_free(broker.port)
    assert not list(tmp_path.iterdir())


STARTER = """
import os, sys, time
from pathlib import Path
from services.cli import brokers
with getattr(brokers, sys.argv[1])(Path(sys.argv[2])) as broker:
    if sys.argv[3] == "forked" and os.fork() == 0:
        os.close(1)
        time.sleep(20)
    print(broker.pid, broker.port, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("name", "way"),
    [pytest.param("kafka", "alone", marks=pytest.mark.kafka), ("tansu", "alone"), ("tansu", "forked")],
)
def test_nothing_is_left_when_the_starter_is_killed(name: str, way: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, name, str(tmp_path), way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as starter:
        assert starter.stdout is not None
        pid, port = map(int, starter.stdout.readline().split())
        assert list(tmp_path.iterdir())
        starter.send_signal(signal.SIGKILL)
    assert eventually(lambda: gone(pid))
    assert eventually(lambda: port_is_free(port))
    assert eventually(lambda: not list(tmp_path.iterdir()))


@pytest.mark.kafka
def test_nothing_is_left_when_the_starter_is_killed_before_kafka_is_up(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STARTER, "kafka", str(tmp_path), "alone"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as starter:
        assert eventually(lambda: bool(list(tmp_path.glob("*/broker.log"))))
        starter.kill()
        assert starter.stderr is not None
        assert starter.stderr.read() == b""  # read to its end: the keeper has it open until it is done
    assert not list(tmp_path.iterdir())


def test_the_broker_dies_with_its_keeper(tmp_path: Path) -> None:
    with brokers.tansu(tmp_path) as broker:
        broker._keeper.kill()
        if sys.platform == "linux":
            assert eventually(lambda: gone(broker.pid))
        with pytest.raises((Unavailable, OSError)):
            broker.kill()


def shell(script: str) -> brokers.Recipe:
    return lambda *_: [["sh", "-c", script]]


def test_a_broker_that_ends_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"it did not start:\nno such luck"):
        brokers._start("it", shell("echo no such luck; exit 3"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_broker_is_not_started_where_its_preparation_failed(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"it did not start:\nprepared\nbadly prepared$"):
        brokers._start(
            "it",
            lambda *_: [["echo", "prepared"], ["sh", "-c", "echo badly prepared; exit 1"], ["echo", "started"]],
            tmp_path,
        )


def test_a_broker_that_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "START_S", 0.2)
    with pytest.raises(Unavailable, match="its log is empty"):
        brokers._start("it", shell("exec sleep 60"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [pytest.param("kafka", marks=pytest.mark.kafka), "tansu"])
def test_a_port_taken_in_between_is_left_for_another(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free_port = brokers.free_port
    with socket.create_server(("127.0.0.1", free_port())) as other:
        taken = other.getsockname()[1]
        ports = iter([taken])
        monkeypatch.setattr(brokers, "free_port", lambda: next(ports, None) or free_port())
        with getattr(brokers, name)() as broker:
            assert broker.port != taken


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "doorman"


def test_two_that_fetch_at_once_both_get_whole_jars(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)

    def fetch(into: Path) -> None:
        both.wait(5)
        into.mkdir()
        (into / "kafka.jar").touch()

    monkeypatch.setattr(brokers, "_fetch", fetch)
    threads = [threading.Thread(target=brokers.jars) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in cache.iterdir()] == ["kafka-4.1.1"]
    assert [path.name for path in brokers.jars().iterdir()] == ["kafka.jar"]


def test_a_failed_fetch_says_why_and_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brokers, "MAVEN", ("sh", "-c", "echo no network; exit 1"))
    with pytest.raises(BadSetup, match="no network"):
        brokers.jars()
    assert not list(cache.iterdir())


def tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("java", "maven", "cached", "reason"),
    [
        pytest.param(None, True, True, "Java 17 is not installed", id="no Java"),
        pytest.param("1.8.0_402", True, True, "Java 17 is not installed", id="old Java"),
        pytest.param("17.0.15", False, False, "Maven is not installed", id="no Maven"),
        pytest.param("17.0.15", False, True, None, id="Maven is needed once"),
        pytest.param("21", True, False, None, id="a newer Java will do"),
    ],
)
def test_what_is_missing_is_named(
    java: str | None, maven: bool, cached: bool, reason: str | None, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = cache.parent / "tools"
    tools.mkdir()
    if java:
        tool(tools, "java", f"echo 'openjdk version \"{java}\" 2025' >&2")
    if maven:
        tool(tools, "mvn", "exit 0")
    if cached:
        brokers._jars_at().mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tools))
    assert brokers.kafka_missing.__wrapped__() == reason


def suite_without_java(tmp_path: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run one test that needs Kafka and one that does not, with an empty PATH."""
    test = tmp_path / "test_inner.py"
    test.write_text(
        textwrap.dedent("""
            import pytest
            @pytest.mark.kafka
            def test_needs_kafka(): pass
            def test_needs_nothing(): pass
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider", str(test)]
    return subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml")],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "DOORMAN_REQUIRE_KAFKA": "", "PATH": str(tmp_path), **environment},
    )


def test_the_last_line_says_what_was_skipped(tmp_path: Path) -> None:
    run = suite_without_java(tmp_path)
    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1] == "SKIPPED 1 of kind kafka: Java 17 is not installed"


def test_a_required_kafka_that_is_missing_fails_the_suite(tmp_path: Path) -> None:
    run = suite_without_java(tmp_path, DOORMAN_REQUIRE_KAFKA="1")
    assert run.returncode == 1
    assert "Apache Kafka cannot run here: Java 17 is not installed" in run.stdout + run.stderr
