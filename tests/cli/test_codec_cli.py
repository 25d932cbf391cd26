"""encode and decode as a user types them, with a very small model."""

import shutil

import numpy as np
import pytest
import soundfile
from cli_helpers import ok

from lincae_formats import read_lat


@pytest.fixture
def songs(cli, tiny_model, monkeypatch):
    """A working folder with a stereo and a mono file; the model is not installed, and known by its path."""
    rng = np.random.default_rng(0)
    (cli.folder / "in" / "deep").mkdir(parents=True)
    soundfile.write("in/a.wav", 0.1 * rng.standard_normal((9001, 2)), 22050)
    soundfile.write("in/deep/b.flac", 0.1 * rng.standard_normal(5000), 44100)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cli.folder / "cache"))
    return cli.folder


def test_there_and_back_keeps_rate_length_and_channels(songs, cli, tiny_model):
    cli.ok("encode", "in", "-o", "lat", "--model", tiny_model)
    assert read_lat("lat/deep/b.lat").channels == 1
    cli.ok("decode", "lat", "-o", "out", "--model", tiny_model)
    for name, original in (("a.wav", "a.wav"), ("deep/b.wav", "deep/b.flac")):
        found, wanted = soundfile.info(songs / "out" / name), soundfile.info(songs / "in" / original)
        assert (found.frames, found.samplerate, found.channels) == (wanted.frames, wanted.samplerate, wanted.channels)


@pytest.mark.slow
def test_pipes_carry_the_bytes_of_the_files(songs, cli, tiny_model):
    cli.ok("encode", "in/a.wav", "-o", "a.lat", "--model", tiny_model)
    piped = ok("encode", "-", "--model", tiny_model, cwd=songs, stdin=(songs / "in" / "a.wav").read_bytes())
    (songs / "piped.lat").write_bytes(piped)
    assert np.array_equal(read_lat("piped.lat").data, read_lat("a.lat").data)
    cli.ok("decode", "a.lat", "-o", "a.flac", "--model", tiny_model, "--end", "0.2")
    flac = ok(
        "decode", "-", "--format", "flac", "--model", tiny_model, "--end", "0.2", cwd=songs,
        stdin=(songs / "a.lat").read_bytes(),
    )  # fmt: skip
    assert flac == (songs / "a.flac").read_bytes()


def test_a_part_of_a_file_in_every_spelling(songs, cli, tiny_model):
    cli.ok("encode", "in/deep/b.flac", "-o", "b.lat", "--model", tiny_model)

    def decoded(*options):
        notes = cli.noted("decode", "b.lat", "-o", "b.wav", "-f", "--model", tiny_model, *options)
        told = ["--duration reaches beyond the end of the audio; 0.113 s is used"]
        assert notes == (told if "9" in options else [])
        return soundfile.read("b.wav")[0]

    whole = decoded()
    assert len(whole) == 5000
    for options, start, stop in (
        (("--start", "0.02", "--end", "0.05"), 882, 2205),
        (("--start", "0.02", "--duration", "0.03"), 882, 2205),
        (("--duration", "0.03"), 0, 1323),
        (("--start", "-0.03"), 5000 - 1323, 5000),
        (("--start", "-0.03", "--duration", "0.01"), 5000 - 1323, 5000 - 882),
        (("--end", "-0.03"), 0, 5000 - 1323),
        (("--start", "-0.05", "--end", "-0.03"), 5000 - 2205, 5000 - 1323),
        (("--start", "-100"), 0, 5000),
        (("--start", "0.1", "--duration", "9"), 4410, 5000),
    ):
        assert np.array_equal(decoded(*options), whole[start:stop]), options
    notes = cli.noted("decode", "b.lat", "-o", "b.wav", "-f", "--model", tiny_model, "--end", "1:00")
    assert notes == ["--end reaches beyond the end of the audio; 0.113 s is used"]
    line = cli.refused(1, "decode", "b.lat", "-o", "c.wav", "--model", tiny_model, "--end", "-1")
    assert "b.lat: the end, -0.88" in line
    assert "is not after the start" in line


