"""Inputs that may not be read: named, and nothing else is stopped by them."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from cli_helpers import listing, make_lat

NOBODY = 65534


@pytest.fixture
def forbidden(here, record, lincae, monkeypatch, tiny_model):
    """A folder everybody may enter, with files and a folder that nobody may read; and somebody who is not root."""
    record("warm.wav")
    assert lincae("encode", "warm.wav", "--model", "tiny")[0] == 0  # imports what it needs while it may
    with tempfile.TemporaryDirectory(prefix="lincae-test-") as name:
        folder = Path(name)
        monkeypatch.chdir(folder)
        (folder / "models").mkdir()
        shutil.copy(tiny_model, folder / "models")
        monkeypatch.setenv("LINCAE_MODELS", str(folder / "models"))
        for path in ("in/a.wav", "in/b.wav", "in/closed/c.wav", "in/z.wav"):
            record(path)
        make_lat(folder / "x.lat")
        make_lat(folder / "closed.lat")
        (folder / "list").write_text("in/a.wav")
        closed = [Path("in/b.wav"), Path("in/closed"), Path("closed.lat"), Path("list")]
        for path in closed:
            path.chmod(0)
        folder.chmod(0o777)
        if os.geteuid() != 0:
            yield folder
        else:
            os.seteuid(NOBODY)
            try:
                yield folder
            finally:
                os.seteuid(0)
        Path("in/closed").chmod(0o755)


def test_an_unreadable_file_and_folder_in_a_batch(forbidden, lincae):
    code, _, lines = lincae("encode", "in", "-o", "out", "--model", "tiny")
    assert code == 1
    assert "cannot read the folder in/closed: Permission denied; check its permissions" in lines[0]
    assert "not allowed to read in/b.wav" in lines[1]
    assert lines[2] == "lincae: error: 1 folder could not be read and 1 of 3 files failed; the others are done"
    assert listing("out") == ["a.lat", "z.lat"]


def test_an_unreadable_lat_or_list(forbidden, lincae):
    for line in ("verify closed.lat", "info closed.lat", "mix x.lat closed.lat -o y.lat", "verify --files-from list"):
        code, _, (complaint,) = lincae(*line.split())
        assert code == 1
        assert "Permission denied" in complaint
    assert not Path("y.lat").exists()


def test_a_folder_that_may_not_be_written(forbidden, lincae):
    code, _, (line,) = lincae("gain", "x.lat", "--db", "1", "-o", "in/y.lat")
    assert code == 1
    assert "in is not writable" in line or "in/y.lat: Permission denied; write elsewhere" in line


def test_a_models_folder_that_may_not_be_read(forbidden, lincae, monkeypatch):
    monkeypatch.setenv("LINCAE_MODELS", "in/closed")
    assert "frame" in lincae("models", "list")[1]
    code, _, (line,) = lincae("encode", "in/a.wav", "-o", "y.lat", "--model", "tiny")
    assert code == 1
    assert "no model 'tiny'" in line


def test_what_is_no_file_at_all(here, lincae):
    os.mkfifo("pipe.wav")
    Path("folder.wav").mkdir()
    for line, complaint in (
        ("encode /dev/zero -o x.lat --model tiny", "/dev/zero is a device"),
        ("encode /dev/null -o x.lat --model tiny", "/dev/null is a device"),
        ("verify /dev/zero", "not a .lat file"),
        ("verify /dev/null", "empty"),
        ("verify folder.wav/x", "no such file"),
        ("compare /dev/zero /dev/zero", "is a device"),
        ("encode folder.wav", "holds no audio files"),
        ("encode .", "holds no audio files"),  # the pipe would never end, so a walk leaves it alone
    ):
        code, _, (found,) = lincae(*line.split())
        assert code == 1
        assert complaint in found
