"""What secrets look like: published shapes of tokens and keys, for files (`withhold`), configs and logs (`redact`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

_REST: Final = r"[\w.~+/=-]*"


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of secret: its name with an article, marks, and the pattern that its text begins with.

    One of the marks (separated by blanks, lower case) is part of every match in lower case: they are quick to look for.
    """

    label: str
    marks: str
    pattern: str
    in_text: re.Pattern[str] = field(init=False, repr=False, compare=False)
    """Matches a whole one, so that nothing of it is left when it is cut out."""
    in_bytes: re.Pattern[bytes] = field(init=False, repr=False, compare=False)
    """Enough to know one; no match is longer than `withhold.OVERLAP`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_text", re.compile(rf"(?:{self.pattern}){_REST}", re.ASCII))
        object.__setattr__(self, "in_bytes", re.compile(self.pattern.encode("ascii")))


def _token(label: str, marks: str, pattern: str) -> Shape:
    """A shape that starts where a word starts: `risk-…` is no `sk-…`."""
    return Shape(label, marks, rf"(?<![A-Za-z0-9])(?:{pattern})")


def shape_in(text: str | bytes) -> Shape | None:
    """The first shape that a text holds; bytes are read as ASCII text with anything between."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    lowered = data.lower()
    return next((shape for mark, shape in _BY_MARK if mark in lowered and shape.in_bytes.search(data)), None)


_IS: Final = r"[\"']?\s{0,4}[:=]\s{0,4}[\"']?"
"""Between a name and its value in JSON, YAML, TOML, INI, shell and Python."""
_SIGNS: Final = r"[\w+/=.~!@#$%^&*-]"

