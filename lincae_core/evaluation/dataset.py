"""Tracks with their stems on disk, in the layout of MUSDB18 and MUSDB18-HQ."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from lincae_formats.errors import LincaeError, UsageError

SAMPLE_RATE = 44100
STEMS = ("bass", "drums", "other", "vocals")
EXTENSIONS = (".wav", ".flac", ".ogg")
PACKED = ".stem.mp4"  # MUSDB18 as it is distributed: five streams in one file
_PACKED_STREAMS = {"drums": 1, "bass": 2, "other": 3, "vocals": 4}  # stream 0 is the mixture


@dataclass(frozen=True)
class Audio:
    """A track in memory: mono float32 at 44.1 kHz, all signals of one length.

    Args:
        stems: by name, in the order bass, drums, other, vocals; those that the track has.
        mixture: sum of the stems; of a track without stems, its mixture file.
    """

    stems: dict[str, np.ndarray]
    mixture: np.ndarray


@dataclass(frozen=True)
class Track:
    """A track on disk.

    Args:
        name: name of its folder, or of its `.stem.mp4`.
        files: audio file of each stem, and of the mixture where it has no stems; or the `.stem.mp4` as "packed".
    """

    name: str
    files: dict[str, Path]

    def key(self) -> list[list[str | int]]:
        """What changes when the track's files do: their names, sizes and times of change.

        Raises:
            LincaeError: a file is gone.
        """
        try:
            facts = [(path.name, path.stat()) for path in self.files.values()]
        except OSError as e:
            raise LincaeError(f"{e.filename}: {e.strerror}", "look again at the folder given with --data") from None
        return [[name, fact.st_size, fact.st_mtime_ns] for name, fact in facts]

    def load(self, seconds: float | None = None) -> Audio:
        """Reads the track: channels averaged, other rates resampled by soxr.

        Args:
            seconds: only the first so many; all of it by default.

        Raises:
            LincaeError: a file cannot be read, or the files are of different lengths.
        """
        if "packed" in self.files:
            stems = _read_packed(self.files["packed"], seconds)
        else:
            stems = {name: _read(path, seconds) for name, path in self.files.items()}
        lengths = {len(x) for x in stems.values()}
        if len(lengths) > 1:
            shown = ", ".join(f"{name} {len(x)}" for name, x in stems.items())
            raise LincaeError(
                f"{self._folder()}: its stems have different lengths ({shown} samples)",
                "make them equally long, or leave the track out with --tracks",
            )
        if "mixture" in stems:
            return Audio({}, stems["mixture"])
        return Audio(stems, np.asarray(np.sum(list(stems.values()), axis=0, dtype=np.float32)))

    def _folder(self) -> Path:
        return next(iter(self.files.values())).parent


def find_tracks(folder: Path, names: Sequence[str] = ()) -> list[Track]:
    """The tracks of a folder, by name: `TRACK/{bass,drums,other,vocals,mixture}.{wav,flac,ogg}` or `TRACK.stem.mp4`.

    A folder that holds `test` (and `train`), as MUSDB18 does, stands for its `test`. A folder may itself be a track.
    Of a track in both forms the folder counts.

    Args:
        folder: where to look.
        names: only these tracks.

    Raises:
        LincaeError: there is no such folder, or nothing in it.
        UsageError: one of `names` is not among the tracks.
    """
    if not folder.is_dir():
        what = "a file, not a folder" if folder.exists() else "no such folder"
        raise LincaeError(f"{folder}: {what}", "give --data a folder of tracks, each a folder of stems")
    found = _tracks_in(folder) or _tracks_in(folder / "test") or _tracks_in(folder / "train")
    if not found:
        itself = _track(folder)
        found = [itself] if itself else []
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


def find_audio(folder: Path) -> list[Track]:
    """The tracks of a folder, or, where it is in no such layout, every audio file below it as a track of its own.

    Raises:
        LincaeError: there is no such folder, or no audio.
    """
    if folder.is_dir():
        # Training material: of MUSDB18 the part for training.
        tracks = _tracks_in(folder / "train") or _tracks_in(folder)
        files = [] if tracks else sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
        tracks = tracks or [Track(str(p.relative_to(folder)), {"mixture": p}) for p in files]
        if tracks:
            return tracks
    raise LincaeError(f"{folder}: no audio in it", "give a folder of WAV, FLAC or Ogg files")


def _tracks_in(folder: Path) -> list[Track]:
    if not folder.is_dir():
        return []
    tracks = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            track = _track(path)
        elif path.name.endswith(PACKED) and not _track(folder / path.name.removesuffix(PACKED)):
            track = Track(path.name.removesuffix(PACKED), {"packed": path})
        else:
            track = None
        if track:
            tracks.append(track)
    return tracks


def _track(folder: Path) -> Track | None:
    files = {name: path for name in (*STEMS, "mixture") if (path := _audio_file(folder, name))}
    if len(files) > 1:
        files.pop("mixture", None)
    return Track(folder.resolve().name, files) if files else None


def _audio_file(folder: Path, name: str) -> Path | None:
    candidates = (folder / (name + extension) for extension in EXTENSIONS)
    return next((path for path in candidates if path.is_file()), None)


def _read(path: Path, seconds: float | None) -> np.ndarray:
    from lincae_core.audio import AudioReader

    with AudioReader(path, mono=True) as reader:
        rate = reader.sample_rate
        # A little more than asked for, as the resampler looks ahead.
        need = math.inf if seconds is None else (seconds + (rate != SAMPLE_RATE)) * rate
        blocks, have = [], 0
        for block in reader.blocks():
            blocks.append(block[0])
            have += block.shape[1]
            if have >= need:
                break
    return _cut(_resample(np.concatenate(blocks), rate), seconds)


def _read_packed(path: Path, seconds: float | None) -> dict[str, np.ndarray]:
    for program in ("ffmpeg", "ffprobe"):
        if shutil.which(program) is None:
            raise LincaeError(f"{path}: reading {PACKED} needs {program}, which is not installed", "install ffmpeg")
    try:
        import stempeg
    except ImportError:
        hint = "pip install 'lincae[eval]'"
        raise LincaeError(f"{path}: reading {PACKED} needs the package stempeg", hint) from None
    try:
        audio, rate = stempeg.read_stems(str(path), duration=seconds, dtype=np.float32)  # [streams, samples, channels]
        streams = {name: np.asarray(audio[_PACKED_STREAMS[name]], np.float32).mean(1) for name in STEMS}
    except Exception as e:  # it passes on whatever ffmpeg's output led to
        reason = f"{type(e).__name__}: {e}".splitlines()[0]
        raise LincaeError(f"{path}: cannot read its stems ({reason})", f"check it: ffprobe '{path}'") from None
    return {name: _cut(_resample(x, int(rate)), seconds) for name, x in streams.items()}


def _resample(audio: np.ndarray, rate: int) -> np.ndarray:
    from lincae_core.audio import StreamResampler

    return StreamResampler(rate, SAMPLE_RATE, 1).process(audio[None], last=True)[0]


def _cut(audio: np.ndarray, seconds: float | None) -> np.ndarray:
    return audio if seconds is None else audio[: max(1, int(seconds * SAMPLE_RATE))]
