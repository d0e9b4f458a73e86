"""Pushes of models to S3 buckets and the Hub; home as a destination has no bucket of its own any more."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pushes",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("asked_at", sa.Float(53), nullable=False),
        sa.Column("delivered_at", sa.Float(53), nullable=True),
        sa.Column("retry_at", sa.Float(53), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("checkpoints", sa.Text(), nullable=False),
        sa.Column("reported_sha256", sa.String(64), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_pushes_job_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_pushes"),
    )
    op.create_index("pushes_of_job", "pushes", ["job_id", "asked_at"])
    op.create_index("pushes_state", "pushes", ["state"])
    _forget_buckets()


def _forget_buckets() -> None:
    """The digest stays as it was agreed to."""
    plans = sa.table("plans", sa.column("job_id"), sa.column("plan"))
    connection = op.get_bind()
    for job_id, text in connection.execute(sa.select(plans.c.job_id, plans.c.plan)).all():
        plan = json.loads(text)
        destination = plan.get("identity", {}).get("destination")
        if destination == {"kind": "home", "bucket": "outputs"}:
            del destination["bucket"]
            changed = sa.update(plans).where(plans.c.job_id == job_id)
            connection.execute(changed.values(plan=json.dumps(plan, separators=(",", ":"))))
