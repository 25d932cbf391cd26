"""Training audio: decoded once into one int16 array, cropped and augmented there."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from lincae_core.audio import find_audio, printable, read_audio
from lincae_core.evaluation.metrics import rms
from lincae_formats.errors import LincaeError, one_line

RATE = 44100  # Hz
QUIETEST = 1e-4  # RMS below which a file counts as silent
SPEEDS = 4  # steps from no change to the fastest: few, as the first Fourier transform of every length is slow
BUMPS = 3  # sinusoids in the random filter of `equalise`

log = logging.getLogger("lincae")


@dataclass(frozen=True)
class Clips:
    """Mono audio of C files, concatenated."""

    audio: Tensor  # int16 samples of all clips, [N]
    start: Tensor  # first sample of each clip, [C]
    length: Tensor  # samples of each clip, [C]
    gain: Tensor  # factor from int16 to the loudness that each clip is trained at, [C]
    chance: Tensor  # probability of each clip in a draw, [C]
    names: tuple[str, ...]  # file of each clip

    @property
    def seconds(self) -> float:
        """Total length in s."""
        return len(self.audio) / RATE

    def crops(self, count: int, samples: int, generator: Generator, speed: float = 1.0) -> Tensor:
        """Random crops ``[count, samples]`` float32 at the loudness of the clips they come from.

        Each is played faster or slower (pitch changes too) by up to the factor `speed`. The generator is on the CPU.
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
        return torch.stack([stretched(x, samples) for x in read]) * gain

    def to(self, device: torch.device) -> Clips:
        """The same clips with their audio on another device."""
        return replace(self, audio=self.audio.to(device))


def stretched(x: Tensor, samples: int) -> Tensor:
    """A signal ``[n]`` resampled to ``[samples]`` by its Fourier transform: the same, played at another speed."""
    return x if len(x) == samples else torch.fft.irfft(torch.fft.rfft(x), n=samples) * (samples / len(x))


def load_clips(
    folders: Sequence[tuple[Path, float]], reference_rms: float | None, shortest: int, held_out: float
) -> tuple[Clips, list[Path]]:
    """Decodes folders into one array; files that cannot be used are left out and counted in the log.

    Args:
        folders: folders, with the share of the crops that come from each.
        reference_rms: RMS that every clip is scaled to; None leaves them as they are.
        shortest: length in samples below which a file is left out.
        held_out: share of the files kept for validation.

    Returns:
        The clips, and the files held out.

    Raises:
        LincaeError: no usable audio in a folder.
    """
    parts: list[tuple[np.ndarray, float]] = []  # samples, and the factor to the loudness they are trained at
    chances: list[float] = []
    names: list[str] = []
    validation: list[Path] = []
    for folder, fraction in folders:
        files = audio_files(folder)
        kept = [p for p in files if not is_held_out(p, held_out)]
        validation += [p for p in files if is_held_out(p, held_out)]
        if not kept:
            raise LincaeError(
                f"{folder}: every one of its {len(files)} audio files is held out for validation",
                "use --set data.held_out=0, or more files",
            )
        with ThreadPoolExecutor(2) as pool:
            read = list(pool.map(partial(_read_clip, shortest=shortest, reference_rms=reference_rms), kept))
        usable = [(str(path), clip) for path, clip in zip(kept, read, strict=True) if not isinstance(clip, str)]
        reasons = Counter(reason for reason in read if isinstance(reason, str))
        counts = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
        if not usable:
            raise LincaeError(
                f"{folder}: no usable audio ({counts})",
                f"a file must have at least {shortest / RATE:.1f} s of audio, and not be silent",
            )
        if counts:
            log.warning("%s: %d files left out (%s)", printable(folder), reasons.total(), counts)
        names += [name for name, _ in usable]
        parts += [clip for _, clip in usable]
        total = sum(len(samples) for _, (samples, _) in usable)
        chances += [fraction * len(samples) / total for _, (samples, _) in usable]
    samples, gains = zip(*parts, strict=True)
    length = torch.tensor([len(s) for s in samples])
    audio = torch.from_numpy(np.concatenate(samples))
    start, gain = length.cumsum(0) - length, torch.tensor(gains)
    return Clips(audio, start, length, gain, torch.tensor(chances), tuple(names)), validation


