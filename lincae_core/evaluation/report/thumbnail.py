"""Small spectrograms for a page of many."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from lincae_core.evaluation.pictures import HOP, WINDOW, decibels

COLUMNS, ROWS = 400, 128  # pixels, at most and exactly
RANGE_DB = 80  # below a sine of full scale
HIGHEST_KHZ = 22


def spectrogram_png(path: Path) -> bytes:
    """A spectrogram of an audio file as PNG without axes: time, and frequency on a mel scale from 0 Hz to Nyquist's.

    mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987); a row of pixels shows the strongest of its bins.

    Raises:
        soundfile.LibsndfileError: not an audio file.
    """
    import soundfile
    from matplotlib import colormaps
    from matplotlib.image import imsave

    audio, rate = soundfile.read(path, dtype="float32")
    level = decibels(audio, max(HOP, len(audio) // COLUMNS)) - 20 * np.log10(WINDOW / 4)
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), ROWS, endpoint=False)
    first = 700 * (10 ** (mel / 2595) - 1) * WINDOW / rate
    level = np.maximum.reduceat(level, first.astype(int), axis=0)
    buffer = io.BytesIO()
    pixels = colormaps["magma"](np.clip((level[::-1] + RANGE_DB) / RANGE_DB, 0, 1), bytes=True)
    imsave(buffer, pixels[:, :, :3], format="png")
    return buffer.getvalue()
