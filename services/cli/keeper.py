"""Keeps one broker for the process that started this one, and cleans up when that process is gone.

Run by path, with the standard library alone: `keeper.py DIRECTORY COMMANDS`, the commands a JSON list of argument
lists: the last is the broker's, those before it prepare the directory. Words on stdin are orders, each answered by a
line on stdout: `start` by the process id, `poll` by 1 while the broker runs and else 0, `kill` by its exit status.
The end of stdin, which a SIGKILL of the starter brings about too, kills the broker and removes the directory.

Linux also kills the broker when this keeper dies (PR_SET_PDEATHSIG). That signal goes out when the *thread* that
forked ends, hence a process with one thread in between instead of the starter itself.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
POLL_S = 1.0
LOG = "broker.log"


def die_with_parent() -> None:
    """Have Linux kill this process when its parent dies; elsewhere nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Keeper:
    """A directory, the commands, and the broker while it runs."""

    def __init__(self, directory: Path, commands: list[list[str]]) -> None:
        self._directory = directory
        self._commands = commands
        self._starter = os.getppid()
        self._broker: subprocess.Popen[bytes] | None = None

    def start(self) -> int:
        """Prepare the directory the first time, then start the broker; returns its process id.

        Where a preparation fails, that is the process: it has ended, and the log says why.
        """
        self.kill()
        self._broker = self._spawn()
        while len(self._commands) > 1 and self._broker.wait() == 0:
            del self._commands[0]
            self._broker = self._spawn()
        return self._broker.pid

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with (self._directory / LOG).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 the commands come from brokers.py
                self._commands[0],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                preexec_fn=die_with_parent,
            )

    def poll(self) -> int:
        """1 while the broker runs, else 0."""
        return int(self._broker is not None and self._broker.poll() is None)

    def kill(self) -> int:
        """Kill the broker and wait for its end; returns its exit status, 0 if none was started."""
        if self._broker is None:
            return 0
        self._broker.kill()
        return self._broker.wait()

    def close(self) -> None:
        """Kill the broker and remove the directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def orders(self) -> list[str] | None:
        """The orders that came, none after POLL_S; None when the starter is gone.

        A fork of the starter may hold our stdin open, so the parent's id is looked at too.
        """
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_S)
        if not readable:
            return [] if os.getppid() == self._starter else None
        return os.read(sys.stdin.fileno(), 4096).decode().split() or None

    def keep(self) -> None:
        """Follow orders until the starter is gone."""
        act = {"start": self.start, "poll": self.poll, "kill": self.kill}
        while (orders := self.orders()) is not None:
            for order in orders:
                os.write(sys.stdout.fileno(), f"{act[order]()}\n".encode())


def main() -> None:
    keeper = Keeper(Path(sys.argv[1]), json.loads(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        with contextlib.suppress(ConnectionError):  # the starter went away without its answer
            keeper.keep()
    finally:
        keeper.close()


if __name__ == "__main__":
    main()
