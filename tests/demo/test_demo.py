"""The demo with a small untrained model: every file, the page, and the arithmetic."""

import base64
import html
import re

import numpy as np
import pytest
import soundfile as sf

import lincae_core.demo as demonstration
from lincae_cli.app import main
from lincae_core.demo import SCORES

LENGTH = 2 * 44100
ORIGINALS = ("mixture", "bass", "drums", "other", "vocals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model, one_thread):
    """A finished demo of two seconds; without Zimtohrli, which may be installed or not."""
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    for name in demonstration.NAMES:
        audio, rate = sf.read(demonstration.STEMS / f"{name}.flac", frames=LENGTH)
        sf.write(folder / f"{name}.flac", audio, rate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstration, "_judges", lambda: None)
        patch.setattr(demonstration, "STEMS", folder)
        demo = demonstration.run_demo(out, model=str(tiny_model))
    assert len(demo.rows) == 9
    assert demo.scores == ["SDR", "octaves", "tone", "MSS"]
    return out


def test_every_result_is_audio_of_the_right_length(folder):
    for name in (*ORIGINALS, "sum", "vocals_by_subtraction", "karaoke", "quiet"):
        audio, rate = sf.read(folder / f"{name}_decoded.wav", always_2d=True)
        assert (rate, audio.shape) == (44100, (LENGTH, 2))


def test_quiet_is_twelve_decibels_below(folder):
    """Volume is multiplication: the same sound, 12 dB lower, to the rounding of 16-bit samples."""
    loud, _ = sf.read(folder / "mixture_decoded.wav")
    quiet, _ = sf.read(folder / "quiet_decoded.wav")
    assert np.abs(quiet - 10 ** (-12 / 20) * loud).max() < 2 / 32768 + 0.02 * np.abs(quiet).max()


def test_an_opus_file_of_the_same_bytes_lies_beside_every_encoded_stem(folder):
    for name in ORIGINALS:
        lat, opus = folder / f"{name}.lat", folder / f"{name}.opus"
        assert opus.read_bytes().startswith(b"OggS")
        # this model is smaller than the smallest Opus: 6 kbit/s a channel
        assert opus.stat().st_size == pytest.approx(max(lat.stat().st_size, 2 * 6000 * 2 / 8), rel=0.4)
        assert sf.info(folder / f"{name}_opus.wav").frames == LENGTH


def test_page_is_self_contained_and_says_what_to_listen_for(folder):
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count("<audio ") == page.count("<img ") == 9 * 2 + len(ORIGINALS)
    assert not re.search(r'(src|href)="(?!data:)', page)
    first = re.search(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert first is not None
    assert len(base64.b64decode(first[1])) > 10_000
    assert page.count("<figcaption>Opus, the same bytes") == len(ORIGINALS)
    for text in ("Can you understand the words?", "mixing is addition", "lincae eval --judges", "currentTime"):
        assert text in page
    for name in ("SDR", "octaves", "tone", "MSS"):
        assert SCORES[name] in html.unescape(page)


def test_picture_is_a_png(folder):
    data = (folder / "spectrograms.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(data) > 50_000


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "-o", str(tmp_path / "file")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "choose another -o" in error


@pytest.mark.slow
def test_the_shipped_model_shows_what_each_quality_costs(tmp_path, monkeypatch, one_thread):
    monkeypatch.setattr(demonstration, "_judges", lambda: None)
    found = demonstration.run_demo(tmp_path / "out").qualities
    assert [(row.name, row.quality) for row in found][:3] == [
        ("mixture", "low"), ("vocals_by_subtraction", "low"), ("mixture", "medium"),
    ]  # fmt: skip
    for name in ("mixture", "vocals_by_subtraction"):
        costs = [row.kbps for row in found if row.name == name]
        sdrs = [row.scores["SDR"] for row in found if row.name == name]
        assert costs == sorted(costs)
        assert len(costs) == 4
        assert sdrs[2] > sdrs[1] > sdrs[0]
    page = html.unescape((tmp_path / "out" / "index.html").read_text(encoding="utf-8"))
    assert "What each quality costs, and what separation needs" in page
