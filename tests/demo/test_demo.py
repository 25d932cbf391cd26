"""The demo, as `pip install lincae && lincae demo` runs it: from any folder, with the shipped weights."""

import base64
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

TRUTHS = ("mixture", "bass", "drums", "other", "vocals")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A finished demo: what it printed, and its folder."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "lincae_cli", "demo", "-o", "out"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, folder / "out"


def test_table_has_a_row_for_every_result(demo):
    rows = [line for line in demo[0].splitlines() if "x real time  " in line]
    assert len(rows) == 9
    assert all(0 < float(row.split()[-1]) < 20 for row in rows)


def test_every_result_is_audio_of_the_right_length(demo):
    for name in (*TRUTHS, "sum", "vocals_by_subtraction", "karaoke", "quiet"):
        audio, rate = sf.read(demo[1] / f"{name}_decoded.wav", always_2d=True)
        assert (rate, audio.shape) == (44100, (441000, 2))
        assert np.abs(audio).max() > 1e-3


def test_quiet_is_twelve_decibels_below(demo):
    """Volume is multiplication: the same sound, 12 dB lower, to the rounding of 16-bit samples."""
    loud, _ = sf.read(demo[1] / "mixture_decoded.wav")
    quiet, _ = sf.read(demo[1] / "quiet_decoded.wav")
    assert np.abs(quiet - 10 ** (-12 / 20) * loud).max() < 0.02 * np.abs(quiet).max()


def test_page_is_self_contained(demo):
    page = (demo[1] / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == 18
    assert not re.search(r'(src|href)="(?!data:)', page)
    first = re.search(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert first is not None
    assert len(base64.b64decode(first[1])) > 10_000


def test_picture_is_a_png(demo):
    data = (demo[1] / "spectrograms.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 50_000


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "lincae_cli", "demo", "-o", str(tmp_path / "file")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "choose another -o" in done.stderr
