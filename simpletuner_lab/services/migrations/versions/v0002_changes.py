"""A number of the last write on each job, deletions, and the loss as a column to sort by."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("jobs", sa.Column("loss", sa.Float(53), nullable=True))
    op.create_index("jobs_changed", "jobs", ["changed"])
    op.create_index("jobs_key", "jobs", ["idempotency_key"])
    op.create_table(
        "deletions",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_deletions"),
    )
    _fill_losses()


def _fill_losses() -> None:
    """In Python: the stored JSON may hold a NaN, which no database's own functions read."""
    jobs = sa.table("jobs", sa.column("id"), sa.column("progress"), sa.column("loss"))
    connection = op.get_bind()
    found = [
        {"of": job_id, "value": loss}
        for job_id, progress in connection.execute(sa.select(jobs.c.id, jobs.c.progress))
        if (loss := json.loads(progress).get("loss")) is not None and loss == loss  # noqa: PLR0124 - not NaN
    ]
    if found:
        fill = sa.update(jobs).where(jobs.c.id == sa.bindparam("of")).values(loss=sa.bindparam("value"))
        connection.execute(fill, found)
