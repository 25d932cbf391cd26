"""The systems that `lincae eval` compares, made from the words of `--model`; and models of this project as systems."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile
import torch

from lincae_core.api import Model, load
from lincae_core.evaluation.dataset import SAMPLE_RATE, Track
from lincae_core.evaluation.protocols import System
from lincae_core.evaluation.references import HIGHEST, LOWEST, STABLE_AUDIO, Identity, Opus, StableAudioVae, fitted_on
from lincae_core.models import store
from lincae_core.models.codec import Autoencoder
from lincae_formats import Latents, read_lat, write_lat
from lincae_formats.errors import LincaeError, UsageError

RANDOM_SEED = 0  # of untrained weights
FRAME_RATE = SAMPLE_RATE / 4096  # latent frames a second
_OPUS = re.compile(r"opus(?:[-:](.*))?")
_KBPS = re.compile(r"(\d+(?:\.\d+)?)k?", re.ASCII)


@dataclass(frozen=True)
class Options:
    """How systems compute."""

    device: str = "auto"  # or cpu, cuda
    steps: int = 1  # sampling steps of consistency models
    seed: int = 0  # of their noise


def choose_systems(words: Sequence[str], tracks: Sequence[Track], options: Options) -> list[System]:
    """The systems of a comparison, in the order given, each once, with names that differ.

    Args:
        words: a model's name or weights file, with `:low`, `:medium`, `:high` or `:exact` after it for a quality of
            its files; `opus-KBPS`, `klt`, `klt:DIR`, `identity`, `stable-audio-vae`, `random:FAMILY`.
        tracks: all tracks of the data, for the KLT.
        options: device, steps and seed.

    Raises:
        LincaeError: there is no such model or device, or what it needs is not installed.
        UsageError: a bitrate that Opus has not, or an unknown family or quality.
    """
    store.choose_device(options.device)  # before any work
    systems: list[System] = []
    for word in words:
        system = _choose(word, tracks, options)
        if any(s.fingerprint == system.fingerprint for s in systems):
            continue
        taken, name, label, count = {s.name for s in systems}, system.name, system.label, 2
        while system.name in taken:
            system.name, system.label, count = f"{name}-{count}", f"{label} ({count})", count + 1
        systems.append(system)
    return systems


def _choose(word: str, tracks: Sequence[Track], options: Options) -> System:
    head, colon, tail = word.partition(":")
    if word == "identity":
        return Identity()
    if head == "klt":
        return fitted_on(tracks, Path(tail) if tail else None)
    if match := _OPUS.fullmatch(word):
        return Opus() if match[1] is None else Opus(_bitrate(word, match[1]))
    if word == STABLE_AUDIO:
        return StableAudioVae(store.user_models() / word, options.device)
    if head == "random" and colon:
        if tail not in store.FAMILIES:
            hint = " or ".join(f"random:{known}" for known in store.FAMILIES)
            raise UsageError(f"--model {word!r}: unknown family {tail!r}", f"use {hint}")
        return untrained_model(tail, options)
    return installed_model(word, options)


def _bitrate(word: str, text: str) -> float:
    match = _KBPS.fullmatch(text)
    kbps = float(match[1]) if match else 0.0
    if not LOWEST <= 1000 * kbps <= HIGHEST:
        low, high = LOWEST // 1000, HIGHEST // 1000
        raise UsageError(f"--model {word!r}: no bitrate from {low} to {high} kbit/s", "for example: --model opus-12")
    return kbps


@dataclass(eq=False)
class LincaeModel(System):
    """A model as the command line uses it: files of `lincae encode`, arithmetic as by `lincae mix`, `lincae decode`.

    Latents are rounded as a `.lat` file rounds them, once when encoded and once more after arithmetic. Bytes are those
    of the `.lat` file with its header.
    """

    load: Callable[[], Model]
    name: str
    label: str
    version: str
    fingerprint: str
    latent_rate: float | None
    notes: str = ""
    quality: str | None = None  # that files are stored at: low, medium, high or exact; without, the model's default
    options: Options = Options()

    kind = "model"

    def __post_init__(self) -> None:
        """Adds the quality to the name."""
        self._bytes = 0
        if self.quality is not None:
            self.name, self.label = f"{self.name}:{self.quality}", f"{self.label}, {self.quality}"
            self.fingerprint = f"{self.fingerprint}:{self.quality}"

    @cached_property
    def _model(self) -> Model:
        model = self.load()
        if model.sample_rate != SAMPLE_RATE:
            raise LincaeError(f"model {self.name} works at {model.sample_rate} Hz, not at {SAMPLE_RATE} Hz")
        return model

    def encode(self, audio: np.ndarray) -> Latents:
        """Audio ``[n]`` or ``[C, n]`` to latents as a file holds them."""
        with tempfile.TemporaryDirectory(prefix="lincae-") as folder:
            source, target = Path(folder) / "audio.wav", Path(folder) / "audio.lat"
            soundfile.write(source, np.atleast_2d(audio).T, SAMPLE_RATE, subtype="FLOAT")
            self._model.encode_file(source, target, quality=self.quality)
            self._bytes = target.stat().st_size
            return read_lat(target)

    def decode(self, latent: Latents, num_samples: int) -> np.ndarray:
        """Latents to mono audio ``[num_samples]``."""
        return self._decoded(latent)[0, :num_samples]

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` as one file, decoded."""
        return self._decoded(self.encode(audio))

    def size(self, latent: Latents) -> int:
        """Bytes of the `.lat` file last encoded."""
        del latent
        return self._bytes

    def close(self) -> None:
        """Frees the weights."""
        vars(self).pop("_model", None)

    def _decoded(self, latents: Latents) -> np.ndarray:
        file = io.BytesIO()
        write_lat(latents, file)  # as the result of arithmetic is written before it is decoded
        file.seek(0)
        decoded: np.ndarray = self._model.decode(read_lat(file), steps=self.options.steps, seed=self.options.seed)
        return decoded


