"""Tracks on disk: every layout that is read, and what is said of the others."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile as sf
from eval_helpers import RATE, STEMS, music, stems, write_track

from lincae_core.evaluation.dataset import find_material, find_tracks
from lincae_formats.errors import LincaeError, UsageError


@pytest.mark.parametrize("extension", [".wav", ".flac", ".ogg"])
def test_a_folder_of_tracks(tmp_path, extension):
    written = write_track(tmp_path / "B", extension=extension)
    write_track(tmp_path / "A", names=("drums", "vocals"), extension=extension)
    (tmp_path / "notes.txt").write_text("not a track")
    (tmp_path / "empty").mkdir()
    found = find_tracks(tmp_path)
    assert [track.name for track in found] == ["A", "B"]
    audio = found[1].load()
    assert list(audio.stems) == list(STEMS)
    for name, signal in written.items():
        assert np.abs(audio.stems[name] - signal).max() < (0.05 if extension == ".ogg" else 1e-4)
    assert audio.mixture == pytest.approx(sum(audio.stems.values()), abs=1e-6)
    assert list(found[0].load().stems) == ["drums", "vocals"]


def test_the_mixture_is_the_sum_and_its_file_only_stands_in_for_stems(tmp_path):
    write_track(tmp_path / "A")
    sf.write(tmp_path / "A" / "mixture.wav", np.zeros(10), RATE)
    audio = find_tracks(tmp_path)[0].load()
    assert len(audio.mixture) == len(audio.stems["bass"])
    write_track(tmp_path / "B", names=("mixture",))
    audio = find_tracks(tmp_path, ["B"])[0].load()
    assert audio.stems == {}
    assert len(audio.mixture) == round(1.5 * RATE)


def test_musdb_means_its_test_part_and_for_training_its_other(tmp_path):
    write_track(tmp_path / "test" / "T")
    write_track(tmp_path / "train" / "R")
    assert [track.name for track in find_tracks(tmp_path)] == ["T"]
    assert [track.name for track in find_material(tmp_path)] == ["R"]
    shutil.rmtree(tmp_path / "test")
    assert [track.name for track in find_tracks(tmp_path)] == ["R"]


def test_a_track_itself(tmp_path, monkeypatch):
    write_track(tmp_path / "Song")
    assert [track.name for track in find_tracks(tmp_path / "Song")] == ["Song"]
    monkeypatch.chdir(tmp_path / "Song")
    from pathlib import Path

    assert [track.name for track in find_tracks(Path("."))] == ["Song"]


def test_channels_are_averaged_and_rates_converted(tmp_path):
    x = music(1)
    folder = tmp_path / "A"
    folder.mkdir()
    sf.write(folder / "vocals.wav", np.stack([1.5 * x, 0.5 * x], 1), RATE, subtype="FLOAT")
    t = np.arange(48000) / 48000
    sf.write(folder / "other.wav", 0.3 * np.sin(2 * np.pi * 441 * t), 48000, subtype="FLOAT")
    audio = find_tracks(tmp_path)[0].load()
    assert audio.stems["vocals"] == pytest.approx(x, abs=1e-6)
    wanted = 0.3 * np.sin(2 * np.pi * 441 * np.arange(RATE) / RATE)
    assert len(audio.stems["other"]) == RATE
    assert np.abs(audio.stems["other"] - wanted)[1000:-1000].max() < 1e-4


def test_stems_of_any_case_and_mixed_formats_are_found(tmp_path):
    """`other.WAV` or `vocals.mp3` beside `.wav` stems is a stem: without it the mixture would be wrong."""
    signals = stems(1.0)
    (tmp_path / "A").mkdir()
    for name, file in (("bass", "bass.wav"), ("drums", "Drums.FLAC"), ("other", "other.WAV"), ("vocals", "vocals.mp3")):
        sf.write(tmp_path / "A" / file, signals[name], RATE, format=file.rpartition(".")[2].upper())
    sf.write(tmp_path / "A" / "bass.mp3", np.zeros(RATE), RATE)  # the lossless one of two is used
    sf.write(tmp_path / "A" / "guitar.wav", signals["bass"], RATE)
    sf.write(tmp_path / "A" / "._vocals.wav", signals["bass"], RATE)
    (track,) = find_tracks(tmp_path)
    assert [path.name for path in track.files.values()] == ["bass.wav", "Drums.FLAC", "other.WAV", "vocals.mp3"]
    assert [path.name for path in track.unknown] == ["guitar.wav"]
    audio = track.load(0.5)
    assert list(audio.stems) == list(STEMS)
    whole = sum(signals.values())[: RATE // 2]
    assert np.sum((audio.mixture - whole) ** 2) < 0.01 * np.sum(whole**2)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_stem_that_only_ffmpeg_reads(tmp_path):
    write_track(tmp_path / "A", 1.0, ("drums", "vocals"))
    x = music(1.0, 5)
    sf.write(tmp_path / "bass.wav", x, RATE)
    command = ["ffmpeg", "-v", "error", "-i", tmp_path / "bass.wav", "-b:a", "256k", tmp_path / "A" / "Bass.M4A"]
    subprocess.run(command, check=True)
    (track,) = find_tracks(tmp_path)
    assert track.files["bass"].name == "Bass.M4A"
    audio = track.load(0.5)
    assert np.sum((audio.stems["bass"] - x[: RATE // 2]) ** 2) < 0.02 * np.sum(x[: RATE // 2] ** 2)


def test_the_mixture_in_stereo(tmp_path):
    left, right = music(0.5, 1), music(0.5, 2)
    (tmp_path / "A").mkdir()
    sf.write(tmp_path / "A" / "vocals.wav", np.stack([left, right], 1), RATE, subtype="FLOAT")
    sf.write(tmp_path / "A" / "bass.wav", np.stack([right, right], 1), RATE, subtype="FLOAT")
    audio = find_tracks(tmp_path)[0].load()
    assert audio.stereo == pytest.approx(np.stack([left + right, 2 * right]), abs=1e-6)
    assert audio.mixture == pytest.approx(audio.stereo.mean(0), abs=1e-6)
    write_track(tmp_path / "B")
    assert find_tracks(tmp_path, ["B"])[0].load().stereo is None


def test_only_the_beginning(tmp_path):
    write_track(tmp_path / "A", seconds=2)
    track = find_tracks(tmp_path)[0]
    whole, part = track.load(), track.load(0.5)
    assert {len(x) for x in [*part.stems.values(), part.mixture]} == {RATE // 2}
    assert np.array_equal(part.mixture, whole.mixture[: RATE // 2])
    assert len(track.load(60).mixture) == 2 * RATE
    assert len(track.load(1e-9).mixture) == 1


def test_the_key_follows_the_files(tmp_path):
    write_track(tmp_path / "A")
    track = find_tracks(tmp_path)[0]
    before = track.key()
    assert before == track.key()
    sf.write(tmp_path / "A" / "bass.flac", music(1.5, seed=77), RATE)
    assert track.key() != before
    (tmp_path / "A" / "bass.flac").unlink()
    with pytest.raises(LincaeError, match=r"bass\.flac"):
        track.key()


def test_stems_of_different_lengths(tmp_path):
    write_track(tmp_path / "A")
    sf.write(tmp_path / "A" / "bass.flac", music(1), RATE)
    with pytest.raises(LincaeError, match="bass 44100, drums 66150"):
        find_tracks(tmp_path)[0].load()


def test_a_stem_that_is_no_audio(tmp_path):
    write_track(tmp_path / "A")
    (tmp_path / "A" / "bass.flac").write_text("noise")
    with pytest.raises(LincaeError, match=r"bass\.flac"):
        find_tracks(tmp_path)[0].load()


def test_what_is_said_of_other_folders(tmp_path):
    with pytest.raises(LincaeError, match="no such folder"):
        find_tracks(tmp_path / "none")
    with pytest.raises(LincaeError, match="no tracks in it") as caught:
        find_tracks(tmp_path)
    assert "TRACK/vocals.wav" in str(caught.value)
    with pytest.raises(LincaeError, match="no audio"):
        find_material(tmp_path)
    write_track(tmp_path / "Song")
    with pytest.raises(UsageError, match="no track 'Sonk'") as caught:
        find_tracks(tmp_path, ["Sonk"])
    assert "did you mean --tracks Song" in str(caught.value)
    with pytest.raises(UsageError, match="for example: --tracks Song"):
        find_tracks(tmp_path, ["zzz"])


def test_any_folder_of_audio_to_fit_on(tmp_path):
    (tmp_path / "deep").mkdir()
    sf.write(tmp_path / "deep" / "a.ogg", music(1), RATE)
    sf.write(tmp_path / "b.flac", music(1), RATE)
    assert [track.name for track in find_material(tmp_path)] == ["b.flac", "deep/a.ogg"]


def pack(folder, signals, streams=("mixture", "drums", "bass", "other", "vocals")):
    """A `.stem.mp4` as MUSDB18 has them, by ffmpeg."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    inputs, maps = [], []
    for i, name in enumerate(streams):
        path = folder / f"{name}.wav"
        sf.write(path, np.stack([signals[name]] * 2, 1), RATE)
        inputs += ["-i", path]
        maps += ["-map", str(i)]
    target = folder.parent / f"{folder.name}.stem.mp4"
    subprocess.run(["ffmpeg", "-loglevel", "error", *inputs, *maps, "-c:a", "aac", "-b:a", "256k", target], check=True)
    shutil.rmtree(folder)
    return target


