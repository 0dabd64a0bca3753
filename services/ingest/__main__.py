"""`python -m services.ingest`: events from the platform become messages."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import uvloop

from services import metrics
from services.deadletter import Limit
from services.errors import BadSetup
from services.ingest.stage import SERVICE, Batch, ingest
from services.lane import Plan, Service, Work
from services.process import launch
from services.records import Inbound, Output
from services.settings import Settings
from services.topics import DEAD_LETTER, EVENTS, MESSAGES


@dataclass(slots=True)
class Ingest(Work):
    """A lane's work: the stage, and the counting around it."""

    partition_of: Callable[[bytes], int]
    stops: bool
    limit: Limit

    def replay(self, records: Sequence[Inbound]) -> None:
        """Nothing to remember."""

    def run(self, records: Sequence[Inbound], now_ms: int) -> list[Output]:
        batch = ingest(records, self.partition_of, now_ms)
        self._count(batch)
        return batch.outputs

    def _count(self, batch: Batch) -> None:
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

    def open_lane(partition: int, locate: Callable[[str, bytes], int]) -> Ingest:
        return Ingest(lambda key: locate(MESSAGES, key), settings.deadletter_stop, limit)

    return Service(Plan(SERVICE, EVENTS, (MESSAGES, DEAD_LETTER), open_lane), settings)


if __name__ == "__main__":
    sys.exit(launch(SERVICE, service, uvloop.run))
