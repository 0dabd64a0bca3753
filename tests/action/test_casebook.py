"""Casebook as a process: what is quarantined becomes a case, what is reviewed has its effect, whatever is killed."""

import asyncio
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services import codec
from services import settings as environment
from services.action import casebook
from services.action.cases import Cases, CaseState, Filter
from services.action.reviews import review_output
from services.cli import brokers
from services.cli.brokers import Broker
from services.kafka import partition_of
from services.records import (
    VERSION,
    AuditEntry,
    Corrections,
    Decision,
    Evidence,
    Label,
    Output,
    Review,
    ReviewCommand,
    Standing,
    decision_id,
    scoped,
)
from services.settings import environment_with
from services.stateplane import Taken
from services.topics import AUDIT, DEAD_LETTER, DECISIONS, LABELS, MESSAGES, QUARANTINE, REVIEWS, STANDING, TOPICS
from tests.action.test_cases import evidence
from tests.builders import NOON_MS
from tests.plane import PARTITIONS, Plane, plane, until

# The topics keep some days only, by the time of a record.
NOW_MS = int(time.time() * 1000)


def held(number: int, **parts: Any) -> Evidence:
    """What action writes of a quarantined message, each from a sender of its own."""
    now = {"at_s": (NOW_MS - NOON_MS) / 1000, "event_id": f"e-{number}", "sender_id": f"u-{number}"}
    return evidence(**(now | parts))


def quarantined(*found: Evidence) -> list[Output]:
    return [
        Output(
            topic=QUARANTINE,
            key=scoped(one.message.tenant, one.message.platform, one.message.sender_id).encode(),
            value=codec.encode(one),
            timestamp_ms=one.message.received_ms,
        )
        for one in found
    ]


def release(number: int, **parts: Any) -> Output:
    whole: dict[str, Any] = {"review_id": f"r-{number}", "event_id": f"e-{number}", "command": ReviewCommand.RELEASE}
    return review_output(Review(v=VERSION, actor="ana", reason="asked for it", reviewed_ms=NOW_MS, **(whole | parts)))


def cases(started: Plane) -> Cases:
    """The database of the service, seen from beside it."""
    return Cases(started.settings.database_url, lambda _, key: partition_of(key, PARTITIONS))


async def counted(started: Plane, state: CaseState, number: int) -> dict[CaseState, int]:
    """How many cases are in each state, once so many are in this one."""
    book = cases(started)
    await until(lambda: book.counts()[state] >= number)
    counts = {state: number for state, number in book.counts().items() if number}
    book.close()
    return counts


async def test_a_release_reaches_all_who_must_know(broker: Broker, tmp_path: Path) -> None:
    async with plane("casebook", broker, tmp_path) as started:
        one = held(1)
        await started.put(*quarantined(one, held(2)))
        assert await counted(started, CaseState.HELD, 2) == {CaseState.HELD: 2}
        await started.put(release(1))
        (decision,) = await started.told(DECISIONS, Decision, 1)
        assert decision.decision_id == decision_id("default", "default", "e-1", 0, "r-1")
        assert (decision.verdict, decision.supersedes) == ("allow", one.decision.decision_id)
        (label,) = await started.told(LABELS, Label, 1)
        assert (label.event_id, label.label, label.text) == ("e-1", "legit", one.message.text)
        (entry,) = await started.told(AUDIT, AuditEntry, 1)
        assert (entry.actor, entry.action, entry.reason) == ("ana", "release", "asked for it")
        (standing,) = await started.told(STANDING, Standing, 1)
        assert (standing.sender, *standing.exempt) == ("default/default/u-1", "default/default/u-42")
        (record,) = await started.read(MESSAGES, 1)
        assert (record.key, dict(record.headers)) == (None, {"doorman-type": b"corrections"})
        assert record.partition == partition_of(b"default/default/u-1", PARTITIONS)
        assert codec.decode(record.value, Corrections).corrections[0].event_id == "e-1"
        assert await counted(started, CaseState.RELEASED, 1) == {CaseState.HELD: 1, CaseState.RELEASED: 1}
        assert await started.stop() == 0
        assert await started.left() == ["casebook.db"], "its database is closed, and nothing else is left"


