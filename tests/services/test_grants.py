from __future__ import annotations

import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simpletuner_lab.core.destination import HOME
from simpletuner_lab.core.errors import NotFound, ServerKeyUnusable
from simpletuner_lab.core.grant import (
    ANY_BUCKET,
    Grant,
    Verb,
    allows,
    allows_bucket,
    derive_secret,
    grant_id,
    is_grant_id,
)
from simpletuner_lab.core.job import Job, JobState
from simpletuner_lab.core.plan import STORAGE_GRANT
from simpletuner_lab.services.desk import ACCESS_KEY, Desk
from simpletuner_lab.services.grants import Grants, ServerKey, Terms
from simpletuner_lab.services.outputs import Outputs
from simpletuner_lab.services.tokens import Tokens
from simpletuner_lab.testing.storage_server import MemoryGrants

NOW = 1_800_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def grants(clock):
    return Grants(MemoryGrants(), ServerKey(b"k" * 32), clock)


def grant(**changes) -> Grant:
    fields = {
        "id": "STLGAAAAAAAAAAAAAAAA",
        "job_id": "job-1",
        "bucket": "outputs",
        "prefix": "job-1/",
        "verbs": frozenset({Verb.GET, Verb.PUT}),
        "expires_at": NOW + 10,
    }
    return Grant(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "verb", "bucket", "key", "allowed"),
    [
        ({}, Verb.GET, "outputs", "job-1/a", True),
        ({}, Verb.PUT, "outputs", "job-1/a/b", True),
        ({}, Verb.DELETE, "outputs", "job-1/a", False),
        ({}, Verb.GET, "outputs", "job-1", False),
        ({}, Verb.GET, "outputs", "job-10/a", False),
        ({}, Verb.GET, "outputs", "job-2/a", False),
        ({}, Verb.GET, "outputs", "", False),
        ({}, Verb.GET, "other", "job-1/a", False),
        ({"expires_at": NOW}, Verb.GET, "outputs", "job-1/a", False),
        ({"expires_at": None}, Verb.GET, "outputs", "job-1/a", True),
        ({"revoked_at": NOW}, Verb.GET, "outputs", "job-1/a", False),
        ({"revoked_at": NOW + 1}, Verb.GET, "outputs", "job-1/a", True),
        ({"bucket": ANY_BUCKET, "prefix": ""}, Verb.GET, "other", "x", True),
        ({"bucket": ANY_BUCKET, "prefix": ""}, Verb.LIST, "other", "", False),
    ],
)
def test_what_a_grant_allows(changes, verb, bucket, key, allowed):
    assert allows(grant(**changes), verb, bucket, key, NOW) is allowed


def test_a_grant_may_ask_about_its_own_bucket():
    assert allows_bucket(grant(), Verb.PUT, "outputs", NOW)
    assert not allows_bucket(grant(), Verb.PUT, "other", NOW)
    assert not allows_bucket(grant(), Verb.HEAD, "outputs", NOW)


@given(st.binary(min_size=10, max_size=10))
def test_ids_look_like_access_keys(random):
    assert re.fullmatch(r"STLG[A-Z0-9]{16}", grant_id(random))
    assert is_grant_id(grant_id(random))


@pytest.mark.parametrize(
    "text", ["", "STLG", "AKIAAAAAAAAAAAAAAAAA", "STLGaaaaaaaaaaaaaaaa", "STLGAAAAAAAAAAAAAAA'", "STLG" + "É" * 16]
)
def test_what_is_no_id_is_not_looked_up(grants, text):
    assert not is_grant_id(text)
    assert grants.resolve(text) is None


