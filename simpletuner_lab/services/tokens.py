"""The user's own tokens and keys for destinations: where they are found, and whether they can be used (SPEC §3, C3).

The environment comes first, then the system's keyring, then one file for each in a folder of the lab that only its
owner can read. For the Hub,
the login that `hf auth login` stored counts too. They are read when they are needed and handed on as `Secret`s.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from simpletuner_lab.core.destination import (
    HUB_TOKEN,
    S3_ACCESS_KEY,
    S3_SECRET_KEY,
    S3_SESSION_TOKEN,
    Destination,
    HomeDestination,
    HubDestination,
    S3Destination,
)
from simpletuner_lab.core.errors import CredentialUnusable, InvalidRequest, ProviderUnavailable
from simpletuner_lab.core.secret import Secret, in_keyring, is_token
from simpletuner_lab.services.files import sync_folder, write_atomically
from simpletuner_trainer import hub
from simpletuner_trainer.errors import Refused
from simpletuner_trainer.stores import Unreachable

HUB_ENDPOINT: Final = "HF_ENDPOINT"
_FRESH_S: Final = 300.0
"""Who a token is of is not asked again so soon."""
_MAX_BYTES: Final = 16 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccount:
    """Whose a Hub token is, in whose names it may write, and whether it may write at all."""

    name: str
    organizations: tuple[str, ...]
    can_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where a secret is found, and nothing of what it is."""

    source: str = ""
    """`environment`, `keyring`, `file`, or `login`, that of `hf auth login`; empty: it is nowhere."""
    age_s: float | None = None
    """Since its file was written; None where no file has it."""
    problem: str = ""
    """Why it cannot be used."""