def installed_model(word: str, options: Options) -> LincaeModel:
    """An installed model, or a weights file; at a quality where the word ends with one.

    Raises:
        LincaeError: there is no such model.
        UsageError: the model has no qualities.
    """
    name, colon, quality = word.rpartition(":")
    if not colon or not name or quality not in store.QUALITIES or Path(word).is_file():
        name, quality = word, ""
    info = store.resolve(name)
    published = store.PUBLISHED.get(info.name)
    if quality and not info.qualities:
        raise UsageError(f"--model {word!r}: the model {info.name} has no qualities", f"use --model {name}")
    return LincaeModel(
        lambda: load(info.path, options.device), name=info.name, version=info.version, fingerprint=info.fingerprint,
        label=published.label if published else f"lincae {info.name} {info.version}",
        latent_rate=store.config_class(info.family)(**info.config).latent_dim * FRAME_RATE,
        notes=f"{info.family}, {info.parameters / 1e6:.3g} M parameters", quality=quality or None, options=options,
    )  # fmt: skip


def untrained_model(family: str, options: Options) -> LincaeModel:
    """A family's network with random weights, always the same: for its speed."""
    config = store.config_class(family)()
    facts = json.dumps([RANDOM_SEED, config.to_dict()], sort_keys=True)
    name, mark = f"random-{family}", f"sha256:{hashlib.sha256(facts.encode()).hexdigest()}"

    def make() -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            model = store.build({"family": family})
        info = {"name": name, "version": "random", "fingerprint": mark}
        return Model(Autoencoder(model, info, store.choose_device(options.device)))

    return LincaeModel(
        make, name=name, label=f"{family}, random weights", version="random", fingerprint=mark,
        latent_rate=config.latent_dim * FRAME_RATE, notes="untrained: only its speed means anything", options=options,
    )  # fmt: skip
