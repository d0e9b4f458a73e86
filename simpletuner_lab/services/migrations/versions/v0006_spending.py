"""What is reserved for each job, and of each charge whose it is, its day, and what it may cost at most."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("charges", sa.Column("owner", sa.Text(), nullable=False, server_default=""))
    op.add_column("charges", sa.Column("opened_at", sa.Float(53), nullable=False, server_default="0"))
    op.add_column("charges", sa.Column("most_usd", sa.Float(53), nullable=True))
    op.execute("UPDATE charges SET opened_at = updated_at")
    op.execute("UPDATE charges SET owner = COALESCE((SELECT jobs.owner FROM jobs WHERE jobs.id = charges.job_id), '')")
    op.create_index("charges_opened", "charges", ["opened_at"])
    op.create_table(
        "reservations",
        sa.Column(
            "job_id", sa.String(64), sa.ForeignKey("jobs.id", ondelete="CASCADE", name="fk_reservations_job_id"),
            nullable=False,
        ),
        sa.Column("reserved_usd", sa.Float(53), nullable=True),
        sa.Column("run_usd", sa.Float(53), nullable=True),
        sa.Column("warning", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_reservations"),
    )  # fmt: skip