class Tokens:
    """Finds them, and asks the Hub who one is of."""

    def __init__(self, folder: Path, environment: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._folder = folder
        self._environment = environment
        self._clock = clock
        self._accounts: dict[str, tuple[float, HubAccount]] = {}

    @property
    def hub_endpoint(self) -> str:
        """Another Hub than the public one; empty where none is named."""
        return self._environment.get(HUB_ENDPOINT, "")

    def hub(self) -> Secret | None:
        """The Hub's token; None where there is none.

        Raises:
            CredentialUnusable: the file that holds it can be read by others.
        """
        return self._find(HUB_TOKEN) or self._hub_login()

    def s3(self) -> Mapping[str, Secret]:
        """Access key, secret key and, if there is one, session token, by their names; empty where they are not there.

        All come from one place: keys of the environment are never mixed with keys of the keyring or from files.

        Raises:
            CredentialUnusable: a file that holds one can be read by others.
        """
        return self._s3()[1]

    def _s3(self) -> tuple[str, Mapping[str, Secret]]:
        """The place that has both keys, and what it has."""
        names = (S3_ACCESS_KEY, S3_SECRET_KEY, S3_SESSION_TOKEN)
        for source, look in self._places.items():
            found = {name: secret for name in names if (secret := look(name))}
            if S3_ACCESS_KEY in found and S3_SECRET_KEY in found:
                return source, found
        return "", {}

    def of(self, destination: Destination) -> Mapping[str, Secret]:
        """What opens a destination, by the names under which it may travel; empty for home.

        Raises:
            CredentialUnusable: it is not there.
        """
        match destination:
            case HomeDestination():
                return {}
            case S3Destination():
                if keys := self.s3():
                    return keys
                raise CredentialUnusable(
                    f"there are no keys for s3://{destination.bucket}",
                    hint=f"set {S3_ACCESS_KEY} and {S3_SECRET_KEY} where the lab runs, or put them into files of "
                    f"these names in {self._folder}, readable by you alone",
                )
            case HubDestination():
                if token := self.hub():
                    return {HUB_TOKEN: token}
                raise CredentialUnusable(
                    f"there is no token for the Hugging Face Hub, and {destination.repo_id} needs one",
                    hint=f"set {HUB_TOKEN} where the lab runs, put it into {self._folder / HUB_TOKEN}, readable by you "
                    "alone, or log in: hf auth login",
                )

    def check(self, destination: Destination) -> tuple[str, ...]:
        """Finds out before a plan is agreed to what would stop a delivery after it; returns what is doubtful.

        Raises:
            CredentialUnusable: what is needed is not there, not valid, or may not write.
        """
        secrets = self.of(destination)
        if not isinstance(destination, HubDestination):
            return ()
        try:
            account = self.account(secrets[HUB_TOKEN])
        except ProviderUnavailable as error:
            return (f"{error.message}: whether its token is good is not known",)
        if not account.can_write:
            raise CredentialUnusable(
                f"the Hub's token of {account.name} can only read",
                hint="make one that can write at huggingface.co/settings/tokens",
            )
        owner = destination.repo_id.partition("/")[0]
        if owner not in {account.name, *account.organizations}:
            return (f"{destination.repo_id} is in the name of {owner}, and the token is of {account.name}",)
        return ()

    def account(self, token: Secret) -> HubAccount:
        """Who a Hub token is of; asked once in five minutes.

        Raises:
            CredentialUnusable: the Hub does not know it.
            ProviderUnavailable: the Hub does not answer.
        """
        key = hashlib.sha256(token.reveal().encode()).hexdigest()
        at, known = self._accounts.get(key, (0.0, None))
        if known is None or self._clock() - at > _FRESH_S:
            known = _account(_who(token, self.hub_endpoint))
            self._accounts[key] = (self._clock(), known)
        return known

    def holds(self, name: str) -> bool:
        """Whether there is a secret of this name, in the environment, the keyring or its file.

        Raises:
            CredentialUnusable: there is one that cannot be used.
        """
        return self._find(name) is not None

    def whereabouts(self, name: str) -> Whereabouts:
        """Where the secret of this name is found, as those who need it look for it.

        Keys of S3 count where both are: one of them alone, or each in another place, cannot be used.
        """
        places = dict(self._places)
        if name == HUB_TOKEN:
            places["login"] = lambda _: self._hub_login()
        lone = ""
        if name in {S3_ACCESS_KEY, S3_SECRET_KEY, S3_SESSION_TOKEN}:
            try:
                source, _ = self._s3()
            except CredentialUnusable:
                source = ""
            places = {source: places[source]} if source else places
            lone = "" if source else f"{S3_ACCESS_KEY} and {S3_SECRET_KEY} are not both in one place"
        for place, look in places.items():
            try:
                found, problem = look(name), lone
            except CredentialUnusable as error:
                found, problem = None, error.message
            if found or problem != lone:
                return Whereabouts(source=place, age_s=self._age_s(place, name), problem=problem)
        return Whereabouts()

    def _age_s(self, place: str, name: str) -> float | None:
        paths = {"file": self._folder / name, "login": self._login_file}
        try:
            return max(0.0, self._clock() - paths[place].stat().st_mtime)
        except (KeyError, OSError):
            return None

    def store(self, name: str, secret: Secret) -> Path:
        """Keeps a secret in its file, readable by its owner alone; returns where.

        Raises:
            InvalidRequest: it is empty or over 16 KiB, or no token looks like that.
        """
        text = secret.reveal().strip()
        try:
            good = len(text) <= _MAX_BYTES and _token(name, text, "what was given")
        except CredentialUnusable as error:
            raise InvalidRequest(error.message, hint=error.hint) from None
        if not good:
            raise InvalidRequest("the token is empty, or far too long", hint=f"it is the {name} alone, on one line")
        path = self._folder / name
        write_atomically(path, text.encode())
        return path

    def forget(self, name: str) -> bool:
        """Deletes the file of a secret; False where there is none."""
        path = self._folder / name
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        sync_folder(path.parent)
        return True

    def _find(self, name: str) -> Secret | None:
        return next((secret for look in self._places.values() if (secret := look(name))), None)

    @property
    def _places(self) -> dict[str, Callable[[str], Secret | None]]:
        """Where one is looked for, in this order."""
        return {"environment": self._in_environment, "keyring": _in_keyring, "file": self._in_file}

    def _in_environment(self, name: str) -> Secret | None:
        return _token(name, self._environment.get(name, "").strip(), f"the environment's {name}")

    def _in_file(self, name: str) -> Secret | None:
        path = self._folder / name
        try:
            with path.open("rb") as file:
                status = path.stat()
                text = file.read(_MAX_BYTES).decode("utf-8", "replace").strip()
        except OSError:
            return None
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise CredentialUnusable(f"{path} can be read by others", hint=f"chmod 600 {path}, or make a new {name}")
        return _token(name, text, str(path))

    def _hub_login(self) -> Secret | None:
        """The login that huggingface_hub keeps, where it keeps it."""
        if self._environment.get("HF_HUB_DISABLE_IMPLICIT_TOKEN", "").lower() in {"1", "true", "yes", "on"}:
            return None
        path = self._login_file
        try:
            text = path.read_bytes()[:_MAX_BYTES].decode("utf-8", "replace").strip()
        except OSError:
            return None
        return _token(HUB_TOKEN, text, str(path))

    @property
    def _login_file(self) -> Path:
        home = Path(self._environment.get("HOME") or "~").expanduser()
        cache = Path(self._environment.get("XDG_CACHE_HOME") or home / ".cache")
        folder = Path(self._environment.get("HF_HOME") or cache / "huggingface")
        return Path(self._environment.get("HF_TOKEN_PATH") or folder / "token").expanduser()


def _in_keyring(name: str) -> Secret | None:
    return _token(name, in_keyring(name), "the keyring")


def _token(name: str, text: str, where: str) -> Secret | None:
    if not is_token(text):
        hint = f"{where} holds the {name} alone: one line, no spaces, no comment"
        raise CredentialUnusable(f"{where} holds a space, a line break or a letter that no token has", hint=hint)
    return Secret(text) if text else None


def _who(token: Secret, endpoint: str) -> Mapping[str, Any]:
    from huggingface_hub import HfApi

    try:
        with hub.answers("ask who the token is of"):
            return HfApi(endpoint=endpoint or None, token=token.reveal()).whoami()
    except Refused as error:
        raise CredentialUnusable("the Hugging Face Hub does not accept the token", hint=error.hint) from error
    except Unreachable as error:
        raise ProviderUnavailable("the Hugging Face Hub does not answer", hint="try again in a minute") from error


def _account(said: Mapping[str, Any]) -> HubAccount:
    token = (said.get("auth") or {}).get("accessToken") or {}
    organizations = tuple(str(entry.get("name", "")) for entry in said.get("orgs") or ())
    return HubAccount(
        name=str(said.get("name", "")), organizations=organizations, can_write=token.get("role") != "read"
    )
