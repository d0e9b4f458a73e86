"""The routes of an emulated Hub."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote

from tornado import web

from simpletuner_lab.testing.hub_repositories import Account, HubRefusal, Repository, front_matter_problems, is_large
from simpletuner_lab.testing.hub_state import Fault, HubEmulator, Seen

_LONGEST_HOLD_S: Final = 60.0
_REPO: Final = r"([A-Za-z0-9._-]+/[A-Za-z0-9._-]+)"
_REV: Final = r"([^/]+)"


@web.stream_request_body
class _Handler(web.RequestHandler):
    """Faults, identity and errors in one place; the body is taken in pieces so that a cut is a cut."""

    route = ""

    def initialize(self, hub: HubEmulator) -> None:
        self.hub = hub
        self.body = bytearray()
        self.fault: Fault | None = None

    async def prepare(self) -> None:
        waiting = self.hub.faults.get(self.route)
        if waiting:
            self.fault = waiting[0]
            self.fault.times -= 1
            if self.fault.times <= 0:
                waiting.popleft()
        if self.fault is not None and self.fault.held:
            self.fault.reached.set()
            await asyncio.get_running_loop().run_in_executor(None, self.fault.released.wait, _LONGEST_HOLD_S)
        if self.fault is not None and self.fault.status:
            if self.fault.retry_after_s is not None:
                self.set_header("Retry-After", str(self.fault.retry_after_s))
            self.set_header("Connection", "close")  # the body is not read
            self._refuse(HubRefusal(self.fault.status, "an injected fault"))

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk
        if self.fault is not None and self.fault.cut_after is not None and len(self.body) >= self.fault.cut_after:
            self._hang_up()

    def json(self, *keys: str) -> dict[str, Any]:
        """The body, an object of these keys alone."""
        try:
            value = json.loads(bytes(self.body))
        except ValueError as error:
            raise HubRefusal(400, f"not JSON: {error}") from error
        if not isinstance(value, dict) or set(value) - set(keys):
            raise HubRefusal(400, f"unexpected members: {sorted(set(value) - set(keys))}")
        return value

    @property
    def account(self) -> Account | None:
        """Whose request it is."""
        return self.hub.holds.account(self.request.headers.get("Authorization"))

    def answer(self, value: Any, status: int = 200) -> None:
        """JSON, unless the answer is to be lost."""
        if self.fault is not None and self.fault.lost:
            self._hang_up()
            return
        self.set_status(status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(value))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        told = error if isinstance(error, HubRefusal) else HubRefusal(status_code, f"the emulator: {error}")
        self._refuse(told)

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None, None))[1]
        super().send_error(error.status if isinstance(error, HubRefusal) else status_code, **kwargs)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        if not isinstance(value, HubRefusal):
            super().log_exception(typ, value, tb)

    def on_finish(self) -> None:
        self._note(self.get_status())

    def _refuse(self, refusal: HubRefusal) -> None:
        self.set_status(refusal.status)
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("X-Request-Id", secrets.token_hex(8))
        self.set_header("X-Error-Message", refusal.message)
        if refusal.code:
            self.set_header("X-Error-Code", refusal.code)
        self.finish(json.dumps({"error": refusal.message, **refusal.more}))

    def _hang_up(self) -> None:
        if self.request.connection is not None:
            self._note(0)
            self.request.connection.stream.close()  # type: ignore[attr-defined]
        raise web.Finish

    def _note(self, status: int) -> None:
        method, path = self.request.method or "", self.request.path
        self.hub.seen.append(Seen(route=self.route, method=method, path=path, status=status))


class _Whoami(_Handler):
    route = "whoami"

    def get(self) -> None:
        account = self.account
        if account is None:
            raise HubRefusal(401, "Invalid username or password.")
        token = {"displayName": "test", "role": account.role, "createdAt": "2026-01-01T00:00:00.000Z"}
        self.answer(
            {
                "type": "user",
                "id": account.name,
                "name": account.name,
                "fullname": account.name,
                "orgs": [{"type": "org", "name": name} for name in account.organizations],
                "auth": {"type": "access_token", "accessToken": token},
            }
        )


class _Create(_Handler):
    route = "create"

    def post(self) -> None:
        body = self.json("name", "organization", "visibility", "private", "type")
        if body.get("type", "model") != "model":
            raise HubRefusal(400, "the emulator has models alone")
        private = body.get("visibility") == "private" or bool(body.get("private"))
        made = self.hub.holds.create(body["name"], body.get("organization"), self.account, private=private)
        self.answer({"url": f"{self.hub.url}/{made.id}", "name": made.id})


class _Delete(_Handler):
    route = "delete"

    def delete(self) -> None:
        body = self.json("name", "organization", "type")
        account = self.account
        owner = body.get("organization") or (account.name if account else "")
        repository = self.hub.holds.writable(f"{owner}/{body['name']}", account)
        del self.hub.repositories[repository.id]
        self.answer({})


class _ValidateYaml(_Handler):
    route = "validate_yaml"

    def post(self) -> None:
        wrong = front_matter_problems(str(self.json("content", "repoType")["content"]))
        listed = [{"message": message} for message in wrong]
        self.answer({"errors": listed, "warnings": []}, status=400 if wrong else 200)


class _Preupload(_Handler):
    route = "preupload"

    def post(self, repo_id: str, revision: str) -> None:
        repository = self.hub.holds.writable(repo_id, self.account)
        _require_main(revision)
        answers = []
        for file in self.json("files", "gitIgnore")["files"]:
            large = is_large(file["path"], base64.b64decode(file["sample"]), file["size"])
            there = repository.files.get(file["path"])
            about = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            answers.append(about | ({} if there is None else {"oid": there.sha256 if there.lfs else there.oid}))
        self.answer({"files": answers})


class _Batch(_Handler):
    route = "lfs_batch"

    def post(self, repo_id: str) -> None:
        self.hub.holds.writable(repo_id, self.account)
        body = self.json("operation", "transfers", "objects", "hash_algo", "ref")
        if body["operation"] != "upload" or body["hash_algo"] != "sha256":
            raise HubRefusal(422, "only uploads by SHA-256")
        self.answer({"transfer": "basic", "objects": [self._actions(repo_id, one) for one in body["objects"]]})

    def _actions(self, repo_id: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
        oid, size = str(wanted["oid"]), int(wanted["size"])
        about: dict[str, Any] = {"oid": oid, "size": size}
        if oid in self.hub.holds.objects:
            return about
        ticket = secrets.token_hex(8)
        self.hub.tickets.add(ticket)
        place = f"{self.hub.url}/_lfs/{oid}"
        verify = {"href": f"{self.hub.url}/{repo_id}.git/info/lfs/objects/verify", "header": {}}
        if size <= self.hub.part_bytes:
            return about | {"actions": {"upload": {"href": f"{place}?ticket={ticket}", "header": {}}, "verify": verify}}
        count = -(-size // self.hub.part_bytes)
        header = {str(number): f"{place}/{number}?ticket={ticket}" for number in range(1, count + 1)}
        upload = {
            "href": f"{place}/complete?ticket={ticket}",
            "header": {"chunk_size": str(self.hub.part_bytes), **header},
        }
        return about | {"actions": {"upload": upload, "verify": verify}}


class _Put(_Handler):
    """A large file, whole: a signed address, so no token is asked for."""

    route = "lfs_put"

    def put(self, oid: str) -> None:
        _require_ticket(self)
        content = bytes(self.body)
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubRefusal(400, "the content is not what its address says")
        self.hub.holds.objects[oid] = content
        self.answer({})


class _PutPart(_Handler):
    route = "lfs_part"

    def put(self, oid: str, number: str) -> None:
        _require_ticket(self)
        self.hub.parts[oid, int(number)] = bytes(self.body)
        self.set_header("ETag", f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"')
        self.answer({})


class _Complete(_Handler):
    route = "lfs_complete"

    def post(self, oid: str) -> None:
        _require_ticket(self)
        numbers = [part["partNumber"] for part in self.json("oid", "parts")["parts"]]
        content = b"".join(self.hub.parts.pop((oid, number)) for number in numbers)
        if hashlib.sha256(content).hexdigest() != oid:
            raise HubRefusal(400, "the parts are not what their address says")
        self.hub.holds.objects[oid] = content
        self.answer({})


class _Verify(_Handler):
    route = "lfs_verify"

    def post(self, repo_id: str) -> None:
        self.hub.holds.writable(repo_id, self.account)
        body = self.json("oid", "size")
        if len(self.hub.holds.objects.get(body["oid"], b"")) != body["size"]:
            raise HubRefusal(404, "no such object")
        self.answer({})


class _Commit(_Handler):
    route = "commit"

    def post(self, repo_id: str, revision: str) -> None:
        account = self.account
        repository = self.hub.holds.writable(repo_id, account)
        _require_main(revision)
        if self.request.headers.get("Content-Type") != "application/x-ndjson":
            raise HubRefusal(400, "a commit is lines of JSON")
        lines = [line for line in bytes(self.body).split(b"\n") if line.strip()]
        made = self.hub.holds.commit(repository, lines, account.name if account else "")
        url = f"{self.hub.url}/{repo_id}/commit/{made.oid}"
        self.answer({"success": True, "commitOid": made.oid, "commitUrl": url, "hookOutput": ""})


class _Info(_Handler):
    route = "info"

    def get(self, repo_id: str, revision: str = "main") -> None:
        repository = self.hub.holds.readable(repo_id, self.account)
        _require_main(revision, repository)
        self.answer(repository.info())


class _Tree(_Handler):
    route = "tree"

    def get(self, repo_id: str, revision: str, folder: str = "") -> None:
        repository = self.hub.holds.readable(repo_id, self.account)
        _require_main(revision, repository)
        start = f"{unquote(folder)}/" if folder else ""
        found = {path: stored for path, stored in repository.files.items() if path.startswith(start)}
        if start and not found:
            raise HubRefusal(404, f"{folder} does not exist on main", "EntryNotFound")
        deep = self.get_query_argument("recursive", "").lower() == "true"
        self.answer([stored.entry(path) for path, stored in sorted(found.items())
                     if deep or "/" not in path.removeprefix(start)])  # fmt: skip


class _PathsInfo(_Handler):
    route = "paths_info"

    def post(self, repo_id: str, revision: str) -> None:
        repository = self.hub.holds.readable(repo_id, self.account)
        _require_main(revision, repository)
        if self.request.headers.get("Content-Type", "").startswith("application/json"):
            wanted = self.json("paths", "expand")["paths"]
        else:
            wanted = parse_qs(bytes(self.body).decode())["paths"]
        found = {path: repository.files[path] for path in wanted if path in repository.files}
        self.answer([stored.entry(path) for path, stored in found.items()])


class _Resolve(_Handler):
    """One file, whole or a range."""

    route = "resolve"

    def head(self, repo_id: str, revision: str, path: str) -> None:
        self._describe(repo_id, revision, path)
        self.finish()

    async def get(self, repo_id: str, revision: str, path: str) -> None:
        content = self._describe(repo_id, revision, path)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.request.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), int(asked[2] or len(content) - 1)
            self.set_status(206)
            self.set_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
            self.set_header("Content-Length", str(len(content)))
        cut = None if self.fault is None else self.fault.cut_after
        self.write(content[:cut])
        if cut is not None and cut < len(content):
            await self.flush()
            self._hang_up()
        self.finish()

    def _describe(self, repo_id: str, revision: str, path: str) -> bytes:
        repository = self.hub.holds.readable(repo_id, self.account)
        _require_main(revision, repository)
        stored = repository.files.get(unquote(path))
        if stored is None:
            raise HubRefusal(404, "Entry not found", "EntryNotFound")
        self.set_header("X-Repo-Commit", repository.head)
        self.set_header("ETag", f'"{stored.sha256 if stored.lfs else stored.oid}"')
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Content-Length", str(len(stored.content)))
        return stored.content


class _Unknown(_Handler):
    route = "unknown"

    def get(self) -> None:
        raise HubRefusal(404, "Sorry, we can't find the page you are looking for.")

    post = put = delete = head = get


TABLE: Final[tuple[tuple[str, type[_Handler]], ...]] = (
    (r"/api/whoami-v2", _Whoami),
    (r"/api/repos/create", _Create),
    (r"/api/repos/delete", _Delete),
    (r"/api/validate-yaml", _ValidateYaml),
    (rf"/api/models/{_REPO}/preupload/{_REV}", _Preupload),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", _Batch),
    (r"/_lfs/([0-9a-f]{64})", _Put),
    (r"/_lfs/([0-9a-f]{64})/(\d+)", _PutPart),
    (r"/_lfs/([0-9a-f]{64})/complete", _Complete),
    (rf"/{_REPO}\.git/info/lfs/objects/verify", _Verify),
    (rf"/api/models/{_REPO}/commit/{_REV}", _Commit),
    (rf"/api/models/{_REPO}/tree/{_REV}", _Tree),
    (rf"/api/models/{_REPO}/tree/{_REV}/(.+)", _Tree),
    (rf"/api/models/{_REPO}/paths-info/{_REV}", _PathsInfo),
    (rf"/api/models/{_REPO}/revision/{_REV}", _Info),
    (rf"/api/models/{_REPO}", _Info),
    (rf"/{_REPO}/resolve/{_REV}/(.+)", _Resolve),
    (r".*", _Unknown),
)
ROUTES: Final = tuple(dict.fromkeys(handler.route for _, handler in TABLE))
"""Names of the routes, for faults and for who looks at what was asked."""


def _require_main(revision: str, repository: Repository | None = None) -> None:
    if revision != "main" and (repository is None or revision != repository.head):
        raise HubRefusal(404, f"Invalid rev id: {quote(revision)}", "RevisionNotFound")


def _require_ticket(handler: _Handler) -> None:
    if handler.get_query_argument("ticket", "") not in handler.hub.tickets:
        raise HubRefusal(403, "the address is not signed, or has run out")
