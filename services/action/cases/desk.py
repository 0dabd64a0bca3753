"""One transaction of work on cases: what changes, and what there is to say of it, which goes into the outbox."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from services import codec
from services.action.cases.tables import (
    CASES,
    CLOSES,
    OUTBOX,
    CampaignRow,
    CaseRow,
    CaseState,
    ErasedRow,
    Outcome,
    ReviewRow,
    StandingRow,
    WaitingRow,
    digest,
    key,
)
from services.action.stage import decision_output
from services.action.standings import decayed, is_over
from services.errors import BadRecord
from services.packing import CORRECTIONS, packed
from services.records import (
    VERSION,
    AuditEntry,
    Campaign,
    Correction,
    Corrections,
    Evidence,
    Label,
    Output,
    Override,
    Review,
    ReviewCommand,
    Standing,
    Verdict,
    campaign_review_key,
    decision_id,
    scoped,
)
from services.spans import DAY_MS, MINUTE_MS
from services.topics import AUDIT, CAMPAIGNS, LABELS, MESSAGES, STANDING

PACK = 500
LONG_MS = 3650 * DAY_MS
# The last moment that RFC 3339 can write.
LAST_MS = 253_402_300_799_999
# An operator's clock may be ahead of ours by this much; reviews from later are taken as of then.
LEAD_MS = MINUTE_MS
# What a review repeats in every record it causes stays small.
MAX_NAME = 1024
MAX_REASON = 2000
MAX_TEXT = 256 * 1024
MAX_STANDING_BYTES = 2 * 1024 * 1024
EXPIRY = "expiry"
LEGIT, AUTO = "legit", "auto"

Locate = Callable[[str, bytes], int]
# Whether a tenant's held messages are let go when their time is over.
LetsGo = Callable[[str], bool]
Row = dict[str, Any]


@dataclass(slots=True)
class Desk:
    """One transaction. `locate`: the partition of a key in a topic; `lets_go`: what expiry means to a tenant."""

    session: Session
    locate: Locate
    lets_go: LetsGo
    came_to: Counter[CaseState] = field(default_factory=Counter)
    has_said: bool = False
    _said: list[Row] = field(default_factory=list)
    _corrections: list[Correction] = field(default_factory=list)
    _corrected_ms: int = 0
    # By key, None: known to have none.
    _standings: dict[str, StandingRow | None] = field(default_factory=dict)
    # Scoped senders whose standing changed, and when.
    _changed: dict[str, int] = field(default_factory=dict)

    def open(self, evidences: Sequence[Evidence]) -> list[str]:
        """Open the cases that are new, apply the reviews that waited for them; returns the ids of the opened."""
        rows = {evidence.decision.decision_id: row(evidence) for evidence in self._unerased(evidences)}
        known = self.session.scalars(select(CaseRow.decision_id).where(CaseRow.decision_id.in_(rows)))
        for name in list(known):
            del rows[name]
        if not rows:
            return []
        self.session.execute(insert(CASES), list(rows.values()))
        self.came_to[CaseState.HELD] += len(rows)
        named = self._named(rows.values())
        for name, new in rows.items():
            if not named.isdisjoint((new["event"], new["sender"], new["campaign"])):
                self._catch_up(self.session.get_one(CaseRow, name))
        self.say_rest()
        return list(rows)

    def _unerased(self, evidences: Sequence[Evidence]) -> Sequence[Evidence]:
        """Without what was received of or for a person who was erased since: it was on its way."""
        if self.session.scalar(select(ErasedRow.person).limit(1)) is None:
            return evidences
        persons = {digest(person) for evidence in evidences for person in _persons(evidence)}
        found = self.session.scalars(select(ErasedRow).where(ErasedRow.person.in_(persons)))
        erased = {row.person: row.erased_ms for row in found}
        return [
            evidence
            for evidence in evidences
            if all(evidence.message.received_ms > erased.get(digest(person), -1) for person in _persons(evidence))
        ]

    def _named(self, rows: Iterable[Row]) -> set[str]:
        """What reviews name of the events, senders and campaigns of these cases: nearly always nothing."""
        columns = (
            (ReviewRow.event, {row["event"] for row in rows}),
            (ReviewRow.sender, {row["sender"] for row in rows}),
            (ReviewRow.campaign, {row["campaign"] for row in rows if row["campaign"]}),
        )
        found = [
            self.session.scalars(select(column).where(column.in_(names)).distinct())
            for column, names in columns
            if names
        ]
        return {name for names in found for name in names if name is not None}

    def _catch_up(self, case: CaseRow) -> None:
        for waiting in self._waiting_for(case):
            review = codec.decode(waiting.record, Review)
            if not _is_usable(review):
                continue
            if self._apply(review, [case]):
                waiting.outcome = Outcome.APPLIED
            elif waiting.outcome == Outcome.PENDING:
                waiting.outcome = Outcome.UNSUPPORTED
                self._audit(review, subject(review), outcome=Outcome.UNSUPPORTED)

    def _waiting_for(self, case: CaseRow) -> list[ReviewRow]:
        """Reviews that mean this case: those made after its decision, and one of its event that found no case."""
        same = or_(ReviewRow.event == case.event, ReviewRow.sender == case.sender, ReviewRow.campaign == case.campaign)
        unanswered = and_(ReviewRow.event.is_not(None), ReviewRow.outcome == Outcome.PENDING)
        meant = select(ReviewRow).where(
            same,
            or_(ReviewRow.event.is_(None), ReviewRow.event == case.event),
            or_(ReviewRow.sender.is_(None), ReviewRow.sender == case.sender),
            or_(ReviewRow.campaign.is_(None), ReviewRow.campaign == case.campaign),
            ReviewRow.tenant == case.tenant,
            ReviewRow.command.not_in((ReviewCommand.REPORT, ReviewCommand.ERASE)),
            or_(unanswered, ReviewRow.reviewed_ms >= case.decided_ms),
        )
        return list(self.session.scalars(meant.order_by(ReviewRow.reviewed_ms, ReviewRow.review)))

    def review(self, review: Review, now_ms: int) -> Outcome:
        """Apply one review, if it is new; `now_ms`: the moment it is taken in."""
        if self.session.get(ReviewRow, review_key(review)) is not None:
            return Outcome.REPEATED
        review = _bounded(review, now_ms)
        row = _review_row(review)
        self.session.add(row)
        self.session.flush()
        outcome = self._take(review) if _is_usable(review) else Outcome.UNSUPPORTED
        row.outcome = outcome
        if outcome in (Outcome.UNSUPPORTED, Outcome.REPEATED):
            self._audit(review, subject(review), outcome=outcome)
        self.say_rest()
        return outcome

    def _take(self, review: Review) -> Outcome:
        if review.command is ReviewCommand.REPORT:
            return self._report(review)
        if review.command is ReviewCommand.ERASE:
            return self._erase(review)
        cases = self.meant(review)
        marked = self._mark(review)
        named = review.sender_id is not None and review.command not in CLOSES
        if not (cases or named or marked):
            return Outcome.PENDING
        if self._apply(review, cases) or marked:
            return Outcome.APPLIED
        wanted = CLOSES.get(review.command)
        done = wanted is None or any(case.state == wanted for case in cases)
        return Outcome.REPEATED if done else Outcome.UNSUPPORTED

    def meant(self, review: Review) -> list[CaseRow]:
        """The cases to which every name of the review applies, oldest first."""
        found = self.session.scalars(select(CaseRow).where(*means(review)))
        return sorted(found, key=lambda case: (case.decided_ms, case.decision_id))

    def _apply(self, review: Review, cases: Sequence[CaseRow]) -> bool:
        """Whether the review changed anything."""
        if review.command in (ReviewCommand.TRUST, ReviewCommand.BLOCK):
            return sum(self._judge(review, sender) for sender in _senders(review, cases)) > 0
        open_cases = [case for case in cases if _can_become(case, CLOSES[review.command])]
        self._look_up(case.sender for case in open_cases)
        for case in open_cases:
            self._close(review, case)
        return bool(open_cases)

    def _close(self, review: Review, case: CaseRow) -> None:
        state = CLOSES[review.command]
        evidence = codec.decode(case.record, Evidence)
        case.state, case.closed_by = state, review_key(review)
        # A review can be older than the decision that it undoes: what supersedes is not.
        case.closed_ms = max(review.reviewed_ms, case.decided_ms)
        self.came_to[state] += 1
        if state is CaseState.RELEASED:
            self._release(review, evidence, case.closed_ms)
        elif state is CaseState.CONFIRMED:
            self._strike(_sender(evidence), review.reviewed_ms)
            self._label(review, evidence, AUTO)
        elif self.lets_go(evidence.message.tenant):
            self._let_go(evidence, review.review_id, case.closed_ms)
        self._audit(review, event_of(evidence), case.decision_id)

    def _release(self, review: Review, evidence: Evidence, at_ms: int) -> None:
        message = evidence.message
        self._let_go(evidence, review.review_id, at_ms, Override.EXEMPT_PAIR)
        self._label(review, evidence, LEGIT)
        self._exempt(evidence, review.until_ms or review.reviewed_ms + LONG_MS, at_ms)
        # Told as of now: the topic keeps two days, and the message may be older.
        self._corrected_ms = max(self._corrected_ms, at_ms)
        self._corrections.append(
            Correction(
                sender=_sender(evidence),
                event_id=message.event_id,
                revision=message.revision,
                event_ms=message.event_ms,
            )
        )

    def _let_go(self, evidence: Evidence, cause: str, at_ms: int, override: Override | None = None) -> None:
        held = evidence.decision
        allowed = msgspec.structs.replace(
            held,
            decision_id=decision_id(held.tenant, held.platform, held.event_id, held.revision, cause),
            cause=cause,
            verdict=Verdict.ALLOW,
            override=override,
            supersedes=held.decision_id,
            expires_at=None,
            decided_at=codec.rfc3339(at_ms),
        )
        self._say(decision_output(allowed, at_ms))

    def _mark(self, review: Review) -> bool:
        """A review of a campaign by itself is said of it, whenever its words are sent; of several the last counts."""
        alone = review.campaign_id is not None and review.event_id is None and review.sender_id is None
        if not alone or review.command not in (ReviewCommand.RELEASE, ReviewCommand.CONFIRM):
            return False
        campaign_id, judged = review.campaign_id or "", (review.reviewed_ms, review_key(review))
        row = self.session.get(CampaignRow, (key(review.tenant), key(campaign_id)))
        if row is not None and (row.judged_ms, row.judged_by) >= judged:
            return False
        said = Campaign(
            v=VERSION,
            campaign_id=campaign_id,
            tenant=review.tenant,
            key="",
            senders=0,
            conversations=0,
            first_ms=review.reviewed_ms,
            last_ms=review.reviewed_ms,
            expires_ms=review.until_ms or review.reviewed_ms + LONG_MS,
            exempt=review.command is ReviewCommand.RELEASE,
            confirmed=review.command is ReviewCommand.CONFIRM,
        )
        if row is None:
            row = CampaignRow(tenant=key(review.tenant), campaign=key(campaign_id))
            self.session.add(row)
        row.judged_ms, row.judged_by = judged
        row.until_ms, row.record = said.expires_ms, codec.encode(said)
        self._say(_output(CAMPAIGNS, campaign_review_key(review.tenant, campaign_id), said, review.reviewed_ms))
        self._audit(review, subject(review), campaign_id)
        return True

    def _report(self, review: Review) -> Outcome:
        """A message that was allowed by mistake has no case, or one that was released."""
        if review.event_id is None and review.sender_id is None:
            return Outcome.UNSUPPORTED
        cases = self.meant(review) if review.event_id is not None else []
        for case in cases:
            self._label(review, codec.decode(case.record, Evidence), AUTO)
        if not cases and review.event_id is not None:
            self._say_label(review, review.event_id, 0, review.text or "", AUTO)
        for sender in _senders(review, cases):
            self._strike(sender, review.reviewed_ms)
        self._audit(review, subject(review))
        return Outcome.APPLIED

    def _erase(self, review: Review) -> Outcome:
        """A person is forgotten, as sender and as recipient: cases, standing, and what reviews name of both."""
        if review.sender_id is None or review.event_id is not None or review.campaign_id is not None:
            return Outcome.UNSUPPORTED
        person = scoped_name(review, review.sender_id)
        theirs = or_(CaseRow.sender == key(person), CaseRow.recipient == key(person))
        found = self.session.execute(select(CaseRow.decision_id, CaseRow.event).where(theirs)).all()
        for start in range(0, len(found), PACK):
            pack = found[start : start + PACK]
            events = {case.event for case in pack}
            self.session.execute(delete(CaseRow).where(CaseRow.decision_id.in_([case.decision_id for case in pack])))
            self.session.execute(delete(WaitingRow).where(WaitingRow.event.in_(events)))
            self._blank(ReviewRow.event.in_(events))
        self._blank(ReviewRow.sender == key(person))
        self._forget(person, review.reviewed_ms)
        self.session.merge(ErasedRow(person=digest(person), erased_ms=review.reviewed_ms))
        self._audit(review, subject(review))
        return Outcome.APPLIED

    def _blank(self, where: ColumnElement[bool]) -> None:
        """Take the names out of reviews; their keys stay, so that a repeat is still known as one."""
        for row in self.session.scalars(select(ReviewRow).where(where)):
            review = codec.decode(row.record, Review)
            row.event = row.sender = None
            row.record = codec.encode(
                msgspec.structs.replace(review, event_id=None, sender_id=None, reason="", text=None)
            )

    def _forget(self, person: str, at_ms: int) -> None:
        """A person's standing, and what others' exempts of them. Standing that was judged later is of later."""
        held = self._held(person)
        if held is not None and held.judged_ms <= at_ms:
            self.session.delete(held)
            self._standings[key(person)] = None
        self._changed[person] = at_ms
        self.session.flush()
        written = codec.dumps(person)
        for row in self.session.scalars(select(StandingRow).execution_options(yield_per=PACK)):
            if written in row.record:
                self._unexempt(row, person, at_ms)

    def _unexempt(self, row: StandingRow, person: str, at_ms: int) -> None:
        standing = codec.decode(row.record, Standing)
        exempt = {name: until_ms for name, until_ms in standing.exempt.items() if name != person}
        if exempt != standing.exempt:
            self._keep(row, msgspec.structs.replace(standing, exempt=exempt), at_ms)

    def expire(self, now_ms: int) -> int:
        """Some held cases past their time become `expired`; returns how many, fewer than PACK: these were all."""
        due = select(CaseRow).where(CaseRow.state == CaseState.HELD, CaseRow.expires_ms <= now_ms)
        cases = list(self.session.scalars(due.limit(PACK)))
        for case in cases:
            case.state, case.closed_ms = CaseState.EXPIRED, case.expires_ms
            evidence = codec.decode(case.record, Evidence)
            if self.lets_go(evidence.message.tenant):
                self._let_go(evidence, EXPIRY, case.expires_ms or now_ms)
        self.came_to[CaseState.EXPIRED] += len(cases)
        self.say_rest()
        return len(cases)

    def purge(self, before_ms: int, now_ms: int) -> None:
        """Delete what the topics have dropped too: cases decided and reviews made before, and standing that was over
        by then; campaigns' reviews that are over."""
        self.session.execute(delete(CaseRow).where(CaseRow.decided_ms < before_ms))
        closing = select(CaseRow.closed_by).where(CaseRow.closed_by.is_not(None))
        self.session.execute(
            delete(ReviewRow).where(ReviewRow.reviewed_ms < before_ms, ReviewRow.review.not_in(closing))
        )
        self.session.execute(delete(ErasedRow).where(ErasedRow.erased_ms < before_ms))
        for row in self.session.scalars(select(CampaignRow).where(CampaignRow.until_ms < now_ms)):
            said = codec.decode(row.record, Campaign)
            name = campaign_review_key(said.tenant, said.campaign_id)
            self._say(Output(topic=CAMPAIGNS, key=name.encode(), value=None, timestamp_ms=now_ms))
            self.session.delete(row)
        self._drop_standings(before_ms, now_ms)
        self.say_rest()

    def _drop_standings(self, before_ms: int, now_ms: int) -> None:
        """Standing that was over before; none that a review still to be read might be older than."""
        judged = select(StandingRow).where(StandingRow.judged_ms < before_ms)
        for row in self.session.scalars(judged.execution_options(yield_per=PACK)):
            standing = codec.decode(row.record, Standing)
            if is_over(standing, before_ms):
                self.session.delete(row)
                self._standings[row.sender] = None
                self._changed[standing.sender] = now_ms

    def _judge(self, review: Review, sender: str) -> bool:
        """Trust or block a sender, unless a later review said otherwise: each ends the other."""
        row, standing = self._standing(sender)
        if (row.judged_ms, row.judged_by) >= (review.reviewed_ms, review_key(review)):
            return False
        until_ms = review.until_ms or review.reviewed_ms + LONG_MS
        blocked = review.command is ReviewCommand.BLOCK
        judged = msgspec.structs.replace(
            standing, block_until_ms=until_ms if blocked else 0, trust_until_ms=0 if blocked else until_ms
        )
        row.judged_ms, row.judged_by = review.reviewed_ms, review_key(review)
        self._keep(row, judged, review.reviewed_ms)
        self._audit(review, sender, sender)
        return True

    def _strike(self, sender: str, at_ms: int) -> None:
        row, standing = self._standing(sender)
        later_ms = max(at_ms, standing.strikes_ms)
        strikes = decayed(standing.strikes, later_ms - standing.strikes_ms) + decayed(1.0, later_ms - at_ms)
        self._keep(row, msgspec.structs.replace(standing, strikes=strikes, strikes_ms=later_ms), at_ms)

    def _exempt(self, evidence: Evidence, until_ms: int, at_ms: int) -> None:
        message = evidence.message
        pair = scoped(message.tenant, message.platform, message.recipient_id or message.conversation_id)
        row, standing = self._standing(_sender(evidence))
        exempt = standing.exempt | {pair: max(until_ms, standing.exempt.get(pair, 0))}
        self._keep(row, _fitting(msgspec.structs.replace(standing, exempt=exempt)), at_ms)

    def keep_standing(self, standing: Standing) -> None:
        """Join what the topic says of a sender to what is held: of each the larger."""
        row, held = self._standing(standing.sender)
        later_ms = max(held.strikes_ms, standing.strikes_ms)
        strikes = max(decayed(one.strikes, later_ms - one.strikes_ms) for one in (held, standing))
        exempt = {
            name: max(held.exempt.get(name, 0), standing.exempt.get(name, 0))
            for name in held.exempt.keys() | standing.exempt.keys()
        }
        judged = held if row.judged_ms >= 0 else standing
        joined = msgspec.structs.replace(judged, strikes=strikes, strikes_ms=later_ms, exempt=exempt)
        if joined != held:
            self._keep(row, _fitting(joined), later_ms)

    def _look_up(self, senders: Iterable[str]) -> None:
        """Read the standings of many senders at once, by their keys."""
        wanted = sorted(set(senders) - self._standings.keys())
        for start in range(0, len(wanted), PACK):
            pack = wanted[start : start + PACK]
            found = self.session.scalars(select(StandingRow).where(StandingRow.sender.in_(pack)))
            self._standings |= dict.fromkeys(pack) | {row.sender: row for row in found}

    def _held(self, sender: str) -> StandingRow | None:
        name = key(sender)
        if name not in self._standings:
            self._standings[name] = self.session.get(StandingRow, name)
        return self._standings[name]

    def _standing(self, sender: str) -> tuple[StandingRow, Standing]:
        row = self._held(sender)
        if row is not None:
            return row, codec.decode(row.record, Standing)
        standing = Standing(v=VERSION, sender=sender)
        row = StandingRow(sender=key(sender), judged_ms=-1, judged_by="", record=codec.encode(standing))
        self._standings[row.sender] = row
        self.session.add(row)
        return row, standing

    def _keep(self, row: StandingRow, standing: Standing, at_ms: int) -> None:
        row.record = codec.encode(standing)
        self._changed[standing.sender] = max(at_ms, self._changed.get(standing.sender, 0))

    def _label(self, review: Review, evidence: Evidence, label: str) -> None:
        message = evidence.message
        self._say_label(review, message.event_id, message.revision, message.text, label)

    def _say_label(self, review: Review, event_id: str, revision: int, text: str, label: str) -> None:
        sample = Label(
            v=VERSION,
            event_id=event_id,
            revision=revision,
            tenant=review.tenant,
            platform=review.platform,
            label=label,
            text=text,
            review_id=review.review_id,
            labelled_ms=review.reviewed_ms,
        )
        event = scoped_name(review, event_id)
        self._say(_output(LABELS, event, sample, review.reviewed_ms), event=event)

    def _audit(self, review: Review, about: str, part: str = "", outcome: Outcome | None = None) -> None:
        """An entry for each `part` of a review; `outcome`: it came to nothing, and the action says so."""
        entry = AuditEntry(
            v=VERSION,
            audit_id="a-" + digest(review_key(review) + (outcome or part)),
            actor=review.actor[:MAX_NAME],
            action=f"{review.command}_{outcome}" if outcome else review.command.value,
            subject=about,
            reason=review.reason[:MAX_REASON],
            at_ms=review.reviewed_ms,
        )
        self._say(_output(AUDIT, entry.actor, entry, review.reviewed_ms))

    def say_rest(self) -> None:
        """Standing once for each sender, corrections packed for each partition; then all of it into the outbox."""
        for sender, at_ms in self._changed.items():
            row = self._held(sender)
            value = row.record if row else None
            self._say(Output(topic=STANDING, key=sender.encode(), value=value, timestamp_ms=at_ms))
        for output in _packed(self._corrections, self._corrected_ms, self.locate):
            self._say(output)
        self.session.flush()
        if self._said:
            self.session.execute(insert(OUTBOX), self._said)
            self.has_said = True
        self._changed.clear()
        self._corrections.clear()
        self._said.clear()

    def _say(self, output: Output, event: str | None = None) -> None:
        about = key(event) if event is not None else None
        self._said.append({"topic": output.topic, "event": about, "record": codec.encode(output)})