@pytest.mark.kafka
async def test_a_review_before_its_case_waits_for_it(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path) as started:
        await started.put(release(1))
        await asyncio.sleep(1)
        assert await started.read(DECISIONS, 0) == []
        await started.put(*quarantined(held(1)))
        (decision,) = await started.told(DECISIONS, Decision, 1)
        assert decision.supersedes == held(1).decision.decision_id


@pytest.mark.kafka
async def test_what_comes_twice_has_its_effect_once(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path) as started:
        for _ in range(2):
            await started.put(*quarantined(held(1)), release(1))
        await started.put(*quarantined(held(2)), release(2))
        assert await counted(started, CaseState.RELEASED, 2) == {CaseState.RELEASED: 2}
        decided = Counter(decision.cause for decision in await started.told(DECISIONS, Decision, 2))
        assert decided == {"r-1": 1, "r-2": 1}
        assert len(await started.read(LABELS, 2)) == len(await started.read(STANDING, 2)) == 2


@pytest.mark.kafka
async def test_bad_records_are_dead_lettered_and_the_next_ones_served(kafka: Broker, tmp_path: Path) -> None:
    bad = [b"\xff{", None, b"[]", b"{}", b'{"v":1,"review_id":7}', b"\x00" * 100_000]
    async with plane("casebook", kafka, tmp_path) as started:
        await started.put(
            *(
                Output(topic=topic, key=b"k", value=value, timestamp_ms=NOW_MS, headers=(("h", b"1"),))
                for topic in (QUARANTINE, REVIEWS)
                for value in bad
            )
        )
        await started.put(*quarantined(held(1)), release(1))
        assert await counted(started, CaseState.RELEASED, 1) == {CaseState.RELEASED: 1}
        letters = await started.read(DEAD_LETTER, 2 * len(bad))
        assert len(letters) == 2 * len(bad)
        told = {(letter.value, dict(letter.headers)["doorman-reason"]) for letter in letters}
        assert {(b"\xff{", b"not_json"), (None, b"tombstone"), (b"[]", b"wrong_type")} <= told
        assert {(letter.key, dict(letter.headers)["h"]) for letter in letters} == {(b"k", b"1")}
        assert not any("e-book" in line for line in started.process.tail), "no text in the log"


@pytest.mark.kafka
async def test_an_aborted_transaction_opens_no_case(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path) as started:
        await started.abort(*quarantined(*(held(n) for n in range(20))))
        await started.put(*quarantined(*(held(n) for n in range(20, 40))))
        assert await counted(started, CaseState.HELD, 20) == {CaseState.HELD: 20}
        await asyncio.sleep(1)
        book = cases(started)
        assert [book.case(held(n).decision.decision_id) for n in range(20)] == [None] * 20
        book.close()


async def test_what_waits_to_be_published_is_shown_while_it_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = casebook.Casebook(environment.load({"DOORMAN_STATE": str(tmp_path)}))
    book.plane.sender._partitions = dict.fromkeys(TOPICS, PARTITIONS)

    async def publish(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(book.plane, "publish", publish)
    publishing = asyncio.create_task(book._publish())
    shown = []
    for number in range(2):
        for handle, output in ((book._open, quarantined(held(number))[0]), (book._review, release(number))):
            await handle([Taken(output.topic, 0, number, NOW_MS, output.key, output.value, ())])
        shown.append(REGISTRY.get_sample_value("doorman_outbox_records"))
    publishing.cancel()
    book._close()
    assert shown == [5, 10]


KILLED = """
import os, signal, sys
from services import process, stateplane
from services.action import casebook
async def publish(self, outputs):
    os.kill(os.getpid(), signal.SIGKILL)
stateplane.StatePlane.publish = publish
sys.exit(process.launch(casebook.SERVICE, casebook.service))
"""


@pytest.mark.kafka
async def test_a_kill_between_commit_and_publish_loses_nothing(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path, DOORMAN_INSTANCE="one") as started:
        await started.put(*quarantined(held(1)))
        await counted(started, CaseState.HELD, 1)
        assert await started.stop() == 0
        doomed = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED, env=environment_with(started.variables), stderr=subprocess.DEVNULL
        )
        await started.put(release(1))
        assert await asyncio.wait_for(doomed.wait(), 60) == -signal.SIGKILL
        assert await counted(started, CaseState.RELEASED, 1) == {CaseState.RELEASED: 1}
        assert await started.read(DECISIONS, 0) == [], "nothing was said of it"
        await started.start()
        (decision,) = await started.told(DECISIONS, Decision, 1)
        assert decision.decision_id == decision_id("default", "default", "e-1", 0, "r-1")
        told = [len(await started.read(topic, 1)) for topic in (LABELS, AUDIT, STANDING, MESSAGES)]
        assert told == [1, 1, 1, 1]


