"""Casebook's database: every wrong verdict has a way back, whatever is repeated, late or killed."""

import argparse
import contextlib
import itertools
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from sqlalchemy import MetaData, create_engine, event, insert, select
from sqlalchemy.exc import IntegrityError

from services import codec
from services.action.cases import Cases, CaseState, Filter, Outcome
from services.action.cases.database import MIGRATIONS
from services.action.cases.desk import row
from services.action.cases.tables import Table, TurnRow
from services.action.policy import Policy, parse
from services.action.reviews import review_output
from services.action.stage import act, decide
from services.action.standings import STRIKE_HALF_LIFE_MS
from services.classify.campaign_window import LiveCampaigns
from services.classify.fingerprint import prints
from services.classify.stage import State, classify
from services.cli import review as command_line
from services.errors import BadSetup, Unavailable
from services.kafka import partition_of
from services.records import (
    AuditEntry,
    Campaign,
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
from services.spans import DAY_MS
from services.topics import AUDIT, CAMPAIGNS, DECISIONS, LABELS, MESSAGES, QUARANTINE, STANDING
from tests.builders import NOON_MS, message, message_record, score, score_record
from tests.postgres import Postgres

R = TypeVar("R", bound=msgspec.Struct)

SENDER = "default/default/u-17"
LATER_MS = NOON_MS + 60_000
TEXT = "Thanks for following! Free e-book: https://books.example/free"
POLICY: Policy = parse(b"[default]\nthreshold = 0.8\n")


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


NUMBERS = itertools.count()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of either kind: the test runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'casebook.db'}"
    server: Postgres = request.getfixturevalue("postgres")
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
    assert cases.came_to() == ({CaseState.HELD: 1, CaseState.RELEASED: 1}, True)
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
        broken.setattr("services.action.cases.desk.Desk._label", fail)
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


def test_a_release_of_a_campaign_exempts_it_and_a_release_of_its_case_does_not(cases: Cases) -> None:
    held = evidence(campaign_id="k-1")
    cases.open([held])
    cases.review([review()], LATER_MS)
    assert said(cases, CAMPAIGNS, Campaign) == []
    cases.review([review(review_id="r-2", campaign_id="k-1", until_ms=LATER_MS + 9)], LATER_MS)
    (exempt,) = said(cases, CAMPAIGNS, Campaign)
    assert (exempt.campaign_id, exempt.exempt, exempt.confirmed, exempt.expires_ms) == (
        "k-1",
        True,
        False,
        LATER_MS + 9,
    )
    assert [output.key for output in outputs(cases) if output.topic == CAMPAIGNS] == [b"k-1/review/default"]
    found = classify([message_record(text=TEXT)], State(), None, live(exempt).find, lambda *_: 0, NOON_MS)
    assert found.scores[0].campaign_id is None


def live(exempt: Campaign) -> LiveCampaigns:
    """Campaign k-1 of TEXT, and what a review said of it, as classify holds them."""
    view = LiveCampaigns()
    text = prints(message(text=TEXT)).keys[0]
    running = msgspec.structs.replace(exempt, key=text, expires_ms=NOON_MS + DAY_MS, exempt=False)
    view.apply("k-1", running)
    assert view.find("default", [text], NOON_MS) == "k-1"
    view.apply("k-1/review/default", exempt)
    return view


@pytest.mark.parametrize("turned", [False, True], ids=["in order", "out of order"])
def test_of_two_reviews_of_a_campaign_the_one_made_last_counts(cases: Cases, turned: bool) -> None:
    reviews = [
        review(ReviewCommand.CONFIRM, review_id="r-1", campaign_id="k-1"),
        review(review_id="r-2", campaign_id="k-1", reviewed_ms=LATER_MS + 1),
    ]
    cases.review(reviews[::-1] if turned else reviews, LATER_MS + 1)
    *_, last = said(cases, CAMPAIGNS, Campaign)
    assert (last.exempt, last.confirmed) == (True, False)


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


def test_a_report_of_an_allowed_message_strikes_its_sender_and_labels_it(cases: Cases) -> None:
    report = review(ReviewCommand.REPORT, event_id="e-9", sender_id="u-17", text=TEXT)
    assert cases.review([report, report], LATER_MS) == [Outcome.APPLIED, Outcome.REPEATED]
    assert [output.topic for output in outputs(cases)] == [LABELS, AUDIT, STANDING]
    (label,) = said(cases, LABELS, Label)
    assert (label.event_id, label.label, label.text) == ("e-9", "auto", TEXT)
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