def row(evidence: Evidence) -> Row:
    """A held case, as its table has it."""
    decision, message = evidence.decision, evidence.message
    scope = scoped(message.tenant, message.platform, "")
    return {
        "decision_id": decision.decision_id,
        "tenant": key(message.tenant),
        "platform": key(message.platform),
        "event": key(scope + message.event_id),
        "sender": key(scope + message.sender_id),
        "recipient": key(scope + message.recipient_id) if message.recipient_id is not None else None,
        "campaign": key(decision.campaign_id) if decision.campaign_id is not None else None,
        "reasons": "|" + "".join(f"{reason.code.value}|" for reason in decision.reasons),
        "state": CaseState.HELD,
        "decided_ms": _moment(decision.decided_at) or message.received_ms,
        "expires_ms": _moment(decision.expires_at),
        "record": codec.encode(evidence),
    }


def _review_row(review: Review) -> ReviewRow:
    erases = review.command is ReviewCommand.ERASE
    event = key(scoped_name(review, review.event_id)) if review.event_id is not None else None
    sender = key(scoped_name(review, review.sender_id)) if review.sender_id is not None else None
    return ReviewRow(
        review=review_key(review),
        tenant=key(review.tenant),
        command=review.command.value,
        outcome=Outcome.PENDING,
        event=None if erases else event,
        sender=None if erases else sender,
        campaign=key(review.campaign_id) if review.campaign_id is not None else None,
        reviewed_ms=review.reviewed_ms,
        record=codec.encode(msgspec.structs.replace(review, event_id=None, sender_id=None) if erases else review),
    )