SHAPES: Final = (
    Shape("a PEM or PGP block", "-begin ---- ", r"-----BEGIN [A-Z0-9 ]{3,40}-----|---- BEGIN SSH2 [A-Z ]{3,40}----"),
    Shape("a PuTTY key", "putty-user-key", r"PuTTY-User-Key-File-\d"),
    _token("an age key", "age-secret-key", r"AGE-SECRET-KEY-1[A-Z0-9]{20}"),
    _token("a Replicate token", "r8_", r"r8_[A-Za-z0-9]{30}"),
    _token("a Hugging Face token", "hf_ api_org_", r"(?:hf|api_org)_[A-Za-z0-9]{30}"),
    _token("an AWS access key id", "akia asia abia acca", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    Shape(
        "an AWS secret key", "aws secret",
        rf"(?i:aws.{{0,20}}secret|secret_?access_?key).{{0,20}}?{_IS}[A-Za-z0-9/+]{{40}}(?![A-Za-z0-9/+])",
    ),
    _token(
        "a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        r"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22}",
    ),
    _token("a GitLab token", "gl", r"gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|soat|ffct)-[A-Za-z0-9_-]{20}"),
    _token("an Anthropic key", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{20}"),
    _token(
        "an OpenAI-style key", "sk-",
        r"sk-(?:proj|svcacct|admin|None|or-v1|lf)-[A-Za-z0-9_-]{20}|sk-[A-Za-z0-9]{32}",
    ),
    _token("a Groq, xAI or Perplexity key", "gsk_ xai- pplx-", r"(?:gsk_|xai-|pplx-)[A-Za-z0-9]{40}"),
    _token("a Slack token", "xox xapp-", r"xox[abceoprs]-[A-Za-z0-9-]{10}|xapp-\d-[A-Za-z0-9-]{10}"),
    Shape("a Slack webhook", "hooks.slack", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20}"),
    Shape("a Discord webhook", "api/webhooks", r"discord(?:app)?\.com/api/webhooks/\d{10,24}/[\w-]{20}"),
    _token("a Discord bot token", ".", r"[MNO][A-Za-z\d_-]{23,27}\.[\w-]{6}\.[\w-]{27}"),
    _token("a Telegram bot token", ":aa", r"\d{8,10}:AA[\w-]{33}"),
    _token("a Google API key", "aiza", r"AIza[\w-]{35}"),
    _token("a Google OAuth secret", "gocspx- ya29. 1//0", r"GOCSPX-[\w-]{20}|ya29\.[\w-]{20}|1//0[\w-]{40}"),
    Shape("a Google service account", "service_account", r"\"type\"\s{0,8}:\s{0,8}\"service_account\""),
    _token("a Stripe key", "k_live_ k_test_", r"[sr]k_(?:live|test)_[A-Za-z0-9]{16}"),
    _token("a webhook secret", "whsec_", r"whsec_[A-Za-z0-9+/]{20}"),
    _token("an npm token", "npm_", r"npm_[A-Za-z0-9]{36}"),
    _token("a PyPI token", "pypi-age", r"pypi-AgE[A-Za-z0-9_-]{30}"),
    _token("a JSON Web Token", "eyj", r"eyJ[A-Za-z0-9_-]{8,600}\.eyJ[A-Za-z0-9_-]{8}"),
    _token(
        "an Azure key", "accountkey= accesskey= sig=",
        r"(?:AccountKey|SharedAccessKey)=[A-Za-z0-9+/]{40}|sig=[A-Za-z0-9%+/]{43,60}(?:%3[Dd]|=)",
    ),
    _token("a SendGrid key", "sg.", r"SG\.[\w-]{22}\.[\w-]{43}"),
    _token("a Twilio key", "sk ac", r"(?:SK|AC)[0-9a-f]{32}(?![0-9a-f])"),
    _token("a Mailgun key", "key-", r"key-[0-9a-z]{32}(?![0-9a-z])"),
    _token("a Shopify token", "shp", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _token("a DigitalOcean token", "_v1_", r"do[opr]_v1_[0-9a-f]{64}"),
    _token("a Databricks token", "dapi", r"dapi[0-9a-f]{32}"),
    _token("a Docker Hub token", "dckr_", r"dckr_(?:pat|oat)_[\w-]{20}"),
    _token("a HashiCorp token", "hvs. hvb. hvr. .atlasv1.", r"hv[sbr]\.[\w-]{20}|[A-Za-z0-9]{14}\.atlasv1\.[\w-]{40}"),
    _token("a RunPod key", "rpa_", r"rpa_[A-Z0-9]{30}"),
    _token("a Tailscale key", "tskey-", r"tskey-[a-z]{2,10}-[\w-]{16}"),
    _token("an Atlassian token", "atatt3", r"ATATT3[\w=-]{40}"),
    _token(
        "a Notion or Linear key", "ntn_ secret_ lin_api_",
        r"(?:ntn_|lin_api_)[A-Za-z0-9]{40}|secret_[A-Za-z0-9]{43}",
    ),
    _token("a Pulumi token", "pul-", r"pul-[0-9a-f]{40}"),
    Shape("a Weights & Biases key", "wandb", r"(?i:wandb)[\s\S]{0,60}?[\s:=\"'`(,][0-9a-f]{40}(?![0-9A-Za-z])"),
    _token("a Kaggle key", '"key"', r"\"key\"\s{0,4}:\s{0,4}\"[0-9a-f]{32}\""),
    Shape(
        "a password in an address", "://",
        r"[a-z][a-z0-9+.-]{2,12}://[^\s/:@\"'<>\\]{1,64}:[^\s/:@\"'<>\\]{3,128}@[A-Za-z0-9\[]",
    ),
    Shape(
        "an authorization header", "authorization",
        rf"(?i:authorization){_IS}(?i:basic|bearer|token)\s{{1,4}}[\w+/=.~-]{{16}}",
    ),
    Shape(
        "a password or key", "key token secret passw passphrase",
        r"(?i:(?:api|secret|access|private|account)[_-]?key|(?:auth|access|api|bearer)[_-]?token|client[_-]?secret|password"
        rf"|passwd|passphrase)(?i:[_-]id)?{_IS}(?={_SIGNS}{{0,64}}\d){_SIGNS}{{16}}",
    ),
)  # fmt: skip
"""Every kind, the telling ones first."""

_BY_MARK: Final = tuple((mark.encode(), shape) for shape in SHAPES for mark in shape.marks.split())
