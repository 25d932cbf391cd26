"""Models of the registry as systems: ours, Lin-CAE, Music2Latent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.base import System
from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    from lincae_core.models.autoencoder import Autoencoder


class ModelSystem(System):
    """An autoencoder of either family.

    Latents are rounded to float16 after encoding, and once more after arithmetic before they are decoded, as `.lat`
    files round them: the figures are those of the command line.

    Args:
        load: gives the autoencoder.
        name: of the model.
        label: what tables call it.
        version: of the weights.
        fingerprint: of the weights.
        latent_dim: numbers per latent frame.
        samples_per_frame: samples per latent frame.
        notes: for the tables.
        steps: sampling steps.
        seed: of the noise.
    """

    kind = "model"

    def __init__(
        self, load: Callable[[], Autoencoder], *, name: str, label: str, version: str, fingerprint: str,
        latent_dim: int = 64, samples_per_frame: int = 4096, notes: str = "", steps: int = 1, seed: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.label, self.version, self.fingerprint, self.notes = name, label, version, fingerprint, notes
        self.latent_rate = latent_dim * SAMPLE_RATE / samples_per_frame
        self.bytes_per_second = 2 * self.latent_rate
        self._load, self._steps, self._seed = load, steps, seed
        self._model: Autoencoder | None = None

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[n]`` to ``[latent_dim, ceil(n / samples_per_frame)]``, numbers that float16 can hold."""
        from lincae_core.stream import encode_array

        return _as_stored(encode_array(self._loaded(), audio[None])[0], self.name)

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """Latents to audio ``[num_samples]``, with the noise of the seed."""
        from lincae_core.stream import decode_array

        z = _as_stored(latent, self.name)[None]
        return decode_array(self._loaded(), z, num_samples, steps=self._steps, seed=self._seed)[0]

    def close(self) -> None:
        """Drops the weights."""
        self._model = None

    def _loaded(self) -> Autoencoder:
        if self._model is None:
            self._model = self._load()
            if self._model.sample_rate != SAMPLE_RATE:
                raise LincaeError(f"model {self.name} works at {self._model.sample_rate} Hz, not at {SAMPLE_RATE} Hz")
        return self._model


def _as_stored(latent: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        stored = latent.astype(np.float16).astype(np.float32)
    if not np.isfinite(stored).all():
        raise LincaeError(
            f"model {name} gave latents that float16 cannot hold", "check its latent_scale: lincae models show"
        )
    return stored
