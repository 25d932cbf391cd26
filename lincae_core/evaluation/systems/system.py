"""The interface of a system that `lincae eval` compares, and the simplest one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Track

Latent = Any  # where `linear`: has +, - and a factor, as an array or `Latents`; else opaque


class System(ABC):
    """A codec of audio at 44.1 kHz. Constructing one is cheap: weights are loaded at the first `encode`.

    Attributes:
        name: short name; unique within a comparison after `choose_systems`.
        label: what tables call it.
        kind: `model` (learned, with latents), `codec`, or `anchor`.
        version: of the weights or the library.
        fingerprint: differs when results may differ.
        notes: one sentence for the tables' notes.
        latent_rate: numbers a second of mono audio; None without latents.
        bytes_per_second: of mono audio; None where it is measured by `size`.
        linear: whether latents can be added, subtracted and scaled.
    """

    name: str
    label: str
    kind: str
    version: str
    fingerprint: str
    notes: str
    latent_rate: float | None
    bytes_per_second: float | None = None
    linear: bool = True

    @abstractmethod
    def encode(self, audio: np.ndarray) -> Latent:
        """Mono audio float32 ``[n]``, n > 0, to its latent."""

    @abstractmethod
    def decode(self, latent: Latent, num_samples: int) -> np.ndarray:
        """A latent to mono audio float32 ``[num_samples]``."""

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` encoded and decoded, ``[C, n]``; here channel by channel."""
        return np.stack([self.decode(self.encode(channel), len(channel)) for channel in audio])

    def size(self, latent: Latent) -> int | None:
        """Bytes of the file that holds what `encode` returned last; None where `bytes_per_second` says it."""
        del latent
        return None

    def for_track(self, track: Track) -> System:
        """The system for one track; another one only where it is fitted on the other tracks."""
        del track
        return self

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Frees the weights, which are loaded again when needed."""


class Identity(System):
    """The audio itself in float32: the best that any codec can do, and a check of the protocols."""

    name = "identity"
    label = "Identity"
    kind = "anchor"
    version = "1"
    fingerprint = "identity:1"
    notes = "the audio itself as float32"
    latent_rate = float(SAMPLE_RATE)
    bytes_per_second = 4.0 * SAMPLE_RATE

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """A copy of the audio ``[n]``."""
        return audio.astype(np.float32)

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """The first samples of the latent ``[n]``."""
        return latent[:num_samples].astype(np.float32)
