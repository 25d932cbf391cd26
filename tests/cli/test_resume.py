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
from lincae_cli.batch import LIST
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
    """Every file below a folder, hidden ones too, with its bytes; without the lists of what made them."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != LIST}


@pytest.mark.slow
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

    monkeypatch.setattr("lincae_core.models.store.load", refuse)
    for note in (encode(capsys), decode(capsys), encode(capsys, "--jobs", "2"), decode(capsys, "--jobs", "2")):
        assert note == ["lincae: note: 3 of 3 files were finished already; --force makes them again"]
    assert {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in songs.rglob("*")} == before


@pytest.mark.parametrize("jobs", ["1", "3"])
def test_a_model_is_loaded_once_for_all_files(songs, capsys, monkeypatch, jobs):
    from lincae_core.models import store

    loaded, load = [], store.load
    monkeypatch.setattr(store, "load", lambda info, *rest: loaded.append(info.name) or load(info, *rest))
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


def rewrite(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)


def replace_with_an_older_one():
    """As `cp -p` and `unzip` do: another recording of the same length, with an earlier time."""
    soundfile.write("other.wav", 0.1 * np.random.default_rng(99).standard_normal((3000, 1)), 44100)
    os.utime("other.wav", (10**9, 10**9))
    os.replace("other.wav", "in/0/0.wav")


def replace_with_the_same_time():
    found = os.stat("in/0/0.wav")
    replace_with_an_older_one()
    os.utime("in/0/0.wav", ns=(found.st_atime_ns, found.st_mtime_ns))


CHANGES = {
    "rewritten": (lambda p: rewrite(p), (), "was changed after it was made"),
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-9]), (), "was changed after it was made"),
    "foreign": (lambda p: p.write_bytes(b"mine"), (), "was changed after it was made"),
    "stored": (lambda p: None, ("--dtype", "float32"), "was made with --dtype float16, not --dtype float32"),
    "mono": (lambda p: None, ("--mono",), "was made with no --mono, not --mono"),
    "older source": (lambda p: replace_with_an_older_one(), (), "was made before in/0/0.wav changed"),
    "source of the same time": (lambda p: replace_with_the_same_time(), (), "was made before in/0/0.wav changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_out_of_date_is_named_and_left_and_update_makes_it_again(songs, capsys, what):
    change, options, complaint = CHANGES[what]
    encode(capsys)
    path = songs / "lat" / "0" / "0.lat"
    change(path)
    before = path.read_bytes()
    lines = encode(capsys, *options, code=1)
    assert f"lat/0/0.lat exists already and {complaint}; add --update to make again what is out of date" in " ".join(
        lines
    )
    count = 3 if options else 1
    assert lines[-1].startswith(f"lincae: error: {count} of 3 files failed")
    assert path.read_bytes() == before
    others = {p: p.stat().st_mtime_ns for p in songs.joinpath("lat").rglob("[12].lat")}
    notes = encode(capsys, "--update", *options)
    assert notes == ([] if options else ["lincae: note: 2 of 3 files were finished already; --force makes them again"])
    assert ({p: p.stat().st_mtime_ns for p in others} == others) == (not options), "only what is out of date"
    run(capsys, "encode", "in/0/0.wav", "-o", "alone.lat", "--model", "tiny", *options)
    assert np.array_equal(read_lat(path).data, read_lat("alone.lat").data)
    assert encode(capsys, *options) == ["lincae: note: 3 of 3 files were finished already; --force makes them again"]


def test_a_source_that_was_only_touched_is_the_same(songs, capsys):
    encode(capsys)
    before = tree(songs / "lat")
    os.utime("in/0/0.wav")
    os.chmod("in/1/1.wav", 0o600)
    for options in ((), ("--update",)):
        (note,) = encode(capsys, *options)
        assert "3 of 3 files were finished already" in note
    assert tree(songs / "lat") == before


def test_another_gain_is_told_in_decibels(songs, capsys):
    encode(capsys)
    run(capsys, "gain", "lat", "--db", "-3", "-o", "quiet")
    lines = run(capsys, "gain", "lat", "--db", "-inf", "-o", "quiet", code=1)
    assert "quiet/0/0.lat exists already and was made with --db -3, not --db -inf;" in lines[0]


def test_another_model_makes_other_results(songs, capsys, tiny_model, tmp_path_factory):
    from safetensors.torch import load_file

    from lincae_core.models.store import read_info, save_weights

    encode(capsys)
    before = tree(songs / "lat")
    state = {key: value * 1.01 for key, value in load_file(tiny_model).items()}
    other = tmp_path_factory.mktemp("other") / "tiny.safetensors"
    save_weights(state, read_info(tiny_model).config, other, name="tiny", version="2", license="CC0-1.0")
    lines = run(capsys, "encode", "in", "-o", "lat", "--model", str(other), code=1)
    assert "lat/0/0.lat exists already and was made with --model tiny " in lines[0]
    assert tree(songs / "lat") == before
    assert run(capsys, "encode", "in", "-o", "lat", "--model", str(other), "--update") == []
    assert all(tree(songs / "lat")[name] != before[name] for name in before)


def test_a_file_that_no_batch_made_is_never_replaced_by_update(songs, capsys):
    run(capsys, "encode", "in/0/0.wav", "-o", "x.lat", "--model", "tiny")
    songs.joinpath("lat", "0").mkdir(parents=True)
    songs.joinpath("x.lat").rename("lat/0/0.lat")
    for options in ((), ("--update",)):
        lines = encode(capsys, *options, code=1)
        assert "lat/0/0.lat exists already, and nothing tells what made it; add --force to overwrite it" in " ".join(
            lines
        )
        assert lines[-1] == "lincae: error: 1 of 3 files failed; the others are done"


def test_a_run_that_was_killed_after_the_rename_is_finished_and_before_it_is_not(songs, capsys):
    encode(capsys)
    path = songs / "lat" / "0" / "0.lat"
    made = path.read_bytes()
    record_list = path.with_name(LIST)
    begun = record_list.read_text().split("\n\n")[0]
    record_list.write_text(begun + "\n" + begun[: len(begun) // 2])  # and one killed while it wrote its line
    (note,) = encode(capsys)
    assert "3 of 3 files were finished already" in note
    run(capsys, "encode", "in", "-o", "old", "--model", "tiny", "--mono")
    old, stamp = songs / "old" / "0" / "0.lat", os.stat(songs / "old" / "0" / "0.lat")
    line = json.loads(begun)
    line["before"] = [stamp.st_size, stamp.st_mtime_ns]
    with open(old.with_name(LIST), "a") as file:
        file.write("\n" + json.dumps(line) + "\n")
    lines = run(capsys, "encode", "in/0", "-o", "old/0", "--model", "tiny", code=1)
    assert "was made with --mono, not no --mono" in lines[0]
    assert path.read_bytes() == made


@pytest.mark.parametrize("format", ["flac", "mp3", "ogg", "opus"])
def test_decoded_files_of_every_kind_are_known_again(songs, capsys, format):
    encode(capsys)
    decode(capsys, "--format", format)
    assert {soundfile.info(p).samplerate for p in songs.joinpath("out").rglob(f"*.{format}")} == {
        48000 if format == "opus" else 44100
    }
    (note,) = decode(capsys, "--format", format)
    assert "3 of 3 files were finished" in note


@pytest.mark.parametrize(
    "options",
    [("--start", "0.02"), ("--end", "0.05"), ("--duration", "0.05"), ("--steps", "2"), ("--seed", "7"),
     ("--subtype", "FLOAT"), ("--sample-rate", "22050")],
)  # fmt: skip
def test_a_decode_with_other_options_is_not_finished(songs, capsys, options):
    encode(capsys)
    decode(capsys)
    before = tree(songs / "out")
    lines = decode(capsys, *options, code=1)
    assert "out/0/0.wav exists already and was made with" in lines[0]
    assert options[0] in lines[0]
    assert "add --update" in lines[0]
    assert tree(songs / "out") == before
    assert decode(capsys, *options, "--update") == []
    after = tree(songs / "out")
    assert all(after[name] != before[name] for name in before)
    (note,) = decode(capsys, *options)
    assert "3 of 3 files were finished" in note


def test_a_decode_of_a_changed_source_is_out_of_date(songs, capsys):
    encode(capsys)
    decode(capsys)
    write_lat(gain(read_lat("lat/0/0.lat"), 0.5), "lat/0/0.lat", overwrite=True)
    os.utime("lat/0/0.lat", (0, 0))
    lines = decode(capsys, code=1)
    assert "out/0/0.wav exists already and was made before lat/0/0.lat changed" in " ".join(lines)
    assert decode(capsys, "--update") == ["lincae: note: 2 of 3 files were finished already; --force makes them again"]


def test_lists_of_what_was_made_move_with_their_folder(songs, capsys):
    encode(capsys)
    os.rename("lat", "moved")
    (note,) = run(capsys, "encode", "in", "-o", "moved", "--model", "tiny")
    assert "3 of 3 files were finished" in note


def test_one_file_is_refused_as_ever(songs, capsys):
    encode(capsys)
    (line,) = run(capsys, "encode", "in/0/0.wav", "-o", "lat/0/0.lat", "--model", "tiny", code=1)
    assert "lat/0/0.lat exists already; add --force" in line


def test_a_target_that_another_run_finished_meanwhile_is_no_failure(songs, capsys, monkeypatch):
    encode(capsys)
    monkeypatch.setattr("lincae_cli.batch.os.path.lexists", lambda path: False)
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
    *rows, summary = [json.loads(line) for line in encode(capsys, "--log", "json", code=1)]
    assert (summary["status"], summary["done"], summary["finished"], summary["failed"]) == ("summary", 3, 0, 1)
    assert [(row["file"], row["status"]) for row in rows] == [
        ("in/0/0.wav", "done"), ("in/0/bad.wav", "failed"), ("in/1/1.wav", "done"), ("in/2/2.wav", "done")
    ]  # fmt: skip
    assert rows[0]["output"] == "lat/0/0.lat"
    assert rows[0]["seconds"] == pytest.approx(3000 / 44100)
    assert rows[0]["speed"] > 0
    assert "bad.wav is not audio" in rows[1]["error"]
    again = [json.loads(line) for line in encode(capsys, "--log", "json", code=1)]
    assert [row["status"] for row in again] == ["finished", "failed", "finished", "finished", "summary"]
    row, _ = [json.loads(line) for line in run(capsys, "encode", "in/0/bad.wav", "--log", "json", code=1)]
    assert row["status"] == "failed"