def test_secrets_are_derived_from_key_and_id_alone():
    one = derive_secret(b"k" * 32, "STLGAAAAAAAAAAAAAAAA")
    assert re.fullmatch(r"[A-Za-z0-9_-]{40}", one)
    assert one == derive_secret(b"k" * 32, "STLGAAAAAAAAAAAAAAAA")
    assert (
        len({one, derive_secret(b"l" * 32, "STLGAAAAAAAAAAAAAAAA"), derive_secret(b"k" * 32, "STLGAAAAAAAAAAAAAAAB")})
        == 3
    )


def test_a_job_gets_its_own_prefix_and_the_secret_is_found_again(grants):
    issued, keys = grants.issue_for_job("job-1", 1, NOW + 60)
    assert (issued.bucket, issued.prefix, issued.job_id, issued.expires_at) == ("outputs", "job-1/", "job-1", NOW + 60)
    found = grants.resolve(keys.access_key)
    assert found is not None
    assert found[0] == issued
    assert found[1].reveal() == keys.secret_key.reveal()
    assert keys.secret_key.reveal() not in repr(keys)


def test_an_attempt_ends_the_grants_of_those_before_it_and_of_no_other_job(grants, clock):
    _, first = grants.issue_for_job("job-1", 1, NOW + 60)
    _, other = grants.issue_for_job("job-2", 1, NOW + 60)
    grants.revoke_job("job-1", at=NOW + 30)
    clock.now += 1
    issued, second = grants.issue_for_job("job-1", 2, NOW + 60)
    assert grants.resolve(first.access_key)[0].revoked_at == NOW + 1
    assert grants.resolve(second.access_key)[0] == issued
    assert grants.resolve(other.access_key)[0].revoked_at is None
    grants.revoke_job("job-1")
    clock.now += 1
    grants.revoke_job("job-1")
    assert grants.resolve(second.access_key)[0].revoked_at == NOW + 1


@pytest.mark.parametrize(("job_id", "attempt"), [("", 1), ("a/b", 1), ("a", 0)])
def test_a_grant_needs_a_job_and_an_attempt(grants, job_id, attempt):
    with pytest.raises(ValueError):
        grants.issue_for_job(job_id, attempt, NOW)


def test_the_owner_has_the_same_credentials_after_a_restart(grants, clock):
    again = Grants(MemoryGrants(), ServerKey(b"k" * 32), clock)
    assert again.owner().access_key == grants.owner().access_key
    found = again.resolve(grants.owner().access_key)
    assert found is not None
    assert found[0].is_owner
    assert found[1].reveal() == grants.owner().secret_key.reveal()


