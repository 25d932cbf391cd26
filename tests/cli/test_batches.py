"""Many files: naming, mirroring, what is refused before the work, failures at the end, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import typer
from cli_helpers import environment, make_lat

from lincae_cli import batch, paths
from lincae_formats import LincaeError, TargetExistsError, UsageError


def plan(*operands, output=None, force=False):
    """Jobs of an encode as (source, target) pairs."""
    jobs = paths.plan(operands, output, suffixes={".wav", ".flac"}, kind="audio", new_suffix=".lat", force=force)
    return [(job.source, job.target) for job in jobs]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Audio files by name only, in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("one.wav", "in/a.wav", "in/deep/b.FLAC", "in/deep/note.txt", "in/.hidden/c.wav", "in/.d.wav"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return tmp_path


def test_a_file_is_written_beside_its_source(tree):
    assert plan("one.wav", "in/a.wav") == [("one.wav", "one.lat"), ("in/a.wav", "in/a.lat")]


def test_folders_are_walked_and_mirrored(tree):
    assert plan("in") == [("in/a.wav", "in/a.lat"), ("in/deep/b.FLAC", "in/deep/b.lat")]
    assert plan("in", output="out") == [("in/a.wav", "out/a.lat"), ("in/deep/b.FLAC", "out/deep/b.lat")]
    assert not Path("out").exists()


def test_an_output_is_a_folder_when_it_looks_like_one(tree):
    assert plan("one.wav", output="x") == [("one.wav", "x")]
    assert plan("one.wav", output="x/") == [("one.wav", "x/one.lat")]
    assert plan("one.wav", output="in") == [("one.wav", "in/one.lat")]
    assert plan("one.wav", "in/a.wav", output="x") == [("one.wav", "x/one.lat"), ("in/a.wav", "x/a.lat")]


def test_stdin_goes_to_stdout(tree):
    assert plan("-") == [("-", "-")]
    assert plan("-", output="x.lat") == [("-", "x.lat")]


def test_a_file_named_twice_is_read_once(tree):
    assert plan("in/a.wav", "in", "./in/a.wav") == [("in/a.wav", "in/a.lat"), ("in/deep/b.FLAC", "in/deep/b.lat")]


def test_two_inputs_for_one_output_are_refused(tree):
    Path("other").mkdir()
    Path("other/a.wav").touch()
    with pytest.raises(UsageError, match=r"in/a.wav and other/a.wav would both be written to x/a.lat"):
        plan("in/a.wav", "other/a.wav", output="x", force=True)


def test_existing_files_are_counted_and_refused(tree):
    Path("one.lat").touch()
    Path("in/a.lat").touch()
    with pytest.raises(TargetExistsError, match=r"one.lat and 1 more exist already; add --force"):
        plan("one.wav", "in")
    assert len(plan("one.wav", "in", force=True)) == 3


def test_an_empty_folder_is_an_error(tree):
    Path("empty").mkdir()
    with pytest.raises(LincaeError, match="empty holds no audio files"):
        plan("empty")


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_bad_item_does_not_stop_the_others(capsys, jobs):
    done = []

    def work(item):
        if item % 3 == 0:
            raise LincaeError(f"{item}.wav: bad", "throw it away")
        done.append(item)

    with pytest.raises(typer.Exit) as stopped:
        batch.run(range(1, 8), work, jobs=jobs)
    assert stopped.value.exit_code == 1
    assert sorted(done) == [1, 2, 4, 5, 7]
    assert capsys.readouterr().err.splitlines() == [
        "lincae: error: 3.wav: bad; throw it away",
        "lincae: error: 6.wav: bad; throw it away",
        "lincae: error: 2 of 7 files failed; the others are done",
    ]


def test_a_single_item_raises_its_own_error():
    with pytest.raises(LincaeError, match="bad"):
        batch.run([1], lambda _: (_ for _ in ()).throw(LincaeError("bad")))


def test_an_interruption_stops_the_other_threads():
    stop, running = threading.Event(), threading.Event()
    ended = []

    def work(item):
        if item == 0:
            running.wait(10)
            raise KeyboardInterrupt
        running.set()
        ended.append(stop.wait(10))

    with pytest.raises(KeyboardInterrupt):
        batch.run([0, 1, 2, 3], work, jobs=2, stop=stop)
    assert all(ended)
    assert len(ended) < 3, "what had not begun must not begin"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_half_written(tmp_path, number, code):
    make_lat(tmp_path / "a.lat")
    # The operand comes from a pipe that nobody fills: the process waits for it until the signal.
    with subprocess.Popen(
        [sys.executable, "-m", "lincae_cli", "verify", "a.lat", "-"],
        cwd=tmp_path, env={**environment(), "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"a.lat: ok\n"
        os.kill(process.pid, number)
        stderr = process.stderr.read()
        assert process.wait(30) == code
    assert b"Traceback" not in stderr
    assert len(stderr.splitlines()) == (1 if number == signal.SIGINT else 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.lat"]
