"""Cases, reviews, standing and the outbox, in a database. The only importer of sqlalchemy.

A case is `held` until a review or its time ends it: `released`, `confirmed` or `expired`. What changes and what there
is to say of it are one transaction: what is said waits in the outbox until it is published, and is the same however
often it is said. Repeats change nothing. Order does not matter: a review waits for its case, and one made before a case
expired beats the expiry.

SQLite (WAL) for one copy, PostgreSQL for more: nothing here is of one dialect but how a connection begins. Times are
milliseconds of the Unix epoch, given or from the records. What fails in the database is Unavailable, and is told
without parameters: they hold text.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    and_,
    create_engine,
    delete,
    event,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.sql import ColumnElement

from services import codec
from services.action.stage import decision_output
from services.errors import BadRecord, BadSetup, Unavailable
from services.packing import CORRECTIONS, packed
from services.records import (
    VERSION,
    AuditEntry,
    Correction,
    Corrections,
    Decision,
    Evidence,
    Label,
    Output,
    Override,
    Review,
    ReviewCommand,
    Standing,
    Verdict,
    decision_id,
    scoped,
)
from services.topics import AUDIT, DAY_MS, LABELS, MESSAGES, STANDING

SCHEMA = 1
ATTEMPTS = 3
BUSY_MS = 5_000
LONG_MS = 3650 * DAY_MS
# The last moment that RFC 3339 can write.
LAST_MS = 253_402_300_799_999
# An operator's clock may be ahead of ours by this much; reviews from later are taken as of then.
LEAD_MS = 60_000
STRIKE_HALF_LIFE_MS = 30 * DAY_MS
# What a review repeats in every record it causes stays small; PostgreSQL indexes keys of up to 2.7 kB.
MAX_NAME = 1024
MAX_KEY_BYTES = 2048
MAX_REASON = 2000
MAX_STANDING_BYTES = 2 * 1024 * 1024
PACK = 500
LEGIT, AUTO = "legit", "auto"

T = TypeVar("T")
Locate = Callable[[str, bytes], int]


class CaseState(StrEnum):
    HELD = "held"
    RELEASED = "released"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """What became of a review.

    `repeated`: it was taken before, or what it asks for is so already. `pending`: waits for its case. `unsupported`:
    it cannot be done; the audit says so.
    """

    APPLIED = "applied"
    REPEATED = "repeated"
    PENDING = "pending"
    UNSUPPORTED = "unsupported"


CLOSES = {
    ReviewCommand.RELEASE: CaseState.RELEASED,
    ReviewCommand.CONFIRM: CaseState.CONFIRMED,
    ReviewCommand.EXPIRE: CaseState.EXPIRED,
}


class _Table(DeclarativeBase):
    pass


class _Schema(_Table):
    __tablename__ = "schema_version"
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class _Review(_Table):
    """A review that was taken in. `record` is the Review; names are scoped, for the search by a case."""

    __tablename__ = "reviews"
    review: Mapped[str] = mapped_column(String, primary_key=True)
    tenant: Mapped[str] = mapped_column(String)
    command: Mapped[str] = mapped_column(String)
    outcome: Mapped[str] = mapped_column(String)
    event: Mapped[str | None] = mapped_column(String, index=True)
    sender: Mapped[str | None] = mapped_column(String, index=True)
    campaign: Mapped[str | None] = mapped_column(String, index=True)
    reviewed_ms: Mapped[int] = mapped_column(BigInteger)
    record: Mapped[bytes] = mapped_column(LargeBinary)


class _Case(_Table):
    """A quarantined message and its story. `record` is its Evidence, with the text."""

    __tablename__ = "cases"
    decision_id: Mapped[str] = mapped_column(String, primary_key=True)
    tenant: Mapped[str] = mapped_column(String)
    event: Mapped[str] = mapped_column(String, index=True)
    sender: Mapped[str] = mapped_column(String, index=True)
    campaign: Mapped[str | None] = mapped_column(String)
    state: Mapped[str] = mapped_column(String)
    decided_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int | None] = mapped_column(BigInteger)
    closed_ms: Mapped[int | None] = mapped_column(BigInteger)
    closed_by: Mapped[str | None] = mapped_column(ForeignKey("reviews.review"))
    record: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        Index("ix_cases_campaign", "tenant", "campaign"),
        Index("ix_cases_due", "state", "expires_ms"),
        Index("ix_cases_page", "tenant", "decided_ms"),
    )


class _Standing(_Table):
    """What is held of a sender. Of trust and block the one reviewed last counts: (`judged_ms`, `judged_by`)."""

    __tablename__ = "standing"
    sender: Mapped[str] = mapped_column(String, primary_key=True)
    judged_ms: Mapped[int] = mapped_column(BigInteger, default=-1)
    judged_by: Mapped[str] = mapped_column(String, default="")
    record: Mapped[bytes] = mapped_column(LargeBinary)


class _Waiting(_Table):
    """An Output that is not published yet. Ids are never used again: a late `published` takes nothing else out."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    topic: Mapped[str] = mapped_column(String)
    event: Mapped[str | None] = mapped_column(String, index=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


@dataclass(frozen=True, slots=True)
class Case:
    """A case as it is now. `closed_by` is the id of the review that ended it."""

    state: CaseState
    evidence: Evidence
    closed_ms: int | None
    closed_by: str | None


class Cases:
    """The casebook's database; every method is one transaction, for a worker thread.

    `locate` gives the partition of a key in a topic. Raises Unavailable; the constructor BadSetup for a URL that
    cannot be used and a database of another version.
    """

    def __init__(self, url: str, locate: Locate) -> None:
        self._locate = locate
        self._engine = _engine(url)
        self._came_to: Counter[CaseState] = Counter()
        try:
            self._transact(_prepare)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        self._engine.dispose()

    def open(self, evidences: Sequence[Evidence]) -> list[str]:
        """Open the cases that are new, and apply the reviews that waited for them; returns the ids of the opened."""
        opened: list[str] = []
        for start in range(0, len(evidences), PACK):
            rows = {(row := _row(evidence)).decision_id: row for evidence in evidences[start : start + PACK]}
            opened += self._work(lambda desk, rows=rows: desk.open(rows))  # type: ignore[misc]
        return opened

    def review(self, reviews: Sequence[Review], now_ms: int) -> list[Outcome]:
        """Apply reviews in their order; one outcome each. `now_ms`: the moment they are taken in."""
        return self._work(lambda desk: [desk.review(review, now_ms) for review in reviews])

    def expire(self, now_ms: int) -> int:
        """Held cases past their time become `expired`, and stay in quarantine; returns how many."""
        return self._work(lambda desk: desk.expire(now_ms))

    def outbox(self, limit: int) -> list[tuple[int, Output]]:
        """The records that wait to be published, oldest first."""
        oldest = select(_Waiting.id, _Waiting.record).order_by(_Waiting.id).limit(limit)
        rows = self._transact(lambda session: session.execute(oldest).all())
        return [(row.id, codec.decode(row.record, Output)) for row in rows]

    def published(self, ids: Sequence[int]) -> None:
        """Take records out of the outbox that the broker has."""
        chunks = [ids[start : start + PACK] for start in range(0, len(ids), PACK)]
        statements = [delete(_Waiting).where(_Waiting.id.in_(chunk)) for chunk in chunks]
        self._transact(lambda session: [session.execute(statement) for statement in statements])

    def waiting(self) -> int:
        """How many records wait in the outbox."""
        return self._transact(lambda session: session.scalar(select(func.count()).select_from(_Waiting)) or 0)

    def case(self, decision_id: str) -> Case | None:
        """The case of a decision."""
        return self._transact(lambda session: _told(session, decision_id))

    def counts(self) -> dict[CaseState, int]:
        """How many cases are in each state."""
        statement = select(_Case.state, func.count()).group_by(_Case.state)
        rows = self._transact(lambda session: session.execute(statement).all())
        return dict.fromkeys(CaseState, 0) | {CaseState(state): number for state, number in rows}

    def standing(self, sender: str) -> Standing | None:
        """What is held of a scoped sender."""
        row = self._transact(lambda session: session.get(_Standing, _key(sender)))
        return codec.decode(row.record, Standing) if row else None

    def came_to(self) -> Counter[CaseState]:
        """Cases by the state they came to since this was asked last: for the metric."""
        counted, self._came_to = self._came_to, Counter()
        return counted

    def _work(self, work: "Callable[[_Desk], T]") -> T:
        def at_desk(session: Session) -> tuple[T, Counter[CaseState]]:
            # Copies take turns: what one rests on, another cannot change. On SQLite BEGIN IMMEDIATE has done that.
            session.execute(select(_Schema.version).with_for_update())
            desk = _Desk(session, self._locate)
            return work(desk), desk.came_to

        result, came_to = self._transact(at_desk)
        self._came_to += came_to
        return result

    def _transact(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction; again where it failed: the connection was old, or another copy was faster."""
        for attempt in range(ATTEMPTS):
            try:
                with Session(self._engine, expire_on_commit=False) as session, session.begin():
                    return work(session)
            except DBAPIError as error:
                if attempt == ATTEMPTS - 1:
                    raise Unavailable(f"casebook's database: {type(error.orig).__name__}") from None
        raise AssertionError("unreachable")


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, hide_parameters=True, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise BadSetup(f"DOORMAN_DATABASE cannot be used: {type(error).__name__}; give an SQLAlchemy URL") from None
    if _is_sqlite(parsed):
        _make_room(parsed)
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _make_room(url: URL) -> None:
    if url.database and url.database != ":memory:":
        try:
            Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetup(f"no folder for casebook's database: {error.strerror}; set DOORMAN_STATE") from None


def _set_up(connection: Any, _: object) -> None:
    """The driver would begin by itself, at the first write: after what the write rests on was read."""
    connection.isolation_level = None
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _prepare(session: Session) -> None:
    _Table.metadata.create_all(session.connection())
    version = session.scalar(select(func.max(_Schema.version)))
    if version is None:
        session.add(_Schema(version=SCHEMA))
    elif version != SCHEMA:
        raise BadSetup(f"casebook's database has schema {version}, this program needs {SCHEMA}")


def _told(session: Session, decision_id: str) -> Case | None:
    row = session.get(_Case, decision_id)
    if row is None:
        return None
    review = session.get(_Review, row.closed_by) if row.closed_by else None
    closed_by = codec.decode(review.record, Review).review_id if review else None
    return Case(CaseState(row.state), codec.decode(row.record, Evidence), row.closed_ms, closed_by)


@dataclass(slots=True)
class _Desk:
    """One transaction: cases and standing change, and what there is to say goes into the outbox."""

    session: Session
    locate: Locate
    came_to: Counter[CaseState] = field(default_factory=Counter)
    corrections: list[Correction] = field(default_factory=list)
    corrected_ms: int = 0
    # Scoped senders whose standing changed, and when.
    changed: dict[str, int] = field(default_factory=dict)

    def open(self, rows: dict[str, _Case]) -> list[str]:
        known = set(self.session.scalars(select(_Case.decision_id).where(_Case.decision_id.in_(rows))))
        new = [row for name, row in rows.items() if name not in known]
        self.session.add_all(new)
        self.came_to[CaseState.HELD] += len(new)
        named = self._named(new)
        for row in new:
            if not named.isdisjoint((row.event, row.sender, row.campaign)):
                for waiting in self._waiting_for(row):
                    self._catch_up(waiting, row)
        self._say_rest()
        return [row.decision_id for row in new]

    def _named(self, cases: Sequence[_Case]) -> set[str]:
        """What reviews name of the events, senders and campaigns of these cases: nearly always nothing."""
        columns = (
            (_Review.event, {case.event for case in cases}),
            (_Review.sender, {case.sender for case in cases}),
            (_Review.campaign, {case.campaign for case in cases if case.campaign}),
        )
        found = [self.session.scalars(select(column).where(column.in_(names)).distinct()) for column, names in columns]
        return {name for names in found for name in names if name is not None}

    def _catch_up(self, waiting: _Review, case: _Case) -> None:
        review = codec.decode(waiting.record, Review)
        if not _is_usable(review):
            return
        if self._apply(review, [case]):
            waiting.outcome = Outcome.APPLIED
        elif waiting.outcome == Outcome.PENDING:
            waiting.outcome = Outcome.UNSUPPORTED
            self._audit(review, _subject(review), outcome=Outcome.UNSUPPORTED)

    def _waiting_for(self, case: _Case) -> list[_Review]:
        """Reviews that mean this case: those made after its decision, and one of its event that found no case."""
        same = or_(_Review.event == case.event, _Review.sender == case.sender, _Review.campaign == case.campaign)
        unanswered = and_(_Review.event.is_not(None), _Review.outcome == Outcome.PENDING)
        meant = select(_Review).where(
            same,
            or_(_Review.event.is_(None), _Review.event == case.event),
            or_(_Review.sender.is_(None), _Review.sender == case.sender),
            or_(_Review.campaign.is_(None), _Review.campaign == case.campaign),
            _Review.tenant == case.tenant,
            _Review.command != ReviewCommand.REPORT,
            or_(unanswered, _Review.reviewed_ms >= case.decided_ms),
        )
        return list(self.session.scalars(meant.order_by(_Review.reviewed_ms, _Review.review)))

    def review(self, review: Review, now_ms: int) -> Outcome:
        if self.session.get(_Review, _review_key(review)) is not None:
            return Outcome.REPEATED
        review = _bounded(review, now_ms)
        row = _review_row(review)
        self.session.add(row)
        self.session.flush()
        outcome = self._take(review) if _is_usable(review) else Outcome.UNSUPPORTED
        row.outcome = outcome
        if outcome in (Outcome.UNSUPPORTED, Outcome.REPEATED):
            self._audit(review, _subject(review), outcome=outcome)
        self._say_rest()
        return outcome

    def _take(self, review: Review) -> Outcome:
        if review.command is ReviewCommand.REPORT:
            return self._report(review)
        cases = self._meant(review)
        named = review.sender_id is not None and review.command not in CLOSES
        if not cases and not named:
            return Outcome.PENDING
        if review.command is ReviewCommand.ERASE:
            self._forget(review)
        if self._apply(review, cases):
            return Outcome.APPLIED
        wanted = CLOSES.get(review.command)
        done = wanted is None or any(case.state == wanted for case in cases)
        return Outcome.REPEATED if done else Outcome.UNSUPPORTED

    def _meant(self, review: Review) -> list[_Case]:
        """The cases to which every name of the review applies, oldest first."""
        # Scoped names hold the tenant; to ask for it too lets SQLite walk through all cases of the tenant instead.
        conditions: list[ColumnElement[bool]] = []
        if review.event_id is not None:
            conditions.append(_Case.event == _key(_scoped(review, review.event_id)))
        if review.sender_id is not None:
            conditions.append(_Case.sender == _key(_scoped(review, review.sender_id)))
        if review.campaign_id is not None:
            conditions += [_Case.tenant == _key(review.tenant), _Case.campaign == _key(review.campaign_id)]
        found = self.session.scalars(select(_Case).where(*conditions))
        return sorted(found, key=lambda case: (case.decided_ms, case.decision_id))

    def _apply(self, review: Review, cases: Sequence[_Case]) -> bool:
        """Whether the review changed anything."""
        match review.command:
            case ReviewCommand.TRUST | ReviewCommand.BLOCK:
                return sum(self._judge(review, sender) for sender in _senders(review, cases)) > 0
            case ReviewCommand.ERASE:
                return self._erase(review, cases)
            case _:
                return sum(self._close(review, case) for case in cases) > 0

    def _close(self, review: Review, case: _Case) -> bool:
        state = CLOSES[review.command]
        if not _can_become(case, state, review.reviewed_ms):
            return False
        evidence = codec.decode(case.record, Evidence)
        case.state, case.closed_by = state, _review_key(review)
        case.closed_ms = _closed_ms(review, case)
        self.came_to[state] += 1
        if state is CaseState.RELEASED:
            self._release(review, evidence, case.closed_ms)
        elif state is CaseState.CONFIRMED:
            self._strike(_sender(evidence), review.reviewed_ms)
            self._label(review, evidence, AUTO)
        self._audit(review, _event(evidence), case.decision_id)
        return True

    def _release(self, review: Review, evidence: Evidence, at_ms: int) -> None:
        message = evidence.message
        self._say(decision_output(_superseding(evidence.decision, review, at_ms), at_ms))
        self._label(review, evidence, LEGIT)
        self._exempt(evidence, review.until_ms or review.reviewed_ms + LONG_MS, at_ms)
        # Told as of now: the topic keeps two days, and the message may be older.
        self.corrected_ms = max(self.corrected_ms, at_ms)
        self.corrections.append(
            Correction(
                sender=_sender(evidence),
                event_id=message.event_id,
                revision=message.revision,
                event_ms=message.event_ms,
            )
        )

    def _report(self, review: Review) -> Outcome:
        """A message that was allowed by mistake has no case, or one that was released."""
        if review.event_id is None and review.sender_id is None:
            return Outcome.UNSUPPORTED
        cases = self._meant(review) if review.event_id is not None else []
        for case in cases:
            self._label(review, codec.decode(case.record, Evidence), AUTO)
        for sender in _senders(review, cases):
            self._strike(sender, review.reviewed_ms)
        self._audit(review, _subject(review))
        return Outcome.APPLIED

    def _erase(self, review: Review, cases: Sequence[_Case]) -> bool:
        """The text of the cases, and what waits to be published of it."""
        for case in cases:
            case.record = codec.encode(_erased(codec.decode(case.record, Evidence)))
            self.session.flush()
            self.session.execute(delete(_Waiting).where(_Waiting.event == case.event, _Waiting.topic == LABELS))
        self._audit(review, _subject(review))
        return True

    def _forget(self, review: Review) -> None:
        """The standing of a sender who is named alone, unless it was judged later."""
        if review.sender_id is None or review.event_id is not None or review.campaign_id is not None:
            return
        sender = _scoped(review, review.sender_id)
        row = self.session.get(_Standing, _key(sender))
        if row is not None and row.judged_ms <= review.reviewed_ms:
            self.session.delete(row)
            self.session.flush()
        self.changed[sender] = review.reviewed_ms

    def expire(self, now_ms: int) -> int:
        due = update(_Case).where(_Case.state == CaseState.HELD, _Case.expires_ms <= now_ms)
        done = self.session.execute(due.values(state=CaseState.EXPIRED, closed_ms=_Case.expires_ms))
        number = int(getattr(done, "rowcount", 0))
        self.came_to[CaseState.EXPIRED] += number
        return number

    def _judge(self, review: Review, sender: str) -> bool:
        """Trust or block a sender, unless a later review said otherwise: each ends the other."""
        row, standing = self._standing(sender)
        if (row.judged_ms, row.judged_by) >= (review.reviewed_ms, _review_key(review)):
            return False
        until_ms = review.until_ms or review.reviewed_ms + LONG_MS
        blocked = review.command is ReviewCommand.BLOCK
        judged = msgspec.structs.replace(
            standing, block_until_ms=until_ms if blocked else 0, trust_until_ms=0 if blocked else until_ms
        )
        row.judged_ms, row.judged_by = review.reviewed_ms, _review_key(review)
        self._keep(row, judged, review.reviewed_ms)
        self._audit(review, sender, sender)
        return True

    def _strike(self, sender: str, at_ms: int) -> None:
        row, standing = self._standing(sender)
        later_ms = max(at_ms, standing.strikes_ms)
        strikes = _decayed(standing.strikes, later_ms - standing.strikes_ms) + _decayed(1.0, later_ms - at_ms)
        self._keep(row, msgspec.structs.replace(standing, strikes=strikes, strikes_ms=later_ms), at_ms)

    def _exempt(self, evidence: Evidence, until_ms: int, at_ms: int) -> None:
        message = evidence.message
        pair = scoped(message.tenant, message.platform, message.recipient_id or message.conversation_id)
        row, standing = self._standing(_sender(evidence))
        exempt = standing.exempt | {pair: max(until_ms, standing.exempt.get(pair, 0))}
        self._keep(row, _fitting(msgspec.structs.replace(standing, exempt=exempt)), at_ms)

    def _standing(self, sender: str) -> tuple[_Standing, Standing]:
        row = self.session.get(_Standing, _key(sender))
        if row is not None:
            return row, codec.decode(row.record, Standing)
        standing = Standing(v=VERSION, sender=sender)
        row = _Standing(sender=_key(sender), judged_ms=-1, judged_by="", record=codec.encode(standing))
        self.session.add(row)
        self.session.flush()
        return row, standing

    def _keep(self, row: _Standing, standing: Standing, at_ms: int) -> None:
        row.record = codec.encode(standing)
        self.changed[standing.sender] = max(at_ms, self.changed.get(standing.sender, 0))

    def _label(self, review: Review, evidence: Evidence, label: str) -> None:
        message = evidence.message
        if not message.text:
            return
        sample = Label(
            v=VERSION,
            event_id=message.event_id,
            revision=message.revision,
            tenant=message.tenant,
            platform=message.platform,
            label=label,
            text=message.text,
            review_id=review.review_id,
            labelled_ms=review.reviewed_ms,
        )
        self._say(_output(LABELS, _event(evidence), sample, review.reviewed_ms), event=_event(evidence))

    def _audit(self, review: Review, subject: str, about: str = "", outcome: Outcome | None = None) -> None:
        """An entry for each thing a review is `about`; `outcome`: it came to nothing, and the action says so."""
        entry = AuditEntry(
            v=VERSION,
            audit_id="a-" + _digest(_review_key(review) + (outcome or about)),
            actor=review.actor[:MAX_NAME],
            action=f"{review.command}_{outcome}" if outcome else review.command.value,
            subject=subject,
            reason=review.reason[:MAX_REASON],
            at_ms=review.reviewed_ms,
        )
        self._say(_output(AUDIT, entry.actor, entry, review.reviewed_ms))

    def _say_rest(self) -> None:
        """Standing once for each sender, corrections packed for each partition."""
        self.session.flush()
        for sender, at_ms in self.changed.items():
            row = self.session.get(_Standing, _key(sender))
            value = row.record if row else None
            self._say(Output(topic=STANDING, key=sender.encode(), value=value, timestamp_ms=at_ms))
        for output in _packed(self.corrections, self.corrected_ms, self.locate):
            self._say(output)
        self.changed.clear()
        self.corrections.clear()

    def _say(self, output: Output, event: str | None = None) -> None:
        about = _key(event) if event is not None else None
        self.session.add(_Waiting(topic=output.topic, event=about, record=codec.encode(output)))


def _row(evidence: Evidence) -> _Case:
    decision, message = evidence.decision, evidence.message
    return _Case(
        decision_id=decision.decision_id,
        tenant=_key(message.tenant),
        event=_key(_event(evidence)),
        sender=_key(_sender(evidence)),
        campaign=_key(decision.campaign_id) if decision.campaign_id is not None else None,
        state=CaseState.HELD,
        decided_ms=_moment(decision.decided_at) or message.received_ms,
        expires_ms=_moment(decision.expires_at),
        record=codec.encode(evidence),
    )


def _review_row(review: Review) -> _Review:
    return _Review(
        review=_review_key(review),
        tenant=_key(review.tenant),
        command=review.command.value,
        outcome=Outcome.PENDING,
        event=_key(_scoped(review, review.event_id)) if review.event_id is not None else None,
        sender=_key(_scoped(review, review.sender_id)) if review.sender_id is not None else None,
        campaign=_key(review.campaign_id) if review.campaign_id is not None else None,
        reviewed_ms=review.reviewed_ms,
        record=codec.encode(review),
    )


def _moment(written: str | None) -> int | None:
    try:
        return None if written is None else codec.epoch_ms(written, "")
    except BadRecord:
        return None


def _bounded(review: Review, now_ms: int) -> Review:
    """The review with times that can be written."""
    reviewed_ms = min(max(review.reviewed_ms, 0), now_ms + LEAD_MS)
    until_ms = None if review.until_ms is None else min(max(review.until_ms, 1), LAST_MS)
    return msgspec.structs.replace(review, reviewed_ms=reviewed_ms, until_ms=until_ms)


def _is_usable(review: Review) -> bool:
    """It names something, and no name is beyond what an id can be."""
    about = (review.event_id, review.sender_id, review.campaign_id)
    names = (review.review_id, review.actor, review.tenant, review.platform, *about)
    return any(about) and all(len(name) <= MAX_NAME for name in names if name is not None)


def _can_become(case: _Case, state: CaseState, reviewed_ms: int) -> bool:
    if case.state == CaseState.EXPIRED and state is not CaseState.EXPIRED:
        return case.expires_ms is not None and reviewed_ms < case.expires_ms
    return case.state == CaseState.HELD


def _closed_ms(review: Review, case: _Case) -> int:
    """A review can be older than the decision that it undoes: what supersedes is not."""
    return max(review.reviewed_ms, case.decided_ms)


def _superseding(held: Decision, review: Review, at_ms: int) -> Decision:
    """The decision that lets a held message go."""
    return msgspec.structs.replace(
        held,
        decision_id=decision_id(held.tenant, held.platform, held.event_id, held.revision, review.review_id),
        cause=review.review_id,
        verdict=Verdict.ALLOW,
        override=Override.EXEMPT_PAIR,
        supersedes=held.decision_id,
        expires_at=None,
        decided_at=codec.rfc3339(at_ms),
    )


def _erased(evidence: Evidence) -> Evidence:
    message = msgspec.structs.replace(evidence.message, text="", sender=None, recipient=None, extra={})
    return msgspec.structs.replace(evidence, message=message, spans=())


def _senders(review: Review, cases: Iterable[_Case]) -> list[str]:
    """The sender a review names, or those of its cases."""
    if review.sender_id is not None:
        return [_scoped(review, review.sender_id)]
    return list(dict.fromkeys(_sender(codec.decode(case.record, Evidence)) for case in cases))


def _decayed(strikes: float, after_ms: int) -> float:
    return strikes * float(0.5 ** (after_ms / STRIKE_HALF_LIFE_MS))


def _fitting(standing: Standing) -> Standing:
    """Without its oldest exemptions, where it would be too large to publish."""
    while len(codec.encode(standing)) > MAX_STANDING_BYTES and len(standing.exempt) > 1:
        newest = list(standing.exempt.items())[len(standing.exempt) // 2 :]
        standing = msgspec.structs.replace(standing, exempt=dict(newest))
    return standing


def _packed(corrections: Sequence[Correction], timestamp_ms: int, locate: Locate) -> Iterator[Output]:
    """Corrections for the partitions in which their senders' messages are."""
    partitions: dict[int, list[Correction]] = defaultdict(list)
    for correction in corrections:
        partitions[locate(MESSAGES, correction.sender.encode())].append(correction)
    return packed(MESSAGES, dict(sorted(partitions.items())), _corrections, timestamp_ms, kind=CORRECTIONS, most=PACK)


def _corrections(entries: tuple[Correction, ...]) -> Corrections:
    return Corrections(v=VERSION, corrections=entries)


def _output(topic: str, key: str, record: msgspec.Struct, timestamp_ms: int) -> Output:
    return Output(topic=topic, key=key.encode(), value=codec.encode(record), timestamp_ms=timestamp_ms)


def _sender(evidence: Evidence) -> str:
    message = evidence.message
    return scoped(message.tenant, message.platform, message.sender_id)


def _event(evidence: Evidence) -> str:
    message = evidence.message
    return scoped(message.tenant, message.platform, message.event_id)


def _scoped(review: Review, name: str) -> str:
    return scoped(review.tenant, review.platform, name)


def _subject(review: Review) -> str:
    """What a review is about, most special first."""
    if review.campaign_id and not (review.event_id or review.sender_id):
        return f"{review.tenant}/{review.campaign_id}"[: 2 * MAX_NAME]
    return _scoped(review, review.event_id or review.sender_id or "")[: 2 * MAX_NAME]


def _review_key(review: Review) -> str:
    """Review ids are a tenant's own, of any length."""
    return _digest(_scoped(review, review.review_id))


def _key(name: str) -> str:
    """A name as a column holds it: PostgreSQL takes no NUL, and no key of more than 2.7 kB into an index."""
    plain = "\0" not in name and len(name) * 4 <= MAX_KEY_BYTES
    return name if plain or ("\0" not in name and len(name.encode()) <= MAX_KEY_BYTES) else f"#{_digest(name)}"


def _digest(name: str) -> str:
    return blake2b(name.encode(), digest_size=16).hexdigest()