@pytest.mark.parametrize("command", [ReviewCommand.RELEASE, ReviewCommand.CONFIRM])
def test_a_case_that_expired_can_still_be_reviewed(cases: Cases, command: ReviewCommand) -> None:
    held = evidence()
    cases.open([held])
    cases.expire(NOON_MS + 30 * DAY_MS)
    late_ms = NOON_MS + 31 * DAY_MS
    assert cases.review([review(command, reviewed_ms=late_ms)], late_ms) == [Outcome.APPLIED]
    assert cases.expire(late_ms) == 0
    assert state(cases, held) in ("released", "confirmed")


def test_what_expires_is_let_go_where_the_tenant_wants_it(url: str) -> None:
    cases = Cases(url, locate, lambda tenant: tenant == "acme")
    ours, theirs = evidence(), evidence(event_id="e-2", tenant="acme")
    cases.open([ours, theirs])
    assert cases.expire(NOON_MS + 30 * DAY_MS) == 2
    assert [state(cases, held) for held in (ours, theirs)] == ["expired", "expired"]
    (decision,) = said(cases, DECISIONS, Decision)
    assert decision.decision_id == decision_id("acme", "default", "e-2", 0, "expiry")
    assert (decision.verdict, decision.supersedes) == ("allow", theirs.decision.decision_id)
    assert decision.decided_at == theirs.decision.expires_at
    assert [output.topic for output in outputs(cases)] == [DECISIONS], "nobody reviewed it: there is nothing to learn"
    cases.close()


def test_an_expiry_by_command_is_audited_and_decides_nothing(cases: Cases) -> None:
    held = evidence()
    cases.open([held])
    assert cases.review([review(ReviewCommand.EXPIRE)], LATER_MS) == [Outcome.APPLIED]
    assert state(cases, held) == "expired"
    assert [output.topic for output in outputs(cases)] == [AUDIT]


ERASE = ReviewCommand.ERASE


def test_an_erased_person_is_nowhere_in_the_database(cases: Cases, url: str) -> None:
    mine = evidence(sender_id="zoe", recipient_id="u-42")
    to_me = evidence(event_id="e-2", recipient_id="zoe")
    other = evidence(event_id="e-3", recipient_id="u-43")
    cases.open([mine, to_me, other])
    cases.review([review(review_id=f"r-{n}", event_id=f"e-{n}") for n in (2, 3)], LATER_MS)
    cases.review([review(ReviewCommand.TRUST, review_id="r-4", sender_id="zoe")], LATER_MS)
    cases.published([number for number, _ in cases.claim(100)])
    assert cases.review([review(ERASE, review_id="r-5", actor="bo", sender_id="zoe")], LATER_MS) == [Outcome.APPLIED]
    told = {(output.topic, output.key): output.value for output in outputs(cases)}
    assert told[STANDING, b"default/default/zoe"] is None
    corrected = codec.decode(told[STANDING, SENDER.encode()], Standing)
    assert corrected.exempt.keys() == {"default/default/u-43"}, "what others' standing said of the person"
    (entry,) = said(cases, AUDIT, AuditEntry)
    assert (entry.actor, entry.action, "zoe" in entry.subject) == ("bo", "erase", False)
    cases.published([number for number, _ in cases.claim(100)])
    assert "zoe" not in everything(url)
    assert [state(cases, held) for held in (mine, to_me, other)] == [None, None, "released"]
    assert cases.review([review(ERASE, review_id="r-5", sender_id="zoe")], LATER_MS) == [Outcome.REPEATED]


def everything(url: str) -> str:
    """All that a database holds, as one string."""
    metadata, engine = MetaData(), create_engine(url)
    with engine.connect() as connection:
        metadata.reflect(connection)
        rows = [tuple(row) for table in metadata.tables.values() for row in connection.execute(select(table))]
    engine.dispose()
    return repr(rows)


def test_what_was_on_its_way_when_a_person_was_erased_is_not_taken_in(cases: Cases) -> None:
    cases.review([review(ERASE, sender_id="u-17")], LATER_MS)
    late, later = evidence(), evidence(event_id="e-2", at_s=61)
    assert cases.open([late, later]) == [later.decision.decision_id], "what came after it is of after it"


def test_an_erasure_takes_the_label_that_waits(cases: Cases) -> None:
    cases.open([evidence()])
    cases.review([review(), review(ERASE, review_id="r-2", sender_id="u-42")], LATER_MS)
    assert not any(b"e-book" in (output.value or b"") for output in outputs(cases))


def test_an_erasure_that_names_no_person_is_refused(cases: Cases) -> None:
    assert cases.review([review(ERASE)], LATER_MS) == [Outcome.UNSUPPORTED]


