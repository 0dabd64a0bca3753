"""Cases, reviews, standing and the outbox, as first made."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table("schema_version", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))
    op.create_table(
        "reviews",
        sa.Column("review", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("command", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("event", sa.String, index=True),
        sa.Column("sender", sa.String, index=True),
        sa.Column("campaign", sa.String, index=True),
        sa.Column("reviewed_ms", sa.BigInteger, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "cases",
        sa.Column("decision_id", sa.String, primary_key=True),
        sa.Column("tenant", sa.String, nullable=False),
        sa.Column("event", sa.String, nullable=False, index=True),
        sa.Column("sender", sa.String, nullable=False, index=True),
        sa.Column("campaign", sa.String),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("decided_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger),
        sa.Column("closed_ms", sa.BigInteger),
        sa.Column("closed_by", sa.String, sa.ForeignKey("reviews.review")),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_cases_campaign", "cases", ["tenant", "campaign"])
    op.create_index("ix_cases_due", "cases", ["state", "expires_ms"])
    op.create_index("ix_cases_page", "cases", ["tenant", "decided_ms"])
    op.create_table(
        "standing",
        sa.Column("sender", sa.String, primary_key=True),
        sa.Column("judged_ms", sa.BigInteger, nullable=False),
        sa.Column("judged_by", sa.String, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("topic", sa.String, nullable=False),
        sa.Column("event", sa.String, index=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
