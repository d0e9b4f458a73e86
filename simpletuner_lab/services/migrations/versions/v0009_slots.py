"""A queued job without a slot has given it back; those that began before there were slots have one."""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE jobs SET claimed_at = created_at"
        " WHERE claimed_at IS NULL AND nonce <> '' AND state IN ('uploading', 'queued', 'running')"
    )
