"""The tables of the store, the same on SQLite and PostgreSQL. Changed only together with a migration.

JSON is text that we encode ourselves, times are seconds since the epoch, and every number that grows comes from
`sequence`: one row that each writer updates, so numbers become visible in the order in which they were given, also
on PostgreSQL, and are never used twice, also after a job was deleted.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
)

REVISIONS: Final = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010")
"""Every schema version there was, oldest first. A database with another one was written by a newer release."""

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(column_0_label)s",
    }
)


def _job_column(*, primary_key: bool = False) -> Column[str]:
    return Column(
        "job_id", String(64), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False
    )


sequence: Final = Table(
    "sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("hardware", Text, nullable=False),
    Column("remote", Boolean, nullable=False),
    Column("state", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("completed_at", Float(53)),
    Column("cancel_requested_at", Float(53)),
    Column("retry_at", Float(53)),
    Column("digest", String(64), nullable=False),
    Column("nonce", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("progress", Text, nullable=False),
    Column("attempt_step", BigInteger, nullable=False),
    Column("stalled", Integer, nullable=False),
    Column("cost_usd", Float(53)),
    Column("failure", Text),
    Column("waiting", Text, nullable=False),
    Column("run", Text, nullable=False),
    Column("log_bytes", BigInteger, nullable=False),
    Column("upload_ref", Text, nullable=False),
    Column("settled_at", Float(53)),
    Column("result_sha256", String(64), nullable=False),
    Column("uncertain", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("run_class", Text, nullable=False),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Column("loss", Float(53)),
    Column("priority", Integer, nullable=False, server_default="10"),
    Column("priority_override", Integer),
    Column("rank", Integer, nullable=False, server_default="40"),
    Column("claimed_at", Float(53)),
    Column("place", BigInteger, nullable=False, server_default="0"),
    Index("jobs_changed", "changed"),
    Index("jobs_key", "idempotency_key"),
    Index("jobs_newest", "created_at", "id"),
    Index("jobs_owner_newest", "owner", "created_at", "id"),
    Index("jobs_state_newest", "state", "created_at", "id"),
    Index("jobs_provider_newest", "provider", "created_at", "id"),
    Index("jobs_settled", "settled_at", "created_at"),
    Index("jobs_run_class", "run_class", "completed_at"),
    Index("jobs_queue", "state", "claimed_at", "rank", "place", "id"),
)
"""`changed` is the number of the last write, for those who follow the store; `loss` repeats the progress, to sort by.

The queue: the lowest `rank` first, which is 50 less the priority that counts, then the lowest `place`, drawn at submit."""

deletions: Final = Table(
    "deletions",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", String(64), nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("at", Float(53), nullable=False),
)
"""Jobs that are gone, so that other processes come to know of it. Kept for a while only."""

tallies: Final = Table(
    "tallies",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("remote", Boolean, primary_key=True),
    Column("state", String(32), primary_key=True),
    Column("jobs", BigInteger, nullable=False),
)
"""How many jobs there are of each kind, kept with every write: the true total of a page without counting rows."""

plans: Final = Table(
    "plans",
    metadata,
    _job_column(primary_key=True),
    Column("plan", Text, nullable=False),
)

idempotency: Final = Table(
    "idempotency",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    _job_column(),
    Column("at", Float(53), nullable=False),
)

events: Final = Table(
    "events",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    _job_column(),
    Column("kind", String(32), nullable=False),
    Column("at", Float(53), nullable=False),
    Column("data", Text, nullable=False),
    Index("events_of_job", "job_id", "seq"),
)

points: Final = Table(
    "points",
    metadata,
    _job_column(primary_key=True),
    Column("first_step", BigInteger, primary_key=True, autoincrement=False),
    Column("last_step", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

leases: Final = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),
)

grants: Final = Table(
    "grants",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", String(64)),
    Column("bucket", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("verbs", Text, nullable=False),
    Column("expires_at", Float(53)),
    Column("revoked_at", Float(53)),
    Column("quota_bytes", BigInteger),
    Column("endpoint_url", Text, nullable=False, server_default=""),
    Column("name", Text, nullable=False, server_default=""),
    Column("created_at", Float(53), nullable=False, server_default="0"),
    Index("grants_of_job", "job_id"),
)

consents: Final = Table(
    "consents",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("digest", String(64), primary_key=True),
    Column("at", Float(53), primary_key=True),
    Column("entry", Text, nullable=False),
    Column("mode", String(32), nullable=False),
)

transfers: Final = Table(
    "transfers",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("job_id", String(64), nullable=False),
    Column("what", Text, nullable=False),
    Column("where_to", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("files", BigInteger, nullable=False),
    Column("sent_at", Float(53), nullable=False),
    Column("discarded_at", Float(53)),
    Index("transfers_of_job", "job_id", "id"),
)
"""What left this machine. Outlives its job: deleting a job does not unsend anything (SPEC C3)."""

charges: Final = Table(
    "charges",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("account", Text, nullable=False),
    Column("hardware", Text, nullable=False),
    Column("metered_s", Float(53)),
    Column("cost_usd", Float(53)),
    Column("usd_per_hour", Float(53)),
    Column("as_of", Text, nullable=False),
    Column("updated_at", Float(53), nullable=False),
    Column("final", Boolean, nullable=False),
    Column("owner", Text, nullable=False, server_default=""),
    Column("opened_at", Float(53), nullable=False, server_default="0"),
    Column("most_usd", Float(53)),
    Column("by_hand", Boolean, nullable=False, server_default=false()),
    Index("charges_of_job", "job_id", "attempt"),
    Index("charges_opened", "opened_at"),
)
"""What each run costs. Outlives its job: deleting a job does not unspend anything (SPEC M2)."""

reservations: Final = Table(
    "reservations",
    metadata,
    _job_column(primary_key=True),
    Column("reserved_usd", Float(53)),
    Column("run_usd", Float(53)),
    Column("warning", Text, nullable=False),
)
"""What a job may cost in all, and its next run, while it has not ended; null is not known (SPEC M3)."""

pushes: Final = Table(
    "pushes",
    metadata,
    Column("id", String(64), primary_key=True),
    _job_column(),
    Column("destination", Text, nullable=False),
    Column("state", String(32), nullable=False),
    Column("asked_at", Float(53), nullable=False),
    Column("delivered_at", Float(53)),
    Column("retry_at", Float(53)),
    Column("tries", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("problem", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("checkpoints", Text, nullable=False),
    Column("reported_sha256", String(64), nullable=False),
    Column("verified", Boolean, nullable=False),
    Index("pushes_of_job", "job_id", "asked_at"),
    Index("pushes_state", "state"),
)
"""Models on their way to S3 buckets and the Hub. No credential is in here."""

snapshots: Final = Table(
    "snapshots",
    metadata,
    _job_column(primary_key=True),
    Column("name", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("auto_generated", Boolean, nullable=False),
    Column("folder", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("commit_id", String(64), nullable=False),
    Index("snapshots_commit", "commit_id", "created_at"),
)
"""What each job was submitted with, as a commit of our git repository. Empty `commit_id`: it is still to be written."""

settings: Final = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

hashes: Final = Table(
    "hashes",
    metadata,
    Column("path", LargeBinary, primary_key=True),
    Column("stamp", Text, nullable=False),
    Column("known", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Index("hashes_oldest", "at"),
)
"""What is known of files (SHA-256 and more) by path and stamp. The path is bytes: not every file name is UTF-8."""
