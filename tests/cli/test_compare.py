"""`lincae compare`: two files judged by level, SNR and MSS."""

import json
import math

import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_cli.app import main
from lincae_core.compare import compare
from lincae_core.evaluation.levels import snr_db
from lincae_core.evaluation.mss import mss
from lincae_core.sources import AudioArray
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
    assert found.mss == pytest.approx(mss(b, a, 22050), rel=1e-6)
    assert found.snr_db == pytest.approx(snr_db(b, a), rel=1e-9)
    assert found.level_db == pytest.approx(20 * math.log10(np.sqrt(np.mean(np.square(a, dtype=float)))), rel=1e-9)
    assert found.num_samples == a.shape[1]
    assert not found.equal


@pytest.mark.parametrize("rate", [8000, 11025, 22050])
def test_low_rates_have_a_distance_too(rate):
    a, b = noise(1, 1, rate), noise(1, 1, rate) + 0.1 * noise(1, 1, rate, seed=1)
    assert 0 < compare(Blocks(a, rate), Blocks(b, rate)).mss < compare(Blocks(a, rate), Blocks(0.5 * a, rate)).mss


def test_equal_silent_and_mono():
    a, silence = noise(1), np.zeros((2, 22050), np.float32)
    same = compare(Blocks(a, 22050), Blocks(a, 22050))
    assert (same.equal, same.mss, same.snr_db) == (True, 0, math.inf)
    quiet = compare(Blocks(silence, 22050), Blocks(a, 22050))
    assert math.isnan(quiet.mss)
    assert quiet.snr_db == quiet.level_db == -math.inf
    mono = compare(Blocks(a, 22050), Blocks(a[:1], 22050))
    assert mono.other_level_db == pytest.approx(20 * math.log10(np.sqrt(np.mean(a[0] ** 2))), rel=1e-5)
    with pytest.raises(IncompatibleError, match="3 channels"):
        compare(Blocks(noise(1, 3), 22050), Blocks(a, 22050))


def test_the_shorter_length_and_the_first_rate_count():
    t = np.arange(3 * 48000) / 48000
    fast = np.sin(2 * np.pi * 440 * t)[None].astype(np.float32)
    found = compare(Blocks(np.ascontiguousarray(fast[:, ::2]), 24000), Blocks(fast[:, :100_000], 48000))
    assert (found.num_samples, found.sample_rate) == (50_000, 24000)
    assert found.snr_db > 60


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
    assert "first 0:00.75" in table
    assert "SNR          6.0 dB" in table
    facts = json.loads(run(capsys, "compare", "a.wav", "half.flac", "--json").out)
    assert facts["snr_db"] == pytest.approx(6.02, abs=0.05)
    assert facts["files"][0]["level_db"] - facts["files"][1]["level_db"] == pytest.approx(6.02, abs=0.05)
    assert facts["files"][1] == {
        "file": "half.flac", "duration": 0.75, "sample_rate": 44100, "channels": 2,
        "level_db": facts["files"][1]["level_db"],
    }  # fmt: skip
    same = run(capsys, "compare", "a.wav", "a.wav")
    assert "the same samples" in same.out
    assert json.loads(run(capsys, "compare", "a.wav", "a.wav", "--json").out)["snr_db"] is None


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
