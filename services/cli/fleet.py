"""The services as real processes on this machine: started, watched, killed, stopped. For demo, benches and tests."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType

from services import codec
from services.cli.keeper import die_with_parent
from services.errors import BadRecord, Unavailable
from services.settings import environment_with

MODULES = {
    "ingest": "services.ingest",
    "classify": "services.classify",
    "action": "services.action",
    "campaigns": "services.classify.campaigns",
    "casebook": "services.action.casebook",
}
READY_SECONDS = 60.0
STOP_SECONDS = 40.0


class Process:
    """One service's process. `name`: the service's, with "-2" and so on for a further process of it; `address` is its
    HTTP host:port once it is ready."""

    def __init__(self, name: str, environment: Mapping[str, str]) -> None:
        self.name = name
        self.service = name.partition("-")[0]
        self.address = ""
        self.tail: deque[str] = deque(maxlen=50)
        self._ready = threading.Event()
        self._popen = subprocess.Popen(  # noqa: S603 our own modules
            [sys.executable, "-m", MODULES[self.service]],
            env=environment_with(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_ready(self, seconds: float = READY_SECONDS) -> None:
        """Raises Unavailable, with the end of its log, when it ends or is not ready in time."""
        deadline = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if not self.running or time.monotonic() > deadline:
                raise Unavailable(f"{self.name} did not become ready:\n" + "\n".join(self.tail))

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self._popen.kill()
        self._popen.wait()
        self._reader.join()

    def stop(self) -> int:
        """SIGTERM, and SIGKILL to one that does not end; returns the exit status."""
        if self.running:
            self._popen.terminate()
        return self.ended()

    def ended(self) -> int:
        """Wait for the end that was asked for; returns the exit status."""
        try:
            status = self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            status = -9
        self._reader.join()
        return status

    def ask_to_stop(self) -> None:
        if self.running:
            self._popen.terminate()

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def _read(self) -> None:
        if self._popen.stderr is None:
            return
        with self._popen.stderr as lines:
            for line in lines:
                self.tail.append(line.decode(errors="replace").rstrip())
                with contextlib.suppress(BadRecord):
                    self._hear(codec.loads_object(line))

    def _hear(self, told: dict[str, object]) -> None:
        if told.get("event") == "ready":
            self.address = str(told.get("http"))
            self._ready.set()


class Fleet:
    """Several services with one environment; all of them are gone when the `with` block ends."""

    def __init__(self, environment: Mapping[str, str], names: Iterable[str] = MODULES) -> None:
        self._environment = {"DOORMAN_HTTP": "127.0.0.1:0", **environment}
        self.processes: dict[str, Process] = {}
        self._names = list(names)

    def __enter__(self) -> "Fleet":
        try:
            for name in self._names:
                self.start(name)
            for process in self:
                process.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self.processes.values()))

    def __getitem__(self, name: str) -> Process:
        return self.processes[name]

    def start(self, name: str) -> Process:
        """Start a service, or start it again."""
        self.processes[name] = Process(name, self._environment)
        return self.processes[name]

    def stop(self) -> dict[str, int]:
        """Stop all of them; returns their exit statuses."""
        for process in self:
            process.ask_to_stop()
        return {process.name: process.ended() for process in self}


def environment(
    bootstrap: str, state: Path, *, transactions: bool, partitions: int, prefix: str = ""
) -> dict[str, str]:
    """The settings of a fleet against a broker of ours."""
    return {
        "DOORMAN_KAFKA": bootstrap,
        "DOORMAN_TOPIC_PREFIX": prefix,
        "DOORMAN_DELIVERY": "exactly_once" if transactions else "at_least_once",
        "DOORMAN_PARTITIONS": str(partitions),
        "DOORMAN_STATE": str(state),
        "DOORMAN_HTTP": "127.0.0.1:0",
    }


def cpu_seconds(pid: int) -> float:
    """CPU time of a process, user and system; 0 where /proc does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
