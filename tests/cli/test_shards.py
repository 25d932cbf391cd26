"""`--shard K/N`: processes that know nothing of each other share a batch."""

import os
import signal
import subprocess
import sys
import time

import pytest
import soundfile
from cli_helpers import environment, lincae, make_lat, ok, refused
from hypothesis import given
from hypothesis import strategies as st

from lincae_cli.batch import LIST
from lincae_cli.options import Shard, _own_shard

PLACES = [709, 262, 767]
NAMES = [f"{i % 5}/{i} song.lat" for i in range(40)]


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Folder `in` with 40 files in the working folder."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(NAMES):
        make_lat(tmp_path / "in" / name, seed=i)
    return tmp_path


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.lat")}


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1), st.integers(1, 50))
def test_every_name_belongs_to_one_part(name, parts):
    assert sum(Shard(number, parts).holds(name) for number in range(1, parts + 1)) == 1


def test_parts_are_of_about_one_size():
    counts = [sum(Shard(k, 8).holds(f"album/{i}.wav") for i in range(8000)) for k in range(1, 9)]
    assert 850 < min(counts) <= max(counts) < 1150


def test_parts_stay_the_same():
    """A change of the rule would make a running array job do files twice and leave others out."""
    names = ("a.wav", "b/c.wav", "ü.flac")
    assert [next(k for k in range(1, 1001) if Shard(k, 1000).holds(name)) for name in names] == PLACES


def test_shards_side_by_side_write_what_one_run_writes(library):
    ok("gain", "in", "--db", "-6", "-o", "whole/")
    command = [sys.executable, "-m", "lincae_cli", "gain", "in", "--db", "-6", "-o", "parts/", "--shard"]
    running = [subprocess.Popen([*command, f"{k}/3"], env=environment(), stderr=subprocess.PIPE) for k in (1, 2, 3)]
    said = [process.communicate(timeout=100)[1].decode() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], said
    counts = [int(text.partition(": ")[2].split(": ")[-1].split(" of ")[0]) for text in said]
    assert sum(counts) == len(NAMES), said
    assert contents(library / "parts") == contents(library / "whole")
    # Again, whole and with other parts: there is nothing left to do.
    before = {p: p.stat().st_mtime_ns for p in (library / "parts").rglob("*.lat")}
    assert lincae("gain", "in", "--db", "-6", "-o", "parts/").returncode == 0
    assert lincae("gain", "in", "--db", "-6", "-o", "parts/", "--shard", "2/7").returncode == 0
    assert before == {p: p.stat().st_mtime_ns for p in (library / "parts").rglob("*.lat")}


@pytest.mark.slow
def test_a_killed_shard_is_completed_by_the_next_run(library):
    ok("gain", "in", "--db", "-6", "-o", "whole/")
    command = [sys.executable, "-m", "lincae_cli", "gain", "in", "--db", "-6", "-o", "parts/", "--jobs", "1"]
    for _ in range(3):
        process = subprocess.Popen([*command, "--shard", "1/2"], env=environment(), stderr=subprocess.DEVNULL)
        deadline, before = time.monotonic() + 60, len(contents_or_none(library / "parts"))
        while process.poll() is None and time.monotonic() < deadline:
            if len(contents_or_none(library / "parts")) > before:
                process.send_signal(signal.SIGKILL)
                break
        process.wait(60)
    for shard in ("1/2", "2/2"):
        done = lincae("gain", "in", "--db", "-6", "-o", "parts/", "--shard", shard)
        assert done.returncode == 0, done.stderr.decode()
    assert contents(library / "parts") == contents(library / "whole")
    assert not [p for p in (library / "parts").rglob("*") if p.is_file() and p.suffix != ".lat" and p.name != LIST]


def contents_or_none(folder):
    return list(folder.rglob("*.lat")) if folder.exists() else []


def test_auto_asks_the_scheduler(monkeypatch):
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    with pytest.raises(ValueError, match="finds neither"):
        _own_shard()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert _own_shard() == Shard(3, 4)
    monkeypatch.delenv("RANK")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert _own_shard() == Shard(1, 8)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "1")
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "6")
    assert _own_shard() == Shard(33, 48)  # the fifth job of six, its first process of eight
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "9")
    with pytest.raises(ValueError, match="gaps"):
        _own_shard()
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "x")
    with pytest.raises(ValueError, match="not a whole number"):
        _own_shard()


@pytest.mark.parametrize("wrong", ["17/16", "0/4", "1/0", "-1/4", "1.5/4", "3", "a/b", "auto"])
def test_wrong_shards_are_refused(library, wrong):
    empty = {"RANK": "", "WORLD_SIZE": ""} if wrong == "auto" else {}
    text = refused(2, "gain", "in", "--db", "-6", "-o", "out/", "--shard", wrong, **empty)
    assert "--shard" in text
    assert not (library / "out").exists()


def test_one_file_is_not_split(library):
    assert "one file" in refused(2, "gain", f"in/{NAMES[0]}", "--db", "-6", "-o", "out.lat", "--shard", "1/2")


def test_a_shard_without_files_is_done(library):
    (library / "few").mkdir()
    make_lat(library / "few" / "a.lat")
    whose = [k for k in range(1, 51) if Shard(k, 50).holds("a.lat")]
    other = 1 if whose != [1] else 2
    done = lincae("gain", "few", "--db", "-6", "-o", "out/", "--shard", f"{other}/50")
    assert done.returncode == 0, done.stderr.decode()
    assert b"0 of 1 files" in done.stderr
    assert not contents_or_none(library / "out")


@pytest.mark.slow
def test_eval_is_shared(library):
    import numpy as np

    rng = np.random.default_rng(0)
    for track in ("a", "b", "c"):
        (library / "stems" / track).mkdir(parents=True)
        for stem in ("bass", "drums"):
            sound = rng.standard_normal(44100 * 2) * 0.05
            soundfile.write(library / "stems" / track / f"{stem}.wav", sound, 44100)
    command = ["eval", "--data", "stems", "--model", "identity", "-o", "out"]
    first = lincae(*command, "--shard", "1/2")
    second = lincae(*command, "--shard", "2/2")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert b"left to other shards" in first.stderr
    assert b"left to other shards" not in second.stderr
    whole = lincae("eval", "--data", "stems", "--model", "identity", "-o", "alone")
    assert table(second.stdout) == table(whole.stdout)


def table(text):
    """The lines without the measured speeds."""
    return text.decode().partition("Size and speed")[0]