def test_what_the_topics_have_dropped_is_purged(cases: Cases) -> None:
    old, new = evidence(), evidence(event_id="e-2", at_s=40 * 86_400)
    decided = msgspec.structs.replace(new.decision, decided_at=codec.rfc3339(NOON_MS + 40 * DAY_MS))
    new = msgspec.structs.replace(new, decision=decided)
    cases.open([old, new])
    cases.review([review(), review(review_id="r-2", campaign_id="k-1", until_ms=LATER_MS + 1)], LATER_MS)
    cases.published([number for number, _ in cases.claim(100)])
    cases.purge(NOON_MS + 41 * DAY_MS)
    assert [state(cases, held) for held in (old, new)] == [None, "held"]
    assert cases.reviewed("default", "default", "r-1") is None
    (over,) = outputs(cases)
    assert (over.topic, over.key, over.value) == (CAMPAIGNS, b"k-1/review/default", None)


def test_standing_that_was_over_before_the_topics_begin_is_dropped_with_a_tombstone(cases: Cases) -> None:
    until = {"blocked": LATER_MS + 1, "trusted": LATER_MS + 9 * DAY_MS}
    cases.open([evidence()])
    cases.review([review(ReviewCommand.CONFIRM)], LATER_MS)
    for name, until_ms in until.items():
        command = ReviewCommand.BLOCK if name == "blocked" else ReviewCommand.TRUST
        cases.review([review(command, review_id=f"r-{name}", sender_id=name, until_ms=until_ms)], LATER_MS)
    cases.published([number for number, _ in cases.claim(100)])
    cases.purge(NOON_MS + 41 * DAY_MS)
    assert [(output.topic, output.key, output.value) for output in outputs(cases)] == [
        (STANDING, b"default/default/blocked", None)
    ]
    cases.purge(NOON_MS + 400 * DAY_MS)
    assert [cases.standing(sender) for sender in (SENDER, "default/default/trusted")] == [None, None]


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


def test_one_copy_at_a_time_publishes(postgres: Postgres) -> None:
    url = postgres.database(f"cases_{next(NUMBERS)}")
    one, two = Cases(url, locate), Cases(url, locate)
    one.open([evidence()])
    one.review([review()], LATER_MS)
    claimed = one.claim(2)
    assert len(claimed) == 2
    assert two.claim(2) == []
    two.review([review(ReviewCommand.BLOCK, review_id="r-2", sender_id="u-9")], LATER_MS)
    one.published([number for number, _ in claimed])
    rest = two.claim(100)
    assert len(rest) == two.waiting() > 2
    one.close()
    two.close()
    three = Cases(url, locate)
    assert three.claim(100) == rest, "what was claimed and not published is there for the next"
    three.close()


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


def test_a_database_of_a_later_version_is_refused(url: str) -> None:
    Cases(url, locate).close()
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(BadSetup, match="9999"):
        Cases(url, locate)


def test_what_a_database_does_not_take_is_no_outage(cases: Cases) -> None:
    with pytest.raises(IntegrityError):
        cases._database.transact(lambda session: session.execute(insert(TurnRow).values(name="work")))


def test_a_database_that_is_away_is_told_in_its_drivers_words_without_the_password() -> None:
    with pytest.raises(Unavailable, match=r"OperationalError .*refused") as told:
        Cases("postgresql+psycopg://ana:secret@127.0.0.1:1/none", locate)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_the_migrations_make_the_tables_that_the_code_has(url: str) -> None:
    Cases(url, locate).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()


def test_a_database_of_the_first_version_is_migrated_with_its_cases(url: str) -> None:
    held = evidence(tenant="a/b")
    whole = row(held)
    columns = {"decision_id", "tenant", "event", "sender", "campaign", "state", "decided_ms", "expires_ms", "record"}
    engine = create_engine(url)
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir()
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("DROP TABLE alembic_version")
        old = Table.metadata.tables["cases"]
        connection.execute(old.insert().values({name: whole[name] for name in columns}))
    engine.dispose()
    cases = Cases(url, locate)
    wanted = Filter(tenant="a/b", platform="default", recipient="u-42", reason="text")
    assert [case.evidence for case in cases.page(wanted, None, 10)] == [held]
    cases.close()


@pytest.mark.parametrize("wrong", ["nonsense", "oracle9://x", ""])
def test_a_url_that_cannot_be_used_is_refused(wrong: str) -> None:
    with pytest.raises(BadSetup, match="DOORMAN_DATABASE"):
        Cases(wrong, locate)


