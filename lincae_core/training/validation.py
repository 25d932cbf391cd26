"""Validation while training: the linearity protocols on held-out files, decoded samples, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lincae_core.evaluation.mss import mss
from lincae_core.evaluation.pictures import spectrogram_sheet
from lincae_core.models.autoencoder import Autoencoder
from lincae_core.stream import decode_array, encode_array
from lincae_core.training.csvlog import append_row
from lincae_core.training.data import read_mono
from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    from lincae_core.training.loop import Trainer


def evaluate(model: Autoencoder, clips: list[np.ndarray]) -> tuple[dict[str, float], list[np.ndarray]]:
    """Scores a model on pairs of neighbouring clips.

    Args:
        model: the autoencoder.
        clips: mono audio of one length each ``[n]``, at equal loudness.

    Returns:
        The figures, each a mean: `recon` MSS of a clip; `add` MSS of decode(z_a + z_b) against a + b; `sep` MSS of
        decode(z_(a+b) - z_b) against a; `enc_add` relative error of z_a + z_b against z_(a+b). And the decoded clips.
    """
    rate, n = model.sample_rate, len(clips[0])
    z = [encode_array(model, x[None]) for x in clips]
    decoded = [decode_array(model, v, n)[0] for v in z]
    figures: dict[str, list[float]] = {"recon": [mss(y, x, rate) for x, y in zip(clips, decoded, strict=True)]}
    for i in range(len(clips) if len(clips) > 1 else 0):
        x, other = clips[i], clips[i - 1]
        mixed, summed = encode_array(model, (x + other)[None]), z[i] + z[i - 1]
        both = x + other
        figures.setdefault("add", []).append(mss(decode_array(model, summed, n)[0], both, rate))
        figures.setdefault("sep", []).append(mss(decode_array(model, mixed - z[i - 1], n)[0], x, rate))
        error = np.linalg.norm(mixed - summed) / max(float(np.linalg.norm(summed)), 1e-12)
        figures.setdefault("enc_add", []).append(float(error))
    return {k: round(float(np.nanmean(v)), 4) for k, v in figures.items()}, decoded


def load_validation(files: list[Path], count: int, seconds: float, rms: float | None) -> list[np.ndarray]:
    """The beginnings of up to ``count`` files that are long enough and not silent, at one loudness if given."""
    clips: list[np.ndarray] = []
    for path in files:
        try:
            audio = read_mono(path)[: int(seconds * 44100)]
        except (OSError, RuntimeError):
            continue
        level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) if len(audio) else 0.0
        if len(audio) == int(seconds * 44100) and level > 1e-4:
            clips.append((audio * (rms / level if rms else 1)).astype(np.float32))
        if len(clips) == count:
            break
    if not clips:
        raise LincaeError("no held-out file is long enough to validate on", "raise data.held_out in the recipe")
    return clips


def validate_and_write(trainer: Trainer, files: list[Path]) -> dict[str, float]:
    """Scores the averaged weights; writes `validation.csv`, samples and `validation.png`; returns the scores."""
    import soundfile as sf

    r = trainer.recipe
    rms = r.model.reference_rms if r.data.loudness == "reference" else None
    clips = load_validation(files, r.report.validation_files, r.report.validation_seconds, rms)
    info = {"name": r.name, "version": r.version, "fingerprint": "sha256:" + "0" * 64}
    model = Autoencoder(trainer.averaged(), info, trainer.device)
    figures, decoded = evaluate(model, clips)
    row = {"step": trainer.progress.step, "progress": round(trainer.done, 4), **figures}
    append_row(trainer.out / "validation.csv", row)
    samples = trainer.out / "samples"
    samples.mkdir(exist_ok=True)
    for i, (x, y) in enumerate(zip(clips, decoded, strict=True)):
        sf.write(samples / f"{i}_original.wav", x, model.sample_rate)
        sf.write(samples / f"{i}_decoded.wav", y, model.sample_rate)
    rows = [[("original", x), ("decoded", y)] for x, y in list(zip(clips, decoded, strict=True))[:4]]
    title = f"{r.name}, step {trainer.progress.step}, MSS {figures['recon']:.2f}"
    spectrogram_sheet(rows, model.sample_rate, trainer.out / "validation.png", title)
    return row
