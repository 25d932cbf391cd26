"""Decoded audio as a file holds it."""

from __future__ import annotations

import io

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_formats.errors import LincaeError

FLOAT = "FLOAT"
SUBTYPES = ("PCM_16", "PCM_24", FLOAT)


def as_written(audio: np.ndarray, subtype: str, name: str) -> np.ndarray:
    """What one reads of audio ``[n]`` that was written as WAV by the writer of `lincae decode`.

    Rounding to 16 bits shows in the distance: in quiet passages it is a logarithm of very little.

    Args:
        audio: float32 ``[n]``.
        subtype: one of `SUBTYPES`; FLOAT gives the audio back.
        name: of the system, for messages.

    Raises:
        LincaeError: the audio holds NaN or infinity.
    """
    if not np.isfinite(audio).all():
        raise LincaeError(f"{name}: what it decoded holds NaN or infinity", "leave it out, or check its weights")
    if subtype == FLOAT:
        return audio
    import soundfile

    from lincae_core.audio import AudioWriter

    file = io.BytesIO()
    with AudioWriter(file, SAMPLE_RATE, 1, format="WAV", subtype=subtype) as writer:
        writer.write(audio[None])
    file.seek(0)
    read: np.ndarray = soundfile.read(file, dtype="float32")[0]
    return read
