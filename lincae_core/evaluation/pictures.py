"""Spectrogram sheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lincae_formats.atomic import atomic_path

WINDOW, HOP = 2048, 512  # samples


def spectrogram_sheet(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], sample_rate: int, path: Path, title: str = ""
) -> None:
    """Draws spectrograms in a grid as PNG: time in s, frequency in kHz, one colour scale of 80 dB for all.

    Args:
        rows: rows of (caption, mono audio ``[n]``).
        sample_rate: Hz.
        path: target, replaced if it exists.
        title: above the grid.
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(4.2 * columns, 2.3 * len(rows) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    images = [[(caption, decibels(audio)) for caption, audio in row] for row in rows]
    top = max(float(image.max()) for row in images for _, image in row)
    for axes, row in zip(grid, images, strict=True):
        for axis in axes[len(row) :]:
            axis.set_visible(False)
        for axis, (caption, image) in zip(axes, row, strict=False):
            seconds = image.shape[1] * HOP / sample_rate
            axis.imshow(
                image, origin="lower", aspect="auto", cmap="magma", vmin=top - 80, vmax=top,
                extent=(0, seconds, 0, sample_rate / 2000),
            )  # fmt: skip
            axis.set_title(caption, fontsize=9)
            axis.tick_params(labelsize=7)
        axes[0].set_ylabel("kHz", fontsize=8)
    for axis in grid[-1]:
        axis.set_xlabel("s", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")


def decibels(audio: np.ndarray, hop: int = HOP) -> np.ndarray:
    """Magnitudes in dB of audio ``[n]``, Hann windows of 2048 samples: ``[1025, frames]``; a full-scale sine has 54."""
    padded = np.pad(audio, (0, max(0, WINDOW - len(audio))))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop] * np.hanning(WINDOW)
    return 20 * np.log10(np.abs(np.fft.rfft(blocks, axis=1)).T + 1e-6)