def test_cases_are_found_by_what_they_are(cases: Cases) -> None:
    one = evidence(campaign_id="k-1")
    two = evidence(event_id="e-2", sender_id="u-18", recipient_id="u-43", platform="chat")
    cases.open([one, two, evidence(event_id="e-3", tenant="acme")])
    cases.review([review()], LATER_MS)

    def found(**asked: Any) -> list[str]:
        return [case.evidence.message.event_id for case in cases.page(Filter(tenant="default", **asked), None, 9)]

    assert sorted(found()) == ["e-1", "e-2"]
    assert found(platform="chat") == found(state=CaseState.HELD) == ["e-2"]
    assert found(sender="u-18", platform="chat") == found(recipient="u-43", platform="chat") == ["e-2"]
    assert found(sender="u-17") == found(campaign="k-1") == found(reason="campaign") == ["e-1"]
    assert found(sender="u-18") == found(reason="tex") == found(reason="%") == []
    assert (len(found(from_ms=NOON_MS + 40)), found(from_ms=NOON_MS + 41), found(to_ms=NOON_MS + 40)) == (2, [], [])


def test_pages_show_every_case_once_the_newest_first(cases: Cases) -> None:
    ours = [evidence(event_id=f"e-{n}", at_s=0) for n in range(25)]
    cases.open(ours)
    seen: list[str] = []
    after = None
    while page := cases.page(Filter(tenant="default"), after, 10):
        seen += [case.evidence.decision.decision_id for case in page]
        after = (page[-1].decided_ms, seen[-1])
    assert seen == sorted((held.decision.decision_id for held in ours), reverse=True)


def test_a_case_tells_the_reviews_that_name_it(cases: Cases) -> None:
    cases.open([evidence(campaign_id="k-1"), evidence(event_id="e-2", sender_id="u-18", campaign_id="k-1")])
    cases.review(
        [
            review(ReviewCommand.BLOCK, review_id="r-1", sender_id="u-17"),
            review(review_id="r-2", campaign_id="k-1", reviewed_ms=LATER_MS + 1),
            review(review_id="r-3", event_id="e-1", reviewed_ms=LATER_MS + 2),
            review(review_id="r-4", event_id="e-2", reviewed_ms=LATER_MS + 3),
        ],
        LATER_MS,
    )
    case = cases.case(evidence().decision.decision_id)
    assert case is not None
    told = [(one.review.review_id, one.outcome) for one in cases.story(case)]
    assert told == [("r-1", "applied"), ("r-2", "applied"), ("r-3", "repeated")]


def test_a_reach_is_what_a_review_would_change(cases: Cases) -> None:
    cases.open([evidence(event_id=f"e-{n}", campaign_id="k-1") for n in range(3)])
    cases.review([review(event_id="e-0")], LATER_MS)
    of_all = review(review_id="r-2", campaign_id="k-1")
    assert cases.reach(of_all) == 2
    assert cases.reach(review(ERASE, sender_id="u-42")) == 3
    cases.review([of_all], LATER_MS)
    assert cases.reach(of_all) == 0


def test_stats_count_a_tenants_cases(cases: Cases) -> None:
    cases.open([evidence(event_id=f"e-{n}", campaign_id="k-1") for n in range(3)] + [evidence(tenant="acme")])
    cases.review([review(event_id="e-0")], LATER_MS)
    told = cases.stats("default")
    assert {state: number for state, number in told.states.items() if number} == {"held": 2, "released": 1}
    assert (told.reasons, told.campaigns, told.oldest_held_ms) == ({"text": 2, "campaign": 2}, {"k-1": 2}, NOON_MS + 40)


@pytest.mark.parametrize(
    "named",
    [{"event_id": "e-1"}, {"sender_id": "u-17"}, {"campaign_id": "k-1"}, {"event_id": "e-1", "sender_id": "u-17"}],
    ids=" and ".join,
)
def test_a_review_looks_its_cases_up_instead_of_walking_through_all(tmp_path: Path, named: dict[str, str]) -> None:
    path = tmp_path / "casebook.db"
    cases = Cases(f"sqlite:///{path}", locate)
    asked: list[tuple[str, Any]] = []
    event.listen(cases._database.engine, "before_cursor_execute", lambda *told: asked.append((told[2], told[3])))
    cases.open([evidence(campaign_id="k-1")])
    cases.review([review(**named)], LATER_MS)
    cases.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        plans = [
            str(step[3])
            for statement, values in asked
            if "FROM cases" in statement and "cases.state" in statement
            for step in database.execute(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    assert plans
    assert not [plan for plan in plans if "SCAN" in plan or "ix_cases_page" in plan]


CONTRACTS = {
    path.name: codec.loads(path.read_bytes()) for path in (ROOT / "deploy" / "contracts").glob("*.schema.json")
}
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
    assert review_output(review(**named)).key == key


def test_a_command_that_names_nothing_is_refused() -> None:
    with pytest.raises(BadSetup, match="--event"):
        parsed("release", "--reason", "why not", "--actor", "ana")