def means(review: Review) -> list[ColumnElement[bool]]:
    """What holds for the cases that a review means."""
    # Scoped names hold the tenant; to ask for it too lets SQLite walk through all cases of the tenant instead.
    conditions: list[ColumnElement[bool]] = []
    if review.event_id is not None:
        conditions.append(CaseRow.event == key(scoped_name(review, review.event_id)))
    if review.sender_id is not None:
        conditions.append(CaseRow.sender == key(scoped_name(review, review.sender_id)))
    if review.campaign_id is not None:
        conditions += [CaseRow.tenant == key(review.tenant), CaseRow.campaign == key(review.campaign_id)]
    return conditions


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
    short = all(len(name) <= MAX_NAME for name in names if name is not None)
    return any(about) and short and len(review.text or "") <= MAX_TEXT


def _can_become(case: CaseRow, state: CaseState) -> bool:
    """What was held, or has expired unreviewed, can be released or confirmed; what was reviewed stays."""
    return case.state == CaseState.HELD or (case.state == CaseState.EXPIRED and state is not CaseState.EXPIRED)


def _senders(review: Review, cases: Iterable[CaseRow]) -> list[str]:
    """The sender a review names, or those of its cases."""
    if review.sender_id is not None:
        return [scoped_name(review, review.sender_id)]
    return list(dict.fromkeys(_sender(codec.decode(case.record, Evidence)) for case in cases))


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


