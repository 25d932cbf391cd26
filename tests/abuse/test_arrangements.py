"""Hostile arrangements: refused in one line, and no way out of their folder but the one the user opens."""

import os
from pathlib import Path

import pytest
import yaml
from cli_helpers import make_lat
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml_tricks import LAUGHS, NESTED, VALUES

from lincae_core.arrangement.load import Loaded, load
from lincae_formats import LincaeError

KEYS = st.sampled_from(
    ["tracks", "buses", "variants", "file", "gain", "offset", "curve", "fade_in", "bus", "mute", "solo", "subtract",
     "start", "end", "master", "lines", "a", "b"]
)  # fmt: skip
TEXTS = st.sampled_from(
    ["a.lat", "-6dB", "0:-inf 2:0dB", "1:23.5", "master", "a", "-inf", "1e999", "nan", "sine", "90s"]
)
THINGS = st.recursive(
    VALUES | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=10
)
LIMITS = settings(max_examples=150, deadline=None)


def refused(text):
    """The line with which a text is refused; None where it is an arrangement."""
    try:
        assert isinstance(load(text, "song.yaml"), Loaded)
    except LincaeError as e:
        line = str(e)
        assert "\n" not in line
        assert line.startswith("song.yaml: ")
        return line
    return None


@LIMITS
@given(change=st.dictionaries(KEYS, THINGS, max_size=4), track=st.dictionaries(KEYS, THINGS, max_size=4))
def test_any_values_for_any_keys(change, track):
    song = {"tracks": {"a": {"file": "a.lat", **track}}, **change}
    refused(yaml.safe_dump(song, allow_unicode=True))


@LIMITS
@given(
    text=st.text(alphabet=st.sampled_from(list("ab:-?[]{}&*!|>'\"%@`#,\n \t01.~<=\\\0\x85\u2028\ud800")), max_size=60)
)
def test_any_text(text):
    refused(text)
    refused(f"tracks:\n  a: {{file: a.lat, gain: {text}}}\n")


@pytest.mark.parametrize(
    "text",
    [
        NESTED.decode(),
        LAUGHS.decode(),
        LAUGHS.decode() + "tracks: *a29",
        "tracks: &a {x: *a}",
        "tracks: &a [*a]",
        "tracks: !!python/object/apply:os.system ['true']",
        "tracks: {a: {file: a.lat, offset: " + "9" * 5000 + "}}",
        "tracks: {a: {file: a.lat, gain: !!timestamp x}}",
        "tracks: {a: {file: a.lat, gain: !!bool x}}",
        "tracks: {a: {file: a.lat, gain: !!int ''}}",
        "tracks: {a: {file: a.lat, gain: 2001-99-99}}",
        "tracks: {a: {file: a.lat, curve: '1:0 0:0'}}",
        "tracks: {a: {file: a.lat, bus: b}}\nbuses: {b: {bus: c}, c: {bus: b}}",
        "tracks: {a: {file: a.lat}, a: {file: b.lat}}",
        "tracks: {" + ", ".join(f"t{i}: {{file: a.lat}}" for i in range(1100)) + "}",
        "#" * 300_000,
        "? [a]\n: b",
        "- a",
        "",
        "--- {}\n--- {}",
    ],
    ids=range(20),
)
def test_tricks(text):
    assert refused(text) is not None


@pytest.fixture
def outside(here):
    """A song's folder beside a file that is none of its business."""
    make_lat(here / "secret.lat")
    make_lat(here / "song" / "a.lat", seed=1)
    os.chdir("song")
    Path("link.lat").symlink_to("../secret.lat")
    Path("folder").symlink_to("..")
    return here


@pytest.mark.parametrize("name", ["../secret.lat", "link.lat", "folder/secret.lat", "./a/../../secret.lat", "ABSOLUTE"])
def test_no_path_leads_outside(outside, lincae, name):
    if name == "ABSOLUTE":
        name = str(outside / "secret.lat")
    Path("song.yaml").write_text(yaml.safe_dump({"tracks": {"x": {"file": name}, "a": {"file": "a.lat"}}}))
    for options in ([], ["--dry-run"]):
        code, out, (line,) = lincae("render", "song.yaml", "-o", "out.lat", *options)
        assert (code, out) == (1, "")
        assert "song.yaml: line" in line
        assert "--allow-outside" in line
    assert not Path("out.lat").exists()
    assert lincae("render", "song.yaml", "-o", "out.lat", "--allow-outside")[0] == 0


@pytest.mark.parametrize(
    "name", ["/dev/zero", "/etc/passwd", "pipe.lat", ".", "a.lat/x", "a\0.lat", "x" * 5000, "\n.lat"]
)
def test_no_file_but_a_lat_is_read(outside, lincae, name):
    os.mkfifo("pipe.lat")
    Path("song.yaml").write_text(yaml.safe_dump({"tracks": {"x": {"file": name}}}))
    code, out, (line,) = lincae("render", "song.yaml", "-o", "out.lat", "--allow-outside")
    assert (code, out) == (1, "")
    assert line.startswith("lincae: error: ")
    assert not Path("out.lat").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/x", "x\n", "-o", ""])
def test_no_variant_is_written_outside_its_folder(outside, lincae, name):
    Path("song.yaml").write_text(
        yaml.safe_dump({"tracks": {"a": {"file": "a.lat"}}, "variants": {name: {"mute": ["a"]}}})
    )
    before = sorted(p.name for p in outside.iterdir())
    code, _, lines = lincae("render", "song.yaml", "-o", "out/")
    assert code != 0
    assert len(lines) == 1
    assert sorted(p.name for p in outside.iterdir()) == before
    assert not list(Path().glob("out/*"))
