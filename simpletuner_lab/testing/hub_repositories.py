"""What an emulated Hub holds: people and their tokens, model repositories, large files, and the commits that were made."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

LFS_SUFFIXES: Final = frozenset({".safetensors", ".bin", ".pt", ".ckpt", ".msgpack", ".zip"})
LFS_FROM_BYTES: Final = 10 << 20
_GITATTRIBUTES: Final = b"".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n".encode() for suffix in sorted(LFS_SUFFIXES)
)


class HubRefusal(Exception):
    """An answer that is not 2xx, as the Hub words it: its status, `X-Error-Code` and message."""

    def __init__(self, status: int, message: str, code: str = "", more: Mapping[str, Any] | None = None) -> None:
        self.status, self.message, self.code, self.more = status, message, code, dict(more or {})
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose a token is. `role` is `write` or `read`; `organizations` are those in whose names it may write too."""

    name: str
    role: str = "write"
    organizations: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        """Whether a repository is in a name of theirs."""
        return repo_id.partition("/")[0] in {self.name, *self.organizations}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of a repository."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        """Of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """Git's own digest: of the content, or of the pointer that stands for a large file."""
        text = self.content
        if self.lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(text)}\n"
            text = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        """As the tree lists it."""
        about: dict[str, Any] = {"type": "file", "path": path, "size": len(self.content), "oid": self.oid}
        if self.lfs:
            about["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}
        return about


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of the main branch: who made it, and which paths it wrote; none that already had the content."""

    oid: str
    title: str
    author: str
    paths: tuple[str, ...]
    changed: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Repository:
    """A model repository with one branch, `main`."""

    id: str
    private: bool
    gated: bool = False
    files: dict[str, Stored] = field(default_factory=dict)
    commits: list[Commit] = field(default_factory=list)

    @property
    def head(self) -> str:
        """The newest commit."""
        return self.commits[-1].oid

    def commit(self, title: str, author: str, written: Mapping[str, Stored], deleted: Sequence[str] = ()) -> Commit:
        """Writes and deletes files, and keeps the record."""
        changed = tuple(path for path, stored in written.items() if self.files.get(path) != stored)
        self.files |= written
        for path in deleted:
            del self.files[path]
        seed = json.dumps([self.id, len(self.commits), title, sorted(written)])
        oid = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        made = Commit(oid=oid, title=title, author=author, paths=tuple(written), changed=(*changed, *deleted))
        self.commits.append(made)
        return made

    def info(self) -> dict[str, Any]:
        """As `GET /api/models/{id}` answers it."""
        return {
            "_id": hashlib.sha1(self.id.encode(), usedforsecurity=False).hexdigest()[:24],
            "id": self.id,
            "modelId": self.id,
            "author": self.id.partition("/")[0],
            "sha": self.head,
            "private": self.private,
            "gated": self.gated,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "siblings": [{"rfilename": path} for path in sorted(self.files)],
        }


class Repositories:
    """Everything that is there, with the rules of who may."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = dict(accounts)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        """Large files by SHA-256, as they were uploaded."""

    def account(self, authorization: str | None) -> Account | None:
        """Whose request it is; None for nobody's. A token that is not known is refused."""
        if authorization is None:
            return None
        kind, _, token = authorization.partition(" ")
        if kind != "Bearer" or token not in self.accounts:
            raise HubRefusal(401, "Invalid credentials in Authorization header")
        return self.accounts[token]

    def readable(self, repo_id: str, account: Account | None) -> Repository:
        """A repository that this account may read. What is hidden from it does not exist, and says so as the Hub does."""
        found = self.repositories.get(repo_id)
        visible = found is not None and (not found.private or (account is not None and account.owns(repo_id)))
        if found is None or not visible:
            raise HubRefusal(401 if account is None else 404, "Repository not found", "RepoNotFound")
        if found.gated and (account is None or not account.owns(repo_id)):
            raise HubRefusal(403, "Access to this model is restricted", "GatedRepo")
        return found

    def writable(self, repo_id: str, account: Account | None) -> Repository:
        """A repository that this account may write."""
        found = self.readable(repo_id, account)
        if account is None:
            raise HubRefusal(401, "Unauthorized")
        if account.role != "write":
            raise HubRefusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if not account.owns(repo_id):
            raise HubRefusal(403, "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request")
        return found

    def create(self, name: str, organization: str | None, account: Account | None, *, private: bool) -> Repository:
        """A new repository with its first commit; 409 where there is one."""
        if account is None:
            raise HubRefusal(401, "Unauthorized")
        repo_id = f"{organization or account.name}/{name}"
        if account.role != "write" or not account.owns(repo_id):
            owner = repo_id.partition("/")[0]
            raise HubRefusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        if repo_id in self.repositories:
            raise HubRefusal(409, "You already created this model repo", more={"url": repo_id})
        made = Repository(id=repo_id, private=private)
        made.commit("initial commit", account.name, {".gitattributes": Stored(content=_GITATTRIBUTES, lfs=False)})
        self.repositories[repo_id] = made
        return made

    def commit(self, repository: Repository, lines: Sequence[bytes], author: str) -> Commit:
        """A commit from its lines of JSON; strict about each."""
        operations = [_operation(line) for line in lines]
        if not operations or operations[0][0] != "header":
            raise HubRefusal(400, "the first line must be the header")
        header = operations[0][1]
        if header.get("parentCommit", repository.head) != repository.head:
            raise HubRefusal(412, "A commit has happened since. Please refresh and try again.")
        if not header.get("summary"):
            raise HubRefusal(400, '"summary" is required')
        written: dict[str, Stored] = {}
        deleted: list[str] = []
        for kind, value in operations[1:]:
            path = _checked_path(value.get("path"))
            if path in written:
                raise HubRefusal(400, f"{path} is written twice")
            match kind:
                case "file":
                    written[path] = Stored(content=_decoded(value), lfs=False)
                case "lfsFile":
                    written[path] = Stored(content=self._object(value), lfs=True)
                case "deletedFile" if path in repository.files:
                    deleted.append(path)
                case _:
                    raise HubRefusal(400, f"cannot {kind} {path}")
        return repository.commit(str(header["summary"]), author, written, deleted)

    def _object(self, value: Mapping[str, Any]) -> bytes:
        if value.get("algo") != "sha256" or value.get("oid") not in self.objects:
            raise HubRefusal(400, "your push was rejected because an LFS pointer pointed to a file that does not exist")
        content = self.objects[value["oid"]]
        if value.get("size", len(content)) != len(content):
            raise HubRefusal(400, "the size of an LFS file is another")
        return content


def is_large(path: str, sample: bytes, size: int) -> bool:
    """Whether a file goes to large file storage: by its name, its size, or because it is not text."""
    return size > 0 and (PurePosixPath(path).suffix in LFS_SUFFIXES or size > LFS_FROM_BYTES or b"\0" in sample)


def front_matter_problems(content: str) -> list[str]:
    """What the Hub would say about the YAML head of a README.md; a file without one has nothing wrong."""
    import yaml  # type: ignore[import-untyped]

    if not content.startswith("---\n"):
        return []
    head, closed, _ = content.removeprefix("---\n").partition("\n---")
    if not closed:
        return ["the front matter is not closed"]
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError as error:
        return [f"bad YAML: {error}"]
    if not isinstance(found, dict):
        return ["the front matter is not a mapping"]
    return [*_type_problems(found), *_widget_problems(found.get("widget", []))]


def _type_problems(found: Mapping[str, Any]) -> list[str]:
    wrong = [f'"{key}" must be a string' for key in ("license", "library_name", "pipeline_tag", "instance_prompt")
             if key in found and not isinstance(found[key], str)]  # fmt: skip
    if not _texts(found.get("tags", [])):
        wrong.append('"tags" must be a list of strings')
    base = found.get("base_model", [])
    if not isinstance(base, str) and not _texts(base):
        wrong.append('"base_model" must be a string or a list of strings')
    return wrong


def _widget_problems(widget: Any) -> list[str]:
    if not isinstance(widget, list):
        return ['"widget" must be a list']
    whole = (
        isinstance(entry, dict)
        and isinstance(entry.get("text"), str)
        and isinstance((entry.get("output") or {}).get("url", ""), str)
        for entry in widget
    )
    return [] if all(whole) else ['"widget" must have text and output.url']


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _operation(line: bytes) -> tuple[str, Mapping[str, Any]]:
    try:
        body = json.loads(line)
        return str(body["key"]), dict(body["value"])
    except (ValueError, KeyError, TypeError) as error:
        raise HubRefusal(400, f"not a line of a commit: {error}") from error


def _decoded(value: Mapping[str, Any]) -> bytes:
    try:
        if value.get("encoding") != "base64":
            raise HubRefusal(400, "encoding must be base64")
        return base64.b64decode(value["content"], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise HubRefusal(400, f"not base64: {error}") from error


def _checked_path(path: Any) -> str:
    if not isinstance(path, str) or not path or path.startswith("/") or {"", ".", "..", ".git"} & set(path.split("/")):
        raise HubRefusal(400, f"{path!r} is not a path in a repository")
    return path
