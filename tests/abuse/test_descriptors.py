"""Closed standard streams, redirections, limits, signals and locales: real processes, as a shell starts them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from cli_helpers import environment, make_lat

from lincae_formats import read_lat

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def bash(script, cwd, **extra):
    """Runs a script in which `L` is lincae."""
    return subprocess.run(
        ["bash", "-c", f'L() {{ "{sys.executable}" -m lincae_cli "$@"; }}\n{script}'],
        cwd=cwd, env={**environment(), **extra}, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def here(tmp_path, tiny_model, monkeypatch):
    """A folder with b.lat and a.wav; the model `tiny` is found by name."""
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    make_lat(tmp_path / "b.lat", num_samples=100_000)
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(20_000), 44100)
    return tmp_path


def test_a_note_never_lands_in_a_stream_when_stderr_is_closed(here):
    expected = bash("L mix b.lat b.lat@0.01 -o - 2>/dev/null > m.lat", here)
    assert expected.returncode == 0
    done = bash("L mix b.lat b.lat@0.01 -o - 2>&- > closed.lat", here)
    assert (done.returncode, done.stdout) == (0, b"")
    assert (here / "closed.lat").read_bytes() == (here / "m.lat").read_bytes()
    assert read_lat(here / "closed.lat").header.num_samples >= 100_000


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_stop_the_work(here, closed):
    done = bash(f"L encode a.wav -o e.lat --model tiny {closed}; echo $?", here)
    assert done.stdout == b"0\n", done.stderr
    assert done.stderr == b""
    assert read_lat(here / "e.lat").header.num_samples == 20_000
    done = bash(f"L decode e.lat -o e.wav {closed}; echo $?", here)
    assert (done.stdout, done.stderr) == (b"0\n", b"")
    assert soundfile.info(here / "e.wav").frames == 20_000
    assert sorted(p.name for p in here.iterdir()) == ["a.wav", "b.lat", "e.lat", "e.wav"]


def test_results_for_a_closed_stdout_are_an_error_and_not_lost(here):
    done = bash("L gain b.lat --db 1 -o - >&-; echo $? >&2", here)
    line, code = done.stderr.decode().splitlines()
    assert code == "1"
    assert line == "lincae: error: stdout (-) is closed; redirect it to a file, or give another -o"


@pytest.mark.parametrize("command", ["info b.lat", "verify b.lat", "--help", "models list"])
def test_text_for_a_closed_stdout_is_no_crash(here, command):
    done = bash(f"L {command} >&-", here)
    assert b"Traceback" not in done.stderr
    assert b"unexpected" not in done.stderr


def test_a_closed_stdin_is_an_empty_one(here):
    done = bash("L gain - --db 1 -o x.lat <&-", here)
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("lincae: error: <stdin>")


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_an_appending_redirection_is_appended_to(here, name):
    (here / "f").write_bytes(b"before")
    wanted = bash("L gain b.lat --db -6 -o -", here).stdout
    done = bash(f"L gain b.lat --db -6 -o {name} >> f", here)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (here / "f").read_bytes() == b"before" + wanted
    bash(f"L gain b.lat --db -6 -o {name} -f >> f", here)
    assert (here / "f").read_bytes() == b"before" + wanted + wanted


def test_another_descriptor_is_appended_to_as_well(here):
    (here / "f").write_bytes(b"before")
    done = bash("L gain b.lat --db -6 -o /dev/fd/7 7>> f", here)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (here / "f").read_bytes().startswith(b"before\x89HDF")


def test_process_substitutions_are_read_once_on_a_terminal_too(here):
    """The thread that measures durations for the progress bar must leave pipes alone."""
    pty = pytest.importorskip("pty")
    script = f'"{sys.executable}" -m lincae_cli encode <(cat a.wav) <(cat a.wav) -o p/ --model tiny'
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=here, env={**environment(), "TERM": "xterm"}, stdin=subprocess.DEVNULL,
        stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    try:
        while part := os.read(leader, 65536):
            shown += part
    except OSError:
        pass  # how Linux tells the end of a terminal
    assert process.wait(60) == 0, shown
    lats = list((here / "p").glob("*.lat"))
    assert [read_lat(path).header.num_samples for path in lats] == [20_000, 20_000]


def test_the_json_log_holds_nothing_but_json_and_ends_with_a_summary(here):
    """mpg123 writes its warnings to descriptor 2 from C."""
    os.mkdir(here / "in")
    soundfile.write(here / "in" / "x.mp3", 0.1 * np.random.default_rng(0).standard_normal(44100 * 2), 44100)
    data = bytearray((here / "in" / "x.mp3").read_bytes())
    for i in range(2000, len(data) - 3000, 2500):
        data[i : i + 400] = bytes(400)
    (here / "in" / "x.mp3").write_bytes(data)
    soundfile.write(here / "in" / "y.wav", 0.1 * np.random.default_rng(0).standard_normal(9000), 44100)
    (here / "in" / "z.wav").write_bytes(b"no audio")
    done = bash("L encode in -o out --model tiny --log json", here)
    *rows, summary = [json.loads(line) for line in done.stderr.decode().splitlines()]
    assert [row["file"] for row in rows] == ["in/x.mp3", "in/y.wav", "in/z.wav"]
    assert [row["status"] for row in rows][1:] == ["done", "failed"]
    assert summary["status"] == "summary"
    assert summary["done"] + summary["failed"] == 3
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has files in memory")
def test_what_libraries_write_to_stderr_is_one_warning(here):
    """A damaged MP3 is decoded; what mpg123 says of it names the file, or is said at the end."""
    soundfile.write(here / "x.mp3", 0.1 * np.random.default_rng(0).standard_normal(44100 * 2), 44100)
    data = bytearray((here / "x.mp3").read_bytes())
    data[8000:8400] = bytes(400)
    (here / "x.mp3").write_bytes(data)
    for command, begin in (
        (
            "encode x.mp3 -o x.lat --model tiny",
            "lincae: warning: x.mp3: its decoder reports: Illegal Audio-MPEG",
        ),
        ("stats x.mp3", "lincae: warning: a library reports: Illegal Audio-MPEG-Header"),
    ):
        done = bash(f"L {command}", here)
        (line,) = done.stderr.decode().splitlines()
        assert done.returncode == 0
        assert line.startswith(begin)
    done = bash("L --debug encode x.mp3 -o y.lat --model tiny", here)
    assert "Illegal Audio-MPEG-Header" in done.stderr.decode()
    assert "lincae:" not in done.stderr.decode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
def test_too_little_address_space_is_the_memory_line(here):
    for limit in (400_000, 800_000, 1_500_000):
        done = bash(f"ulimit -v {limit}; L encode a.wav -o x.lat --model tiny", here, OMP_NUM_THREADS="1")
        if done.returncode == 0:
            break  # the limit is no limit here
        lines = done.stderr.decode(errors="replace").splitlines()
        assert lines[-1:] == ["lincae: error: not enough memory; close other programs, or use shorter files"], lines
        assert not (here / "x.lat").exists()


@pytest.mark.slow
def test_hanging_up_removes_temporary_files(here):
    soundfile.write(here / "long.wav", np.zeros(44100 * 600), 44100)
    process = subprocess.Popen(
        [sys.executable, "-m", "lincae_cli", "encode", "long.wav", "-o", "x.lat", "--model", "tiny"],
        cwd=here, env=environment(), stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(here.glob(".x.lat*")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    _, said = process.communicate(timeout=60)
    assert b"Traceback" not in said
    if not (here / "x.lat").exists():
        assert process.returncode == 128 + signal.SIGHUP
    assert not list(here.glob(".*"))


def test_a_run_under_nohup_goes_on(here):
    done = bash("trap '' HUP; L gain b.lat --db 1 -o x.lat & P=$!; kill -HUP $P; wait $P", here)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (here / "x.lat").exists()


def test_overwriting_keeps_the_mode_of_a_file(here):
    os.chmod(here / "b.lat", 0o644)
    (here / "x.lat").write_bytes(b"old")
    os.chmod(here / "x.lat", 0o600)
    assert bash("umask 022; L gain b.lat --db 1 -o x.lat -f", here).returncode == 0
    assert os.stat(here / "x.lat").st_mode & 0o777 == 0o600
    assert read_lat(here / "x.lat").header.num_samples == 100_000


@pytest.mark.slow
@pytest.mark.parametrize("locale", ["C"])
def test_names_survive_a_locale_that_is_not_utf8(here, locale):
    name = "Füße 音"
    os.rename(here / "a.wav", here / f"{name}.wav")
    strict = {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = bash("L encode *.wav --model tiny && L info *音.lat", here, **strict)
    assert done.returncode == 0, done.stderr
    assert f"{name}.lat".encode() in done.stdout
    assert done.stderr == b""
    done = bash("L decode *音.lat -o out/", here, **strict)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(os.fsencode(here / "out")) == [f"{name}.wav".encode()]
    assert read_lat(here / f"{name}.lat").history[0]["source"] == f"{name}.wav"
