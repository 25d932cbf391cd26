"""Pictures: latents, levels and spectrograms of a file; sheets of spectrograms; thumbnails for pages.

Spectrograms are in dB below a sine of full scale, on a mel scale from 0 Hz to half the sample rate:
mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy, 1987). A row of a picture shows the strongest of its bins. Silence is
black in all of them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lincae_core.evaluation.metrics import regrouped
from lincae_formats import Header
from lincae_formats.errors import LincaeError, one_line
from lincae_formats.files import atomic_path
from lincae_formats.text import clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
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
_WINDOWS = 4  # most spectra averaged in a column
_TICKS_HZ = (0, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # s between ticks


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
    peaks, powers = [], []
    for part in regrouped(blocks, -(-header.frames // COLUMNS)):
        peaks.append(np.abs(part).max(2))
        powers.append(np.square(part, dtype=np.float64).mean((1, 2)))
    levels = 20 * np.log10(np.maximum(np.stack(peaks, 2), 1e-9))
    return LatentPicture(levels, 10 * np.log10(np.maximum(np.stack(powers, 1), 1e-18)), header.duration)


def spectrogram(audio: AudioSource, progress: Callable[[float, float], None] | None = None) -> Spectrogram:
    """Draws the spectrogram of audio, its channels averaged, in constant memory; `progress` gets seconds, and all."""
    seconds = audio.num_samples / audio.sample_rate
    hop = max(WINDOW // 4, audio.num_samples // (COLUMNS * _WINDOWS))

    def levels() -> Iterator[np.ndarray]:
        done = 0
        for level in _stream(audio, hop):
            yield level
            done += level.shape[1] * hop
            if progress:
                progress(min(done / audio.sample_rate, seconds), seconds)

    in_a_column = max(1, -(-audio.num_samples // (hop * COLUMNS)))
    columns = [level.mean(1, keepdims=True) for level in regrouped(levels(), in_a_column)]
    return Spectrogram(np.concatenate(columns, 1), audio.sample_rate, seconds)


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
    from matplotlib.figure import Figure

    channels = len(latents.level_db)
    maps = latents.level_db[:MAPS]
    heights = [*[1.6] * len(maps), 1.0, *([2.4] if spectrum else [])]
    height = 0.9 + sum(heights) + 0.15 * len(heights)
    figure = Figure(figsize=(11, height), dpi=100)
    panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    figure.subplots_adjust(left=0.09, right=0.9, bottom=0.5 / height, top=1 - 0.4 / height, hspace=0.12)
    top = float(latents.level_db.max())
    for number, (panel, values) in enumerate(zip(panels, maps, strict=False), 1):
        image = panel.imshow(
            values, origin="lower", aspect="auto", cmap="magma", vmin=top - LATENT_RANGE_DB, vmax=top,
            interpolation="nearest", extent=(0, latents.seconds, -0.5, len(values) - 0.5),
        )  # fmt: skip
        if top <= 20 * np.log10(1e-9):  # nothing but silence
            image.set_clim(top, top + LATENT_RANGE_DB)
        of = f", channel {number} of {channels}" if channels > 1 else ""
        panel.set_ylabel(f"latents{of}", fontsize=8)
        panel.tick_params(labelsize=7)
        _colour_bar(figure, image, panel, "|latent|, dB")
    _draw_rms(panels[len(maps)], latents)
    if spectrum:
        image = _show(panels[-1], spectrum.level_db, _colours([spectrum.level_db]), spectrum.seconds)
        _frequency_axis(panels[-1], spectrum.sample_rate)
        _colour_bar(figure, image, panels[-1], "dBFS")
    _time_axis(panels[-1], latents.seconds)
    figure.suptitle(one_line(title), fontsize=11, parse_math=False, y=1 - 0.12 / height)
    with io.BytesIO() as picture:
        figure.savefig(picture, format=format)
        _write(target, picture.getvalue(), overwrite)


def spectrogram_sheet(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], sample_rate: int, path: Path, title: str = ""
) -> None:
    """Draws rows of (caption, mono audio ``[n]``) as a grid of spectrograms with one colour scale; a PNG.

    Time in s, frequency in Hz. `path` is replaced if it exists.
    """
    from matplotlib.figure import Figure

    columns = max(len(row) for row in rows)
    figure = Figure(figsize=(4.2 * columns, 2.3 * len(rows) + 0.5), dpi=110, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharex=True, sharey=True)
    images = [[(caption, spectra(audio, sample_rate)) for caption, audio in row] for row in rows]
    colours = _colours([image for row in images for _, image in row])
    for axes, row in zip(grid, images, strict=True):
        for axis in axes[len(row) :]:
            axis.set_visible(False)
        for axis, (caption, image) in zip(axes, row, strict=False):
            _show(axis, image, colours, image.shape[1] * HOP / sample_rate)
            axis.set_title(caption, fontsize=9)
            axis.tick_params(labelsize=7)
        _frequency_axis(axes[0], sample_rate)
    for axis in grid[-1]:
        axis.set_xlabel("s", fontsize=8)
    if title:
        figure.suptitle(title, fontsize=11)
    with atomic_path(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png")


def thumbnail(path: Path) -> bytes:
    """`picture_of` an audio file, its channels averaged.

    Raises:
        soundfile.LibsndfileError: not an audio file.
    """
    import soundfile

    audio, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return picture_of(audio.mean(1), rate)


def picture_of(audio: np.ndarray, sample_rate: int, columns: int = 400) -> bytes:
    """The spectrogram of mono audio ``[n]`` as PNG without axes, at most so many columns."""
    from matplotlib.image import imsave

    level = spectra(audio, sample_rate, max(HOP, len(audio) // columns))
    low, high = _colours([level])
    buffer = io.BytesIO()
    imsave(buffer, level, format="png", cmap="magma", vmin=low, vmax=high, origin="lower")
    return buffer.getvalue()


def _colours(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Levels of the darkest and the brightest colour."""
    high = max(LOUD_DB, *(float(image.max()) for image in images))
    return high - RANGE_DB, high


