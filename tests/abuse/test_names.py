"""Hostile names: every file that a system can hold can be encoded, and no name can forge output or leave its folder."""

import os
import socket
from pathlib import Path

import pytest
from cli_helpers import listing, make_lat

from lincae_formats import read_lat

NAMES = [
    b"a\nlincae: error: forged.wav",
    b"-o.wav",
    b"--force.wav",
    b"-.wav",
    b"\xff\xfe.wav",
    b"caf\xe9.wav",
    b"\x1b[2J\x07.wav",
    b"\xff\x1b[31m.wav",
    b"tab\there \"quoted\" 'twice' $HOME `x` ;rm.wav",
    b"*[a-z]?.wav",
    b"a:0.5.wav",
    b"a@2.wav",
    b"a.lat.wav",
    b"trailing. .wav",
    b"\xe2\x80\xaegpj.wav",
    b"x" * 251 + b".wav",
    b"\xff" * 251 + b".wav",
    b"\xc3\xa9" * 125 + b".wav",
]


def controls(text):
    """Characters that a terminal would obey."""
    return [c for c in text if c != "\n" and not c.isprintable() and not "\udc80" <= c <= "\udcff"]


@pytest.fixture
def archive(here, record):
    for i, name in enumerate(NAMES):
        record(os.fsdecode(b"in/" + name), seed=i)
    return here


def test_a_folder_of_hostile_names_there_and_back(archive, lincae):
    assert lincae("encode", "in", "-o", "lat", "--model", "tiny") == (0, "", [])
    assert listing(b"lat") == sorted(name[:-4] + b".lat" for name in NAMES)
    code, out, lines = lincae("verify", "lat")
    assert (code, lines) == (0, [])
    assert len(out.splitlines()) == len(NAMES)
    assert controls(out) == []
    code, out, lines = lincae("info", "lat")
    assert (code, lines, controls(out)) == (0, [], [])
    assert lincae("decode", "lat", "-o", "out/") == (0, "", [])
    assert listing(b"out") == sorted(NAMES)
    assert lincae("encode", "in", "-o", "lat", "--model", "tiny")[2] == [
        f"lincae: note: {len(NAMES)} of {len(NAMES)} files were finished already; --force makes them again"
    ]


@pytest.mark.parametrize("name", NAMES)
def test_each_by_its_own_name(archive, lincae, name):
    path = os.fsdecode(b"in/" + name)
    lat = os.fsdecode(name[:-4] + b".lat")
    os.chdir("in")
    assert lincae("encode", "--model", "tiny", "--", os.fsdecode(name)) == (0, "", [])
    assert lincae("gain", "--db", "-6", "-o", "../quiet.lat", "--", lat) == (0, "", [])
    os.chdir("..")
    assert lincae("mix", "-o", "sum.lat", "--", f"in/{lat}", f"in/{lat}:0.5") == (0, "", [])
    code, out, lines = lincae("info", "sum.lat", "--history")
    assert (code, lines, controls(out)) == (0, [], [])
    assert lincae("info", "sum.lat", "--json")[0] == 0
    assert lincae("plot", f"in/{lat}", "-o", "x.png") == (0, "", [])
    assert lincae("compare", path, f"in/{lat}")[0] == 0


@pytest.mark.parametrize("name", [n for n in NAMES if len(n) < 200])
def test_complaints_about_them_are_one_line(here, lincae, name):
    path = os.fsdecode(name)
    Path(path).write_bytes(b"no audio")
    code, out, lines = lincae("encode", "--model", "tiny", "--", path)
    assert (code, out, len(lines)) == (1, "", 1)
    assert controls(lines[0]) == []
    lat = os.fsdecode(name[:-4] + b".lat")
    Path(lat).write_bytes(b"no latents")
    code, out, lines = lincae("verify", "--", lat)
    assert (code, out, len(lines)) == (1, "", 1)
    assert controls(lines[0]) == []


def test_names_too_long_for_what_is_made_of_them(here, record, lincae):
    record("x" * 253 + ".a")
    code, _, (line,) = lincae("encode", "x" * 253 + ".a", "--model", "tiny")
    assert code == 1
    assert "File name too long" in line


