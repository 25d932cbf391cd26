"""Many files: naming, mirroring, globs, lists, what is refused before the work, failures at the end, Ctrl-C."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest
from cli_helpers import environment, make_lat

from lincae_cli import batch, paths, workers
from lincae_cli.paths import gather, left_out
from lincae_formats import LincaeError, TargetExistsError, UsageError


def gathered(*operands, listed=None, nul=False, others=()):
    return gather(
        operands, listed, nul, suffixes={".wav", ".flac"}, kind="audio", missing="lincae encode: AUDIO", others=others
    )


def plan(*operands, output=None, force=False, listed=None, nul=False, keep_extension=False):
    """Jobs of an encode as (source, target) pairs."""
    inputs = gathered(*operands, listed=listed, nul=nul)
    jobs = paths.plan(inputs, output, new_suffix=".lat", force=force, keep_extension=keep_extension)
    assert inputs.failures == []
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


def test_two_inputs_for_one_output_are_named_and_the_others_are_done(tree):
    for name in ("in/a.flac", "in/a.wav", "other/a.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    inputs = gathered("in")
    jobs = paths.plan(inputs, "x", new_suffix=".lat", force=False)
    assert [(job.source, job.target) for job in jobs] == [("in/deep/b.FLAC", "x/deep/b.lat")]
    (error,) = inputs.failures
    assert str(error).startswith("in/a.flac and in/a.wav would both be written to x/a.lat; add --keep-extension")
    assert plan("in", output="x", keep_extension=True) == [
        ("in/a.flac", "x/a.flac.lat"), ("in/a.wav", "x/a.wav.lat"), ("in/deep/b.FLAC", "x/deep/b.FLAC.lat")
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"in/a.wav and other/a.wav would both be written to x/a.lat"):
        plan("in/a.wav", "other/a.wav", output="x", force=True)


def test_audio_that_is_not_read_is_counted_by_its_extension(tree):
    for name in ("in/v.m4a", "in/deep/w.M4A", "in/x.wma", "m4a/only.m4a"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    inputs = gathered("in", others={".m4a", ".wma"})
    assert len(inputs.found) == 2
    assert left_out(inputs) == "2 .m4a and 1 .wma files"
    with pytest.raises(LincaeError, match=r"m4a holds no audio files; it holds 1 \.m4a file; install ffmpeg"):
        gathered("m4a", others={".m4a"})


def test_an_existing_target_is_refused_at_once_and_in_a_batch_left_to_its_turn(tree):
    Path("one.lat").touch()
    with pytest.raises(TargetExistsError, match=r"one.lat exists already; add --force"):
        plan("one.wav")
    Path("in/a.lat").touch()
    with pytest.raises(TargetExistsError, match=r"a.lat and 1 more exist already"):
        paths.check_targets(["in/a.lat", "one.lat"], ["x", "y"], False)
    assert len(plan("one.wav", force=True)) == 1
    assert len(plan("one.wav", "in")) == 3


def test_quoted_globs_are_expanded_and_mirrored(tree):
    assert plan("in/*.wav") == [("in/a.wav", "in/a.lat")]
    assert plan("in/**/*", output="out") == [("in/a.wav", "out/a.lat"), ("in/deep/b.FLAC", "out/deep/b.lat")]
    assert plan("i?", output="out/") == [("in/a.wav", "out/in/a.lat"), ("in/deep/b.FLAC", "out/in/deep/b.lat")]
    Path("take[1].wav").touch()
    assert plan("take[1].wav") == [("take[1].wav", "take[1].lat")], "a file of that very name wins"
    for name in ("album [2020]", "half [open"):
        Path(name).mkdir()
        Path(name, "x.wav").touch()
        assert plan(f"{name}/*.wav") == [(f"{name}/x.wav", f"{name}/x.lat")], "a folder of that very name wins"
        assert plan(f"{name}/**/*.wav", output="o") == [(f"{name}/x.wav", "o/x.lat")]
    for pattern in ("*.mp3", "in/deep/*.txt", "[z]*"):
        with pytest.raises(LincaeError, match="matches no audio files"):
            plan(pattern)


@pytest.mark.parametrize(("nul", "end"), [(False, "\n"), (False, "\r\n"), (True, "\0")])
def test_a_list_of_names_is_taken_as_it_is_and_mirrored_whole(tree, nul, end):
    names = ["one.wav", "./in/deep/b.FLAC", str(tree / "in" / "a.wav"), "../up.wav", "*.wav", "-", "", "-x.wav"]
    Path("list").write_text(end.join(names))
    pairs = plan(listed="list", nul=nul, output="out")
    assert [source for source, _ in pairs] == [*names[:5], "./-", "-x.wav"]
    absolute = str(tree / "in" / "a.lat")
    assert [target for _, target in pairs] == [
        "out/one.lat", "out/in/deep/b.lat", f"out{absolute}", "out/up.lat", "out/*.lat", "out/-.lat", "out/-x.lat",
    ]  # fmt: skip


def test_a_list_with_folders_and_newlines_in_names(tree):
    Path("in/a\nb.wav").touch()
    Path("list").write_bytes(b"in\0in/a\nb.wav\0")
    assert plan(listed="list", nul=True, output="o") == [
        ("in/a\nb.wav", "o/in/a\nb.lat"), ("in/a.wav", "o/in/a.lat"), ("in/deep/b.FLAC", "o/in/deep/b.lat")
    ]  # fmt: skip
    with pytest.raises(LincaeError, match="add -0"):
        plan(listed="list")
    with pytest.raises(LincaeError, match=r"did you mean list"):
        plan(listed="lisst")


def test_a_list_as_editors_write_them(tree):
    Path("#1.wav").touch()
    Path("blank .wav ").touch()
    text = "\ufeff# my songs\r\none.wav  \r\n\r\n   # more\n#1.wav\nblank .wav \n"
    Path("list").write_text(text, encoding="utf-8", newline="")
    assert [source for source, _ in plan(listed="list", output="o")] == ["one.wav", "#1.wav", "blank .wav "]
    Path("list").write_text("one.wav\n", encoding="utf-16")
    with pytest.raises(LincaeError, match="is in UTF-16; save it as UTF-8"):
        plan(listed="list")


def test_stdin_is_read_once_and_something_must_be_named(tree):
    for operands, listed in ((("-", "one.wav", "-"), None), (("-",), "-")):
        with pytest.raises(UsageError, match="only once"):
            plan(*operands, listed=listed)
    with pytest.raises(UsageError, match=r"AUDIO is missing; .*--files-from LIST"):
        plan()
    with pytest.raises(UsageError, match=r"add --files-from LIST"):
        plan("one.wav", nul=True)
    Path("empty").touch()
    assert plan(listed="empty") == [], "nothing to do is nothing wrong"


def test_thousands_of_files_are_planned_in_seconds(tree):
    Path("list").write_text("".join(f"x/{i}.wav\n" for i in range(5_000)))
    began = time.process_time()
    assert len(plan(listed="list", output="out")) == 5_000
    assert time.process_time() - began < 10


def test_a_glob_that_matches_nothing_says_where_to_look(tree):
    for glob, hint in (("in/*/*.mp3", "see: ls in"), ("*.mp3", r"see: ls \."), ("inn/**/*.wav", "did you mean in")):
        with pytest.raises(LincaeError, match=f"matches no audio files; {hint}$"):
            plan(glob)


def test_an_empty_folder_is_an_error(tree):
    Path("empty").mkdir()
    with pytest.raises(LincaeError, match="empty holds no audio files"):
        plan("empty")


def test_a_bad_item_does_not_stop_the_others(capsys):
    done = []

    def work(item):
        if item % 3 == 0:
            raise LincaeError(f"{item}.wav: bad", "throw it away")
        done.append(item)

    with pytest.raises(click.exceptions.Exit) as stopped:
        batch.run(range(1, 8), work)
    assert stopped.value.exit_code == 1
    assert done == [1, 2, 4, 5, 7]
    assert capsys.readouterr().err.splitlines() == [
        "lincae: error: 3.wav: bad; throw it away",
        "lincae: error: 6.wav: bad; throw it away",
        "lincae: error: 2 of 7 files failed; the others are done",
    ]
    with pytest.raises(click.exceptions.Exit):
        batch.run([3, 6], work)
    assert capsys.readouterr().err.splitlines()[-1] == "lincae: error: 2 of 2 files failed", "there are no others"


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
        list(workers.in_threads([0, 1, 2, 3], work, 2, stop))
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
