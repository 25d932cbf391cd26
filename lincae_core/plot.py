"""Pictures: latents, levels and spectrograms of a file; sheets of spectrograms; thumbnails for pages.

Spectrograms are in dB below a sine of full scale, on a mel scale from 0 Hz to half the sample rate:
mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987). A row of a picture shows the strongest of its bins. Silence is
black in all of them.
"""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lincae_core.evaluation.metrics import regrouped
from lincae_formats import Header
from lincae_formats.errors import LincaeError, one_line
from lincae_formats.files import atomic_path
from lincae_formats.header import clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from lincae_core.models.codec import AudioSource

WINDOW, HOP = 2048, 512  # samples
ROWS = 160  # of a spectrogram
FLOOR_DB = -120.0  # digital silence
RANGE_DB = 80  # of the colours
LOUD_DB = -20.0  # of the brightest colour at least, so that silence and faint noise stay dark
COLUMNS = 1200  # most points along the time axis
MAPS = 8  # most channels drawn
LATENT_RANGE_DB = 60
SILENT_DB = -180.0  # of latents
_WINDOWS = 4  # most spectra averaged in a column
_TICKS_HZ = (0, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # s between ticks
_STYLE: Any = {
    "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7, "axes.titlesize": 9, "figure.titlesize": 11,
    "legend.fontsize": 7, "image.cmap": "magma", "image.origin": "lower", "image.aspect": "auto",
}  # fmt: skip


@dataclass(frozen=True)
class LatentPicture:
    """Latents drawn small."""

    level_db: np.ndarray  # [C, latent_dim, columns]: of each column's frames the greatest magnitude, dB
    rms_db: np.ndarray  # [C, columns]: RMS of each column's latents, dB
    seconds: float  # length of the audio


@dataclass(frozen=True)
class Spectrogram:
    """A spectrogram drawn small."""

    level_db: np.ndarray  # [ROWS, columns]: dB below a sine of full scale, on a mel scale
    sample_rate: int  # Hz
    seconds: float  # length of the audio


def spectra(audio: np.ndarray, sample_rate: int, hop: int = HOP) -> np.ndarray:
    """Levels of mono audio ``[n]`` in Hann windows of 2048 samples that begin every `hop`: ``[ROWS, frames]``."""
    padded = np.pad(audio, (0, max(0, WINDOW - len(audio))))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop] * np.hanning(WINDOW).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(blocks, axis=1))).T
    lowest = row_hz(np.arange(ROWS), sample_rate) * WINDOW / sample_rate
    rows = np.maximum.reduceat(power, lowest.astype(int), axis=0)
    return np.maximum(10 * np.log10(rows + 1e-30) - 20 * np.log10(WINDOW / 4), FLOOR_DB)


def mel(hz: float) -> float:
    """``2595 log10(1 + hz / 700)``."""
    return float(2595 * np.log10(1 + hz / 700))


def row_hz(row: np.ndarray | float, sample_rate: int) -> np.ndarray:
    """Frequency at the lower edge of a spectrogram's row, Hz."""
    return np.asarray(700 * (10 ** (np.asarray(row) * mel(sample_rate / 2) / ROWS / 2595) - 1))


