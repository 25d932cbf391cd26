"""The systems that `lincae eval` compares, made from the words of `--model`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lincae_core.evaluation.dataset import Track
from lincae_core.evaluation.systems.klt import fitted_on
from lincae_core.evaluation.systems.opus import HIGHEST, LOWEST, Opus
from lincae_core.evaluation.systems.system import Identity, Latent, System
from lincae_formats.errors import UsageError

__all__ = ["Identity", "Latent", "Options", "System", "choose_systems"]

_OPUS = re.compile(r"opus(?:[-:](.*))?")
_KBPS = re.compile(r"(\d+(?:\.\d+)?)k?", re.ASCII)


@dataclass(frozen=True)
class Options:
    """How systems compute.

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
        words: a model's name or weights file, with `:low`, `:medium`, `:high` or `:exact` after it for a quality of
            its files; `opus-KBPS`, `klt`, `klt:DIR`, `identity`, `stable-audio-vae`, `random:FAMILY`.
        tracks: all tracks of the data, for the KLT.
        options: device, steps and seed.

    Raises:
        LincaeError: there is no such model or device, or what it needs is not installed.
        UsageError: a bitrate that Opus has not, or an unknown family or quality.
    """
    from lincae_core.models.store import choose_device

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
    from lincae_core.evaluation.systems.lincae_model import untrained_model

    head, colon, tail = word.partition(":")
    if word == "identity":
        return Identity()
    if head == "klt":
        return fitted_on(tracks, Path(tail) if tail else None)
    if match := _OPUS.fullmatch(word):
        return Opus() if match[1] is None else Opus(_bitrate(word, match[1]))
    if word == "stable-audio-vae":
        from lincae_core.evaluation.systems.stable_audio import StableAudioVae
        from lincae_core.models.store import user_models

        return StableAudioVae(user_models() / word, options.device)
    if head == "random" and colon:
        from lincae_core.models.store import FAMILIES

        if tail not in FAMILIES:
            hint = " or ".join(f"random:{known}" for known in FAMILIES)
            raise UsageError(f"--model {word!r}: unknown family {tail!r}", f"use {hint}")
        return untrained_model(tail, device=options.device, steps=options.steps, seed=options.seed)
    return _model(word, options)


def _bitrate(word: str, text: str) -> float:
    match = _KBPS.fullmatch(text)
    kbps = float(match[1]) if match else 0.0
    if not LOWEST <= 1000 * kbps <= HIGHEST:
        low, high = LOWEST // 1000, HIGHEST // 1000
        raise UsageError(f"--model {word!r}: no bitrate from {low} to {high} kbit/s", "for example: --model opus-12")
    return kbps


def _model(word: str, options: Options) -> System:
    from lincae_core.evaluation.systems.lincae_model import installed_model
    from lincae_core.models import store

    name, colon, quality = word.rpartition(":")
    if not colon or not name or quality not in store.QUALITIES or Path(word).is_file():
        name, quality = word, ""
    info = store.resolve(name)
    if quality and not info.qualities:
        raise UsageError(f"--model {word!r}: the model {info.name} has no qualities", f"use --model {name}")
    return installed_model(info, quality or None, device=options.device, steps=options.steps, seed=options.seed)
