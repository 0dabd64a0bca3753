"""Events in; messages, contacts and dead letters out. Pure: what there is to count comes back in the batch.

A message is keyed by its sender, so the lane that will see a reply is another one: *contacts* tell it who wrote.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services import codec
from services.deadletter import dead_letter, size
from services.errors import BadRecord, Fault
from services.ingest.adapters import Form, unwrap
from services.ingest.event import message, unreadable
from services.packing import CONTACTS, packed
from services.records import VERSION, Contact, Contacts, Inbound, Message, Output, scoped, trace
from services.topics import MAX_EVENT_BYTES, MESSAGES

SERVICE = "ingest"

Locate = Callable[[bytes], int]


@dataclass(slots=True)
class Batch:
    """What a batch of events gave. `crash`: the last fault of ours, behind a verdict `internal`."""

    outputs: list[Output] = field(default_factory=list)
    verdicts: list[Fault | None] = field(default_factory=list)
    forms: Counter[Form] = field(default_factory=Counter)
    clamped: int = 0
    crash: Exception | None = None


def ingest(records: Sequence[Inbound], locate: Locate, partitions: int, now_ms: int) -> Batch:
    """Take in events. `locate` gives the partition of `dm.messages`, which has `partitions`, for a key; `now_ms` stamps
    dead letters."""
    batch = Batch()
    intake = _Intake(batch, locate, partitions)
    for record in records:
        fault = intake.take(record)
        batch.verdicts.append(fault)
        if fault is not None:
            batch.outputs.append(dead_letter(record, fault, SERVICE, now_ms))
    latest_ms = max((record.timestamp for record in records), default=0)
    batch.outputs.extend(packed(MESSAGES, intake.contacts, _contacts, latest_ms, kind=CONTACTS))
    return batch


@dataclass(slots=True)
class _Intake:
    """Puts records into a batch; `contacts`: who wrote, for the partitions that are to hear it."""

    batch: Batch
    locate: Locate
    partitions: int
    contacts: dict[int, list[Contact]] = field(default_factory=lambda: defaultdict(list))

    def take(self, record: Inbound) -> Fault | None:
        """One record; returns why it, or the first part of it that is no message, could not be used."""
        fault: Fault | None = None
        backfill = bool(record.headers) and ("doorman-backfill", b"1") in record.headers
        read = 0
        try:
            for form, event in unwrap(record, _value(record)):
                read += 1
                if isinstance(event, BadRecord):
                    fault = fault or event.fault
                    continue
                try:
                    taken = message(event, record.timestamp, backfill)
                except BadRecord as bad:
                    fault = fault or bad.fault
                    self._answer_unreadable(record, event)
                else:
                    self.batch.forms[form] += 1
                    self.batch.clamped += taken.event_ms != taken.sent_ms
                    self._put(record, taken)
        except BadRecord as bad:
            if not read:
                self._answer_unreadable(record, _document(record))
            return fault or bad.fault
        except Exception as error:
            # A fault of ours must not stop the partition: the record is kept, under a reason that raises an alert.
            self.batch.crash = error
            return Fault.INTERNAL
        return fault

    def _put(self, record: Inbound, taken: Message) -> None:
        scope = scoped(taken.tenant, taken.platform, "")
        sender = scope + taken.sender_id
        home = self.locate(sender.encode())
        self.batch.outputs.append(_output(record, taken, sender, home))
        # Where nobody is named, each lane may be that of a member.
        members = {self.locate((scope + name).encode()) for name in taken.recipients} or range(self.partitions)
        for partition in members:
            if partition != home:
                self.contacts[partition].append(Contact(scope + taken.conversation_id, sender, taken.event_ms))

    def _answer_unreadable(self, record: Inbound, event: Mapping[str, Any]) -> None:
        """Where the ids of an unusable event can be read, its decision goes the usual way, so that it is made once."""
        taken = unreadable(event, record.timestamp)
        if taken is not None:
            sender = scoped(taken.tenant, taken.platform, taken.sender_id)
            self.batch.outputs.append(_output(record, taken, sender, self.locate(sender.encode())))


def _value(record: Inbound) -> bytes:
    if record.value is None:
        raise BadRecord(Fault.TOMBSTONE)
    if size(record) > MAX_EVENT_BYTES:
        raise BadRecord(Fault.TOO_LARGE)
    return record.value


def _output(record: Inbound, taken: Message, sender: str, home: int) -> Output:
    return Output(
        topic=MESSAGES,
        key=sender.encode(),
        value=codec.encode(taken),
        timestamp_ms=taken.received_ms,
        headers=trace(record),
        partition=home,
    )


def _document(record: Inbound) -> Mapping[str, Any]:
    try:
        return codec.loads_object(record.value or b"")
    except BadRecord:
        return {}


def _contacts(entries: tuple[Contact, ...]) -> Contacts:
    return Contacts(v=VERSION, contacts=entries)