def test_the_server_key_is_made_once_for_its_owner_alone(tmp_path):
    path = tmp_path / "server.key"
    keys: list[str] = []
    threads = [
        threading.Thread(target=lambda: keys.append(ServerKey.load_or_create(path).owner_id())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1
    assert len(keys) == 8
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["server.key"]
    assert path.read_bytes().hex() not in repr(ServerKey.load_or_create(path))


def wide(path):
    path.write_bytes(b"k" * 32)
    path.chmod(0o640)


def short(path):
    path.write_bytes(b"k" * 31)
    path.chmod(0o600)


def long(path):
    path.write_bytes(b"k" * 33)
    path.chmod(0o600)


def link(path):
    (path.parent / "real").write_bytes(b"k" * 32)
    (path.parent / "real").chmod(0o600)
    path.symlink_to(path.parent / "real")


@pytest.mark.parametrize("spoil", [wide, short, long, link, os.mkdir])
def test_a_server_key_that_is_not_as_we_wrote_it_is_refused(tmp_path, spoil):
    path = tmp_path / "server.key"
    spoil(path)
    with pytest.raises(ServerKeyUnusable, match=re.escape(str(path))):
        ServerKey.load_or_create(path)


# ------------------------------------------------------------ by hand, and for how long


def test_a_grant_by_hand_has_its_terms_and_can_be_revoked_once(grants, clock):
    terms = Terms(name="Ann", bucket="models", prefix="ann/", read_only=True, expires_at=NOW + 60, quota_bytes=5)
    made, keys = grants.issue_by_hand(terms)
    found = grants.resolve(keys.access_key)
    assert found is not None
    assert (found[0], found[1].reveal()) == (made, keys.secret_key.reveal())
    assert allows(made, Verb.GET, "models", "ann/x", NOW)
    assert not allows(made, Verb.PUT, "models", "ann/x", NOW)
    assert not allows(made, Verb.GET, "models", "bob/x", NOW)
    assert not allows(made, Verb.GET, "models", "ann/x", NOW + 60)
    assert [one.id for one in grants.by_hand()] == [made.id]
    assert grants.revoke(made.id).revoked_at == NOW
    clock.now += 5
    assert grants.revoke(made.id).revoked_at == NOW


def test_a_jobs_grant_is_none_made_by_hand(grants):
    issued, _ = grants.issue_for_job("job-1", 1, NOW + 60)
    assert grants.by_hand() == ()
    with pytest.raises(NotFound):
        grants.revoke(issued.id)
    assert grants.resolve(issued.id)[0].revoked_at is None


def job(**changes) -> Job:
    fields = {
        "id": "job-1", "owner": "me", "name": "n", "provider": "p", "target": "t", "hardware": "h", "remote": True,
        "state": JobState.RUNNING, "created_at": NOW, "updated_at": NOW, "digest": "d", "nonce": "n",
    }  # fmt: skip
    return Job(**(fields | changes))


@pytest.fixture
def desk(grants, tmp_path):
    return Desk(
        Outputs(tmp_path),
        grants,
        Tokens(tmp_path / "secrets", {}, lambda: NOW),
        endpoint=lambda: "http://127.0.0.1:1/api/cloud/storage",
        public_endpoint=lambda: "https://lab.example/api/cloud/storage",
        max_job_bytes=77,
    )


@pytest.mark.parametrize(("deadline_s", "life_s"), [(3600.0, 3600 + 24 * 3600), (None, 7 * 24 * 3600)])
@pytest.mark.parametrize(
    ("remote", "url"),
    [(True, "https://lab.example/api/cloud/storage"), (False, "http://127.0.0.1:1/api/cloud/storage")],
)
def test_an_address_is_for_where_the_run_is(desk, grants, remote, url, deadline_s, life_s):
    address = desk.address(job(remote=remote), HOME, agreed=frozenset({STORAGE_GRANT}), deadline_s=deadline_s, now=NOW)
    assert address.delivery.endpoint_url == url
    issued = grants.resolve(address.secrets[ACCESS_KEY].reveal())[0]
    assert (issued.endpoint_url, issued.quota_bytes, issued.expires_at) == (url, 77, NOW + life_s)


def test_the_next_attempt_and_the_end_revoke(desk, grants, clock):
    """At once with the next attempt; at the time that is named with the end, and never later than before."""
    first = (
        desk.address(job(attempt=1), HOME, agreed=frozenset({STORAGE_GRANT}), deadline_s=None, now=NOW)
        .secrets[ACCESS_KEY]
        .reveal()
    )
    clock.now = NOW + 10
    second = (
        desk.address(job(attempt=2), HOME, agreed=frozenset({STORAGE_GRANT}), deadline_s=None, now=NOW)
        .secrets[ACCESS_KEY]
        .reveal()
    )
    assert grants.resolve(first)[0].revoked_at == NOW + 10
    assert grants.resolve(second)[0].revoked_at is None
    desk.close(job(), at=NOW + 900)
    assert grants.resolve(second)[0].revoked_at == NOW + 900
    assert allows(grants.resolve(second)[0], Verb.PUT, "outputs", "job-1/x", NOW + 899)
    assert not allows(grants.resolve(second)[0], Verb.PUT, "outputs", "job-1/x", NOW + 900)
    desk.close(job(), at=NOW + 20)
    desk.close(job(), at=NOW + 5000)
    assert grants.resolve(second)[0].revoked_at == NOW + 20