def latent_picture(header: Header, blocks: Iterable[np.ndarray]) -> LatentPicture:
    """Draws latents given in blocks ``[C, latent_dim, n]``."""
    parts = list(regrouped(blocks, -(-header.frames // COLUMNS)))
    peaks = np.stack([np.abs(part).max(2) for part in parts], 2)
    powers = np.stack([np.square(part, dtype=np.float64).mean((1, 2)) for part in parts], 1)
    floor = 10 ** (SILENT_DB / 20)
    level, rms = (20 * np.log10(np.maximum(x, floor)) for x in (peaks, np.sqrt(powers)))
    return LatentPicture(level, rms, header.duration)


def spectrogram(audio: AudioSource, progress: Callable[[float, float], None] | None = None) -> Spectrogram:
    """Draws the spectrogram of audio, its channels averaged, in constant memory; `progress` gets seconds, and all."""
    rate, seconds = audio.sample_rate, audio.num_samples / audio.sample_rate
    hop = max(WINDOW // 4, audio.num_samples // (COLUMNS * _WINDOWS))

    def levels() -> Iterator[np.ndarray]:
        parts = regrouped((block.mean(0, dtype=np.float32) for block in audio.blocks()), 64 * hop)
        done = 0
        for part, after in itertools.pairwise(itertools.chain(parts, [np.zeros(0, np.float32)])):
            frames = -(-len(part) // hop)
            # windows that begin in a part end in the next one, or in zeros
            part = np.concatenate([part, after[:WINDOW]])
            part = np.pad(part, (0, max(0, (frames - 1) * hop + WINDOW - len(part))))
            yield spectra(part, rate, hop)[:, :frames]
            done += frames * hop
            if progress:
                progress(min(done / rate, seconds), seconds)

    in_a_column = max(1, -(-audio.num_samples // (hop * COLUMNS)))
    columns = [level.mean(1, keepdims=True) for level in regrouped(levels(), in_a_column)]
    return Spectrogram(np.concatenate(columns, 1), rate, seconds)


def draw(
    title: str, latents: LatentPicture, spectrum: Spectrogram | None, target: str | Path | BinaryIO, *,
    format: str = "png", overwrite: bool = False,
) -> None:  # fmt: skip
    """Draws each channel's latents, their RMS and, where there is one, the spectrogram above one time axis.

    Args:
        title: above the picture.
        latents: from `latent_picture`.
        spectrum: from `spectrogram`, or None.
        target: path or stream.
        format: png, svg or pdf.
        overwrite: replace an existing target.

    Raises:
        LincaeError: the target cannot be written.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    channels, maps, seconds = len(latents.level_db), latents.level_db[:MAPS], latents.seconds
    heights = [*[1.6] * len(maps), 1.0, *([2.4] if spectrum else [])]
    picture = io.BytesIO()
    with rc_context(_STYLE):
        figure = Figure(figsize=(11, 0.9 + 1.15 * sum(heights)), dpi=100, layout="constrained")
        panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        top = max(float(latents.level_db.max()), SILENT_DB + LATENT_RANGE_DB)  # silence is dark
        for number, (panel, values) in enumerate(zip(panels, maps, strict=False), 1):
            extent = (0, seconds, -0.5, len(values) - 0.5)
            panel.imshow(values, vmin=top - LATENT_RANGE_DB, vmax=top, interpolation="nearest", extent=extent)
            panel.set_ylabel(f"latents, channel {number} of {channels}" if channels > 1 else "latents")
            _colour_bar(panel, "|latent|, dB")
        _draw_rms(panels[len(maps)], latents)
        if spectrum:
            _show(panels[-1], spectrum.level_db, _colours([spectrum.level_db]), spectrum.seconds)
            _frequency_axis(panels[-1], spectrum.sample_rate)
            _colour_bar(panels[-1], "dBFS")
        panels[-1].set_xlim(0, seconds)
        step = next((s for s in _STEPS if seconds / s <= 12), seconds / 10)
        panels[-1].xaxis.set_major_locator(MultipleLocator(step))
        panels[-1].xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(round(at, 1))))
        panels[-1].set_xlabel("minutes:seconds")
        figure.suptitle(one_line(title), parse_math=False)
        figure.savefig(picture, format=format)
    path = target if isinstance(target, (str, os.PathLike)) else None
    try:
        if path is not None:
            with atomic_path(path, overwrite) as temporary:
                temporary.write_bytes(picture.getvalue())
        else:
            target.write(picture.getvalue())  # type: ignore[union-attr]
            target.flush()  # type: ignore[union-attr]
    except BrokenPipeError:
        raise
    except OSError as e:
        what = f"cannot write {path or 'the picture'}: {e.strerror or e}"
        raise LincaeError(what, "free some space, or write elsewhere") from e


def spectrogram_sheet(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], sample_rate: int, path: Path, title: str
) -> None:
    """Draws rows of (caption, mono audio ``[n]``) as a grid of spectrograms with one colour scale; a PNG.

    Time in s, frequency in Hz. `path` is replaced if it exists.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    images = [[(caption, spectra(audio, sample_rate)) for caption, audio in row] for row in rows]
    colours = _colours([image for row in images for _, image in row])
    with rc_context(_STYLE), atomic_path(path, overwrite=True) as temporary:
        figure = Figure(figsize=(4.2 * columns, 2.3 * len(rows) + 0.5), dpi=110, layout="constrained")
        grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
        for axes, row in zip(grid, images, strict=True):
            for axis in axes[len(row) :]:
                axis.set_visible(False)
            for axis, (caption, image) in zip(axes, row, strict=False):
                _show(axis, image, colours, image.shape[1] * HOP / sample_rate)
                axis.set_title(caption)
            _frequency_axis(axes[0], sample_rate)
        for axis in grid[-1]:
            axis.set_xlabel("s")
        figure.suptitle(title)
        figure.savefig(temporary, format="png")


def thumbnail(file: bytes, columns: int = 400) -> bytes:
    """The spectrogram of an audio file, its channels averaged, as PNG without axes, at most so many columns.

    Raises:
        soundfile.LibsndfileError: not an audio file.
    """
    import soundfile
    from matplotlib.image import imsave

    audio, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    level = spectra(audio.mean(1), rate, max(HOP, len(audio) // columns))
    low, high = _colours([level])
    picture = io.BytesIO()
    imsave(picture, level, format="png", cmap="magma", vmin=low, vmax=high, origin="lower")
    return picture.getvalue()


def _colours(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Levels of the darkest and the brightest colour."""
    high = max(LOUD_DB, *(float(image.max()) for image in images))
    return high - RANGE_DB, high


def _show(panel: Axes, level: np.ndarray, colours: tuple[float, float], seconds: float) -> AxesImage:
    return panel.imshow(level, vmin=colours[0], vmax=colours[1], extent=(0, seconds, 0, ROWS))


def _draw_rms(panel: Axes, latents: LatentPicture) -> None:
    channels, columns = latents.rms_db.shape
    middle = (np.arange(columns) + 0.5) * latents.seconds / columns
    for number, level in enumerate(latents.rms_db, 1):
        panel.plot(middle, level, linewidth=0.8, label=f"channel {number}")
    top = float(latents.rms_db.max())
    panel.set_ylim(max(float(latents.rms_db.min()), top - RANGE_DB) - 3, top + 3)
    panel.set_ylabel("latents' RMS, dB")
    panel.grid(alpha=0.3)
    if 1 < channels <= MAPS:
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False)


def _frequency_axis(panel: Axes, sample_rate: int) -> None:
    ticks = [hz for hz in _TICKS_HZ if hz <= sample_rate / 2]
    labels = [f"{hz // 1000} k" if hz >= 1000 else str(hz) for hz in ticks]
    panel.set_yticks([mel(hz) / mel(sample_rate / 2) * ROWS for hz in ticks], labels)
    panel.set_ylabel("Hz (mel scale)")


def _colour_bar(panel: Axes, label: str) -> None:
    """Beside a panel, so that all panels stay equally wide."""
    place = panel.inset_axes((1.012, 0, 0.015, 1))
    panel.figure.colorbar(panel.images[0], cax=place).set_label(label)
