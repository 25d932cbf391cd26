"""Tags: from every format that holds them, through a `.lat`, into every format that holds them."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from lincae_core.audio import AudioReader, AudioWriter

TAGS = {"title": "Größe", "artist": "A & B", "album": "C", "date": "1999", "genre": "Jazz", "tracknumber": "7"}
GAINS = {"replaygain_track_gain": "-7.50 dB", "replaygain_track_peak": "0.98"}
NEEDS_FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def tags_of(path):
    with AudioReader(path) as reader:
        return reader.tags


def write(path, tags, **options):
    with AudioWriter(path, 48000, 1, tags=tags, **options) as writer:
        writer.write(np.zeros((1, 4800), np.float32))
    return path


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "opus", "mp3", "rf64"])
def test_standard_tags_go_in_and_come_out(tmp_path, kind):
    found = tags_of(write(tmp_path / f"a.{kind}", TAGS))
    assert {key: found.get(key) for key in ("title", "artist", "album")} == {
        key: TAGS[key] for key in ("title", "artist", "album")
    }


@NEEDS_FFMPEG
@pytest.mark.parametrize("artist", ["Ärzte", "久石譲"])
def test_other_programs_read_the_tags_of_an_mp3(tmp_path, artist):
    path = write(tmp_path / "a.mp3", {**TAGS, **GAINS, "artist": artist, "comment": "ø"})
    command = ["ffprobe", "-v", "error", "-show_entries", "format_tags", "-of", "json", path]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["format"]["tags"]
    assert (found["title"], found["artist"], found["date"], found["track"]) == ("Größe", artist, "1999", "7")
    assert found["comment"] == "ø"
    assert tags_of(path) == {**TAGS, **GAINS, "artist": artist, "comment": "ø"}
    assert soundfile.info(path).frames == 4800


@pytest.mark.parametrize("kind", ["au", "w64", "caf", "aiff"])
def test_formats_that_hold_few_tags_or_none_are_written_all_the_same(tmp_path, kind):
    assert soundfile.info(write(tmp_path / f"a.{kind}", {**TAGS, **GAINS})).frames == 4800


def test_replaygain_of_flac_goes_in_and_comes_out(tmp_path):
    found = tags_of(write(tmp_path / "a.flac", {**TAGS, **GAINS}))
    assert found == {**TAGS, **GAINS}
    assert len(soundfile.read(tmp_path / "a.flac")[0]) == 4800


@NEEDS_FFMPEG
@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3", "m4a", "opus"])
def test_replaygain_that_ffmpeg_wrote_is_read(tmp_path, kind):
    write(tmp_path / "a.wav", {})
    options = [item for key, value in {**GAINS, "title": "T"}.items() for item in ("-metadata", f"{key}={value}")]
    if kind == "m4a":
        options += ["-movflags", "use_metadata_tags"]
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.wav", *options, tmp_path / f"a.{kind}"], check=True)
    found = tags_of(tmp_path / f"a.{kind}")
    assert found.get("title") == "T"
    assert found.get("replaygain_track_gain") == "-7.50 dB"


def test_tags_pass_through_a_lat(tmp_path, tiny_model):
    from lincae_core import load, read_lat

    model = load(tiny_model, "cpu")
    write(tmp_path / "a.flac", {**TAGS, **GAINS})
    model.encode_file(tmp_path / "a.flac", tmp_path / "a.lat")
    assert dict(read_lat(tmp_path / "a.lat").tags) == {**TAGS, **GAINS}
    assert model.encode(tmp_path / "a.flac").tags == {**TAGS, **GAINS}
    model.decode_file(tmp_path / "a.lat", tmp_path / "b.flac")
    assert tags_of(tmp_path / "b.flac") == {**TAGS, **GAINS}


@pytest.mark.parametrize(("kind", "rate"), [("opus", 48000), ("mp3", 48000), ("wav", 44100)])
def test_a_rate_that_the_format_lacks_is_replaced_by_the_nearest(tmp_path, tiny_model, kind, rate):
    from lincae_core import load

    model = load(tiny_model, "cpu")
    source = 44100 if kind != "mp3" else 96000
    soundfile.write(tmp_path / "a.wav", np.zeros(source), source)
    model.encode_file(tmp_path / "a.wav", tmp_path / "a.lat")
    report = model.decode_file(tmp_path / "a.lat", tmp_path / f"b.{kind}")
    assert report.sample_rate == rate
    assert soundfile.info(tmp_path / f"b.{kind}").frames == rate


@pytest.mark.parametrize("kind", ["mp3", "ogg", "wav"])
def test_samples_above_full_scale_are_counted(tmp_path, kind):
    with AudioWriter(tmp_path / f"a.{kind}", 48000, 1) as writer:
        writer.write(np.array([[0.5, 1.5, -2.0, 1.0]], np.float32))
    assert writer.clipped == 2
