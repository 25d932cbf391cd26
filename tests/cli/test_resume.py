"""A batch that was interrupted goes on where it stopped: what is finished is checked and left, the rest is made."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from cli_helpers import environment

from lincae_cli.app import main
from lincae_formats import gain, read_lat, write_lat

FILES = 200


@pytest.fixture
def songs(tmp_path, monkeypatch, tiny_model):
    """Three short recordings in the working folder, and a model called `tiny`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    record(tmp_path / "in", 3)
    return tmp_path


def record(folder, count):
    noise = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i % 7}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * noise.standard_normal((3000 + i, 1 + i % 2)), 44100)


def run(capsys, *arguments, code=0):
    """What the command writes to stderr, line by line."""
    assert main([*arguments]) == code, capsys.readouterr().err
    return capsys.readouterr().err.splitlines()


def encode(capsys, *arguments, code=0):
    return run(capsys, "encode", "in", "-o", "lat", "--model", "tiny", *arguments, code=code)


def decode(capsys, *arguments, code=0):
    return run(capsys, "decode", "lat", "-o", "out/", *arguments, code=code)


def tree(folder):
    """Every file below a folder, hidden ones too, with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_killed_batch_of_200_files_ends_with_the_bytes_of_an_undisturbed_one(songs, capsys):
    record(songs / "many", FILES)
    whole, broken = songs / "whole", songs / "broken"
    run(capsys, "encode", "many", "-o", "whole", "--model", "tiny")
    assert len(tree(whole)) == FILES
    command = [sys.executable, "-m", "lincae_cli", "encode", "many", "-o", "broken", "--model", "tiny"]
    for wanted in (60, 130):
        process = subprocess.Popen(command, env=environment(), cwd=songs)
        while len(list(broken.rglob("*.lat"))) < wanted and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = len([name for name in tree(broken) if name.endswith(".lat") and not os.path.basename(name).startswith(".")])
    assert done < FILES, "the batch was not interrupted"
    (note,) = run(capsys, "encode", "many", "-o", "broken", "--model", "tiny")
    assert note.startswith(f"lincae: note: {done} of {FILES} files were finished already")
    assert tree(broken) == tree(whole)


def test_what_is_finished_is_left_without_loading_a_model(songs, capsys, monkeypatch):
    assert encode(capsys) == []
    assert decode(capsys) == []
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in songs.rglob("*")}

    def refuse(*_args, **_kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("lincae_core.models.registry.load", refuse)
    for note in (encode(capsys), decode(capsys), encode(capsys, "--jobs", "2"), decode(capsys, "--jobs", "2")):
        assert note == ["lincae: note: 3 of 3 files were finished already; --force makes them anew"]
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in songs.rglob("*")} == before


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_model_is_loaded_once_for_all_files(songs, capsys, monkeypatch, jobs):
    from lincae_core.models import registry

    loaded, load = [], registry.load
    monkeypatch.setattr(registry, "load", lambda info, **options: loaded.append(info.name) or load(info, **options))
    encode(capsys, "--jobs", jobs)
    decode(capsys, "--jobs", jobs)
    assert loaded == ["tiny", "tiny"], "once by each of the two commands"


def test_force_makes_everything_anew(songs, capsys):
    encode(capsys)
    before = tree(songs / "lat")
    for path in songs.joinpath("lat").rglob("*.lat"):
        os.utime(path, (2**31, 2**31))
    assert encode(capsys, "--force") == []
    assert all(p.stat().st_mtime < 2**31 for p in songs.joinpath("lat").rglob("*.lat"))
    assert tree(songs / "lat") == before


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


CHANGES = {
    "damaged": (damage, (), "is no whole result"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-9]), (), "is no whole result"),
    "foreign": (lambda p: p.write_bytes(b"mine"), (), "not a .lat file"),
    "louder": (lambda p: write_lat(gain(read_lat(p), 2), p, overwrite=True), (), "was not encoded from in/0/0.wav"),
    "stored": (lambda p: None, ("--dtype", "float32"), "holds float16, not float32"),
    "stale": (lambda p: os.utime("in/0/0.wav"), (), "is older than in/0/0.wav"),
    "model": (lambda p: None, ("--model", "frame"), "comes from the model tiny, not frame"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_not_finished_is_refused_by_name_and_left(songs, capsys, what):
    change, options, complaint = CHANGES[what]
    encode(capsys)
    path = songs / "lat" / "0" / "0.lat"
    change(path)
    before = path.read_bytes()
    lines = encode(capsys, *options, code=1)
    assert any(complaint in line and "lat/0/0.lat exists already" in line for line in lines)
    assert lines[-1].startswith("lincae: error: ")
    assert path.read_bytes() == before


def test_a_source_of_another_length_or_channel_count_is_refused(songs, capsys):
    encode(capsys)
    lines = encode(capsys, "--mono", code=1)
    assert "lat/1/1.lat exists already and has 2 channels, and in/1/1.wav makes 1" in " ".join(lines)
    soundfile.write("in/0/0.wav", np.zeros(5000), 44100)
    os.utime("in/0/0.wav", (0, 0))
    assert "has 3000 samples, and in/0/0.wav makes 5000" in " ".join(encode(capsys, code=1))


@pytest.mark.parametrize("format", ["flac", "mp3", "ogg", "opus"])
def test_decoded_files_of_every_kind_are_known_again(songs, capsys, format):
    encode(capsys)
    options = ("--format", format, "--rate", "48000")
    decode(capsys, *options)
    (note,) = decode(capsys, *options)
    assert "3 of 3 files were finished" in note


def test_decoded_files_that_are_something_else_are_refused(songs, capsys):
    encode(capsys)
    decode(capsys)
    wanted = {
        ("--rate", "22050"): "has 44100 Hz, and lat/0/0.lat makes 22050",
        ("--end", "0.05"): "has 3000 samples, and lat/0/0.lat makes 2205",
        ("--subtype", "FLOAT"): "holds PCM_16, not FLOAT",
    }
    for options, complaint in wanted.items():
        assert complaint in " ".join(decode(capsys, *options, code=1))
    songs.joinpath("out", "0", "0.wav").write_bytes(b"RIFF")
    os.utime("lat/1/1.lat")
    lines = " ".join(decode(capsys, code=1))
    assert "out/0/0.wav exists already and is no whole result" in lines
    assert "out/1/1.wav exists already and is older than lat/1/1.lat" in lines
    assert "1 of 3 files were finished already" in lines


def test_one_file_is_refused_as_ever(songs, capsys):
    encode(capsys)
    (line,) = run(capsys, "encode", "in/0/0.wav", "-o", "lat/0/0.lat", "--model", "tiny", code=1)
    assert "lat/0/0.lat exists already; add --force" in line


def test_a_target_that_another_run_finished_meanwhile_is_no_failure(songs, capsys, monkeypatch):
    encode(capsys)
    monkeypatch.setattr(
        "lincae_cli.batch.os.path.exists", lambda path: path in ("in/0/0.wav", "in/1/1.wav", "in/2/2.wav")
    )
    (note,) = encode(capsys)
    assert "3 of 3 files were finished already" in note


def test_failures_are_listed_at_the_end_and_everything_else_is_done(songs, capsys):
    songs.joinpath("in", "0", "bad.wav").write_bytes(b"no audio")
    songs.joinpath("in", "1", "gone.wav").symlink_to("nowhere")
    lines = encode(capsys, code=1)
    assert ["bad.wav" in lines[0], "gone.wav" in lines[1]] == [True, True]
    assert lines[2:] == ["lincae: error: 2 of 5 files failed; the others are done"]
    assert sorted(tree(songs / "lat")) == ["0/0.lat", "1/1.lat", "2/2.lat"]


def test_the_json_log_has_a_line_for_every_file_and_nothing_else(songs, capsys):
    songs.joinpath("in", "0", "bad.wav").write_bytes(b"no audio")
    rows = [json.loads(line) for line in encode(capsys, "--log", "json", code=1)]
    assert [(row["file"], row["status"]) for row in rows] == [
        ("in/0/0.wav", "done"), ("in/0/bad.wav", "failed"), ("in/1/1.wav", "done"), ("in/2/2.wav", "done")
    ]  # fmt: skip
    assert rows[0]["output"] == "lat/0/0.lat"
    assert rows[0]["seconds"] == pytest.approx(3000 / 44100)
    assert rows[0]["speed"] > 0
    assert "bad.wav is not audio" in rows[1]["error"]
    again = [json.loads(line) for line in encode(capsys, "--log", "json", code=1)]
    assert [row["status"] for row in again] == ["skipped", "failed", "skipped", "skipped"]
    (row,) = [json.loads(line) for line in run(capsys, "encode", "in/0/bad.wav", "--log", "json", code=1)]
    assert row["status"] == "failed"
