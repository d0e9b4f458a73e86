"""What may leave this machine: rules by name, by need and by content (SPEC K3, K4). Nothing overrides them.

Each rule is pure and answers with the reason why something stays, or None. `services.scan` reads the files and asks.
"""

from __future__ import annotations

import enum
import functools
import itertools
import re
import unicodedata
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Final

from simpletuner_lab.core.token_shapes import shape_in
from simpletuner_trainer.spec import CAPTION_SUFFIX, IMAGE_SUFFIXES, METADATA_NAME

RULES: Final = 1
"""Version of all rules here; raise it with every change, so that cached verdicts are not used again."""

NOT_NEEDED: Final = "not needed by training"
HIDDEN: Final = "hidden: training reads no name that starts with a dot"

# ------------------------------------------------------------------------------------------------------------ by name

_SECRET_FOLDERS: Final = frozenset([
    ".git", ".hg", ".svn", ".bzr", ".ssh", ".aws", ".gnupg", ".gpg", ".azure", ".kube", ".docker", ".gcloud",
    ".config", ".oci", ".bluemix", ".s3cmd", ".minio", ".mc", ".databricks", ".huggingface", ".replicate",
    ".kaggle", ".modal", ".runpod", ".wandb", ".secrets", ".secret", "secrets", ".credentials", "credentials",
    ".vault", ".password-store", ".passwords", ".keys", ".keyrings", "keyrings", "keychains", ".mozilla",
    ".thunderbird", ".electrum", ".bitcoin", ".ethereum", ".terraform", ".terraform.d", ".pki", ".certs",
    ".authinfo", ".subversion",
])  # fmt: skip

_SECRET_NAME: Final = re.compile(
    r"""  \.env.* | .+\.env(rc)?(\..*)?
        | [._]netrc | \.(pypirc|npmrc|yarnrc(\.ya?ml)?|pgpass|my\.cnf|mylogin\.cnf|boto|s3cfg)
        | \.(git-credentials|gitconfig|gitcookies|hgrc|vault-token|terraformrc|gemrc|condarc|authinfo|fetchmailrc)
        | \.(.*_history|lesshst|viminfo|rclone\.conf|modal\.toml|dockercfg|dockerconfigjson|smbcredentials|htdigest)
        | id_(rsa|dsa|ecdsa|ed25519)(_sk)?([._-].*)? | (authorized_keys|known_hosts)2? | ssh_host_.*_key.*
        | .+\.(pem|key|p12|pfx|crt|cer|der|csr|p7[bc]|p8|pk8|jks|jceks|bks|keystore|kdbx?|ppk|asc|gpg|pgp|ovpn
              |keychain(-db)?|agekey|tfvars|tfstate|kubeconfig|dockerconfigjson|snk|mobileprovision)
          (\.(bak|old|orig|backup|save|swp|json))?
        | .*credentials?.*\.(json|ya?ml|toml|ini|cfg|conf|csv|txt|xml|db|bak)
        | .*(client|oauth)[._-]?secrets?.*\.(json|txt|ya?ml) | .*service[._-]?accounts?.*\.(json|txt|ya?ml|p12)
        | .*adminsdk.*\.json | application[._-]default.*\.json | (gcp|gcloud|google)[._-]?key.*\.json | kaggle\.json
        | kubeconfig(\..*)? | rclone\.conf | wallet\.dat | secring\..* | logins\.json | key[34]\.db | login\.keychain.*
        | cookies\.sqlite | gha-creds-.*\.json | terraform\.tfstate.* | docker-?config\.json | \.?htpasswd
    """,
    re.VERBOSE,
)
"""Of files and folders, in folded case."""

_SECRET_WORD: Final = re.compile(
    r"""(  (.*[._-])? (hf|hub|hugging[._-]?face|api|access|auth|bearer|refresh|session|secret|private|encryption|signing
                      |git(hub|lab)|replicate|wandb|openai|anthropic|aws|gcp|azure|slack|discord|civitai)
           [._-]? (token|key|secret|pat|password)s?
         | \.?(token|secret|password|passwd|passphrase|credential|api[._-]?key)s?
        ) (\.(txt|json|ya?ml|toml|ini|cfg|conf|csv|xml|bak|old|orig|pickle|pkl))?
    """,
    re.VERBOSE,
)
"""Of files only: a folder of game tokens is no secret, a file `token` or `tokens.txt` may well be."""


def name_rule(relative_parts: Sequence[str], *, folder: bool = False) -> str | None:
    """Why a path cannot leave by its name or that of a folder above it, in any case and at any depth.

    `folder` says that the last part is a folder's name.
    """
    folded = [
        (part.lower() if part.isascii() else unicodedata.normalize("NFKC", part).casefold()).strip().rstrip("~. ")
        for part in relative_parts
    ]
    for part, name in zip(relative_parts, folded, strict=True):
        if name in _SECRET_FOLDERS or _SECRET_NAME.fullmatch(name):
            return f"secret: {_shown(part)} is a name that holds credentials"
    if folded and not folder and _SECRET_WORD.fullmatch(folded[-1]):
        return f"secret: {_shown(relative_parts[-1])} is a name that holds credentials"
    return None


def _shown(part: str) -> str:
    """A name as it can be printed and sent: bytes that are not UTF-8, and control characters, as escapes."""
    text = part.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if _printable(char) else char.encode("unicode_escape").decode() for char in text)