@pytest.mark.kafka
async def test_kills_at_any_moment_change_nothing_in_the_outcome(kafka: Broker, tmp_path: Path) -> None:
    number, kills = 300, 3
    async with plane("casebook", kafka, tmp_path, DOORMAN_INSTANCE="one") as started:
        for start in range(0, number, number // kills):
            numbers = range(start, start + number // kills)
            await started.put(*(release(n) for n in numbers if n % 2), *quarantined(*(held(n) for n in numbers)))
            await asyncio.sleep(0.05 + 0.1 * start / number)
            await started.kill()
            await started.start()
            await started.put(*(release(n) for n in numbers if not n % 2))
        assert await counted(started, CaseState.RELEASED, number) == {CaseState.RELEASED: number}
        decisions = await started.told(DECISIONS, Decision, number)
        assert Counter(one.supersedes for one in decisions).keys() == {
            held(n).decision.decision_id for n in range(number)
        }
        assert len({one.decision_id for one in decisions}) == number, "a repeat has the same id"
        assert len({one.review_id for one in await started.told(LABELS, Label, number)}) == number
        assert len({one.audit_id for one in await started.told(AUDIT, AuditEntry, number)}) == number


@pytest.mark.kafka
async def test_a_broker_that_dies_costs_nothing(tmp_path: Path) -> None:
    with brokers.kafka() as broker:
        async with plane("casebook", broker, tmp_path) as started:
            await started.put(*quarantined(*(held(n) for n in range(100))), *(release(n) for n in range(50)))
            await until(lambda: cases(started).counts()[CaseState.RELEASED] > 0)
            await asyncio.to_thread(broker.restart)
            await started.put(*(release(n) for n in range(50, 100)))
            assert await counted(started, CaseState.RELEASED, 100) == {CaseState.RELEASED: 100}
            causes = {one.cause for one in await started.told(DECISIONS, Decision, 100)}
            assert causes == {f"r-{n}" for n in range(100)}
            assert await started.stop() == 0


@pytest.mark.kafka
@pytest.mark.long
async def test_an_erased_person_is_gone_from_the_compacted_topics_within_the_stated_time(
    kafka: Broker, tmp_path: Path
) -> None:
    seconds = 12
    async with plane("casebook", kafka, tmp_path, DOORMAN_ERASURE_SECONDS=str(seconds)) as started:
        await started.put(*quarantined(held(1, recipient_id="zoe"), held(2)), release(1), release(2))
        await started.put(release(3, command=ReviewCommand.BLOCK, event_id=None, sender_id="zoe"))
        await counted(started, CaseState.RELEASED, 2)
        while await mentions(started, b"zoe") != {"the key", "a value"}:
            await asyncio.sleep(0.1)
        began = time.monotonic()
        await started.put(release(4, command=ReviewCommand.ERASE, event_id=None, sender_id="zoe"))
        while await mentions(started, b"zoe"):
            assert time.monotonic() - began < 2 * seconds, "a busy machine may be late, not that late"
            await asyncio.sleep(1)
        assert await mentions(started, b"u-2") == {"the key", "a value"}, "what is held of others stays"
        book = cases(started)
        assert book.case(held(1, recipient_id="zoe").decision.decision_id) is None
        book.close()


async def mentions(started: Plane, name: bytes) -> set[str]:
    """Where the compacted topic of standing names somebody."""
    records = await started.read(STANDING, 0)
    places = {"the key": [record.key for record in records], "a value": [record.value for record in records]}
    return {place for place, parts in places.items() if any(name in part for part in parts if part)}


@pytest.mark.kafka
async def test_what_nobody_reviewed_is_let_go_where_the_policy_says_so(kafka: Broker, tmp_path: Path) -> None:
    rules = tmp_path / "policy.toml"
    rules.write_text('[default]\nthreshold = 0.5\n[tenants.acme]\nexpiry = "allow"\n')
    month_ago = {"at_s": (NOW_MS - NOON_MS) / 1000 - 31 * 86_400}
    async with plane("casebook", kafka, tmp_path, DOORMAN_POLICY=str(rules)) as started:
        over, kept = held(1, tenant="acme", **month_ago), held(2, **month_ago)
        await started.put(*quarantined(over, kept, held(3)))
        await counted(started, CaseState.HELD, 3)
        assert await started.stop() == 0
        await started.start()
        assert await counted(started, CaseState.EXPIRED, 2) == {CaseState.HELD: 1, CaseState.EXPIRED: 2}
        (decision,) = await started.told(DECISIONS, Decision, 1)
        assert (decision.verdict, decision.cause) == ("allow", "expiry")
        assert decision.supersedes == over.decision.decision_id


@pytest.mark.kafka
async def test_a_lost_database_is_rebuilt_from_the_topics(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path) as started:
        await started.put(*quarantined(*(held(n, campaign_id="k-1" if n > 7 else None) for n in range(12))))
        await counted(started, CaseState.HELD, 12)
        await started.put(
            release(1),
            release(2, command=ReviewCommand.CONFIRM),
            release(3, event_id=None, campaign_id="k-1"),
            release(4, command=ReviewCommand.ERASE, event_id=None, sender_id="u-5"),
            release(6, command=ReviewCommand.TRUST, event_id=None, sender_id="u-6"),
            release(99),
        )
        await started.told(AUDIT, AuditEntry, 9)
        assert await started.stop() == 0
        before = whole(started)
        (started.settings.state / "casebook.db").unlink()
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "casebook", "rebuild"),
            env=environment_with(started.variables),
            stdout=subprocess.PIPE,
        )
        told, _ = await done.communicate()
        assert (done.returncode, codec.loads(told)["cases"]["released"]) == (0, 5)
        assert whole(started) == before


