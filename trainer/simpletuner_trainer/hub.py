"""A model repository on the Hugging Face Hub as a store: one commit for each shipment, and none where all is there."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from simpletuner_trainer.errors import MissingPackage, Refused
from simpletuner_trainer.files import FileEntry
from simpletuner_trainer.spec import HubDestination
from simpletuner_trainer.stores import Moved, Receipt, Shipment, Unreachable, changed, credentials

_ENDPOINT: Final = "HF_ENDPOINT"
AGAIN: Final = frozenset({408, 409, 412, 425, 429})
"""Answers of the 4xx kind that may be another the next time: 409 and 412 speak of somebody else's commit."""
_BLOCK: Final = 1 << 20


class HubStore:
    """Files of a repository's main branch."""

    def __init__(self, destination: HubDestination, environment: Mapping[str, str]) -> None:
        (token,) = credentials(environment, destination.token_env)
        try:
            from huggingface_hub import HfApi
            from huggingface_hub.utils.tqdm import disable_progress_bars
        except ImportError as error:
            hint = "pip install 'simpletuner-trainer[train]'"
            raise MissingPackage("huggingface_hub is not installed", hint) from error
        if not sys.stderr.isatty():  # bars would fill a log
            disable_progress_bars()
        self._destination = destination
        self._repo = destination.repo_id
        self._api = HfApi(endpoint=environment.get(_ENDPOINT) or None, token=token)
        self._made = False

    def require(self) -> None:
        """Whether the token can write, and the repository, which is made now."""
        with answers("ask who the token is of"):
            token = self._api.whoami().get("auth", {}).get("accessToken", {})
        if token.get("role") == "read":
            raise Refused("the Hub's token can only read", _hint(403))
        self._require_repository()

    def names(self, prefix: str) -> list[str]:
        """Every file of the tree; none where there is no such repository yet."""
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RepositoryNotFoundError

        with answers(f"list {self._repo}"):
            try:
                tree = list(self._api.list_repo_tree(self._repo, recursive=True))
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return []
                raise
        return sorted(entry.path for entry in tree if isinstance(entry, RepoFile) and entry.path.startswith(prefix))

    def ship(self, shipment: Shipment, moved: Moved) -> Receipt:
        """All of it in one commit. What the repository has already, by its digests, is not sent again."""
        self._require_repository()
        moved()
        for name in shipment.digests:  # what is here must be what was promised, also where the Hub has it already
            shipment.entry(name)
        entries = {shipment.prefix + name: shipment.folder / name for name in shipment.names}
        wanted = self._missing(entries)
        moved()
        if wanted:
            promised = {shipment.prefix + name: digest for name, digest in shipment.digests.items()}
            self._commit(wanted, promised, shipment.title or f"Add {shipment.prefix or 'the trained model'}")
            moved()
            if self._missing(entries):
                raise Unreachable(f"{self._repo}: what arrived is not what was sent")
        return self._receipt()

    def get(self, key: str, path: Path) -> None:
        """By way of a folder beside it: what is half there has another name."""
        with answers(f"fetch {key}"), tempfile.TemporaryDirectory(dir=path.parent, prefix=".hub-") as beside:
            shutil.move(self._api.hf_hub_download(self._repo, key, local_dir=beside), path)

    def _require_repository(self) -> None:
        """Makes the repository where there is none. One that is there and seen by others than was said is left alone."""
        if self._made:
            return
        with answers(f"create {self._repo}"):
            self._api.create_repo(self._repo, private=self._destination.private, exist_ok=True)
            found = self._api.repo_info(self._repo)
        if self._destination.private and not found.private:
            raise Refused(
                f"{self._repo} is there and public, and the model was to be private",
                "choose another name, make that repository private, or say that the model is public",
            )
        if found.private and not self._destination.private:
            raise Refused(
                f"{self._repo} is there and private, and the model was to be public",
                "make that repository public, choose another name, or say that the model is private",
            )
        self._made = True

    def _missing(self, files: Mapping[str, Path]) -> dict[str, Path]:
        """Those files of which the repository has not this very content."""
        from huggingface_hub import RepoFile

        with answers(f"look at {self._repo}"):
            found = self._api.get_paths_info(self._repo, list(files))
        there = {entry.path: entry for entry in found if isinstance(entry, RepoFile)}
        return {key: path for key, path in files.items() if not _is_there(there.get(key), path)}

    def _commit(self, files: Mapping[str, Path], promised: Mapping[str, str], title: str) -> None:
        from huggingface_hub import CommitOperationAdd

        operations = [CommitOperationAdd(path_in_repo=key, path_or_fileobj=path) for key, path in files.items()]
        for one in operations:
            digest = one.upload_info.sha256.hex()
            if promised.get(one.path_in_repo, digest) != digest:
                raise changed(one.path_in_repo)
        with answers(f"commit to {self._repo}"):
            self._api.create_commit(self._repo, operations, commit_message=title)

    def _receipt(self) -> Receipt:
        with answers(f"look at {self._repo}"):
            revision = self._api.repo_info(self._repo).sha or ""
        return Receipt(url=f"{self._api.endpoint}/{self._repo}", revision=revision)


def _is_there(found: Any, path: Path) -> bool:
    """Whether a file of the repository has the content of a file here: by SHA-256, else by git's own digest."""
    size = path.stat().st_size
    if found is None or found.size != size:
        return False
    if found.lfs is not None:
        return bool(found.lfs.sha256 == FileEntry.of(path.parent, path.name).sha256)
    return bool(found.blob_id == _git_digest(path, size))


def _git_digest(path: Path, size: int) -> str:
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def answers(what: str) -> Iterator[None]:
    """Sort the client's errors by whether trying again can help. The token is in none of the messages."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    network: Any = HfHubHTTPError.__bases__  # of whichever HTTP library this release is built on

    try:
        yield
    except OfflineModeIsEnabled as error:
        raise Refused("HF_HUB_OFFLINE is set, so the Hub cannot be reached", "unset it") from error
    except HFValidationError as error:
        raise Refused(f"could not {what}: {_first_line(error)}", "check the repository's name") from error
    except (*network, OSError, RuntimeError, ValueError) as error:
        response = response_of(error)
        if response is None:
            raise Unreachable(f"could not {what}: {_first_line(error)}") from error
        status: int = response.status_code
        if status in AGAIN or status >= 500:
            raise Unreachable(f"could not {what}: {status}", retry_after_s=_retry_after(response)) from error
        raise Refused(f"the Hub refused to {what}: {_said(status, response)}", _hint(status)) from error


def response_of(error: BaseException | None) -> Any:
    """The answer that an error, or one that it comes of, speaks of; None where there was none."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return response
        error = error.__cause__
    return None


def _said(status: int, response: Any) -> str:
    message = response.headers.get("X-Error-Message") or response.headers.get("X-Error-Code") or ""
    return f"{status} {message}".rstrip()


def _hint(status: int) -> str:
    if status == 401:
        return "the token is wrong, expired or revoked: make another at huggingface.co/settings/tokens"
    if status == 403:
        return "the token may not write there: it needs write access to this repository's owner"
    return "check the repository's name, and that the token's owner can see it"


def _retry_after(response: Any) -> float | None:
    said = response.headers.get("Retry-After") or ""
    return float(said) if said.isascii() and said.isdigit() else None


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
