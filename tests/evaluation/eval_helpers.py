"""Made-up music, and made-up systems whose errors are known."""

from pathlib import Path

import numpy as np
import soundfile as sf

from lincae_core.evaluation.protocols import System

RATE = 44100
STEMS = ("bass", "drums", "other", "vocals")


def music(seconds, seed=0):
    """A few decaying partials over a little noise, peaks below 0.25: float32 ``[n]``."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * t) * np.exp(-t * k / 4) / k for k, hz in enumerate(rng.uniform(80, 4000, 6), 1))
    return (0.07 * tones + 0.005 * rng.standard_normal(len(t))).astype(np.float32)


def stems(seconds=1.5, names=STEMS, seed=0):
    return {name: music(seconds, 10 * seed + i) for i, name in enumerate(names)}


def write_track(folder: Path, seconds=1.5, names=STEMS, seed=0, extension=".flac", **kwargs):
    """A track in MUSDB layout; returns its stems as they were written."""
    folder.mkdir(parents=True, exist_ok=True)
    signals = stems(seconds, names, seed)
    for name, audio in signals.items():
        sf.write(folder / (name + extension), audio, RATE, **kwargs)
    return signals


class Affine(System):
    """Encodes by adding a fixed noise b and decodes by taking it off: all its errors follow from b.

    ``D(a E(m)) = a m + (a - 1) b``, ``D(E(s_1) + ... + E(s_k)) = s_1 + ... + s_k + (k - 1) b``,
    ``D(E(m) - E(m - s)) = s - b``.
    """

    name = "affine"
    label = "Affine"
    kind = "model"
    version = "1"
    fingerprint = "affine:1"
    notes = "its errors are known"
    latent_rate = float(RATE)
    bytes_per_second = 4.0 * RATE

    def __init__(self, level=0.01, seconds=1.5):
        self.offset = level * np.random.default_rng(9).standard_normal(round(seconds * RATE)).astype(np.float32)

    def encode(self, audio):
        return audio + self.offset[: len(audio)]

    def decode(self, latent, num_samples):
        return (latent - self.offset[: len(latent)])[:num_samples]


class Counting(Affine):
    """Remembers how many signals it encoded; raises at the n-th, if asked to."""

    name = "counting"

    def __init__(self, fail_at=None, error=KeyboardInterrupt):
        super().__init__()
        self.count, self.fail_at, self.error, self.closed = 0, fail_at, error, 0

    def encode(self, audio):
        self.count += 1
        if self.count == self.fail_at:
            raise self.error
        return super().encode(audio)

    def close(self):
        self.closed += 1
