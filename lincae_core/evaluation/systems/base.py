"""What every system that is compared can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Track

Latent = Any  # float32 array of any shape where `linear`, which +, - and a factor work on; else opaque


class System(ABC):
    """A codec of mono audio at 44.1 kHz.

    Making one is cheap: weights are loaded when the first audio comes.

    Attributes:
        name: short name, unique within a comparison once `choose_systems` gave it.
        label: what tables call it.
        kind: `model` (learned, with latents), `codec`, or `anchor`.
        version: of the weights or the library.
        fingerprint: changes when results may change: of the weights, or of the settings.
        notes: one sentence for the tables' notes.
        latent_rate: numbers a second of mono audio; None without latents.
        bytes_per_second: of mono audio; None where it must be measured (see `size`).
        linear: whether latents can be added, subtracted and scaled.
        sample_rate: Hz.
    """

    name: str
    label: str
    kind: str
    version: str
    fingerprint: str
    notes: str
    latent_rate: float | None
    bytes_per_second: float | None
    linear: bool = True
    sample_rate: int = SAMPLE_RATE

    @abstractmethod
    def encode(self, audio: np.ndarray) -> Latent:
        """Audio float32 ``[n]``, n > 0, to its latent."""

    @abstractmethod
    def decode(self, latent: Latent, num_samples: int) -> np.ndarray:
        """A latent to audio float32 ``[num_samples]``."""

    def size(self, latent: Latent) -> int | None:
        """Bytes of this latent, where they are not the same for all audio of a length."""
        del latent
        return None

    def for_track(self, track: Track) -> System:
        """The system to use for one track; another one only where it is fitted on the other tracks."""
        del track
        return self

    def close(self) -> None:  # noqa: B027 (most have nothing to give back)
        """Gives back the memory of the weights; they are loaded again if need be."""
