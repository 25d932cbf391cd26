"""From what the user typed to systems."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lincae_core.evaluation.dataset import Track
from lincae_core.evaluation.systems.base import System
from lincae_core.evaluation.systems.identity import Identity
from lincae_core.evaluation.systems.klt import fitted_on
from lincae_core.evaluation.systems.model import ModelSystem
from lincae_core.evaluation.systems.opus import HIGHEST, LOWEST, Opus
from lincae_formats.errors import UsageError

PUBLISHED_LABELS = {
    "music2latent": "Music2Latent, public weights",
    "m2l": "Music2Latent, retrained",
    "lin-cae": "Lin-CAE",
    "lin-cae-2": "Lin-CAE 2",
}
RANDOM_SEED = 0  # of the weights of `random:FAMILY`


@dataclass(frozen=True)
class Options:
    """What systems need to know.

    Args:
        device: auto, cpu or cuda.
        steps: sampling steps of consistency models.
        seed: of their noise.
    """

    device: str = "auto"
    steps: int = 1
    seed: int = 0


def choose_systems(words: Sequence[str], tracks: Sequence[Track], options: Options) -> list[System]:
    """The systems of a comparison, in the order given, each once, with names that differ.

    Args:
        words: `identity`, `opus`, `opus:KBPS`, `klt`, `klt:DIR`, `stable-audio-vae`, `random:frame64`, `random:unet`, a
            model's name, or a weights file.
        tracks: all tracks of the data, for the KLT.
        options: device, steps and seed.

    Raises:
        LincaeError: there is no such model, or what it needs is not there, or no such device.
        UsageError: a bitrate that Opus has not, or an unknown family.
    """
    from lincae_core.models.device import choose_device

    choose_device(options.device)  # before any work
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
    if head == "opus":
        return Opus(_bitrate(word, tail) if colon else None)
    if word == "stable-audio-vae":
        from lincae_core.evaluation.systems.stable_audio import StableAudioVae
        from lincae_core.models.registry import user_models

        return StableAudioVae(user_models() / word, options.device)
    if head == "random" and colon:
        return _random(word, tail, options)
    return _registered(word, options)


def _bitrate(word: str, text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)k?", text, re.ASCII)
    kbps = float(match[1]) if match else 0.0
    if not LOWEST <= 1000 * kbps <= HIGHEST:
        low, high = LOWEST // 1000, HIGHEST // 1000
        raise UsageError(f"--model {word!r}: no bitrate from {low} to {high} kbit/s", "for example: --model opus:12")
    return kbps


def _registered(word: str, options: Options) -> System:
    from lincae_core.models import registry

    info = registry.resolve(word)
    dim, size = info.config.get("latent_dim", 64), info.config.get("samples_per_frame", 4096)
    return ModelSystem(
        lambda: registry.load(info, options.device),
        name=info.name, label=PUBLISHED_LABELS.get(info.name, f"lincae {info.name} {info.version}"),
        version=info.version, fingerprint=info.fingerprint, latent_dim=int(dim), samples_per_frame=int(size),
        notes=f"{info.family}, {info.parameters / 1e6:.3g} M parameters", steps=options.steps, seed=options.seed,
    )  # fmt: skip


def _random(word: str, family: str, options: Options) -> System:
    import hashlib
    import json

    from lincae_core.models.autoencoder import Autoencoder
    from lincae_core.models.device import choose_device
    from lincae_core.models.families import FAMILIES, build

    if family not in FAMILIES:
        hint = " or ".join(f"random:{known}" for known in FAMILIES)
        raise UsageError(f"--model {word!r}: unknown family {family!r}", f"use {hint}")
    fields = FAMILIES[family][0]().to_dict()
    facts = json.dumps([family, RANDOM_SEED, fields], sort_keys=True)
    name, mark = f"random-{family}", f"random:{hashlib.sha256(facts.encode()).hexdigest()}"

    def load() -> Autoencoder:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM_SEED)
            model = build({"family": family})
        info = {"name": name, "version": "random", "fingerprint": mark}
        return Autoencoder(model, info, choose_device(options.device))

    return ModelSystem(
        load, name=name, label=f"{family}, random weights", version="random", fingerprint=mark,
        latent_dim=int(fields["latent_dim"]), notes="untrained: its figures mean nothing",
        steps=options.steps, seed=options.seed,
    )  # fmt: skip
