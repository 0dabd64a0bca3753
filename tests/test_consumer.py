"""What those who read Doorman's topics rely on, with all services as real processes: the example, and the contracts."""

import asyncio
import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace
from referencing import Resource
from referencing.jsonschema import DRAFT202012

from services import codec
from services import settings as environment
from services.action.policy import parse
from services.action.stage import decide, decision_output
from services.cli import fleet, main
from services.cli.brokers import Broker
from services.cli.fleet import Fleet
from services.cli.wire import Wire, wire
from services.kafka import Reader, Sender
from services.records import Decision, Inbound, Mode, Verdict, decision_id
from services.settings import ROOT, Settings
from services.topics import DECISIONS, EVENTS, MEMORY, TOPICS
from tests.builders import NOON_MS, event, score
from tests.test_contracts import ASYNCAPI, REGISTRY, within

pytestmark = pytest.mark.kafka

EXAMPLE = ROOT / "examples" / "consumer.py"
PARTITIONS = 2
PITCH = "Thanks for following! Grab my free guide to 10k followers: https://growth.example/free"
CAMPAIGN = "my cousin shows people how the harbour market really works, ask her for the list of houses"
_prefixes = (f"consumer{number}-" for number in count())
_registry = REGISTRY.with_resource("asyncapi.yaml", Resource.from_contents(ASYNCAPI, DRAFT202012))


