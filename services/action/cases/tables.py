"""The tables of casebook's database. What they hold is made by the migrations; a test holds the two together.

Names in columns are scoped (`tenant/platform/id`) and written by `key`, so that any id fits an index.
"""

from enum import StrEnum
from hashlib import blake2b

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.records import ReviewCommand

# PostgreSQL indexes keys of up to 2.7 kB.
MAX_KEY_BYTES = 2048


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


class Table(DeclarativeBase):
    pass


class TurnRow(Table):
    """Whoever works on cases, or publishes, holds the row of that turn: copies on PostgreSQL take turns."""

    __tablename__ = "turns"
    name: Mapped[str] = mapped_column(String, primary_key=True)


class ReviewRow(Table):
    """A review that was taken in. `record` is the Review."""

    __tablename__ = "reviews"
    review: Mapped[str] = mapped_column(String, primary_key=True)
    tenant: Mapped[str] = mapped_column(String)
    command: Mapped[str] = mapped_column(String)
    outcome: Mapped[str] = mapped_column(String)
    event: Mapped[str | None] = mapped_column(String, index=True)
    sender: Mapped[str | None] = mapped_column(String, index=True)
    campaign: Mapped[str | None] = mapped_column(String, index=True)
    reviewed_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)


class CaseRow(Table):
    """A quarantined message and its story. `record` is its Evidence, with the text; `reasons`: codes between bars."""

    __tablename__ = "cases"
    decision_id: Mapped[str] = mapped_column(String, primary_key=True)
    tenant: Mapped[str] = mapped_column(String)
    platform: Mapped[str] = mapped_column(String)
    event: Mapped[str] = mapped_column(String, index=True)
    sender: Mapped[str] = mapped_column(String, index=True)
    recipient: Mapped[str | None] = mapped_column(String, index=True)
    campaign: Mapped[str | None] = mapped_column(String)
    reasons: Mapped[str] = mapped_column(String)
    state: Mapped[str] = mapped_column(String)
    decided_ms: Mapped[int] = mapped_column(BigInteger)
    expires_ms: Mapped[int | None] = mapped_column(BigInteger)
    closed_ms: Mapped[int | None] = mapped_column(BigInteger)
    closed_by: Mapped[str | None] = mapped_column(ForeignKey("reviews.review"), index=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        Index("ix_cases_campaign", "tenant", "campaign"),
        Index("ix_cases_due", "state", "expires_ms"),
        Index("ix_cases_page", "tenant", "decided_ms", "decision_id"),
    )


class StandingRow(Table):
    """What is held of a sender. Of trust and block the one reviewed last counts: (`judged_ms`, `judged_by`)."""

    __tablename__ = "standing"
    sender: Mapped[str] = mapped_column(String, primary_key=True)
    judged_ms: Mapped[int] = mapped_column(BigInteger, default=-1)
    judged_by: Mapped[str] = mapped_column(String, default="")
    record: Mapped[bytes] = mapped_column(LargeBinary)


class CampaignRow(Table):
    """What reviews said last of a campaign: (`judged_ms`, `judged_by`). Ended when `until_ms` has passed."""

    __tablename__ = "campaigns"
    tenant: Mapped[str] = mapped_column(String, primary_key=True)
    campaign: Mapped[str] = mapped_column(String, primary_key=True)
    judged_ms: Mapped[int] = mapped_column(BigInteger)
    judged_by: Mapped[str] = mapped_column(String)
    until_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)


class ErasedRow(Table):
    """A person who was erased, by a digest: what was received before then is not taken in again."""

    __tablename__ = "erased"
    person: Mapped[str] = mapped_column(String, primary_key=True)
    erased_ms: Mapped[int] = mapped_column(BigInteger)


class WaitingRow(Table):
    """An Output that is not published yet. Ids are never used again: a late `published` takes nothing else out."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    topic: Mapped[str] = mapped_column(String)
    event: Mapped[str | None] = mapped_column(String, index=True)
    record: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = {"sqlite_autoincrement": True}  # noqa: RUF012


# Many rows are put in at once, without an object for each.
CASES, OUTBOX = (Table.metadata.tables[row.__tablename__] for row in (CaseRow, WaitingRow))


def key(name: str) -> str:
    """A name as a column holds it: PostgreSQL takes no NUL, and no key of more than 2.7 kB into an index."""
    plain = "\0" not in name and len(name) * 4 <= MAX_KEY_BYTES
    return name if plain or ("\0" not in name and len(name.encode()) <= MAX_KEY_BYTES) else f"#{digest(name)}"


def digest(name: str) -> str:
    return blake2b(name.encode(), digest_size=16).hexdigest()
