"""Full disks and disks that cannot be written: one line, nothing half-written, everything else done."""

import io
import os
import subprocess
import sys
import tempfile

import pytest
from cli_helpers import environment, make_lat

from lincae_formats import verify


def names(folder):
    return sorted(p.name for p in folder.rglob("*"))


def test_encode_to_a_full_disk(here, record, lincae, full):
    record("a.wav")
    code, _, (line,) = lincae("encode", "a.wav", "-o", full / "a.lat", "--model", "tiny")
    assert code == 1
    assert "cannot write" in line
    assert "disk/a.lat" in line
    assert "is the disk full?" in line
    assert names(full) == ["filler"]


def test_a_batch_that_fills_the_disk_goes_on_when_there_is_room(here, record, lincae, full):
    os.truncate(full / "filler", 100 * 1024)
    for i in range(12):
        record(f"in/{i:02}.wav", seed=i)
    code, _, lines = lincae("encode", "in", "-o", full / "out", "--model", "tiny")
    assert code == 1
    assert "of 12 files failed; the others are done" in lines[-1]
    done = list(full.rglob("*.lat"))
    assert 0 < len(done) < 12
    for path in done:
        verify(path)
    assert all(not p.name.endswith(".tmp") for p in full.rglob("*"))
    (full / "filler").unlink()
    code, _, (note,) = lincae("encode", "in", "-o", full / "out", "--model", "tiny")
    assert code == 0
    assert f"{len(done)} of 12 files were finished already" in note
    assert len(list(full.rglob("*.lat"))) == 12


@pytest.mark.parametrize("target", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_decode_to_a_full_disk(here, record, lincae, full, target):
    record("a.wav", samples=20_000)
    assert lincae("encode", "a.wav", "--model", "tiny")[0] == 0
    code, _, (line,) = lincae("decode", "a.lat", "-o", full / target)
    assert code == 1
    assert f"cannot write {full / target}" in line
    assert names(full) == ["filler"]


@pytest.mark.parametrize(
    "command", ["gain x.lat --db -6", "mix x.lat x.lat", "subtract x.lat x.lat", "concat x.lat x.lat", "plot x.lat"]
)
def test_arithmetic_and_pictures_to_a_full_disk(here, lincae, full, command):
    make_lat(here / "x.lat")
    target = full / ("y.png" if command.startswith("plot") else "y.lat")
    code, _, lines = lincae(*command.split(), "-o", target)
    assert code == 1
    assert "disk/y." in lines[-1]
    assert "full" in lines[-1] or "No space left" in lines[-1]
    assert names(full) == ["filler"]


@pytest.mark.parametrize("line", ["encode - -o b.lat --model tiny", "gain - --db 1 -o b.lat"])
def test_no_room_for_temporary_files(here, record, lincae, full, monkeypatch, line):
    record("a.wav", samples=200_000)
    make_lat(here / "x.lat", num_samples=44100 * 100)
    monkeypatch.setattr(tempfile, "tempdir", str(full))
    pipe = io.BytesIO((here / ("a.wav" if "encode" in line else "x.lat")).read_bytes())
    pipe.seekable = lambda: False
    monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": pipe, "isatty": lambda _: False})())
    code, out, (complaint,) = lincae(*line.split())
    assert (code, out) == (1, "")
    assert complaint.startswith("lincae: error: cannot ")
    assert "No space left" in complaint or "full" in complaint
    assert not (here / "b.lat").exists()
    assert names(full) == ["filler"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("target", ["-", "/dev/full"])
def test_a_device_that_is_always_full(tmp_path, target):
    make_lat(tmp_path / "x.lat")
    with open("/dev/full", "wb") as device:
        done = subprocess.run(
            [sys.executable, "-m", "lincae_cli", "gain", "x.lat", "--db", "1", "-o", target],
            cwd=tmp_path, env=environment(), stdout=device, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "cannot write" in line
    assert names(tmp_path) == ["x.lat"]


def test_a_read_only_target(here, record, lincae, disk, read_only):
    record("a.wav")
    make_lat(here / "x.lat")
    read_only()
    for line in (
        f"encode a.wav -o {disk / 'a.lat'} --model tiny",
        f"encode a.wav a.wav . -o {disk / 'new'} --model tiny",
        f"gain x.lat --db 1 -o {disk / 'x.lat'}",
        f"plot x.lat -o {disk / 'x.png'}",
    ):
        code, _, (complaint,) = lincae(*line.split())
        assert code == 1
        assert "is not writable; " in complaint
    assert names(disk) == []


def test_sources_on_a_read_only_disk(here, record, lincae, disk, read_only):
    record(disk / "a.wav")
    make_lat(disk / "x.lat")
    read_only()
    assert lincae("verify", disk / "x.lat")[0] == 0
    assert lincae("gain", disk / "x.lat", "--db", "1", "-o", "y.lat")[0] == 0
    assert lincae("encode", disk, "-o", "out", "--model", "tiny") == (0, "", [])
    code, _, (line,) = lincae("encode", disk / "a.wav", "--model", "tiny")
    assert code == 1
    assert "is not writable; write elsewhere" in line
