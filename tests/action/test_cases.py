"""Casebook's database: every wrong verdict has a way back, whatever is repeated, late or killed."""

import argparse
import contextlib
import importlib.util
import itertools
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from sqlalchemy import event

from services import codec
from services.action.cases import STRIKE_HALF_LIFE_MS, Cases, CaseState, Outcome
from services.action.policy import Policy, parse
from services.action.stage import act, decide
from services.cli import review as command_line
from services.errors import BadSetup
from services.kafka import partition_of
from services.records import (
    AuditEntry,
    Corrections,
    Decision,
    Evidence,
    Label,
    Output,
    Review,
    ReviewCommand,
    Standing,
    Verdict,
    decision_id,
)
from services.settings import ROOT
from services.topics import AUDIT, DAY_MS, DECISIONS, LABELS, MESSAGES, QUARANTINE, STANDING
from tests.builders import NOON_MS, message, score, score_record

R = TypeVar("R", bound=msgspec.Struct)

SENDER = "default/default/u-17"
LATER_MS = NOON_MS + 60_000
TEXT = "Thanks for following! Free e-book"
POLICY: Policy = parse(b"[default]\nthreshold = 0.8\n")
DEBIAN = Path("/usr/lib/postgresql")


def evidence(**parts: Any) -> Evidence:
    """What action writes of a quarantined message from u-17 to u-42."""
    campaign = parts.pop("campaign_id", None)
    record = score_record(text_score=0.99, campaign_id=campaign, message=message(**({"text": TEXT} | parts)))
    _, held = act([record], POLICY, lambda _: None, False, NOON_MS + 40).outputs
    assert held.topic == QUARANTINE
    return codec.decode(held.value, Evidence)


def review(command: ReviewCommand = ReviewCommand.RELEASE, /, **parts: Any) -> Review:
    """A review of event e-1, a minute after noon."""
    if not parts.keys() & {"event_id", "sender_id", "campaign_id"}:
        parts["event_id"] = "e-1"
    whole: dict[str, Any] = {"review_id": "r-1", "actor": "ana", "reason": "asked for it", "reviewed_ms": LATER_MS}
    return Review(v=1, command=command, **(whole | parts))


def locate(topic: str, key: bytes) -> int:
    assert topic == MESSAGES
    return partition_of(key, 4)


def said(cases: Cases, topic: str, kind: type[R]) -> list[R]:
    """The records for a topic that wait in the outbox."""
    return [codec.decode(output.value, kind) for output in outputs(cases) if output.topic == topic]


def outputs(cases: Cases) -> list[Output]:
    return [output for _, output in cases.outbox(10_000)]


