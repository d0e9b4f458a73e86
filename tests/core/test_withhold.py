"""What may leave, by name, by need and by content (SPEC K3, K4)."""

from __future__ import annotations

import random
from pathlib import PurePosixPath
from re import _parser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simpletuner_lab.core.token_shapes import SHAPES
from simpletuner_lab.core.withhold import (
    OVERLAP,
    Role,
    content_rule,
    image_format,
    name_rule,
    need_rule,
    overlapping,
    portable_rule,
    same_name_key,
    shown_name,
    stem_of,
    suffix_of,
)
from tests.core.planted import HARMLESS_TEXTS, SECRET_NAMES, SECRETS

HARMLESS_NAMES = [
    "photo.png", "cat.txt", "sub/dir/IMG_0001.JPG", "metadata.jsonl", "environment.png", "a key on a table.png",
    "token_01.png", "tokens/knight.png", "tokens/knight.txt", "shadow/cat.png", "cookies.txt", "keyboard.png",
    "secretary.txt", "gitter.png", "credential-free.png", "path/with/envoy.png", "pemmican.txt", "id_card.png",
    "passwords_are_fun.png", "monkey.key.png", "sk-8 board.txt",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_secret_name_is_found_in_any_case_and_at_any_depth(name):
    for variant in (name, name.upper(), name.title()):
        parts = variant.split("/")
        assert name_rule(parts), variant
        assert name_rule(["deep", "er", *parts]), variant
        assert name_rule(parts).startswith("secret")


@pytest.mark.parametrize("name", ["sub/.git", ".SSH", "a/.aws", "Secrets", "x/.config", ".env", "credentials"])
def test_a_secret_folder_is_found_before_it_is_entered(name):
    assert name_rule(name.split("/"), folder=True)


@pytest.mark.parametrize("name", [".env ", "ID_RSA~", "．env", ".ｅｎｖ", "server.PEM.", "credentials.json~"])
def test_a_secret_name_in_disguise_is_found(name):
    assert name_rule([name])


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_an_ordinary_name_leaves(name):
    assert name_rule(name.split("/")) is None


def test_a_folder_of_game_tokens_is_no_secret_but_a_file_called_so_may_be():
    assert name_rule(["tokens"], folder=True) is None
    assert name_rule(["tokens"])


def test_every_shape_has_an_example():
    assert {label for label, _ in SECRETS} == {shape.label for shape in SHAPES}
    assert len(SHAPES) >= 40


@pytest.mark.parametrize(("label", "secret"), SECRETS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_content_with_a_secret_is_found_in_every_encoding(label, secret, encoding):
    for text in (secret, f"un château, {secret} naïve\n", f"\n{secret}\n", f'x = "{secret}"'):
        data = text.encode(encoding)
        for around in (b"", b"\x00", b"\xff\xd8\xff\xe1\x00"):
            assert content_rule(around + data) == f"secret: it holds {label}", (text, around)


@pytest.mark.parametrize(("label", "secret"), SECRETS)
def test_a_secret_between_the_bytes_of_a_picture_is_found(label, secret):
    noise = random.Random(label).randbytes(100_000)
    for encoding in ("utf-8", "utf-16-le"):
        assert content_rule(noise[:50_001] + b"\n" + secret.encode(encoding) + b"\n\x00" + noise[50_001:])


def test_text_is_taken_as_well_as_bytes():
    assert content_rule(dict(SECRETS)["a Hugging Face token"])
    assert content_rule("a cat \udcff on a mat") is None


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_a_caption_that_only_reminds_of_a_secret_leaves(text):
    for encoding in ("utf-8", "utf-16", "utf-16-be"):
        assert content_rule(text.encode(encoding)) is None


def test_noise_is_not_taken_for_a_secret():
    assert content_rule(random.Random(5).randbytes(8 << 20)) is None


@given(
    secret=st.sampled_from(SECRETS),
    before=st.integers(0, 5000),
    after=st.integers(0, 5000),
    size=st.integers(900, 4000),
    encoding=st.sampled_from(["utf-8", "utf-16-le", "utf-16-be"]),
)
@settings(max_examples=200, deadline=None)
def test_no_border_between_chunks_hides_a_secret(secret, before, after, size, encoding):
    data = b"\x07" * before + secret[1].encode(encoding) + b"\x07" * after
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert any(content_rule(block) for block in overlapping(chunks))


def test_no_match_is_longer_than_the_overlap_of_chunks():
    for shape in SHAPES:
        assert 2 * _parser.parse(shape.pattern).getwidth()[1] <= OVERLAP, shape.label


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_prose_of_any_script_leaves(text):
    words = " ".join(text[start : start + 8] for start in range(0, len(text), 8))
    assert content_rule(words) is None


@pytest.mark.parametrize(
    ("name", "strategy", "role"),
    [
        ("a.png", "textfile", Role.IMAGE),
        ("b/A.JPEG", "filename", Role.IMAGE),
        ("a.webp", "metadata", Role.IMAGE),
        ("a.txt", "textfile", Role.CAPTION),
        ("b/A.txt", "textfile", Role.CAPTION),
        ("a.txt", "filename", None),
        ("a.txt", "instanceprompt", None),
        ("a.txt", "metadata", None),
        ("a.txt", "", None),
        ("a.TXT", "textfile", None),
        ("b/a.txt", "textfile", None),
        ("notes.txt", "textfile", None),
        ("a.png.txt", "textfile", None),
        ("metadata.jsonl", "metadata", Role.METADATA),
        ("b/metadata.jsonl", "metadata", None),
        ("metadata.jsonl", "textfile", None),
        ("a.json", "textfile", None),
        ("a.gif", "textfile", None),
        ("a.svg", "textfile", None),
        ("train.py", "textfile", None),
        ("png", "textfile", None),
    ],
)
def test_only_what_training_reads_is_needed(name, strategy, role):
    stems = {stem_of(("a.png",)), stem_of(("b", "A.JPEG"))}
    assert need_rule(name.split("/"), strategy=strategy, stems=stems) is role


@given(st.lists(st.text(alphabet="ab.", min_size=1).filter(lambda part: part.strip(".")), min_size=1, max_size=3))
def test_stem_and_suffix_are_those_of_a_path(parts):
    path = PurePosixPath(*parts)
    assert suffix_of(parts) == path.suffix
    assert stem_of(parts) == str(path).removesuffix(path.suffix)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\r", "PNG"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "JPEG"),
        (b"RIFF\x00\x00\x00\x00WEBP", "WEBP"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"BM\x00\x00\x00\x00", "BMP"),
        (b"II*\x00\x08\x00\x00\x00", "TIFF"),
        (b"MM\x00*\x00\x00\x00\x08", "TIFF"),
        (b"GIF89a", None),
        (b"PK\x03\x04", None),
        (b"%PDF-1.7", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_first_bytes(head, kind):
    assert image_format(head) == kind


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.png", "a\x00.png", "a\x1b[2J.png", "a\u202egnp.exe.png", "a:b.png", "what?.png", "a*.png", "a|b.png",
        '"a".png', "a\\b.png", "<a>.png", "a.", "a ", "CON", "con.png", "Lpt1.txt", "nul .png", "..", ".", "", "a//b",
        "../a.png", "/etc/passwd", "a/../b", "x\udcff.png", "é" * 600,
    ],
)  # fmt: skip
def test_a_name_that_cannot_be_unpacked_everywhere_is_refused(name):
    assert portable_rule(name.split("/"))


@pytest.mark.parametrize(
    "name", ["a.png", "猫.png", "dir/ünï.txt", "a b (1).png", "👩‍🎨.png", "console.png", "comma,.txt"]
)
def test_a_portable_name_passes(name):
    assert portable_rule(name.split("/")) is None


def test_names_that_a_file_system_may_take_for_the_same_have_one_key():
    assert same_name_key("Stra\u00dfe/\u00c9.png") == same_name_key("STRASSE/e\u0301.PNG")
    assert same_name_key("a.png") != same_name_key("b.png")


def test_a_name_can_be_shown_whatever_it_is_made_of():
    shown = shown_name(["a", "b\udcff\n\u202e\x1b.png"])
    assert shown == "a/b\\xff\\n\\u202e\\x1b.png"
    shown.encode()
