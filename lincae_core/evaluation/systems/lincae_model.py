"""Models of this project's families as systems: ours, Lin-CAE, Music2Latent."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.system import System
from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    from lincae_core.api import Model
    from lincae_core.models.store import ModelInfo
    from lincae_formats import Latents

PUBLISHED_LABELS = {
    "music2latent": "Music2Latent, public weights",
    "m2l": "Music2Latent, retrained",
    "lin-cae": "Lin-CAE",
    "lin-cae-2": "Lin-CAE 2",
}
RANDOM_SEED = 0  # of untrained weights


class LincaeModel(System):
    """A model as the command line uses it.

    Latents are rounded as a `.lat` file rounds them, once when encoded and once more after arithmetic, so figures are
    those of `lincae encode`, `mix`, `decode`; bytes are those of the `.lat` file with its header.

    Args:
        load: gives the model.
        name: of the model.
        label: what tables call it.
        version: of the weights.
        fingerprint: of the weights.
        latent_rate: numbers a second of mono audio.
        notes: for the tables.
        quality: what files are stored at: low, medium, high or exact; the model's default without.
        steps: sampling steps, where decoding samples.
        seed: of its noise.
    """

    kind = "model"

    def __init__(
        self, load: Callable[[], Model], *, name: str, label: str, version: str, fingerprint: str, latent_rate: float,
        notes: str = "", quality: str | None = None, steps: int = 1, seed: int = 0,
    ) -> None:  # fmt: skip
        self.name, self.label, self.version, self.fingerprint, self.notes = name, label, version, fingerprint, notes
        if quality is not None:
            self.name, self.label = f"{name}:{quality}", f"{label}, {quality}"
            self.fingerprint = f"{fingerprint}:{quality}"
        self.latent_rate = latent_rate
        self._load, self._quality, self._steps, self._seed = load, quality, steps, seed
        self._model: Model | None = None
        self._bytes = 0

    def encode(self, audio: np.ndarray) -> Latents:
        """Audio ``[n]`` or ``[C, n]`` to latents as a file holds them."""
        return self._stored(self._loaded().encode(np.atleast_2d(audio), SAMPLE_RATE, quality=self._quality))

    def decode(self, latent: Latents, num_samples: int) -> np.ndarray:
        """Latents to mono audio ``[num_samples]``."""
        return self._decoded(latent)[0, :num_samples]

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` as one file, decoded."""
        return self._decoded(self.encode(audio))

    def size(self, latent: Latents) -> int:
        """Bytes of the `.lat` file last written."""
        del latent
        return self._bytes

    def close(self) -> None:
        """Frees the weights."""
        self._model = None

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = self._load()
            if self._model.sample_rate != SAMPLE_RATE:
                raise LincaeError(f"model {self.name} works at {self._model.sample_rate} Hz, not at {SAMPLE_RATE} Hz")
        return self._model

    def _decoded(self, latents: Latents) -> np.ndarray:
        return self._loaded().decode(self._stored(latents), steps=self._steps, seed=self._seed)

    def _stored(self, latents: Latents) -> Latents:
        """What one reads of latents that were written."""
        from lincae_formats import read_lat, write_lat

        file = io.BytesIO()
        write_lat(latents, file)
        self._bytes = file.tell()
        file.seek(0)
        return read_lat(file)


def installed_model(info: ModelInfo, quality: str | None, *, device: str, steps: int, seed: int) -> LincaeModel:
    """An installed model, or a weights file."""
    from lincae_core.api import load
    from lincae_core.models.store import config_class

    config = config_class(info.family)(**info.config)
    return LincaeModel(
        lambda: load(info.path, device), name=info.name,
        label=PUBLISHED_LABELS.get(info.name, f"lincae {info.name} {info.version}"),
        version=info.version, fingerprint=info.fingerprint,
        latent_rate=config.latent_dim * SAMPLE_RATE / getattr(config, "samples_per_frame", 4096),
        notes=f"{info.family}, {info.parameters / 1e6:.3g} M parameters", quality=quality, steps=steps, seed=seed,
    )  # fmt: skip


def untrained_model(family: str, *, device: str, steps: int, seed: int) -> LincaeModel:
    """A family's network with random weights, always the same: for its speed."""
    import hashlib
    import json

    from lincae_core.api import Model
    from lincae_core.models.codec import Autoencoder
    from lincae_core.models.store import build, choose_device, config_class

    config = config_class(family)()
    facts = json.dumps([RANDOM_SEED, config.to_dict()], sort_keys=True)
    name, mark = f"random-{family}", f"sha256:{hashlib.sha256(facts.encode()).hexdigest()}"

    def load() -> Model:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            model = build({"family": family})
        return Model(
            Autoencoder(model, {"name": name, "version": "random", "fingerprint": mark}, choose_device(device))
        )

    return LincaeModel(
        load, name=name, label=f"{family}, random weights", version="random", fingerprint=mark,
        latent_rate=config.latent_dim * SAMPLE_RATE / getattr(config, "samples_per_frame", 4096),
        notes="untrained: only its speed means anything", steps=steps, seed=seed,
    )  # fmt: skip