def _output(topic: str, name: str, record: msgspec.Struct, timestamp_ms: int) -> Output:
    return Output(topic=topic, key=name.encode(), value=codec.encode(record), timestamp_ms=timestamp_ms)


def _persons(evidence: Evidence) -> list[str]:
    """Sender and recipient, scoped."""
    message = evidence.message
    scope = scoped(message.tenant, message.platform, "")
    return [scope + name for name in (message.sender_id, message.recipient_id) if name is not None]


def _sender(evidence: Evidence) -> str:
    message = evidence.message
    return scoped(message.tenant, message.platform, message.sender_id)


def event_of(evidence: Evidence) -> str:
    """The scoped event of a case."""
    message = evidence.message
    return scoped(message.tenant, message.platform, message.event_id)


def scoped_name(review: Review, name: str) -> str:
    return scoped(review.tenant, review.platform, name)


def subject(review: Review) -> str:
    """What a review is about, most special first; of one who is erased only a digest."""
    if review.command is ReviewCommand.ERASE:
        return f"{review.tenant}/{review.platform}/#{digest(scoped_name(review, review.sender_id or ''))}"[
            : 2 * MAX_NAME
        ]
    if review.campaign_id and not (review.event_id or review.sender_id):
        return f"{review.tenant}/{review.campaign_id}"[: 2 * MAX_NAME]
    return scoped_name(review, review.event_id or review.sender_id or "")[: 2 * MAX_NAME]


def review_key(review: Review) -> str:
    """Review ids are a tenant's own, of any length."""
    return digest(scoped_name(review, review.review_id))
