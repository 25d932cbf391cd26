"""`lincae compare`: two files judged by level, SNR and MSS."""

import json
import math
import re

import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_cli.app import main
from lincae_core.compare import compare
from lincae_core.evaluation import metrics
from lincae_core.models.codec import AudioArray
from lincae_formats import IncompatibleError


def noise(seconds, channels=2, rate=22050, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal((channels, int(seconds * rate))).astype(np.float32)


class Blocks(AudioArray):
    """Audio in odd pieces."""

    def blocks(self):
        (audio,) = super().blocks()
        for start in range(0, audio.shape[1], 7001):
            yield audio[:, start : start + 7001]


@pytest.mark.parametrize("seconds", [0.01, 3, 10, 14.9, 15.1, 27])
def test_the_measures_are_those_of_the_evaluation(seconds):
    a, b = noise(seconds), noise(seconds) + 0.1 * noise(seconds, seed=1)
    found = compare(Blocks(a, 22050), Blocks(b, 22050))
    assert found.sound["mss"] == pytest.approx(metrics.mss(b, a, 22050), rel=1e-6)
    assert found.sdr_db == pytest.approx(metrics.sdr(b, a), rel=1e-9)
    assert found.level_db == pytest.approx(20 * math.log10(np.sqrt(np.mean(np.square(a, dtype=float)))), rel=1e-9)
    assert found.num_samples == a.shape[1]
    assert not found.equal


@pytest.mark.parametrize("rate", [8000, 11025, 22050])
def test_low_rates_have_a_distance_too(rate):
    a, b = noise(1, 1, rate), noise(1, 1, rate) + 0.1 * noise(1, 1, rate, seed=1)
    near, far = (compare(Blocks(a, rate), Blocks(x, rate)).sound["mss"] for x in (b, 0.5 * a))
    assert 0 < near < far


def test_equal_silent_and_mono():
    a, silence = noise(1), np.zeros((2, 22050), np.float32)
    same = compare(Blocks(a, 22050), Blocks(a, 22050))
    assert (same.equal, same.sound["mss"], same.sdr_db) == (True, 0, metrics.LIMIT_DB)
    quiet = compare(Blocks(silence, 22050), Blocks(a, 22050))
    assert math.isnan(quiet.sound["mss"])
    assert (quiet.sdr_db, quiet.level_db) == (-metrics.LIMIT_DB, -math.inf)
    mono = compare(Blocks(a, 22050), Blocks(a[:1], 22050))
    assert mono.channels == "the one channel of the second with each of the 2 of the first"
    assert mono.other_level_db == pytest.approx(20 * math.log10(np.sqrt(np.mean(a[0] ** 2))), rel=1e-5)
    with pytest.raises(IncompatibleError, match="3 channels"):
        compare(Blocks(noise(1, 3), 22050), Blocks(a, 22050))


def test_the_shorter_length_and_the_first_rate_count():
    t = np.arange(3 * 48000) / 48000
    fast = np.sin(2 * np.pi * 440 * t)[None].astype(np.float32)
    found = compare(Blocks(np.ascontiguousarray(fast[:, ::2]), 24000), Blocks(fast[:, :100_000], 48000))
    assert (found.num_samples, found.sample_rate) == (50_000, 24000)
    assert found.sdr_db > 60


@pytest.fixture
def files(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    soundfile.write("a.wav", noise(1, 2, 44100).T, 44100)
    soundfile.write("half.flac", 0.5 * noise(1, 2, 44100).T[:33075], 44100)
    return tmp_path


def run(capsys, *arguments, code=0):
    assert main([*arguments]) == code
    return capsys.readouterr()


def test_a_table_or_json(files, capsys):
    table = run(capsys, "compare", "a.wav", "half.flac").out
    assert "a.wav" in table
    assert "first 0:00.75 min" in table
    assert "SDR            6.0 dB" in table
    facts = json.loads(run(capsys, "compare", "a.wav", "half.flac", "--json").out)
    assert facts["sdr_db"] == pytest.approx(6.02, abs=0.05)
    assert facts["files"][0]["level_db"] - facts["files"][1]["level_db"] == pytest.approx(6.02, abs=0.05)
    assert facts["files"][1] == {
        "file": "half.flac", "duration": 0.75, "sample_rate": 44100, "channels": 2,
        "level_db": facts["files"][1]["level_db"],
    }  # fmt: skip
    same = run(capsys, "compare", "a.wav", "a.wav")
    assert "the same samples" in same.out
    assert json.loads(run(capsys, "compare", "a.wav", "a.wav", "--json").out)["sdr_db"] is None


def test_levels_have_units_and_mono_against_six_channels_says_how(files, capsys):
    soundfile.write("mono.wav", noise(1, 1, 44100).T, 44100)
    soundfile.write("six.wav", noise(1, 6, 44100).T, 44100)
    table = run(capsys, "compare", "six.wav", "mono.wav").out
    assert re.search(r"RMS level +-20\.0 dBFS +-20\.0 dBFS", table)
    assert "the one channel of mono.wav with each of the 6 of six.wav" in " ".join(table.split())
    assert "stereo image" not in table
    assert "channel of" not in run(capsys, "compare", "mono.wav", "mono.wav").out
    facts = json.loads(run(capsys, "compare", "mono.wav", "six.wav", "--json").out)
    assert facts["channels"] == "the one channel of mono.wav with each of the 6 of six.wav"


def test_sound_is_told_without_any_extra_package(files, capsys):
    """The buzz and the width that the MSS does not see."""
    soundfile.write("narrow.wav", 0.9 * noise(1, 2, 44100).T + 0.1 * noise(1, 2, 44100).T[:, ::-1], 44100)
    facts = json.loads(run(capsys, "compare", "a.wav", "narrow.wav", "--json").out)
    assert facts["tone"] == pytest.approx(1, abs=0.1)
    assert facts["octaves_db"] < 0.5
    assert facts["image_db"] == pytest.approx(20 * math.log10(1 / 0.8), abs=0.2)
    table = run(capsys, "compare", "a.wav", "narrow.wav").out
    for label in ("tone", "octave levels", "stereo image"):
        assert label in table


def test_judges_that_are_not_installed_are_one_line_with_the_command(files, capsys, monkeypatch):
    from lincae_core.evaluation import judges

    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    done = run(capsys, "compare", "a.wav", "half.flac", "--judges", code=1)
    assert "pip install 'lincae[judges]'" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_lat_is_decoded(files, capsys):
    assert (
        main(["encode", "a.wav", "--model", "tiny"])
        == main(["decode", "a.lat", "-o", "d.wav", "--subtype", "FLOAT"])
        == 0
    )
    capsys.readouterr()
    lat = json.loads(run(capsys, "compare", "a.wav", "a.lat", "--json").out)
    wav = json.loads(run(capsys, "compare", "a.wav", "d.wav", "--json").out)
    assert lat["mss"] == pytest.approx(wav["mss"], rel=1e-6)
    assert lat["files"][1]["level_db"] == pytest.approx(wav["files"][1]["level_db"], abs=1e-6)


def test_what_cannot_be_compared_is_refused_in_a_line(files, capsys):
    make_lat(files / "foreign.lat")
    (files / "note.txt").write_text("no audio")
    for arguments, code, remedy in (
        (("-", "-"), 2, "name a file"),
        (("a.wav",), 2, "B is missing"),
        (("a.wav", "missing.wav"), 1, "missing.wav: no such file"),
        (("a.wav", "foreign.lat"), 1, "--model PATH"),
        (("note.txt", "a.wav"), 1, "note.txt is not audio"),
        (("a.wav", "."), 1, "is a folder"),
    ):
        done = run(capsys, "compare", *arguments, code=code)
        assert done.out == ""
        (line,) = done.err.splitlines()
        assert remedy in line
