"""Grants that the owner makes by hand have a name; each grant knows where its holder was told to go."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("grants", sa.Column("endpoint_url", sa.Text(), nullable=False, server_default=""))
    op.add_column("grants", sa.Column("name", sa.Text(), nullable=False, server_default=""))
    op.add_column("grants", sa.Column("created_at", sa.Float(53), nullable=False, server_default="0"))