def audio_files(folder: Path) -> list[Path]:
    """Audio files below a folder, chosen as `lincae encode` does, sorted; what is left out is counted in the log.

    Raises:
        LincaeError: there are none.
    """
    if not folder.is_dir():
        raise LincaeError(f"{folder}: no such folder", "name your audio: --data FOLDER")
    found = find_audio(folder)
    if not found.files:
        note = f" (left out: {found.note()})" if found.left_out else ""
        raise LincaeError(f"{folder}: no audio files{note}", "name your audio: --data FOLDER")
    if found.left_out:
        log.warning("%s: left out: %s", printable(folder), found.note())
    return found.files


def is_held_out(path: Path, share: float) -> bool:
    """Whether a file belongs to the validation share; depends on its name alone."""
    return int(hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8], 16) < share * 2**32


def read_mono(path: Path) -> np.ndarray:
    """A whole file as mono float32 ``[n]`` at 44.1 kHz.

    Raises:
        LincaeError: it cannot be read.
    """
    return read_audio(path, RATE, mono=True)[0]


def _read_clip(path: Path, shortest: int, reference_rms: float | None) -> tuple[np.ndarray, float] | str:
    """int16 samples of a file and the factor to the loudness it is trained at; or why it is left out."""
    try:
        audio = read_mono(path)
    except (LincaeError, MemoryError, ValueError, OverflowError) as e:  # a header may promise more than the memory
        reason = e.message if isinstance(e, LincaeError) else one_line(f"{path}: {type(e).__name__} {e}")
        log.warning("left out: %s", reason)
        return "unreadable"
    level = rms(audio)
    if len(audio) < shortest or level < QUIETEST:
        return "too short" if len(audio) < shortest else "silent"
    scale = 32767 / max(float(np.abs(audio).max()), 1e-9)
    return np.round(audio * scale).astype(np.int16), (reference_rms / level if reference_rms else 1.0) / scale


def equalise(x: Tensor, decibels: float, low_pass: float, generator: Generator) -> Tensor:
    """Filters every crop by a random smooth curve, and some by a random low-pass; keeps the RMS.

    The curve is a slope of ``N(0, decibels)`` dB an octave about 1 kHz plus three sinusoids over log frequency. The
    low-pass, of that probability, begins between 300 Hz and 15 kHz and falls by 12 to 60 dB an octave, to -90 dB. x is
    ``[B, n]`` at 44.1 kHz, the generator on the CPU.
    """
    if not decibels and not low_pass:
        return x
    count = len(x)

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, columns, generator=generator)

    slope = decibels * torch.randn(count, 1, generator=generator)
    height = 2.25 * decibels * torch.randn(count, BUMPS, generator=generator)
    phase, rate = uniform(0, 2 * torch.pi, BUMPS), uniform(0.4, 1.6, BUMPS)
    corner, fall = uniform(0, 1), 12 * 5 ** uniform(0, 1)
    filtered = torch.rand(count, 1, generator=generator) < low_pass

    device = x.device
    slope, height, phase, rate, corner, fall, filtered = (
        v.to(device) for v in (slope, height, phase, rate, corner, fall, filtered)
    )
    octaves = torch.log2(torch.fft.rfftfreq(x.shape[1], 1 / RATE, device=device).clamp_min(20) / 1000)
    curve = slope * octaves
    for h, r, p in zip(height.T, rate.T, phase.T, strict=True):
        curve = curve + h[:, None] * torch.sin(r[:, None] * octaves + p[:, None])
    above = (octaves - torch.log2(0.3 * 50**corner)).clamp_min(0)
    curve = torch.where(filtered, curve - (fall * above).clamp_max(90), curve)
    y = torch.fft.irfft(torch.fft.rfft(x) * 10 ** (curve / 20), n=x.shape[1])
    return y * (_rms(x) / _rms(y))


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
