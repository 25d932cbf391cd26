"""encode and decode as a user types them, with a very small model."""

import numpy as np
import pytest
import soundfile
from cli_helpers import lincae, ok, refused

from lincae_formats import read_lat


@pytest.fixture
def songs(tmp_path):
    """A folder with a stereo and a mono file."""
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "in" / "a.wav", 0.1 * rng.standard_normal((9001, 2)), 22050)
    soundfile.write(tmp_path / "in" / "deep" / "b.flac", 0.1 * rng.standard_normal(5000), 44100)
    return tmp_path


def test_there_and_back_keeps_rate_length_and_channels(songs, tiny_model):
    home = {"XDG_CACHE_HOME": str(songs / "cache")}
    ok("encode", "in", "-o", "lat", "--model", tiny_model, cwd=songs, **home)
    assert read_lat(songs / "lat" / "deep" / "b.lat").channels == 1
    ok("decode", "lat", "-o", "out", "--model", tiny_model, cwd=songs, **home)
    for name, original in (("a.wav", "a.wav"), ("deep/b.wav", "deep/b.flac")):
        found, wanted = soundfile.info(songs / "out" / name), soundfile.info(songs / "in" / original)
        assert (found.frames, found.samplerate, found.channels) == (wanted.frames, wanted.samplerate, wanted.channels)


def test_pipes_carry_the_bytes_of_the_files(songs, tiny_model):
    home = {"XDG_CACHE_HOME": str(songs / "cache")}
    ok("encode", "in/a.wav", "-o", "a.lat", "--model", tiny_model, cwd=songs, **home)
    audio = (songs / "in" / "a.wav").read_bytes()
    piped = ok("encode", "-", "--model", tiny_model, cwd=songs, stdin=audio, **home)
    (songs / "piped.lat").write_bytes(piped)
    assert np.array_equal(read_lat(songs / "piped.lat").data, read_lat(songs / "a.lat").data)
    ok("decode", "a.lat", "-o", "a.flac", "--model", tiny_model, "--end", "0.2", cwd=songs, **home)
    flac = ok("decode", "-", "--format", "flac", "--model", tiny_model, "--end", "0.2", cwd=songs,
              stdin=(songs / "a.lat").read_bytes(), **home)  # fmt: skip
    assert flac == (songs / "a.flac").read_bytes()


def test_one_bad_file_does_not_stop_the_others(songs, tiny_model):
    (songs / "in" / "bad.wav").write_bytes(b"not audio")
    done = lincae("encode", "in", "--model", tiny_model, "--jobs", "2", cwd=songs, XDG_CACHE_HOME=str(songs / "c"))
    assert done.returncode == 1
    assert b"bad.wav" in done.stderr
    assert b"1 of 3 files failed" in done.stderr.splitlines()[-1]
    assert sorted(p.name for p in songs.rglob("*.lat")) == ["a.lat", "b.lat"]


def test_a_model_that_is_not_here_is_named(songs, tiny_model):
    ok("encode", "in/a.wav", "-o", "a.lat", "--model", tiny_model, cwd=songs, XDG_CACHE_HOME=str(songs / "c"))
    line = refused(1, "decode", "a.lat", cwd=songs, XDG_CACHE_HOME=str(songs / "elsewhere"))
    assert "tiny" in line
    assert "--model" in line
