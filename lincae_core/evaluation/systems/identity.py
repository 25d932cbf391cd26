"""The identity: the best that any codec can do, and a check of the protocols."""

from __future__ import annotations

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.base import System


class Identity(System):
    """Its latent is the audio itself, in float32."""

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
