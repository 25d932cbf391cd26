"""Validation during training: the protocols of `lincae eval` on held-out files, decoded samples, a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from lincae_core.api import Model
from lincae_core.evaluation.dataset import Audio
from lincae_core.evaluation.metrics import rms
from lincae_core.evaluation.protocols import Session, measure_track
from lincae_core.evaluation.systems import LincaeModel
from lincae_core.models.codec import Autoencoder
from lincae_core.plot import spectrogram_sheet
from lincae_core.training.data import QUIETEST, RATE, read_mono
from lincae_core.training.recipe import Recipe
from lincae_formats.errors import LincaeError

GAIN = 0.5  # of the homogeneity
HEARD = {"recon": "decoded", "sum": "sum", "sep": "separated"}  # what is kept for listening, and its file's name
DRAWN = 4  # tracks in the picture
WANTED = ("recon", "sdr", "hom", "add", "sep", "enc_hom", "enc_add")  # MSS, SDR in dB, relative L2 errors

Sounds = dict[str, np.ndarray]  # original, decoded, ... each [n]


def load_validation(files: Sequence[Path], count: int, seconds: float, level: float | None) -> list[np.ndarray]:
    """The first ``seconds`` of up to ``count`` files that are long enough and not silent.

    They are scaled to an RMS of `level`, or not with None.

    Raises:
        LincaeError: there is none.
    """
    clips: list[np.ndarray] = []
    length = int(seconds * RATE)
    for path in files:
        try:
            audio = read_mono(path)[:length]
        except LincaeError:
            continue
        if len(audio) == length and rms(audio) > QUIETEST:
            clips.append((audio * (level / rms(audio) if level else 1)).astype(np.float32))
        if len(clips) == count:
            return clips
    if not clips:
        raise LincaeError(
            f"none of {len(files)} held-out files has {seconds:g} s of audio",
            "raise data.held_out or lower report.validation_seconds",
        )
    return clips


def validate(recipe: Recipe, network: Any, files: Sequence[Path]) -> tuple[dict[str, float], list[Sounds]]:
    """Measures a network by `evaluation.protocols`, with pairs of held-out files as the two stems of a track.

    Returns:
        Means over the tracks of what is `WANTED`, and what was decoded of every track.
    """
    report, device = recipe.report, next(network.parameters()).device
    clips = load_validation(files, report.validation_files, report.validation_seconds, recipe.reference_rms)
    info = {"name": recipe.name, "version": recipe.version, "fingerprint": "sha256:" + "0" * 64}
    model = Model(Autoencoder(network, info, device))
    system = LincaeModel(lambda: model, model.name, model.name, recipe.version, model.fingerprint, None)
    values: dict[str, list[float]] = {}
    heard: list[Sounds] = []
    for i in range(0, max(len(clips) - 1, 1), 2):
        pair = clips[i : i + 2]
        mixture = np.asarray(np.sum(pair, axis=0, dtype=np.float32))
        stems = {"first": pair[0], "second": mixture - pair[0]} if len(pair) == 2 else {}
        session = Session(system, Audio(stems, mixture), str(device))
        for m in measure_track(session, [GAIN]):
            name = "sdr" if (m.measure, m.metric) == ("recon", "sdr") else m.measure
            if name == "sdr" or m.metric in ("mss", "error"):
                values.setdefault(name, []).extend(m.values)
        decoded = {HEARD[operation]: estimate for operation, _, estimate, _ in session.heard if operation in HEARD}
        heard.append({"original": mixture, **decoded})
    return {k: round(float(np.mean(values[k])), 4) for k in WANTED if values.get(k)}, heard


def write_sounds(heard: Sequence[Sounds], out: Path, title: str) -> None:
    """Writes what was decoded, to `samples/`, and the spectrograms of the first tracks, `validation.png`."""
    (out / "samples").mkdir(exist_ok=True)
    for i, sounds in enumerate(heard):
        for name, audio in sounds.items():
            sf.write(out / "samples" / f"{i}_{name}.wav", audio, RATE)
    spectrogram_sheet([list(s.items()) for s in heard[:DRAWN]], RATE, out / "validation.png", title)