def test_opus_picks_a_rate_that_it_has(songs, cli, tiny_model):
    cli.ok("encode", "in", "-o", "lat", "--model", tiny_model)
    cli.ok("decode", "lat", "-o", "out", "--format", "opus", "--model", tiny_model)
    assert soundfile.info("out/deep/b.opus").samplerate == 48000
    cli.ok("decode", "lat/deep/b.lat", "-o", "b.opus", "--model", tiny_model)
    assert soundfile.info("b.opus").samplerate == 48000
    assert "48000" in cli.refused(
        2, "decode", "lat/a.lat", "-o", "a.opus", "--sample-rate", "44100", "--model", tiny_model
    )


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "ogg", "opus"])
def test_what_is_above_full_scale_is_told_for_every_format(songs, cli, tiny_model, kind):
    cli.ok("encode", "in/deep/b.flac", "-o", "b.lat", "--dtype", "float32", "--model", tiny_model)
    cli.ok("gain", "b.lat", "--db", "140", "-o", "loud.lat")
    code, _, err = cli.run("decode", "loud.lat", "-o", f"loud.{kind}", "--model", tiny_model)
    (line,) = err.splitlines()
    assert code == 0
    assert line.startswith(f"lincae: warning: loud.{kind}: ")
    kept = "samples are above full scale: the file keeps them, most players clip them; turn it down with: lincae gain"
    cut = "samples above full scale were clipped; turn it down with: lincae gain"
    assert (cut if kind in ("wav", "flac") else kept) in line
    if kind in ("mp3", "ogg"):
        assert np.abs(soundfile.read(f"loud.{kind}")[0]).max() > 1.2


def test_two_inputs_for_one_output_are_named_and_the_others_are_done(songs, cli, tiny_model):
    shutil.copy("in/a.wav", "in/a.wave")
    code, _, err = cli.run("encode", "in", "-o", "lat", "--model", tiny_model)
    first, last = err.splitlines()
    assert code == 1
    assert "in/a.wav and in/a.wave would both be written to lat/a.lat; add --keep-extension" in first
    assert last == "lincae: error: 2 of 3 files failed; the others are done"
    assert sorted(p.name for p in songs.joinpath("lat").rglob("*.lat")) == ["b.lat"]
    cli.ok("encode", "in", "-o", "kept", "--keep-extension", "--model", tiny_model)
    assert sorted(p.name for p in songs.joinpath("kept").rglob("*.lat")) == ["a.wav.lat", "a.wave.lat", "b.flac.lat"]


def test_one_bad_file_does_not_stop_the_others(songs, cli, tiny_model):
    (songs / "in" / "bad.wav").write_bytes(b"not audio")
    code, _, err = cli.run("encode", "in", "--model", tiny_model, "--jobs", "2")
    assert code == 1
    assert "bad.wav" in err
    assert "1 of 3 files failed" in err.splitlines()[-1]
    assert sorted(p.name for p in songs.rglob("*.lat")) == ["a.lat", "b.lat"]


def test_media_that_need_ffmpeg_are_counted_where_there_is_none(songs, cli, tiny_model, monkeypatch):
    for name in ("x.m4a", "deep/y.m4a", "z.wma"):
        (songs / "in" / name).write_bytes(b"media")
    monkeypatch.setenv("PATH", str(songs))
    (note,) = cli.noted("encode", "in", "-o", "lat", "--model", tiny_model)
    assert (
        note
        == "2 .m4a and 1 .wma files left out; install ffmpeg to read them, or convert them: ffmpeg -i song.m4a song.wav"
    )
    assert sorted(p.name for p in songs.joinpath("lat").rglob("*.lat")) == ["a.lat", "b.lat"]


def test_the_storage_of_a_model_without_qualities(songs, cli, tiny_model):
    assert "has no qualities; give --dtype" in cli.refused(
        2, "encode", "in/a.wav", "--quality", "low", "--model", tiny_model
    )
    cli.ok("encode", "in/a.wav", "-o", "a.lat", "--dtype", "float32", "--model", tiny_model)
    assert read_lat("a.lat").dtype == "float32"


@pytest.mark.slow
def test_the_qualities_of_the_shipped_model(songs, cli):
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(44100), 44100)
    for quality in ("low", "medium", "high", "exact"):
        cli.ok("encode", "a.wav", "-o", f"{quality}.lat", "--quality", quality)
    sizes = [(songs / f"{quality}.lat").stat().st_size for quality in ("low", "medium", "high", "exact")]
    assert sizes == sorted(set(sizes)), "higher qualities are larger"
    cli.ok("encode", "a.wav")
    assert (songs / "a.lat").read_bytes() == (songs / "medium.lat").read_bytes(), "medium is the default"
    assert read_lat("exact.lat").dtype == "float32"
    line = cli.refused(2, "encode", "a.wav", "-o", "x.lat", "--dtype", "float16")
    assert "the model frame stores by quality, not by --dtype; give --quality low, medium, high or exact" in line
    cli.ok("encode", "in", "-o", "out")
    code, _, err = cli.run("encode", "in", "-o", "out", "--quality", "low")
    assert code == 1
    assert "was made with --quality medium, not --quality low; add --update" in err


def test_a_model_that_is_not_installed_is_named(songs, cli, tiny_model, monkeypatch):
    cli.ok("encode", "in/a.wav", "-o", "a.lat", "--model", tiny_model)
    monkeypatch.setenv("XDG_CACHE_HOME", str(songs / "elsewhere"))
    line = cli.refused(1, "decode", "a.lat")
    assert "tiny" in line
    assert "--model" in line
