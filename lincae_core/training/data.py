"""Training audio: decoded once into one int16 array, cropped there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
import torch
from torch import Generator, Tensor

from lincae_formats.errors import LincaeError

EXTENSIONS = {".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff"}
SPEEDS = 4  # steps from no change to the fastest: few, as a Fourier transform of a new length is slow at first


@dataclass(frozen=True)
class Clips:
    """Mono audio of many files, end to end.

    Args:
        audio: int16 samples of all clips, ``[N]``.
        start: first sample of each clip, ``[C]``.
        length: samples of each clip, ``[C]``.
        gain: factor that brings each clip from int16 to the loudness it is trained at, ``[C]``.
        chance: probability of each clip in a draw, ``[C]``.
        names: file of each clip.
    """

    audio: Tensor
    start: Tensor
    length: Tensor
    gain: Tensor
    chance: Tensor
    names: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Total length in s."""
        return len(self.audio) / 44100

    def crops(self, count: int, samples: int, generator: Generator, speed: float = 1.0) -> Tensor:
        """Random crops ``[count, samples]`` float32 at the loudness of the clips they come from.

        Args:
            count: crops.
            samples: of each.
            generator: source of randomness (on the CPU).
            speed: crops are played up to so many times faster or slower, pitch and all.
        """
        clip = torch.multinomial(self.chance, count, replacement=True, generator=generator)
        offset = torch.rand(count, generator=generator, dtype=torch.float64)
        lengths = torch.full((count,), samples)
        if speed != 1:
            turn = torch.randint(-SPEEDS, SPEEDS + 1, (count,), generator=generator) / SPEEDS
            lengths = torch.minimum((samples * speed**turn).long(), self.length[clip].clamp_min(2))
        first = self.start[clip] + (offset * ((self.length[clip] - lengths).clamp_min(0) + 1)).long()
        gain = self.gain[clip, None].to(self.audio.device)
        if speed == 1:
            where = (first[:, None] + torch.arange(samples)).clamp_max(len(self.audio) - 1)
            return self.audio[where.to(self.audio.device)].float() * gain
        read = [self.audio[a : a + n].float() for a, n in zip(first.tolist(), lengths.tolist(), strict=True)]
        return torch.stack([resample(x, samples) for x in read]) * gain

    def to(self, device: torch.device) -> Clips:
        """The same clips with their audio on another device."""
        return Clips(self.audio.to(device), self.start, self.length, self.gain, self.chance, self.names)


def resample(x: Tensor, samples: int) -> Tensor:
    """A signal ``[n]`` stretched to ``[samples]`` by its Fourier transform: as it were, played at another speed."""
    return x if len(x) == samples else torch.fft.irfft(torch.fft.rfft(x), n=samples) * (samples / len(x))


def find_files(folder: Path) -> list[Path]:
    """Audio files under a folder, sorted; LincaeError when there are none."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS)
    if not files:
        raise LincaeError(f"no audio files under {folder}", "check `data:` in the recipe")
    return files


def is_held_out(path: Path, share: float) -> bool:
    """Whether a file belongs to the validation share, decided by its name alone."""
    return int(hashlib.sha256(path.name.encode()).hexdigest()[:8], 16) < share * 2**32


def read_mono(path: Path, sample_rate: int = 44100) -> np.ndarray:
    """A whole file as mono float32 ``[n]`` at ``sample_rate`` Hz."""
    audio, rate = sf.read(path, dtype="float32", always_2d=True)
    mono = audio.mean(1)
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate).astype(np.float32)


def load_clips(
    folders: Sequence[tuple[Path, float]], reference_rms: float | None, shortest: int, held_out: float
) -> tuple[Clips, list[Path]]:
    """Decodes folders (with their fractions) into one array; returns it and the held-out files.

    Args:
        folders: folders with the share of draws that each gets.
        reference_rms: RMS that every clip is brought to; None leaves them as they are.
        shortest: samples below which a file is left out.
        held_out: share of the files kept for validation.

    Raises:
        LincaeError: no usable audio in a folder.
    """
    parts: list[np.ndarray] = []
    gains: list[float] = []
    chances: list[float] = []
    names: list[str] = []
    validation: list[Path] = []
    for folder, fraction in folders:
        files = find_files(folder)
        validation += [p for p in files if is_held_out(p, held_out)]
        files = [p for p in files if not is_held_out(p, held_out)]
        lengths: list[int] = []
        with ThreadPoolExecutor(2) as pool:
            for path, audio in zip(files, pool.map(_read_or_none, files), strict=True):
                if audio is None or len(audio) < shortest:
                    continue
                rms = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
                if rms < 1e-4 or not np.isfinite(rms):
                    continue
                scale = 32767 / max(float(np.abs(audio).max()), 1e-9)
                parts.append(np.round(audio * scale).astype(np.int16))
                gains.append((reference_rms / rms if reference_rms else 1.0) / scale)
                lengths.append(len(audio))
                names.append(str(path))
        if not lengths:
            raise LincaeError(f"no usable audio under {folder}", "files must be readable, not silent and long enough")
        chances += [fraction * n / sum(lengths) for n in lengths]
    length = torch.tensor([len(p) for p in parts])
    return Clips(
        torch.from_numpy(np.concatenate(parts)), length.cumsum(0) - length, length,
        torch.tensor(gains), torch.tensor(chances), tuple(names),
    ), validation  # fmt: skip


def _read_or_none(path: Path) -> np.ndarray | None:
    try:
        return read_mono(path)
    except (sf.LibsndfileError, OSError):
        return None