def state(cases: Cases, held: Evidence) -> CaseState | None:
    case = cases.case(held.decision.decision_id)
    return case.state if case else None


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL of this test run, on a socket of its own."""

    programs: Path
    place: Path
    user: str | None

    def run(self, program: str, *arguments: str) -> None:
        subprocess.run([self.programs / program, *arguments], check=True, user=self.user, stdout=subprocess.DEVNULL)

    def database(self, name: str) -> str:
        self.run("createdb", "-h", str(self.place), "-U", "doorman", name)
        return f"postgresql+psycopg://doorman@/{name}?host={self.place}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """One PostgreSQL for all tests; it refuses to run as root, so there it runs as its own user."""
    found = shutil.which("initdb") or next((str(path) for path in sorted(DEBIAN.glob("*/bin/initdb"))), None)
    if found is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("postgresql: needs its server and the package psycopg")
    place = Path(tempfile.mkdtemp(prefix="doorman-pg-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        shutil.chown(place, user)
    server = Server(Path(found).resolve().parent, place, user)
    data, options = str(place / "data"), f"-k {place} -c listen_addresses= -c fsync=off"
    try:
        server.run("initdb", "-D", data, "-U", "doorman", "-A", "trust", "-E", "UTF8", "--no-sync")
        server.run("pg_ctl", "-D", data, "-l", str(place / "log"), "-o", options, "-w", "start")
        yield server
        server.run("pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place)


NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind: the test runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'casebook.db'}"
    server: Server = request.getfixturevalue("postgres")
    return server.database(f"cases_{next(NUMBERS)}")


@pytest.fixture
def cases(url: str) -> Iterator[Cases]:
    opened = Cases(url, locate)
    yield opened
    opened.close()


def test_a_release_lets_the_message_go_and_says_so_to_all_who_must_know(cases: Cases) -> None:
    held = evidence()
    assert cases.open([held]) == [held.decision.decision_id]
    assert cases.review([review()], LATER_MS) == [Outcome.APPLIED]
    case = cases.case(held.decision.decision_id)
    assert case is not None
    assert (case.state, case.closed_ms, case.closed_by) == ("released", LATER_MS, "r-1")
    (decision,) = said(cases, DECISIONS, Decision)
    assert decision.decision_id == decision_id("default", "default", "e-1", 0, "r-1")
    assert (decision.cause, decision.verdict, decision.expires_at) == ("r-1", "allow", None)
    assert decision.supersedes == held.decision.decision_id
    assert decision.reasons == held.decision.reasons
    (label,) = said(cases, LABELS, Label)
    assert (label.label, label.text, label.review_id) == ("legit", TEXT, "r-1")
    (entry,) = said(cases, AUDIT, AuditEntry)
    assert (entry.actor, entry.action, entry.subject) == ("ana", "release", "default/default/e-1")
    (standing,) = said(cases, STANDING, Standing)
    assert standing.exempt == {"default/default/u-42": LATER_MS + 3650 * DAY_MS}
    (correction,) = said(cases, MESSAGES, Corrections)[0].corrections
    assert (correction.sender, correction.event_id, correction.event_ms) == (SENDER, "e-1", NOON_MS)


def test_every_record_has_the_key_by_which_it_is_read(cases: Cases) -> None:
    cases.open([evidence()])
    cases.review([review()], LATER_MS)
    told = {output.topic: output for output in outputs(cases)}
    assert {topic: output.key for topic, output in told.items()} == {
        DECISIONS: b"default/default/c-u-17-u-42",
        LABELS: b"default/default/e-1",
        AUDIT: b"ana",
        STANDING: SENDER.encode(),
        MESSAGES: None,
    }
    assert told[MESSAGES].partition == partition_of(SENDER.encode(), 4)
    assert told[MESSAGES].headers == (("doorman-type", b"corrections"),)
    assert told[MESSAGES].timestamp_ms == LATER_MS, "as new as the review: the topic keeps two days"
    assert dict(told[DECISIONS].headers)["ce_type"] == b"dm.decision"


def test_a_released_case_lets_the_sender_write_again(cases: Cases) -> None:
    cases.open([evidence()])
    cases.review([review()], LATER_MS)
    (standing,) = said(cases, STANDING, Standing)
    again = score(text_score=0.99, message=message(event_id="e-2", at_s=90))
    assert decide(again, POLICY, lambda _: standing, False, LATER_MS).verdict is Verdict.ALLOW


def test_a_conversation_without_a_recipient_is_exempt_as_one(cases: Cases) -> None:
    cases.open([evidence(recipient_id=None, conversation_id="c-all")])
    cases.review([review(until_ms=LATER_MS + 5)], LATER_MS)
    assert said(cases, STANDING, Standing)[0].exempt == {"default/default/c-all": LATER_MS + 5}


def test_a_review_before_its_case_is_applied_when_the_case_comes(cases: Cases) -> None:
    early = review(reviewed_ms=NOON_MS - 5)
    assert cases.review([early], NOON_MS) == [Outcome.PENDING]
    assert outputs(cases) == []
    held = evidence()
    cases.open([held])
    assert state(cases, held) == "released"
    assert cases.came_to() == {CaseState.HELD: 1, CaseState.RELEASED: 1}
    (decision,) = said(cases, DECISIONS, Decision)
    assert decision.decided_at == held.decision.decided_at, "what supersedes is never older"
    assert cases.review([early], LATER_MS) == [Outcome.REPEATED]


@pytest.mark.parametrize("early", [True, False], ids=["review first", "case first"])
def test_the_order_of_review_and_case_changes_nothing_in_what_is_said(cases: Cases, early: bool) -> None:
    if early:
        cases.review([review()], LATER_MS)
    cases.open([evidence()])
    if not early:
        cases.review([review()], LATER_MS)
    assert sorted(output.topic for output in outputs(cases)) == [AUDIT, DECISIONS, LABELS, MESSAGES, STANDING]
    assert said(cases, DECISIONS, Decision)[0].decided_at == codec.rfc3339(LATER_MS)
    assert cases.counts()[CaseState.RELEASED] == 1


def test_the_same_evidence_and_the_same_review_twice_change_nothing(cases: Cases) -> None:
    cases.open([evidence(), evidence()])
    cases.review([review()], LATER_MS)
    before = outputs(cases)
    assert cases.open([evidence()]) == []
    assert cases.review([review(), review()], LATER_MS + 9) == [Outcome.REPEATED] * 2
    assert outputs(cases) == before
    assert sum(cases.counts().values()) == 1


def test_a_crash_between_commit_and_publish_loses_nothing(url: str) -> None:
    first = Cases(url, locate)
    first.open([evidence()])
    first.review([review()], LATER_MS)
    before = first.outbox(100)
    first.close()
    second = Cases(url, locate)
    assert second.outbox(100) == before
    assert second.outbox(2) == before[:2]
    second.published([number for number, _ in before])
    assert second.waiting() == 0
    second.review([review(ReviewCommand.BLOCK, review_id="r-2", sender_id="u-17")], LATER_MS)
    assert min(number for number, _ in second.outbox(100)) > max(number for number, _ in before), "ids are used once"
    second.close()


def test_what_fails_half_way_leaves_neither_change_nor_record(cases: Cases, monkeypatch: pytest.MonkeyPatch) -> None:
    held = evidence()
    cases.open([held])

    def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr("services.action.cases._Desk._label", fail)
        with pytest.raises(RuntimeError):
            cases.review([review()], LATER_MS)
    assert (state(cases, held), outputs(cases)) == ("held", [])
    assert cases.review([review()], LATER_MS) == [Outcome.APPLIED]


def test_a_release_of_a_campaign_frees_all_its_cases(cases: Cases) -> None:
    ours = [evidence(event_id=f"e-{n}", sender_id=f"u-{n}", campaign_id="k-1") for n in range(20)]
    other = evidence(event_id="e-90", campaign_id="k-2")
    elsewhere = evidence(event_id="e-91", campaign_id="k-1", tenant="acme")
    cases.open([*ours, other, elsewhere])
    assert cases.review([review(campaign_id="k-1")], LATER_MS) == [Outcome.APPLIED]
    assert {state(cases, held) for held in ours} == {CaseState.RELEASED}
    assert (state(cases, other), state(cases, elsewhere)) == ("held", "held")
    assert len(said(cases, DECISIONS, Decision)) == len(said(cases, STANDING, Standing)) == 20
    packs = said(cases, MESSAGES, Corrections)
    assert len(packs) <= 4
    assert sum(len(pack.corrections) for pack in packs) == 20


def test_a_case_on_its_way_when_its_campaign_was_released_is_released_too(cases: Cases) -> None:
    cases.open([evidence(campaign_id="k-1")])
    cases.review([review(campaign_id="k-1")], LATER_MS)
    late = evidence(event_id="e-2", campaign_id="k-1")
    new = evidence(event_id="e-3", campaign_id="k-1")
    decided = msgspec.structs.replace(new.decision, decided_at=codec.rfc3339(LATER_MS + 1))
    new = msgspec.structs.replace(new, decision=decided)
    cases.open([late, new])
    assert (state(cases, late), state(cases, new)) == ("released", "held")


def test_a_release_of_a_sender_frees_that_sender_s_cases(cases: Cases) -> None:
    one, two = evidence(), evidence(event_id="e-2", recipient_id="u-43")
    other = evidence(event_id="e-3", sender_id="u-18")
    cases.open([one, two, other])
    cases.review([review(sender_id="u-17")], LATER_MS)
    assert [state(cases, held) for held in (one, two, other)] == ["released", "released", "held"]
    (standing,) = said(cases, STANDING, Standing)
    assert standing.exempt.keys() == {"default/default/u-42", "default/default/u-43"}


@pytest.mark.parametrize("scope", [{"tenant": "acme"}, {"platform": "chat"}], ids=["tenant", "platform"])
def test_another_scope_s_case_of_the_same_event_id_is_untouched(cases: Cases, scope: dict[str, str]) -> None:
    ours, theirs = evidence(), evidence(**scope)
    cases.open([ours, theirs])
    cases.review([review()], LATER_MS)
    assert (state(cases, ours), state(cases, theirs)) == ("released", "held")
    assert cases.review([review(**scope)], LATER_MS) == [Outcome.APPLIED], "review ids are a tenant's own"


def test_a_released_case_cannot_be_confirmed_later(cases: Cases) -> None:
    held = evidence()
    cases.open([held])
    cases.review([review()], LATER_MS)
    said_before = len(outputs(cases))
    late = review(ReviewCommand.CONFIRM, review_id="r-2", reviewed_ms=LATER_MS + 1)
    assert cases.review([late], LATER_MS + 1) == [Outcome.UNSUPPORTED]
    assert cases.review([review(review_id="r-3")], LATER_MS + 2) == [Outcome.REPEATED]
    assert state(cases, held) == "released"
    assert [output.topic for output in outputs(cases)[said_before:]] == [AUDIT, AUDIT]
    actions = [entry.action for entry in said(cases, AUDIT, AuditEntry)]
    assert actions == ["release", "confirm_unsupported", "release_repeated"]


def test_no_text_leaves_but_in_labels(cases: Cases) -> None:
    cases.open([evidence(), evidence(event_id="e-2"), evidence(event_id="e-3")])
    cases.review([review(), review(ReviewCommand.CONFIRM, review_id="r-2", event_id="e-2")], LATER_MS)
    cases.review([review(ReviewCommand.REPORT, review_id="r-3", event_id="e-3")], LATER_MS)
    assert {output.topic for output in outputs(cases) if b"e-book" in (output.value or b"")} == {LABELS}


def test_an_exempt_pair_joins_the_earlier_standing(cases: Cases) -> None:
    cases.open([evidence(), evidence(event_id="e-2", recipient_id="u-43")])
    cases.review([review(ReviewCommand.TRUST, review_id="r-0", sender_id="u-17", until_ms=LATER_MS + 7)], LATER_MS)
    cases.review([review(), review(review_id="r-2", event_id="e-2")], LATER_MS)
    standing = cases.standing(SENDER)
    assert standing is not None
    assert standing.exempt.keys() == {"default/default/u-42", "default/default/u-43"}
    assert standing.trust_until_ms == LATER_MS + 7
    assert said(cases, STANDING, Standing)[-1] == standing


def test_a_confirmation_strikes_and_labels_auto(cases: Cases) -> None:
    held = evidence()
    cases.open([held])
    cases.review([review(ReviewCommand.CONFIRM)], LATER_MS)
    assert state(cases, held) == "confirmed"
    (standing,) = said(cases, STANDING, Standing)
    assert (standing.strikes, standing.strikes_ms) == (1.0, LATER_MS)
    assert [label.label for label in said(cases, LABELS, Label)] == ["auto"]
    assert [entry.action for entry in said(cases, AUDIT, AuditEntry)] == ["confirm"]
    assert said(cases, DECISIONS, Decision) == []


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "out of order"])
def test_strikes_decay_in_any_order(cases: Cases, turned: bool) -> None:
    reports = [
        review(
            ReviewCommand.REPORT, review_id=f"r-{n}", sender_id="u-17", reviewed_ms=NOON_MS + n * STRIKE_HALF_LIFE_MS
        )
        for n in range(3)
    ]
    cases.review(reports[::-1] if turned else reports, NOON_MS + 9 * STRIKE_HALF_LIFE_MS)
    standing = cases.standing(SENDER)
    assert standing is not None
    assert (standing.strikes, standing.strikes_ms) == (1.75, NOON_MS + 2 * STRIKE_HALF_LIFE_MS)


def test_a_report_of_an_allowed_message_strikes_its_sender_and_has_no_text_to_label(cases: Cases) -> None:
    report = review(ReviewCommand.REPORT, event_id="e-9", sender_id="u-17")
    assert cases.review([report, report], LATER_MS) == [Outcome.APPLIED, Outcome.REPEATED]
    assert [output.topic for output in outputs(cases)] == [AUDIT, STANDING]
    assert said(cases, STANDING, Standing)[0].strikes == 1.0


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "out of order"])
def test_of_trust_and_block_the_one_reviewed_last_counts(cases: Cases, turned: bool) -> None:
    block = review(ReviewCommand.BLOCK, review_id="r-1", sender_id="u-17")
    trust = review(ReviewCommand.TRUST, review_id="r-2", sender_id="u-17", reviewed_ms=LATER_MS + 1)
    cases.review([trust, block] if turned else [block, trust], LATER_MS + 1)
    standing = cases.standing(SENDER)
    assert standing is not None
    assert (standing.block_until_ms, standing.trust_until_ms) == (0, LATER_MS + 1 + 3650 * DAY_MS)


def test_a_block_of_a_campaign_blocks_the_senders_of_its_cases(cases: Cases) -> None:
    cases.open([evidence(campaign_id="k-1"), evidence(event_id="e-2", sender_id="u-18", campaign_id="k-1")])
    cases.review([review(ReviewCommand.BLOCK, campaign_id="k-1")], LATER_MS)
    assert {standing.sender for standing in said(cases, STANDING, Standing)} == {SENDER, "default/default/u-18"}


def test_a_case_past_its_time_expires_and_stays(cases: Cases) -> None:
    held = evidence()
    cases.open([held])
    assert cases.expire(NOON_MS + 30 * DAY_MS - 1) == 0
    assert cases.expire(NOON_MS + 30 * DAY_MS) == 1
    assert cases.expire(NOON_MS + 31 * DAY_MS) == 0
    assert (state(cases, held), outputs(cases)) == ("expired", [])
    assert cases.counts()[CaseState.EXPIRED] == 1


@pytest.mark.parametrize(
    ("days", "outcome"), [(29, Outcome.APPLIED), (31, Outcome.UNSUPPORTED)], ids=["in time", "too late"]
)
def test_a_release_made_in_time_beats_the_expiry_that_was_faster(cases: Cases, days: int, outcome: Outcome) -> None:
    cases.open([evidence()])
    cases.expire(NOON_MS + 30 * DAY_MS)
    at_ms = NOON_MS + days * DAY_MS
    assert cases.review([review(reviewed_ms=at_ms)], NOON_MS + 40 * DAY_MS) == [outcome]


def test_an_expiry_by_command_is_audited_and_decides_nothing(cases: Cases) -> None:
    held = evidence()
    cases.open([held])
    assert cases.review([review(ReviewCommand.EXPIRE)], LATER_MS) == [Outcome.APPLIED]
    assert state(cases, held) == "expired"
    assert [output.topic for output in outputs(cases)] == [AUDIT]


def test_erasure_takes_the_text_the_waiting_label_and_the_standing(cases: Cases) -> None:
    one, two = evidence(), evidence(event_id="e-2")
    cases.open([one, two])
    cases.review([review(), review(ReviewCommand.ERASE, review_id="r-2", sender_id="u-17")], LATER_MS)
    assert not any(b"e-book" in (output.value or b"") for output in outputs(cases))
    case = cases.case(two.decision.decision_id)
    assert case is not None
    assert (case.state, case.evidence.message.text) == ("held", "")
    assert cases.standing(SENDER) is None
    assert [output.value for output in outputs(cases) if output.topic == STANDING][-1] is None
    cases.open([one, late := evidence(event_id="e-3")])
    arrived = cases.case(late.decision.decision_id)
    assert arrived is not None
    assert arrived.evidence.message.text == "", "evidence that was on its way is erased too"


def test_an_erased_case_can_still_be_released(cases: Cases) -> None:
    cases.open([evidence()])
    cases.review([review(ReviewCommand.ERASE), review(review_id="r-2")], LATER_MS)
    assert said(cases, DECISIONS, Decision)[0].verdict == "allow"
    assert said(cases, LABELS, Label) == []


@pytest.mark.parametrize(
    "odd",
    [
        {"event_id": None},
        {"review_id": "r" * 100_000},
        {"actor": "a" * 100_000, "reason": "x" * 3_000_000},
        {"event_id": "e" * 100_000},
    ],
    ids=["nothing named", "long id", "long actor", "long name"],
)
def test_what_cannot_be_done_is_refused_and_audited(cases: Cases, odd: dict[str, Any]) -> None:
    assert cases.review([review(**odd)], LATER_MS) == [Outcome.UNSUPPORTED]
    (entry,) = said(cases, AUDIT, AuditEntry)
    assert entry.action == "release_unsupported"
    assert all(len(output.value or b"") < 10_000 for output in outputs(cases))


@pytest.mark.parametrize(
    "odd",
    [{"event_id": "e\0'\"\n"}, {"sender_id": "\U0001f98a" * 64}, {"tenant": "/" * 256, "event_id": "\1" * 256}],
    ids=["nul", "emoji", "longest"],
)
def test_any_id_that_an_event_may_have_can_be_reviewed(cases: Cases, odd: dict[str, str]) -> None:
    held = evidence(**odd)
    cases.open([held])
    named = {"event_id": held.message.event_id, "sender_id": held.message.sender_id}
    assert cases.review([review(tenant=held.message.tenant, **named)], LATER_MS) == [Outcome.APPLIED]
    assert said(cases, DECISIONS, Decision)[0].event_id == held.message.event_id


def test_a_time_beyond_the_calendar_is_brought_back(cases: Cases) -> None:
    cases.open([evidence()])
    assert cases.review([review(reviewed_ms=2**63 - 1, until_ms=2**63 - 1)], LATER_MS) == [Outcome.APPLIED]
    assert said(cases, DECISIONS, Decision)[0].decided_at == codec.rfc3339(LATER_MS + 60_000)


def test_two_copies_at_once_lose_nothing_and_do_nothing_twice(url: str) -> None:
    copies = [Cases(url, locate), Cases(url, locate)]
    events = [f"e-{n}" for n in range(12)]

    def work(copy: int) -> None:
        for event_id in events if copy else reversed(events):
            if copy:
                copies[copy].open([evidence(event_id=event_id)])
            copies[copy].review([review(review_id=f"r-{event_id}", event_id=event_id)], LATER_MS)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    assert copies[0].counts()[CaseState.RELEASED] == 12
    assert len(said(copies[0], DECISIONS, Decision)) == len(said(copies[0], LABELS, Label)) == 12
    for copy in copies:
        copy.close()


def test_a_database_of_another_version_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Cases(url, locate).close()
    monkeypatch.setattr("services.action.cases.SCHEMA", 2)
    with pytest.raises(BadSetup, match="schema 1"):
        Cases(url, locate)


@pytest.mark.parametrize("wrong", ["nonsense", "oracle9://x", ""])
def test_a_url_that_cannot_be_used_is_refused(wrong: str) -> None:
    with pytest.raises(BadSetup, match="DOORMAN_DATABASE"):
        Cases(wrong, locate)


@pytest.mark.parametrize(
    "named",
    [{"event_id": "e-1"}, {"sender_id": "u-17"}, {"campaign_id": "k-1"}, {"event_id": "e-1", "sender_id": "u-17"}],
    ids=" and ".join,
)
def test_a_review_looks_its_cases_up_instead_of_walking_through_all(tmp_path: Path, named: dict[str, str]) -> None:
    path = tmp_path / "casebook.db"
    cases = Cases(f"sqlite:///{path}", locate)
    asked: list[tuple[str, Any]] = []
    event.listen(cases._engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    cases.open([evidence(campaign_id="k-1")])
    cases.review([review(**named)], LATER_MS)
    cases.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        plans = [
            str(step[3])
            for statement, values in asked
            if "FROM cases" in statement
            for step in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert plans
    assert not [plan for plan in plans if "SCAN" in plan or "ix_cases_page" in plan]


CONTRACTS = {path.name: codec.loads(path.read_bytes()) for path in (ROOT / "deploy" / "contracts").glob("*.json")}
REGISTRY: Registry[Any] = Registry().with_resources(
    (name, Resource.from_contents(schema)) for name, schema in CONTRACTS.items()
)


def test_what_is_said_is_what_the_contracts_promise(cases: Cases) -> None:
    cases.open([evidence(), evidence(event_id="e-2")])
    cases.review([review(), review(ReviewCommand.CONFIRM, review_id="r-2", event_id="e-2")], LATER_MS)
    for output in outputs(cases):
        part = "#/$defs/Corrections" if output.topic == MESSAGES else ""
        promised = Draft202012Validator({"$ref": f"{output.topic}.schema.json{part}"}, registry=REGISTRY)
        promised.validate(codec.loads(output.value or b""))
    assert {output.topic for output in outputs(cases)} == {DECISIONS, LABELS, AUDIT, STANDING, MESSAGES}


def parsed(*arguments: str) -> Review:
    parser = argparse.ArgumentParser()
    command_line.configure(parser)
    return command_line.written(parser.parse_args(arguments), "r-1", NOON_MS)


def test_the_command_writes_the_review_that_was_asked_for() -> None:
    written = parsed(
        "block", "--sender", "u-17", "--reason", "spam", "--actor", "ana", "--until", "2026-12-01T00:00:00Z"
    )
    assert (written.command, written.sender_id, written.actor, written.reviewed_ms) == ("block", "u-17", "ana", NOON_MS)
    assert written.until_ms == codec.epoch_ms("2026-12-01T00:00:00Z", "")


@pytest.mark.parametrize(
    ("named", "key"),
    [
        ({"sender_id": "u-17", "event_id": "e-1"}, b"default/default/u-17"),
        ({"campaign_id": "k-1"}, b"k-1"),
        ({"event_id": "e-1"}, b"default/default/e-1"),
    ],
    ids=["sender", "campaign", "event"],
)
def test_a_review_is_keyed_by_sender_then_campaign_then_event(named: dict[str, str], key: bytes) -> None:
    assert command_line.output(review(**named)).key == key


def test_a_command_that_names_nothing_is_refused() -> None:
    with pytest.raises(BadSetup, match="--event"):
        parsed("release", "--reason", "why not", "--actor", "ana")
