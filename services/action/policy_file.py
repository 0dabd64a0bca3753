"""The policy in use, read from its file and read again when that changes: for action and casebook."""

import asyncio
import logging
from pathlib import Path

from prometheus_client import Info

from services import metrics
from services.action import policy
from services.errors import BadSetup
from services.observe import event

POLL_SECONDS = 1.0

log = logging.getLogger(__name__)


class PolicyFile:
    """The policy in use, and the file it comes from: a changed file is taken whole or refused whole."""

    def __init__(self, path: Path, info: Info = metrics.POLICY) -> None:
        self._path, self._info = path, info
        self._seen = self._state()
        self.policy = policy.read(path)
        info.info({"version": self.policy.version})

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Take over what the file holds now, if it has changed: batches that begin after it go by that."""
        if (state := self._state()) == self._seen:
            return
        self._seen = state
        try:
            self.policy = policy.read(self._path)
        except BadSetup as refused:
            metrics.POLICY_LOADS.labels("refused").inc()
            event(log, "policy_refused", logging.ERROR, why=str(refused), kept=self.policy.version)
            return
        metrics.POLICY_LOADS.labels("loaded").inc()
        self._info.info({"version": self.policy.version})
        event(log, "policy_loaded", version=self.policy.version)

    def _state(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size
