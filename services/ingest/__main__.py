"""`python -m services.ingest`: events from the platform become messages."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import uvloop

from services import metrics
from services.deadletter import Limit
from services.errors import BadSetup
from services.ingest.stage import SERVICE, Batch, ingest
from services.kafka import Sender
from services.lane import Plan, Service, Work
from services.process import launch
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER, EVENTS, MESSAGES

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Ingest(Work):
    """A lane's work: the stage, and the counting around it."""

    sender: Sender
    stops: bool
    limit: Limit

    def replay(self, records: Sequence[Inbound]) -> None:
        """Nothing to remember."""

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        batch = ingest(records, self._home, self.sender.count(MESSAGES), now_ms)
        self._count(batch)
        return batch.outputs

    def _home(self, key: bytes) -> int:
        return self.sender.locate(MESSAGES, key)

    def _count(self, batch: Batch) -> None:
        if batch.crash is not None:
            log.error("an event could not be taken in", exc_info=batch.crash)
        for form, number in batch.forms.items():
            metrics.EVENTS.labels(form.value).inc(number)
        metrics.EVENTS_CLAMPED.inc(batch.clamped)
        alarm = False
        for fault in batch.verdicts:
            alarm |= self.limit.passed(fault is not None)
            if fault is not None:
                metrics.DEAD_LETTERS.labels(SERVICE, fault.value).inc()
        metrics.DEAD_LETTER_ALARM.labels(SERVICE).set(alarm)
        if alarm and self.stops:
            raise BadSetup("dead letters are past their limit: look with `doorman deadletter list`, mend, start again")


def service(settings: Settings) -> Service:
    """Ingest, wired."""

    limit = Limit()  # of the process: a healthy lane would call a sick one's alarm off

    def open_lane(partition: int, sender: Sender) -> Ingest:
        return Ingest(sender, settings.deadletter_stop, limit)

    return Service(Plan(SERVICE, EVENTS, (MESSAGES, DEAD_LETTER), open_lane), settings)


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service, uvloop.run))
