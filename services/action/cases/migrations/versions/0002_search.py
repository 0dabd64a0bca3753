"""Cases can be found by recipient, platform and reason; reviewed campaigns, erased persons, turns of the copies."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.drop_table("schema_version")
    op.bulk_insert(
        op.create_table("turns", sa.Column("name", sa.String, primary_key=True)), [{"name": "work"}, {"name": "outbox"}]
    )
    op.create_table(
        "campaigns",
        sa.Column("tenant", sa.String, primary_key=True),
        sa.Column("campaign", sa.String, primary_key=True),
        sa.Column("judged_ms", sa.BigInteger, nullable=False),
        sa.Column("judged_by", sa.String, nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False, index=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "erased",
        sa.Column("person", sa.String, primary_key=True),
        sa.Column("erased_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_reviews_reviewed_ms", "reviews", ["reviewed_ms"])
    op.add_column("cases", sa.Column("platform", sa.String, nullable=False, server_default=""))
    op.add_column("cases", sa.Column("recipient", sa.String))
    op.add_column("cases", sa.Column("reasons", sa.String, nullable=False, server_default=""))
    _fill()
    op.create_index("ix_cases_recipient", "cases", ["recipient"])
    op.create_index("ix_cases_closed_by", "cases", ["closed_by"])
    op.drop_index("ix_cases_page", "cases")
    op.create_index("ix_cases_page", "cases", ["tenant", "decided_ms", "decision_id"])


def _fill() -> None:
    """The new columns of the cases that are there, from their records; names as the tables of then had them."""
    cases = sa.table(
        "cases", *(sa.column(name) for name in ("decision_id", "platform", "recipient", "reasons", "record"))
    )
    connection = op.get_bind()
    for decision_id, record in connection.execute(sa.select(cases.c.decision_id, cases.c.record)).all():
        evidence = json.loads(record)
        message, decision = evidence["message"], evidence["decision"]
        scope = [part.replace("%", "%25").replace("/", "%2F") for part in (decision["tenant"], decision["platform"])]
        recipient = message.get("recipient_id")
        reasons = "".join(f"{reason['code']}|" for reason in decision["reasons"])
        filled = {
            "platform": decision["platform"],
            "recipient": None if recipient is None else "/".join((*scope, recipient)),
            "reasons": f"|{reasons}",
        }
        connection.execute(sa.update(cases).where(cases.c.decision_id == decision_id).values(filled))
