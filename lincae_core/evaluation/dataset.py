"""Tracks with their stems on disk, in the layout of MUSDB18 and MUSDB18-HQ."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from lincae_core.audio import AUDIO_EXTENSIONS, AudioReader, StreamResampler, find_audio
from lincae_core.evaluation.metrics import regrouped
from lincae_formats.errors import LincaeError, UsageError

SAMPLE_RATE = 44100
STEMS = ("bass", "drums", "other", "vocals")
PACKED = ".stem.mp4"  # MUSDB18 as it is distributed: five streams in one file
PACKED_STREAMS = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}  # stream 0 is the mixture
_PREFERRED = (".wav", ".flac")  # where a stem is there twice; then by name


@dataclass(frozen=True)
class Audio:
    """A track in memory at 44.1 kHz, float32; all signals have one length."""

    stems: dict[str, np.ndarray]  # mono [n], those that the track has, in the order of STEMS
    mixture: np.ndarray  # mono [n]: the sum of the stems; of a track without stems, its mixture file
    stereo: np.ndarray | None = None  # the mixture [2, n]; None where a file has not two channels


@dataclass(frozen=True)
class Track:
    """A track on disk."""

    name: str  # of its folder, or of its `.stem.mp4`
    files: dict[str, Path]  # of each stem, or of the mixture where there are no stems; or the `.stem.mp4` as "packed"
    unknown: tuple[Path, ...] = ()  # audio files in its folder that are no stem and not the mixture; they are not used

    def key(self) -> list[list[str | int]]:
        """Name, size and modification time of every file: differs when the track may have changed.

        Raises:
            LincaeError: a file is gone.
        """
        try:
            facts = [(path.name, path.stat()) for path in self.files.values()]
        except OSError as e:
            raise LincaeError(f"{e.filename}: {e.strerror}", "check the folder given with --data") from None
        return [[name, fact.st_size, fact.st_mtime_ns] for name, fact in facts]

    def load(self, seconds: float | None = None) -> Audio:
        """Reads the track, or its first seconds; other sample rates are resampled by soxr.

        Raises:
            LincaeError: a file cannot be read, or the files have different lengths.
        """
        if "packed" in self.files:
            files = {name: _read_packed(self.files["packed"], PACKED_STREAMS[name], seconds) for name in STEMS}
        else:
            files = {name: _read(path, seconds) for name, path in self.files.items()}
        if len({x.shape[1] for x in files.values()}) > 1:
            shown = ", ".join(f"{name} {x.shape[1]}" for name, x in files.items())
            raise LincaeError(
                f"{next(iter(self.files.values())).parent}: its stems have different lengths ({shown} samples)",
                "make them equally long, or leave the track out with --tracks",
            )
        mono = {name: x.mean(0, dtype=np.float32) for name, x in files.items()}
        stereo = _sum(files) if all(len(x) == 2 for x in files.values()) else None
        return Audio({} if "mixture" in mono else mono, _sum(mono), stereo)


def _sum(signals: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(np.sum(list(signals.values()), axis=0, dtype=np.float32))


def find_tracks(folder: Path, names: Sequence[str] = ()) -> list[Track]:
    """The tracks of a folder, or those of the given names: `TRACK/{bass,drums,other,vocals,mixture}.*`, or `.stem.mp4`.

    Stems may be in any audio format, upper or lower case. A folder that holds `test` (and `train`), as MUSDB18 does,
    stands for its `test`. A folder may itself be a track. Of a track in both forms the folder is used.

    Raises:
        LincaeError: there is no such folder, or no track in it.
        UsageError: one of `names` is not among the tracks.
    """
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise LincaeError(f"{folder}: {what}", "give --data a folder of tracks, each a folder of stems")
    found = _tracks_in(folder) or _tracks_in(folder / "test") or _tracks_in(folder / "train")
    if not found and (itself := _track(folder)):
        found = [itself]
    if not found:
        raise LincaeError(
            f"{folder}: no tracks in it",
            f"put audio there as {folder}/TRACK/vocals.wav, drums.wav, bass.wav, other.wav",
        )
    known = {track.name: track for track in found}
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean --tracks {near[0]}" if near else f"for example: --tracks {found[0].name}"
            raise UsageError(f"{folder}: there is no track {name!r}", hint)
    return [track for track in found if not names or track.name in names]


def find_material(folder: Path) -> list[Track]:
    """The tracks of a folder, or, where it is in no such layout, every audio file below it as a track of its own.

    Raises:
        LincaeError: there is no such folder, or no audio.
    """
    if folder.is_dir():
        tracks = _tracks_in(folder / "train") or _tracks_in(folder)  # material to fit on: MUSDB18's training part
        files = [] if tracks else find_audio(folder).files
        tracks = tracks or [Track(str(p.relative_to(folder)), {"mixture": p}) for p in files]
        if tracks:
            return tracks
    raise LincaeError(f"{folder}: no audio in it", "give a folder of audio files")


def _tracks_in(folder: Path) -> list[Track]:
    found: list[Track | None] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = path.name[: -len(PACKED)]
        packed = path.is_file() and path.name.lower().endswith(PACKED) and not _track(folder / name)
        found.append(Track(name, {"packed": path}) if packed else _track(path))
    return [track for track in found if track]


def _track(folder: Path) -> Track | None:
    if not folder.is_dir():
        return None

    def rank(path: Path) -> tuple[int, str]:
        suffix = path.suffix.lower()
        return [*_PREFERRED, suffix].index(suffix), path.name

    found = (p for p in folder.iterdir() if p.suffix.lower() in AUDIO_EXTENSIONS and p.is_file())
    paths = sorted((p for p in found if not p.name.startswith(".")), key=rank)
    there = {path.stem.lower(): path for path in reversed(paths)}  # of two files of a name the first in rank
    files = {name: there[name] for name in STEMS if name in there}
    if not files and "mixture" in there:
        files = {"mixture": there["mixture"]}
    unknown = tuple(path for path in paths if path.stem.lower() not in (*STEMS, "mixture"))
    return Track(folder.resolve().name, files, unknown) if files else None


def _read(path: Path, seconds: float | None) -> np.ndarray:
    """A file at 44.1 kHz, ``[C, n]``; more than two channels are averaged."""
    with AudioReader(path) as reader:
        rate = reader.sample_rate
        # a second more than asked for, as the resampler looks ahead
        wanted = sys.maxsize if seconds is None else math.ceil((seconds + 1) * rate)
        audio = next(regrouped(reader.blocks(), wanted))
    if len(audio) > 2:
        audio = audio.mean(0, keepdims=True, dtype=np.float32)
    return _cut(StreamResampler(rate, SAMPLE_RATE, len(audio)).process(audio, last=True), seconds)


def _read_packed(path: Path, stream: int, seconds: float | None) -> np.ndarray:
    """A stream of a `.stem.mp4`, ``[2, n]``, by ffmpeg."""
    if shutil.which("ffmpeg") is None:
        raise LincaeError(f"{path}: reading {PACKED} needs ffmpeg, which is not installed", "install ffmpeg")
    limit = [] if seconds is None else ["-t", f"{seconds + 1:g}"]
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-map", f"0:{stream}", *limit]
    command += ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "2", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["an empty stream"])[-1]
        raise LincaeError(f"{path}: cannot read its stems ({reason})", f"check it: ffprobe '{path}'")
    return _cut(np.frombuffer(done.stdout, "<f4").reshape(-1, 2).T.astype(np.float32), seconds)


def _cut(audio: np.ndarray, seconds: float | None) -> np.ndarray:
    return audio if seconds is None else audio[:, : max(1, int(seconds * SAMPLE_RATE))]
