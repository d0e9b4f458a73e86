"""A secret that is known, or has a token's shape, is taken out of a text in whatever encoding it got there."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from simpletuner_lab.core.disguises import forms_of
from simpletuner_lab.core.redact import Redactor, mask
from simpletuner_lab.core.secret import MASK, Secret
from tests.core.planted import HARMLESS_TEXTS, SECRETS

ODD = 'pa+ss/w?rd é"\\ of=mine & yours%'
"""Of no known shape."""

CLOTHES: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda s: base64.b64encode(s.encode()).decode(),
    "base64 behind one": lambda s: base64.b64encode(b":" + s.encode() + b" and more").decode(),
    "base64 behind two": lambda s: base64.b64encode(b"{ " + s.encode() + b"}").decode(),
    "base64url without padding": lambda s: base64.urlsafe_b64encode(b"???" + s.encode()).decode().rstrip("="),
    "base64 of utf-16": lambda s: base64.b64encode(s.encode("utf-16-le")).decode(),
    "hex": lambda s: s.encode().hex(),
    "HEX": lambda s: s.encode().hex().upper(),
    "url": lambda s: f"?key%3D{quote(s, safe='')}%26x=1",
    "url, small letters": lambda s: f"?x={''.join(f'%{b:02x}' for b in s.encode())}" if s == ODD else f"?k%3d{quote(s)}",
    "form": lambda s: f"a=b&c=%20{quote_plus(s)}",
    "json": lambda s: json.dumps({"a\n": f"line\n{s}"}),
    "json of json": lambda s: json.dumps(json.dumps({"a": f"line\n{s}"})),
    "json in letters": lambda s: json.dumps(f"\t{s}", ensure_ascii=False),
    "repr": lambda s: repr(f"\n{s}"),
}  # fmt: skip


@pytest.mark.parametrize("clothes", CLOTHES)
def test_tokens_of_every_shape_are_found_in_it(clothes):
    for label, secret in SECRETS:
        text = CLOTHES[clothes](secret)
        masked = mask(f"before {text} after")
        assert masked.startswith("before "), label
        assert MASK in masked, (label, text)
        assert text not in masked, label


@pytest.mark.parametrize("clothes", CLOTHES)
def test_a_known_secret_of_no_shape_is_found_in_it(clothes):
    text = CLOTHES[clothes](ODD)
    masked = mask(f"before {text} after", [Secret(ODD)])
    assert MASK in masked
    for piece in ("ss/w", "ss%2Fw", "ss%2fw", base64.b64encode(b"ss/w?rd").decode()[2:8], b"ss/w".hex()):
        assert piece not in masked


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_ordinary_text_stays(text):
    for write in (str, json.dumps, quote, repr):
        assert mask(write(text), [Secret("nothing-of-this")]) == write(text)


@pytest.mark.parametrize(
    "text",
    [
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "/home/ann/pictures/2024-05-01/a_very_long_folder_name_of_the_camera/IMG_20240501_120000_hdr.jpg",
        "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 20).decode(),
        "C:\\new\\table\\x41.png and 100%25 of it",
    ],
)
def test_digests_paths_and_pictures_stay(text):
    assert mask(text, [Secret("nothing-of-this")]) == text


def test_a_short_secret_is_looked_for_as_it_is():
    assert forms_of("abc") == ("abc",)
    assert forms_of("") == ()
    assert len(forms_of("abcdefgh")) > 8


def test_a_log_keeps_the_lines_that_programs_read():
    token = dict(SECRETS)["a Hugging Face token"]
    line = json.dumps({"caption": f"a sign that reads {token}"})
    log = f"::st 12ab {line}\nfound {token}\n::st 12ab {json.dumps({'said': 'known-one'})}\n\xff\n".encode("latin-1")
    clean = Redactor([Secret("known-one")]).log(log, b"::st ").split(b"\n")
    assert clean[0] == f"::st 12ab {line}".encode()
    assert clean[1] == f"found {MASK}".encode()
    assert json.loads(clean[2].removeprefix(b"::st 12ab ")) == {"said": MASK}
    assert clean[3:] == [b"\xff", b""]


def test_a_key_of_many_lines_goes_whole():
    key = "-----BEGIN " + "PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQ\n-----END " + "PRIVATE KEY-----"
    assert Redactor().log(f"a\n{key}\nb\n".encode(), b"::st ") == f"a\n{MASK}\nb\n".encode()


HOSTILE: dict[str, str] = {
    "one letter": "a", "jwt": "-eyJ", "pem": "-----BEGIN ", "quoted": "%41", "escaped": "\\u0041", "deep": "\\\\",
    "wandb": "wandb", "password": "password=a", "address": "ab://c:", "blank": " ", "scheme": "a.+-", "name": "key=",
    "aws": "aws secret ", "header": "authorization: ", "hex": "4f",
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_time_grows_with_the_text_and_no_faster(what):
    def cost_s(size: int) -> float:
        text = HOSTILE[what] * (size // len(HOSTILE[what]))
        start = time.thread_time()
        mask(text, [Secret("nothing-of-this")])
        return time.thread_time() - start

    cost_s(1 << 10)
    small, large = min(cost_s(1 << 14) for _ in range(3)), cost_s(1 << 18)
    assert large < 16 * 6 * max(small, 0.002)  # sixteen times the text; what is quadratic takes 256 times as long


@pytest.mark.slow
@pytest.mark.parametrize("what", HOSTILE)
def test_a_line_of_ten_megabytes_ends(what):
    start = time.thread_time()
    mask(HOSTILE[what] * ((10 << 20) // len(HOSTILE[what])))
    assert time.thread_time() - start < 120
