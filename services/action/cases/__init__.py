"""Cases, reviews, standing and the outbox, in a database. The only room that knows sqlalchemy and alembic.

A case is `held` until a review or its time ends it: `released`, `confirmed` or `expired`; one that expired can still be
released or confirmed. What changes and what there is to say of it are one transaction: what is said waits in the outbox
until it is published, and is the same however often it is said. Repeats change nothing. Order does not matter: a review
waits for its case.

`tables` is what is kept, `database` how, `desk` what changes, `search` what can be looked at. Times are milliseconds of
the Unix epoch, given or from the records.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services import codec
from services.action.cases import search
from services.action.cases.database import Database
from services.action.cases.desk import PACK, Desk, LetsGo, Locate
from services.action.cases.search import Case, Filter, Place, Reviewed, Stats
from services.action.cases.tables import CaseState, Outcome, StandingRow, WaitingRow, key
from services.records import Evidence, Output, Review, Standing
from services.topics import QUARANTINE, TOPICS

__all__ = [
    "Case",
    "CaseState",
    "Cases",
    "Filter",
    "Outcome",
    "Reviewed",
    "Stats",
]

# As long as the topic from which a case could be opened again.
KEPT_MS = TOPICS[QUARANTINE].retention_ms or 0
CAMPAIGNS_TOLD = 20

T = TypeVar("T")


class Cases:
    """The casebook's database; every method is one transaction or a few, for a worker thread.

    `locate` gives the partition of a key in a topic, `lets_go` whether a tenant's held messages are let go when their
    time is over. Raises Unavailable; the constructor BadSetup for a URL that cannot be used and a database of a later
    version.
    """

    def __init__(self, url: str, locate: Locate, lets_go: LetsGo = lambda tenant: False) -> None:
        self._locate, self._lets_go = locate, lets_go
        self._came_to: Counter[CaseState] = Counter()
        self._has_said = False
        self._database = Database(url)

    def close(self) -> None:
        self._database.close()

    def open(self, evidences: Sequence[Evidence]) -> list[str]:
        """Open the cases that are new, and apply the reviews that waited for them; returns the ids of the opened."""
        packs = [evidences[start : start + PACK] for start in range(0, len(evidences), PACK)]
        return [name for pack in packs for name in self._work(lambda desk, pack=pack: desk.open(pack))]  # type: ignore[misc]

    def review(self, reviews: Sequence[Review], now_ms: int) -> list[Outcome]:
        """Apply reviews in their order; one outcome each. `now_ms`: the moment they are taken in."""
        return self._work(lambda desk: [desk.review(review, now_ms) for review in reviews])

    def expire(self, now_ms: int) -> int:
        """Held cases past their time become `expired`, and stay or are let go as the tenant wants; returns how many."""
        number = 0
        while expired := self._work(lambda desk: desk.expire(now_ms)):
            number += expired
        return number

    def purge(self, now_ms: int) -> None:
        """Delete what is older than the topics: it could not be opened again either."""
        self._work(lambda desk: desk.purge(now_ms - KEPT_MS, now_ms))

    def keep_standings(self, standings: Sequence[Standing]) -> None:
        """Join what `dm.standing` says to what is held: for a rebuild."""

        def keep(desk: Desk) -> None:
            for standing in standings:
                desk.keep_standing(standing)
            desk.say_rest()

        self._work(keep)

    def claim(self, limit: int) -> list[tuple[int, Output]]:
        """The records that wait to be published, oldest first: ours until `published`. None while another copy has
        them: one copy at a time publishes, so that of two standings of a sender the newer is the last."""
        return self.outbox(limit) if self._database.take_turn("outbox") else []

    def published(self, ids: Sequence[int]) -> None:
        """Take records out of the outbox that the broker has."""

        def take_out(session: Session) -> None:
            for start in range(0, len(ids), PACK):
                session.execute(delete(WaitingRow).where(WaitingRow.id.in_(ids[start : start + PACK])))

        self._database.in_turn(take_out)

    def outbox(self, limit: int) -> list[tuple[int, Output]]:
        """The records that wait to be published, oldest first."""
        oldest = select(WaitingRow.id, WaitingRow.record).order_by(WaitingRow.id).limit(limit)
        rows = self._database.read(lambda session: session.execute(oldest).all())
        return [(row.id, codec.decode(row.record, Output)) for row in rows]

    def waiting(self) -> int:
        """How many records wait in the outbox."""
        return self._database.read(search.waiting)

    def case(self, decision_id: str) -> Case | None:
        """The case of a decision."""
        return self._database.read(lambda session: search.case(session, decision_id))

    def page(self, wanted: Filter, after: Place | None, limit: int) -> list[Case]:
        """Cases, the newest decisions first. `after`: (decided_ms, decision_id) of the last one seen."""
        return self._database.read(lambda session: search.page(session, wanted, after, limit))

    def story(self, case: Case) -> list[Reviewed]:
        """The reviews that name a case, oldest first."""
        return self._database.read(lambda session: search.story(session, case))

    def reviewed(self, tenant: str, platform: str, review_id: str) -> Reviewed | None:
        """A review that was taken in."""
        return self._database.read(lambda session: search.reviewed(session, tenant, platform, review_id))

    def reach(self, review: Review) -> int:
        """How many cases a review would change now, or, for one that is about senders, mean."""
        return self._database.read(lambda session: search.reach(session, review))

    def stats(self, tenant: str) -> Stats:
        """A tenant's cases in numbers."""
        return self._database.read(lambda session: search.stats(session, tenant, CAMPAIGNS_TOLD))

    def counts(self) -> dict[CaseState, int]:
        """How many cases are in each state."""
        return self._database.read(lambda session: search.states(session))

    def standing(self, sender: str) -> Standing | None:
        """What is held of a scoped sender."""
        row = self._database.read(lambda session: session.get(StandingRow, key(sender)))
        return codec.decode(row.record, Standing) if row else None

    def came_to(self) -> tuple[Counter[CaseState], bool]:
        """Cases by the state they came to, and whether something was put into the outbox, since this was asked last."""
        told = self._came_to, self._has_said
        self._came_to, self._has_said = Counter(), False
        return told

    def _work(self, work: Callable[[Desk], T]) -> T:
        def at_desk(session: Session) -> tuple[T, Desk]:
            desk = Desk(session, self._locate, self._lets_go)
            return work(desk), desk

        result, desk = self._database.work(at_desk)
        self._came_to += desk.came_to
        self._has_said |= desk.has_said
        return result
