"""Progress: by audio time with speed and time left on a terminal, nothing elsewhere."""

import io
import os
import re
import sys
import time

import numpy as np
import pytest
import soundfile

from lincae_cli.app import main
from lincae_cli.messages import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use(monkeypatch, screen):
    """Makes `screen` the stderr of the rest of the test (not in a fixture: pytest sets stderr after those)."""
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    return screen


def shown(screen):
    """The text drawn, without the terminal's control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())


def touch(monkeypatch, folder, *names):
    """Empty files in the working folder: durations are measured of regular files only."""
    monkeypatch.chdir(folder)
    for name in names:
        (folder / name).touch()


def test_all_files_together_and_each_by_itself(monkeypatch, tmp_path):
    touch(monkeypatch, tmp_path, "a.wav", "b.wav", "c.wav")
    terminal = use(monkeypatch, Terminal())
    with Progress(["a.wav", "b.wav", "c.wav"], {"a.wav": 100.0, "b.wav": 60.0}.__getitem__) as progress:
        bar = progress.bar("a.wav")
        for _ in range(1000):  # the total is found in a thread
            bar(30.0, 100.0)
            time.sleep(0.02)
            if "0:30 of 2:40" in shown(terminal):
                break
        progress.note("a line that stays")
        bar(100.0, 100.0)
        progress.end("a.wav", True)
        progress.end("b.wav", False)
        time.sleep(0.2)
    text = shown(terminal)
    assert re.search(r"0/3 files .* 0:30 of 2:40, \d[\d.]*x real time .* left", text)
    assert re.search(r"a\.wav .* 0:30 of 1:40, \d[\d.]*x real time", text)
    assert re.search(r"2/3 files .* 1:40 of 1:40,", text), "what is skipped counts no more"
    assert "a line that stays" in text


@pytest.mark.parametrize("stderr", [io.StringIO, Terminal])
def test_nothing_is_drawn_where_it_is_not_wanted(monkeypatch, stderr):
    screen = use(monkeypatch, stderr())
    with Progress(["a", "b"], quiet=stderr is Terminal) as progress:
        progress.bar("a")(1.0, 2.0)
        progress.note("a note")
        progress.end("a", True)
    assert screen.getvalue() == ""


def test_audio_of_files_without_a_bar_counts_when_they_end(monkeypatch, tmp_path):
    touch(monkeypatch, tmp_path, "a.lat", "b.lat")
    terminal = use(monkeypatch, Terminal())
    with Progress(["a.lat", "b.lat"], {"a.lat": 100.0, "b.lat": 60.0}.__getitem__) as progress:
        progress.end("a.lat", True, 100.0)
        time.sleep(0.2)
    assert re.search(r"1/2 files .* 1:40 of 2:40, \d+x real time", shown(terminal))


def test_what_is_not_a_regular_file_is_never_measured(monkeypatch, tmp_path):
    """A pipe has its bytes once: who measures it takes them from the work."""
    touch(monkeypatch, tmp_path, "a.lat")
    os.mkfifo("pipe.lat")
    use(monkeypatch, Terminal())
    measured = []
    with Progress(["a.lat", "pipe.lat", "-"], lambda name: measured.append(name) or 1.0):
        time.sleep(0.3)
    assert measured == ["a.lat"]


def test_a_line_is_replaced_and_shows_how_far_it_is(monkeypatch):
    terminal = use(monkeypatch, Terminal())
    with Progress() as progress:
        progress.line("step 1, loss 0.9", 0.1)
        time.sleep(0.2)
        progress.line("step 2\x1b[2J, loss 0.8", 0.2)
        time.sleep(0.2)
    text = shown(terminal)
    assert "step 1, loss 0.9" in text
    assert "step 2\\x1b[2J, loss 0.8" in text


def test_stopping_ends_the_work(monkeypatch):
    with Progress() as progress:
        bar = progress.bar("a")
        progress.stop.set()
        with pytest.raises(KeyboardInterrupt):
            bar(1.0, 2.0)


def test_encode_tells_a_terminal_what_it_does(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    terminal = use(monkeypatch, Terminal())
    for name in ("a.wav", "b.wav"):
        soundfile.write(name, 0.1 * np.random.default_rng(0).standard_normal(44100 * 2), 44100)
    assert main(["encode", "a.wav", "b.wav", "--model", str(tiny_model)]) == 0
    assert re.search(r"a\.wav -> a\.lat  0:02 of audio in \d+\.\d s, \d+x real time", shown(terminal))