def whole(started: Plane) -> list[Any]:
    """All cases of a database as they are now, and what is held of senders."""
    book = cases(started)
    found = book.page(Filter(tenant="default"), None, 1000)
    standings = [book.standing(f"default/default/u-{n}") for n in range(12)]
    book.close()
    assert len(found) == 11
    return [found, standings]


@pytest.mark.kafka
async def test_the_command_reaches_the_casebook(kafka: Broker, tmp_path: Path) -> None:
    async with plane("casebook", kafka, tmp_path) as started:
        await started.put(*quarantined(held(1)))
        asked = ["review", "release", "--event", "e-1", "--reason", "asked for it", "--actor", "ana"]
        done = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.cli",
            *asked,
            env=environment_with(started.variables),
            stdout=subprocess.PIPE,
        )
        told, _ = await done.communicate()
        review = codec.decode(told, Review)
        assert (done.returncode, review.command, review.event_id) == (0, "release", "e-1")
        (decision,) = await started.told(DECISIONS, Decision, 1)
        assert decision.cause == review.review_id


def test_a_database_that_cannot_be_used_is_refused_at_start() -> None:
    variables = environment_with({"DOORMAN_DATABASE": "nonsense", "DOORMAN_HTTP": "127.0.0.1:0"})
    done = subprocess.run([sys.executable, "-m", casebook.__name__], env=variables, capture_output=True, text=True)
    assert done.returncode == 2
    assert "DOORMAN_DATABASE" in done.stderr
    assert codec.loads_object(done.stderr.splitlines()[-1])["event"] == "refused"
