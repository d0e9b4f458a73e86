"""The queue: priorities, when a job got its slot, and its place among those that wait."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("priority", sa.Integer(), nullable=False, server_default="10"))
    op.add_column("jobs", sa.Column("priority_override", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("rank", sa.Integer(), nullable=False, server_default="40"))
    op.add_column("jobs", sa.Column("claimed_at", sa.Float(53), nullable=True))
    op.add_column("jobs", sa.Column("place", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("jobs_queue", "jobs", ["state", "claimed_at", "rank", "place", "id"])
    op.execute("UPDATE jobs SET place = changed WHERE state = 'pending'")