def shown_name(relative_parts: Iterable[str]) -> str:
    """A relative path for a person to read, whatever its bytes are."""
    return "/".join(map(_shown, relative_parts))


# ------------------------------------------------------------------------------------------------ as a name elsewhere

_WINDOWS_FORBIDDEN: Final = frozenset('<>:"|?*\\')
_WINDOWS_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
_INVISIBLE: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
_BIDI: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_MAX_NAME_BYTES: Final = 1024


def portable_rule(relative_parts: Sequence[str]) -> str | None:
    """Why a path cannot be unpacked under the same name on every system, or would escape there."""
    try:
        encoded = "/".join(relative_parts).encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    if len(encoded) > _MAX_NAME_BYTES:
        return f"its path is longer than {_MAX_NAME_BYTES} bytes"
    return _parts_reason(tuple(relative_parts[:-1])) or _part_reason(relative_parts[-1])


@functools.lru_cache(maxsize=1024)
def _parts_reason(folders: tuple[str, ...]) -> str | None:
    return next(filter(None, map(_part_reason, folders)), None)


def _part_reason(part: str) -> str | None:
    if part in ("", ".", "..") or "/" in part:
        return "its name would leave the data set when it is unpacked"
    if not (part.isascii() and part.isprintable()) and not all(map(_printable, part)):  # the first look is quick
        return "its name holds control characters: rename it"
    if not _WINDOWS_FORBIDDEN.isdisjoint(part) or part[-1] in ". ":
        return (
            'its name cannot be unpacked everywhere: rename it without < > : " | ? * \\ and a dot or blank at the end'
        )
    if _WINDOWS_DEVICE.fullmatch(part.partition(".")[0].rstrip()):
        return "its name is that of a device on Windows: rename it"
    return None


def same_name_key(name: str) -> str:
    """Equal for names that one file system or another takes for the same."""
    return (
        name.lower() if name.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    )


def _printable(char: str) -> bool:
    return unicodedata.category(char) not in _INVISIBLE and char not in _BIDI


# ------------------------------------------------------------------------------------------------------------ by need


class Role(enum.StrEnum):
    """What training reads a file as."""

    IMAGE = "image"
    CAPTION = "caption"
    METADATA = "metadata"


def need_rule(relative_parts: Sequence[str], *, strategy: str, stems: Container[str]) -> Role | None:
    """What training reads a file as; None: it does not, so it stays.

    `strategy` is the data set's caption strategy; `stems` holds `stem_of` of each image in it.
    """
    suffix = suffix_of(relative_parts)
    if suffix.lower() in IMAGE_SUFFIXES:
        return Role.IMAGE
    if strategy == "textfile" and suffix == CAPTION_SUFFIX and stem_of(relative_parts) in stems:
        return Role.CAPTION
    if strategy == "metadata" and tuple(relative_parts) == (METADATA_NAME,):
        return Role.METADATA
    return None


def stem_of(relative_parts: Sequence[str]) -> str:
    """The path without its suffix: an image and its caption share it."""
    path = "/".join(relative_parts)
    return path.removesuffix(suffix_of(relative_parts))


def suffix_of(relative_parts: Sequence[str]) -> str:
    """The last suffix of a path's last part with its dot, as pathlib has it, without the cost of a `Path`."""
    stem, _, end = relative_parts[-1].rpartition(".")
    return f".{end}" if stem and end else ""


def image_format(head: bytes) -> str | None:
    """The image format that the first 12 bytes announce, as Pillow calls it."""
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else None
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

# --------------------------------------------------------------------------------------------------------- by content

OVERLAP: Final = 2048
"""Bytes of a chunk that are seen again with the next: no shape is longer, in UTF-16 either."""

_RUN: Final = 10
"""Every shape holds at least so many of `_TOKEN_BYTES` in a row."""
_TOKEN_BYTES: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/=.:@ "
_CLASSES: Final = bytes(1 if byte in _TOKEN_BYTES else 2 if byte == 0 else 0 for byte in range(256))
_BEFORE: Final = 256
_AFTER: Final = 4096


def content_rule(content: bytes | str) -> str | None:
    """Why content cannot leave: it holds a key or something of a known token's shape, as UTF-8 or UTF-16 text.

    Works on text and on any bytes around it (pictures with metadata). Compressed data must be unpacked first.
    """
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    # Pictures are megabytes that hold next to no text: two C-speed passes find the few places worth a closer look.
    classes = data.translate(_CLASSES)
    for window in _windows(data, classes, b"\x01" * _RUN):
        if reason := _shape_in(window):
            return reason
    for window in _windows(data, classes, b"\x01\x02" * (_RUN - 1) + b"\x01"):
        views = itertools.product(("utf-16-le", "utf-16-be"), (0, 1))
        texts = [window[start:].decode(codec, "replace").encode("ascii", "replace") for codec, start in views]
        if reason := _shape_in(b"\n".join(texts)):
            return reason
    return None


def overlapping(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Each chunk behind the end of the one before, so that nothing hides on a border."""
    tail = b""
    for chunk in chunks:
        block = tail + chunk
        yield block
        tail = block[-OVERLAP:]


def _windows(data: bytes, classes: bytes, run: bytes) -> Iterator[bytes]:
    at = classes.find(run)
    while at >= 0:
        yield data[max(0, at - _BEFORE) : at + _AFTER]
        at = classes.find(run, at + _AFTER - OVERLAP)


def _shape_in(text: bytes) -> str | None:
    found = shape_in(text)
    return None if found is None else f"secret: it holds {found.label}"
