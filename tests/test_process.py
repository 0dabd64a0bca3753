"""A service's process: it ends when it is told to, with a status and a line in the log that say why."""

import asyncio
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services import codec
from services.cli import brokers
from services.settings import environment_with
from tests.plane import plane

FAILING = """
import sys
from services.process import launch
class Failing:
    async def run(self):
        raise ValueError("what somebody wrote")
sys.exit(launch("failing", lambda settings: Failing()))
"""
STUBBORN = """
import asyncio, sys
from services.process import launch
async def stay():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
class Stubborn:
    async def run(self):
        self.left = asyncio.create_task(stay())
        await asyncio.sleep(0)
        return 3
sys.exit(launch("stubborn", lambda settings: Stubborn()))
"""


def ended(*command: str, **variables: str) -> tuple[int, list[dict[str, object]]]:
    """The status of a process and the lines of its log, each a JSON object."""
    done = subprocess.run(
        [sys.executable, *command], env=environment_with(variables), capture_output=True, check=False, timeout=60
    )
    return done.returncode, [codec.loads_object(line) for line in done.stderr.splitlines()]


@pytest.mark.kafka
@pytest.mark.parametrize("service", ["action", "casebook"])
async def test_a_service_whose_brokers_are_away_says_so_idle_too_and_ends_on_sigterm(
    service: str, tmp_path: Path
) -> None:
    with brokers.kafka(tmp_path) as broker:
        async with plane(service, broker, tmp_path / "state") as running:
            await asyncio.to_thread(broker.kill)
            await running.waits(["broker"])
            assert await running.stop() == 0
            assert [line for line in running.process.tail if not line.startswith("{")] == []


def test_tasks_that_never_end_do_not_keep_a_process() -> None:
    assert ended("-c", STUBBORN)[0] == 3


def test_a_failure_is_one_line_without_its_words() -> None:
    status, log = ended("-c", FAILING)
    assert (status, [line["event"] for line in log]) == (1, ["failed"])
    assert "ValueError" in str(log)
    assert "somebody" not in str(log)


@pytest.mark.parametrize("http", ["192.0.2.1", "no-such-host.invalid"])
def test_a_host_that_is_not_of_this_machine_is_refused(http: str) -> None:
    status, log = ended("-m", "services.ingest", DOORMAN_HTTP=http)
    assert (status, [line["event"] for line in log]) == (2, ["refused"])
    assert http in str(log[0]["why"])


def test_a_taken_port_falls_to_a_free_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "services.ingest"]
        variables = environment_with({"DOORMAN_HTTP": f"127.0.0.1:{port}", "DOORMAN_KAFKA": "127.0.0.1:1"})
        with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            first = codec.loads_object(process.stderr.readline())
            process.terminate()
    assert (first["event"], first["port"]) == ("port_taken", port)