class Inbox:
    """The example as a process, and what it holds."""

    def __init__(self, settings: Settings, file: Path, group: str = "inbox") -> None:
        self._file = file
        words = (settings.kafka, settings.topic_prefix + DECISIONS, settings.topic_prefix + group, str(file))
        self._process = subprocess.Popen([sys.executable, str(EXAMPLE), *words], stderr=subprocess.DEVNULL)

    def held(self) -> dict[str, bool]:
        """Whether each message is held, by its event."""
        with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(self._file)) as held:
            rows = held.execute("SELECT message, held FROM inbox").fetchall()
            return {json.loads(message)[2]: bool(value) for message, value in rows}
        return {}

    async def shows(self, name: str, held: bool, seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while self.held().get(name) is not held:
                await asyncio.sleep(0.1)

    def end(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@contextlib.contextmanager
def inbox(settings: Settings, file: Path, group: str = "inbox") -> Iterator[Inbox]:
    started = Inbox(settings, file, group)
    try:
        yield started
    finally:
        started.end()


@contextlib.asynccontextmanager
async def everything(kafka: Broker, state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """All services on topics of their own; commands reach them too."""
    variables = fleet.environment(
        kafka.bootstrap, state, transactions=True, partitions=PARTITIONS, prefix=next(_prefixes)
    )
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with wire(environment.load(variables)) as ends:
        started = await asyncio.to_thread(Fleet(variables).__enter__)
        try:
            yield ends
        finally:
            await asyncio.to_thread(started.stop)


async def said(*words: str) -> None:
    assert await asyncio.to_thread(main, [*words, "--reason", "a friend", "--actor", "ana"]) == 0


def pitch(now_ms: int, **parts: Any) -> dict[str, Any]:
    return event(sent_at=now_ms, text=PITCH, relation={"followed_at": now_ms - 5000}, **parts)


async def everything_on(settings: Settings, topic: str) -> list[Inbound]:
    found: list[Inbound] = []
    for number in range(PARTITIONS):
        reader = Reader(settings, topic, number)
        await reader.start()
        reader.seek(await reader.begin())
        while records := await reader.fetch(10_000, 500):
            found += records
        await reader.stop()
    return found


def faults(topic: str, record: Inbound) -> list[str]:
    """Why no message of the topic's channel in the AsyncAPI document is what a record is; empty if one is."""
    found: list[str] = []
    for reference in ASYNCAPI["channels"][topic]["messages"].values():
        pointer = reference["$ref"]
        wrong = list(_faults(pointer, within(ASYNCAPI, pointer), record))
        if not wrong:
            return []
        found += wrong
    return found


def _faults(pointer: str, told: dict[str, Any], record: Inbound) -> Iterator[str]:
    parts: dict[str, object] = {"headers": {name: value.decode() for name, value in record.headers}}
    if told.get("contentType") != "application/octet-stream" and record.value is not None:
        parts["payload"] = json.loads(record.value)
    if (told["bindings"]["kafka"]["key"]["type"] == "null") != (record.key is None):
        yield f"{pointer}: the key is {record.key!r}"
    for part, document in parts.items():
        if part in told:
            validator = Draft202012Validator({"$ref": f"asyncapi.yaml{pointer}/{part}"}, registry=_registry)
            yield from (
                f"{pointer}/{part}{error.json_path}: {error.message}" for error in validator.iter_errors(document)
            )


FIRST = decide(score(text_score=0.99), parse(b"[default]\nthreshold = 0.5\n"), lambda _: None, False, NOON_MS)


def superseding(before: Decision, verdict: Verdict, cause: str) -> Decision:
    name = decision_id("default", "default", "e-1", 0, cause)
    return replace(before, decision_id=name, cause=cause, verdict=verdict, supersedes=before.decision_id)


RELEASE = superseding(FIRST, Verdict.ALLOW, "r-1")
AGAIN = superseding(RELEASE, Verdict.QUARANTINE, "r-2")
EDIT = replace(
    FIRST, decision_id=decision_id("default", "default", "e-1", 1, "first"), revision=1, verdict=Verdict.ALLOW
)
MARK = replace(FIRST, decision_id="d-mark", event_id="mark", verdict=Verdict.ALLOW)


@pytest.mark.parametrize(
    ("decisions", "held"),
    [
        ([FIRST], True),
        ([replace(FIRST, mode=Mode.SHADOW)], False),
        ([FIRST, RELEASE], False),
        ([FIRST, RELEASE, FIRST, FIRST], False),
        ([FIRST, RELEASE, AGAIN, RELEASE, FIRST], True),
        ([RELEASE, FIRST], False),
        ([FIRST, EDIT], False),
        ([RELEASE, EDIT, FIRST, AGAIN], False),
    ],
    ids=[
        "held",
        "shadow",
        "released",
        "first repeated",
        "held again",
        "first lost and found",
        "edited",
        "edited and reviewed as it was",
    ],
)
async def test_the_example_applies_each_decision_once_and_the_one_that_supersedes(
    kafka: Broker, tmp_path: Path, decisions: list[Decision], held: bool
) -> None:
    variables = fleet.environment(kafka.bootstrap, tmp_path, transactions=True, partitions=1, prefix=next(_prefixes))
    async with wire(environment.load(variables)) as ends:
        aborted = Sender(ends.settings, "unlucky")
        await aborted.start()
        await aborted.learn([DECISIONS])
        await aborted._started.begin_transaction()
        undone = replace(FIRST, decision_id="d-undone", event_id="undone")
        await aborted.send(aborted.pack([decision_output(undone, NOON_MS)]))
        await aborted._started.abort_transaction()
        await aborted.stop()
        outputs = [decision_output(decision, NOON_MS) for decision in (*decisions, MARK)]
        await ends.sender.send(ends.sender.pack(outputs))
        with inbox(ends.settings, tmp_path / "inbox.db") as reading:
            await reading.shows("mark", held=False)
            assert reading.held() == {"e-1": held, "mark": False}


async def test_the_example_obeys_and_every_record_keeps_the_asyncapi_document(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with everything(kafka, tmp_path, monkeypatch) as ends:
        settings, now_ms = ends.settings, int(time.time() * 1000)
        unreadable = event(event_id="unreadable", sent_at="soon")
        mailing = [
            event(event_id=f"k-{n}", sender_id=f"s-{n}", recipient_id=f"r-{n}", text=CAMPAIGN, sent_at=now_ms)
            for n in range(12)
        ]
        with inbox(settings, tmp_path / "inbox.db") as first:
            await ends.send(
                [pitch(now_ms, event_id="e-1"), event(event_id="e-2", sent_at=now_ms), unreadable, *mailing]
            )
            await first.shows("e-1", held=True)
            await first.shows("e-2", held=False)
            await said("control", "shadow")
            await asyncio.sleep(1)
            await ends.send([pitch(now_ms, event_id="e-3", recipient_id="u-43")])
            await first.shows("e-3", held=False)
            await said("control", "enforce")
        with inbox(settings, tmp_path / "inbox.db") as second:
            await said("review", "release", "--event", "e-1", "--sender", "u-17")
            await second.shows("e-1", held=False)
        with inbox(settings, tmp_path / "inbox.db", group="again") as third:
            before = third.held()
            await ends.send([event(event_id="e-4", sender_id="u-17", sent_at=now_ms + 1)])
            await third.shows("e-4", held=False)
            assert third.held() == before | {"e-4": False}, "all decisions were read again and changed nothing"
        records = {topic: await everything_on(settings, topic) for topic in TOPICS if topic != EVENTS}
    wrong = {topic: told for topic, found in records.items() for record in found if (told := faults(topic, record))}
    assert not wrong
    assert {topic for topic, found in records.items() if not found} <= {MEMORY}
    released = [codec.decode(record.value, Decision) for record in records[DECISIONS]]
    first_id = decision_id("default", "default", "e-1", 0, "first")
    assert [one.verdict for one in released if one.supersedes == first_id] == ["allow"]