def test_a_folder_deeper_than_a_path_can_be(here, record, lincae):
    os.mkdir("in")
    record("in/top.wav")
    home = os.getcwd()
    os.chdir("in")
    for _ in range(25):
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(home)
    code, _, lines = lincae("encode", "in", "-o", "out", "--model", "tiny")
    assert code == 1
    assert "cannot read the folder" in lines[0]
    assert "File name too long" in lines[0]
    assert listing("out") == ["top.lat"]


def test_links_in_a_walked_folder(here, record, lincae):
    record("in/a.wav")
    record("elsewhere/secret.wav")
    Path("in/loop").symlink_to("..")
    Path("in/self").symlink_to("self")
    Path("in/away").symlink_to("../elsewhere")
    Path("in/linked.wav").symlink_to("../elsewhere/secret.wav")
    assert lincae("encode", "in", "-o", "out", "--model", "tiny") == (0, "", [])
    assert listing("out") == ["a.lat", "linked.lat"]
    Path("in/round.wav").symlink_to("round.wav")
    code, _, lines = lincae("encode", "in", "-o", "out", "--model", "tiny")
    assert code == 1
    assert "in/round.wav: no such file" in " ".join(lines)


def test_a_glob_over_folders_full_of_loops_ends(here, record, lincae):
    record("in/deep/a.wav")
    record("elsewhere/secret.wav")
    for i in range(4):
        Path(f"in/loop{i}").symlink_to(".")
        Path(f"in/deep/loop{i}").symlink_to("..")
    Path("in/away").symlink_to("../elsewhere")
    assert lincae("encode", "in/**/*.wav", "-o", "out", "--model", "tiny") == (0, "", [])
    assert [str(p.relative_to("out")) for p in Path("out").rglob("*.lat")] == ["deep/a.lat"]
    assert lincae("encode", "in/**/**/**/dee?", "-o", "out2", "--model", "tiny") == (0, "", [])
    assert [str(p.relative_to("out2")) for p in Path("out2").rglob("*.lat")] == ["deep/a.lat"]


def test_pipes_and_sockets_in_a_walked_folder_are_left_alone(here, record, lincae):
    record("in/a.wav")
    os.mkfifo("in/pipe.wav")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("in/s.wav")
        assert lincae("encode", "in", "-o", "out", "--model", "tiny") == (0, "", [])
    assert listing("out") == ["a.lat"]


def test_a_list_of_names_cannot_write_outside_its_folder(here, record, lincae):
    record("up.wav")
    record("root.wav")
    os.mkdir("work")
    os.chdir("work")
    record("etc/b.wav")
    Path("list").write_bytes(b"\0".join([b"../up.wav", os.fsencode(here / "root.wav"), b"etc/../etc/b.wav"]))
    assert lincae("encode", "-0", "--files-from", "list", "-o", "out", "--model", "tiny") == (0, "", [])
    made = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.lat"))
    assert made == sorted(["up.lat", str(here / "root.lat").lstrip("/"), "etc/b.lat"])
    assert sorted(os.listdir(here)) == ["root.wav", "up.wav", "work"]


def test_a_target_that_is_a_link_is_not_followed_into_a_finished_file(here, record, lincae):
    record("in/a.wav")
    make_lat(here / "precious.lat")
    before = Path("precious.lat").read_bytes()
    os.mkdir("out")
    Path("out/a.lat").symlink_to("../precious.lat")
    code, _, lines = lincae("encode", "in", "-o", "out", "--model", "tiny")
    assert code == 1
    assert "out/a.lat exists already" in lines[0]
    assert Path("precious.lat").read_bytes() == before


def test_histories_with_hostile_names_are_printed_on_their_lines(here, lincae):
    latents = make_lat(here / "x.lat")
    object.__setattr__(latents, "history", ({"op": "a\nb\x1b[2J", "source": "\ud800\n\u202e"},))
    object.__setattr__(latents, "tags", {"t": "line\nbreak \x1b]0;title\x07"})
    from lincae_formats import write_lat

    write_lat(latents, "y.lat")
    assert read_lat("y.lat").tags["t"].startswith("line\n")
    for options in ([], ["--history"], ["--json"]):
        code, out, lines = lincae("info", "y.lat", *options)
        assert (code, lines, controls(out)) == (0, [], [])
