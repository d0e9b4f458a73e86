"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _sequence()
    _jobs()
    _tallies()
    _plans()
    _idempotency()
    _events()
    _points()
    _leases()
    _grants()
    _consents()
    _transfers()
    _settings()
    _hashes()
    op.execute(sa.text("INSERT INTO sequence (id, value) VALUES (1, 0)"))


def _job_key(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE", name=f"fk_{table}_job_id")


def _sequence() -> None:
    op.create_table(
        "sequence",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sequence"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("remote", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Float(53), nullable=False),
        sa.Column("updated_at", sa.Float(53), nullable=False),
        sa.Column("started_at", sa.Float(53), nullable=True),
        sa.Column("completed_at", sa.Float(53), nullable=True),
        sa.Column("cancel_requested_at", sa.Float(53), nullable=True),
        sa.Column("retry_at", sa.Float(53), nullable=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("attempt_step", sa.BigInteger(), nullable=False),
        sa.Column("stalled", sa.Integer(), nullable=False),
        sa.Column("cost_usd", sa.Float(53), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("waiting", sa.Text(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("log_bytes", sa.BigInteger(), nullable=False),
        sa.Column("upload_ref", sa.Text(), nullable=False),
        sa.Column("settled_at", sa.Float(53), nullable=True),
        sa.Column("result_sha256", sa.String(64), nullable=False),
        sa.Column("uncertain", sa.Boolean(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("run_class", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("jobs_newest", "jobs", ["created_at", "id"])
    op.create_index("jobs_owner_newest", "jobs", ["owner", "created_at", "id"])
    op.create_index("jobs_provider_newest", "jobs", ["provider", "created_at", "id"])
    op.create_index("jobs_run_class", "jobs", ["run_class", "completed_at"])
    op.create_index("jobs_settled", "jobs", ["settled_at", "created_at"])
    op.create_index("jobs_state_newest", "jobs", ["state", "created_at", "id"])


def _tallies() -> None:
    op.create_table(
        "tallies",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("remote", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("jobs", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "provider", "remote", "state", name="pk_tallies"),
    )


def _plans() -> None:
    op.create_table(
        "plans",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("plan", sa.Text(), nullable=False),
        _job_key("plans"),
        sa.PrimaryKeyConstraint("job_id", name="pk_plans"),
    )


def _idempotency() -> None:
    op.create_table(
        "idempotency",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        _job_key("idempotency"),
        sa.PrimaryKeyConstraint("owner", "key", name="pk_idempotency"),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        _job_key("events"),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
    )
    op.create_index("events_of_job", "events", ["job_id", "seq"])


def _points() -> None:
    op.create_table(
        "points",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("first_step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("last_step", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        _job_key("points"),
        sa.PrimaryKeyConstraint("job_id", "first_step", name="pk_points"),
    )


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )


def _grants() -> None:
    op.create_table(
        "grants",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=True),
        sa.Column("bucket", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("verbs", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Float(53), nullable=True),
        sa.Column("revoked_at", sa.Float(53), nullable=True),
        sa.Column("quota_bytes", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index("grants_of_job", "grants", ["job_id"])


def _consents() -> None:
    op.create_table(
        "consents",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("mode", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("owner", "digest", "at", name="pk_consents"),
    )


def _transfers() -> None:
    op.create_table(
        "transfers",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("where_to", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.Float(53), nullable=False),
        sa.Column("discarded_at", sa.Float(53), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_transfers"),
    )
    op.create_index("transfers_of_job", "transfers", ["job_id", "id"])


def _settings() -> None:
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )


def _hashes() -> None:
    op.create_table(
        "hashes",
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=False),
        sa.Column("known", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_hashes"),
    )
    op.create_index("hashes_oldest", "hashes", ["at"])
