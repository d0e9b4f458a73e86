"""Of each charge whether its user said what it cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("charges", sa.Column("by_hand", sa.Boolean(), nullable=False, server_default=sa.false()))