def _show(panel: Axes, level: np.ndarray, colours: tuple[float, float], seconds: float) -> AxesImage:
    low, high = colours
    extent = (0, seconds, 0, ROWS)
    return panel.imshow(level, origin="lower", aspect="auto", cmap="magma", vmin=low, vmax=high, extent=extent)


def _stream(audio: AudioSource, hop: int) -> Iterator[np.ndarray]:
    """Yields `spectra` of windows that begin every `hop` samples; zeros follow the end."""
    held, skip, rate = np.zeros(0, np.float32), 0, audio.sample_rate
    for block in audio.blocks():
        held = np.concatenate([held, block.mean(0, dtype=np.float32)])
        drop = min(skip, len(held))
        held, skip = held[drop:], skip - drop
        count = (len(held) - WINDOW) // hop + 1
        if count > 0:
            yield spectra(held[: (count - 1) * hop + WINDOW], rate, hop)
            held, skip = held[count * hop :], max(0, count * hop - len(held))
    if len(held):
        count = -(-len(held) // hop)
        yield spectra(np.pad(held, (0, max(0, (count - 1) * hop + WINDOW - len(held)))), rate, hop)


def _write(target: str | Path | BinaryIO, picture: bytes, overwrite: bool) -> None:
    try:
        if isinstance(target, (str, os.PathLike)):
            with atomic_path(target, overwrite) as temporary:
                temporary.write_bytes(picture)
        else:
            target.write(picture)
            target.flush()
    except BrokenPipeError:
        raise
    except OSError as e:
        name = target if isinstance(target, (str, os.PathLike)) else "the picture"
        raise LincaeError(f"cannot write {name}: {e.strerror or e}", "free some space, or write elsewhere") from e


def _draw_rms(panel: Axes, latents: LatentPicture) -> None:
    channels, columns = latents.rms_db.shape
    middle = (np.arange(columns) + 0.5) * latents.seconds / columns
    for number, level in enumerate(latents.rms_db, 1):
        panel.plot(middle, level, linewidth=0.8, label=f"channel {number}")
    top = float(latents.rms_db.max())
    panel.set_ylim(max(float(latents.rms_db.min()), top - RANGE_DB) - 3, top + 3)
    panel.set_ylabel("latents' RMS, dB", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.grid(alpha=0.3)
    if 1 < channels <= MAPS:
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), fontsize=7, frameon=False)


def _frequency_axis(panel: Axes, sample_rate: int) -> None:
    ticks = [hz for hz in _TICKS_HZ if hz <= sample_rate / 2]
    labels = [f"{hz // 1000} k" if hz >= 1000 else str(hz) for hz in ticks]
    panel.set_yticks([mel(hz) / mel(sample_rate / 2) * ROWS for hz in ticks], labels, fontsize=7)
    panel.set_ylabel("Hz (mel scale)", fontsize=8)


def _colour_bar(figure: Figure, image: AxesImage, panel: Axes, label: str) -> None:
    place = panel.get_position()
    axes = figure.add_axes((place.x1 + 0.01, place.y0, 0.012, place.height))
    figure.colorbar(image, cax=axes).set_label(label, fontsize=8)
    axes.tick_params(labelsize=7)


def _time_axis(panel: Axes, seconds: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((s for s in _STEPS if seconds / s <= 12), seconds / 10)
    panel.set_xlim(0, seconds)
    panel.xaxis.set_major_locator(MultipleLocator(step))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(round(at, 1))))
    panel.set_xlabel("minutes:seconds", fontsize=8)
    panel.tick_params(labelsize=7)