def test_musdb_stem_mp4(tmp_path):
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "A Song").mkdir()
    signals = stems(1.0)
    pack(tmp_path / "music" / "A Song", {**signals, "mixture": sum(signals.values())})
    (track,) = find_tracks(tmp_path / "music")
    assert track.name == "A Song"
    audio = track.load()
    assert list(audio.stems) == list(STEMS)
    for name, signal in signals.items():
        error = audio.stems[name][:RATE] - signal
        assert np.sum(error**2) < 0.02 * np.sum(signal**2), name
    assert {len(x) for x in track.load(0.5).stems.values()} == {RATE // 2}
    write_track(tmp_path / "music" / "A Song")  # in both forms: the folder counts
    assert "packed" not in find_tracks(tmp_path / "music")[0].files


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_damaged_stem_mp4(tmp_path):
    (tmp_path / "A.stem.mp4").write_bytes(b"no film")
    (track,) = find_tracks(tmp_path)
    with pytest.raises(LincaeError, match=r"A\.stem\.mp4: cannot read its stems"):
        track.load()


def test_stem_mp4_without_ffmpeg(tmp_path, monkeypatch):
    (tmp_path / "A.stem.mp4").write_bytes(b"no film")
    (track,) = find_tracks(tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LincaeError, match="needs ffmpeg"):
        track.load()
