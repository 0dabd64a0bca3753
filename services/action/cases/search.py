"""Looking at cases: pages, one case with its story, what a review would change, statistics. Nothing here writes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from services import codec
from services.action.cases.desk import event_of, means, review_key
from services.action.cases.tables import CLOSES, CaseRow, CaseState, Outcome, ReviewRow, WaitingRow, key
from services.records import Evidence, Review, ReviewCommand, scoped


@dataclass(frozen=True, slots=True)
class Case:
    """A case as it is now. `closed_by` is the id of the review that ended it."""

    state: CaseState
    evidence: Evidence
    decided_ms: int
    closed_ms: int | None
    closed_by: str | None


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A review and what became of it."""

    review: Review
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Filter:
    """Which cases are asked for; None: whatever. Sender and recipient are ids of `platform`."""

    tenant: str
    platform: str | None = None
    sender: str | None = None
    recipient: str | None = None
    campaign: str | None = None
    reason: str | None = None
    state: CaseState | None = None
    from_ms: int | None = None
    to_ms: int | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        scope = scoped(self.tenant, self.platform or "default", "")
        asked = (
            (self.platform, lambda name: CaseRow.platform == key(name)),
            (self.sender, lambda name: CaseRow.sender == key(scope + name)),
            (self.recipient, lambda name: CaseRow.recipient == key(scope + name)),
            (self.campaign, lambda name: CaseRow.campaign == key(name)),
            (self.reason, lambda code: CaseRow.reasons.contains(f"|{code}|", autoescape=True)),
            (self.state, lambda state: CaseRow.state == state),
            (self.from_ms, lambda moment: CaseRow.decided_ms >= moment),
            (self.to_ms, lambda moment: CaseRow.decided_ms < moment),
        )
        return [CaseRow.tenant == key(self.tenant), *(holds(part) for part, holds in asked if part is not None)]


@dataclass(frozen=True, slots=True)
class Stats:
    """A tenant's cases: by state; those held by reason and by campaign; since when the oldest one is held."""

    states: dict[CaseState, int]
    reasons: dict[str, int]
    campaigns: dict[str, int]
    oldest_held_ms: int | None
    outbox: int


Place = tuple[int, str]


def page(session: Session, wanted: Filter, after: Place | None, limit: int) -> list[Case]:
    """Cases, the newest decisions first. `after`: (decided_ms, decision_id) of the last one seen."""
    conditions = wanted.conditions()
    if after is not None:
        same = and_(CaseRow.decided_ms == after[0], CaseRow.decision_id < after[1])
        conditions.append(or_(CaseRow.decided_ms < after[0], same))
    newest = select(CaseRow).where(*conditions).order_by(CaseRow.decided_ms.desc(), CaseRow.decision_id.desc())
    return [_case(session, row) for row in session.scalars(newest.limit(limit))]


def case(session: Session, decision_id: str) -> Case | None:
    row = session.get(CaseRow, decision_id)
    return None if row is None else _case(session, row)


def _case(session: Session, row: CaseRow) -> Case:
    review = session.get(ReviewRow, row.closed_by) if row.closed_by else None
    closed_by = codec.decode(review.record, Review).review_id if review else None
    evidence = codec.decode(row.record, Evidence)
    return Case(CaseState(row.state), evidence, row.decided_ms, row.closed_ms, closed_by)


def story(session: Session, found: Case) -> list[Reviewed]:
    """The reviews that name a case's event, or its sender or campaign since it was decided; oldest first."""
    message = found.evidence.message
    event, sender = key(event_of(found.evidence)), key(scoped(message.tenant, message.platform, message.sender_id))
    broader = [ReviewRow.sender == sender]
    if found.evidence.decision.campaign_id is not None:
        campaign = key(found.evidence.decision.campaign_id)
        broader.append(and_(ReviewRow.sender.is_(None), ReviewRow.campaign == campaign))
    since = and_(ReviewRow.event.is_(None), ReviewRow.reviewed_ms >= found.decided_ms, or_(*broader))
    named = or_(ReviewRow.event == event, since)
    reviews = select(ReviewRow).where(ReviewRow.tenant == key(message.tenant), named).order_by(ReviewRow.reviewed_ms)
    return [_reviewed(row) for row in session.scalars(reviews.limit(100))]


def reviewed(session: Session, tenant: str, platform: str, review_id: str) -> Reviewed | None:
    wanted = Review(
        v=1,
        review_id=review_id,
        command=ReviewCommand.RELEASE,
        actor="",
        reason="",
        reviewed_ms=0,
        tenant=tenant,
        platform=platform,
    )
    row = session.get(ReviewRow, review_key(wanted))
    return None if row is None else _reviewed(row)


def _reviewed(row: ReviewRow) -> Reviewed:
    return Reviewed(codec.decode(row.record, Review), Outcome(row.outcome))


def reach(session: Session, review: Review) -> int:
    """How many cases a review would change now, or, for one that is about senders, mean."""
    conditions = means(review)
    if review.command is ReviewCommand.ERASE and review.sender_id is not None:
        person = key(scoped(review.tenant, review.platform, review.sender_id))
        conditions = [or_(CaseRow.sender == person, CaseRow.recipient == person)]
    if review.command in CLOSES:
        once_held = [CaseState.HELD, *([CaseState.EXPIRED] if review.command is not ReviewCommand.EXPIRE else [])]
        conditions.append(CaseRow.state.in_(once_held))
    return session.scalar(select(func.count()).select_from(CaseRow).where(*conditions)) or 0


def stats(session: Session, tenant: str, most: int) -> Stats:
    """`most`: how many campaigns are told of."""
    ours = CaseRow.tenant == key(tenant)
    held = and_(ours, CaseRow.state == CaseState.HELD)
    number = func.count()
    campaigns = (
        select(CaseRow.campaign, number)
        .where(held, CaseRow.campaign.is_not(None))
        .group_by(CaseRow.campaign)
        .order_by(number.desc(), CaseRow.campaign)
    )
    reasons: Counter[str] = Counter()
    for codes, count in session.execute(select(CaseRow.reasons, number).where(held).group_by(CaseRow.reasons)):
        reasons.update({code: count for code in codes.strip("|").split("|") if code})
    return Stats(
        states=states(session, ours),
        reasons=dict(reasons.most_common()),
        campaigns={str(name): count for name, count in session.execute(campaigns.limit(most))},
        oldest_held_ms=session.scalar(select(func.min(CaseRow.decided_ms)).where(held)),
        outbox=waiting(session),
    )


def states(session: Session, *conditions: ColumnElement[bool]) -> dict[CaseState, int]:
    """How many cases are in each state."""
    counted = select(CaseRow.state, func.count()).where(*conditions).group_by(CaseRow.state)
    found: Sequence[tuple[str, int]] = [(state, number) for state, number in session.execute(counted)]
    return dict.fromkeys(CaseState, 0) | {CaseState(state): number for state, number in found}


def waiting(session: Session) -> int:
    """How many records wait in the outbox."""
    return session.scalar(select(func.count()).select_from(WaitingRow)) or 0
