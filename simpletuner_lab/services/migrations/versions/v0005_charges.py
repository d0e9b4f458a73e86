"""What each run at a provider costs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "charges",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("metered_s", sa.Float(53), nullable=True),
        sa.Column("cost_usd", sa.Float(53), nullable=True),
        sa.Column("usd_per_hour", sa.Float(53), nullable=True),
        sa.Column("as_of", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("provider", "ref", name="pk_charges"),
    )
    op.create_index("charges_of_job", "charges", ["job_id", "attempt"])
