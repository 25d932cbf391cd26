"""Pictures of one file: its latents, its level and its spectrogram above one time axis, in constant memory."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from lincae_core.evaluation.pictures import WINDOW, decibels
from lincae_formats import Header
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lincae_core.transcode import AudioSource

COLUMNS = 1200  # most points along the time axis
MAPS = 8  # most channels drawn
RANGE_DB = 80
_WINDOWS = 4  # most spectra averaged in a column
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)  # s between ticks


@dataclass(frozen=True)
class LatentPicture:
    """Latents drawn small.

    Attributes:
        maps: ``[C, latent_dim, columns]``: of each column's frames the value farthest from 0.
        level_db: ``[C, columns]``: RMS of each column's latents, dB.
        seconds: length of the audio, s.
    """

    maps: np.ndarray
    level_db: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Spectrogram:
    """A spectrogram drawn small.

    Attributes:
        level_db: ``[1025, columns]``: dB below a sine of full scale.
        sample_rate: Hz.
        seconds: length of the audio, s.
    """

    level_db: np.ndarray
    sample_rate: int
    seconds: float


def latent_picture(header: Header, blocks: Iterable[np.ndarray]) -> LatentPicture:
    """Draws latents given in blocks ``[C, latent_dim, n]``."""
    width = -(-header.frames // COLUMNS)
    maps, powers = [], []
    for part in _regrouped(blocks, width):
        farthest = np.abs(part).argmax(2)[:, :, None]
        maps.append(np.take_along_axis(part, farthest, 2)[:, :, 0])
        powers.append(np.square(part, dtype=np.float64).mean((1, 2)))
    level = 10 * np.log10(np.maximum(np.stack(powers, 1), 1e-12))
    return LatentPicture(np.stack(maps, 2), level, header.duration)


def spectrogram(audio: AudioSource, progress: Callable[[float, float], None] | None = None) -> Spectrogram:
    """Draws the spectrogram of audio, its channels averaged."""
    seconds = audio.num_samples / audio.sample_rate
    hop = max(WINDOW // 4, audio.num_samples // (COLUMNS * _WINDOWS))
    group = max(1, -(-audio.num_samples // (hop * COLUMNS)))  # spectra in a column
    columns, held, done = [], np.zeros((len(decibels(np.zeros(1))), 0)), 0
    for level in _spectra(audio, hop):
        held = np.concatenate([held, level], axis=1)
        whole = held.shape[1] // group
        columns.append(held[:, : whole * group].reshape(len(held), whole, group).mean(2))
        held = held[:, whole * group :]
        done += level.shape[1] * hop
        if progress:
            progress(min(done / audio.sample_rate, seconds), seconds)
    if held.shape[1]:
        columns.append(held.mean(1, keepdims=True))
    return Spectrogram(np.concatenate(columns, 1) - 20 * np.log10(WINDOW / 4), audio.sample_rate, seconds)


def _spectra(audio: AudioSource, hop: int) -> Iterator[np.ndarray]:
    """Yields levels in dB ``[1025, n]`` of windows that begin every `hop` samples; zeros follow the end."""
    held, skip = np.zeros(0, np.float32), 0
    for block in audio.blocks():
        held = np.concatenate([held, block.mean(0, dtype=np.float32)])
        drop = min(skip, len(held))
        held, skip = held[drop:], skip - drop
        count = (len(held) - WINDOW) // hop + 1
        if count > 0:
            yield decibels(held[: (count - 1) * hop + WINDOW], hop)
            held, skip = held[count * hop :], max(0, count * hop - len(held))
    if len(held):
        count = -(-len(held) // hop)
        yield decibels(np.pad(held, (0, max(0, (count - 1) * hop + WINDOW - len(held)))), hop)


def draw(
    title: str,
    latents: LatentPicture,
    spectrum: Spectrogram | None,
    target: str | Path | BinaryIO,
    *,
    format: str = "png",
    overwrite: bool = False,
) -> None:
    """Draws latent maps, level and, where there is one, the spectrogram.

    Args:
        title: above the picture.
        latents: drawn latents.
        spectrum: drawn spectrogram, or None.
        target: path or stream.
        format: png, svg or pdf.
        overwrite: replace an existing target.

    Raises:
        LincaeError: the target cannot be written.
    """
    from matplotlib.figure import Figure

    maps = latents.maps[:MAPS]
    heights = [*[1.6] * len(maps), 0.8, *([2.2] if spectrum else [])]
    figure = Figure(figsize=(11, 1.1 + sum(heights)), dpi=100, layout="constrained")
    panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
    _draw_maps(panels, maps, latents)
    _draw_level(panels[len(maps)], latents)
    if spectrum:
        top = float(spectrum.level_db.max())
        image = panels[-1].imshow(
            spectrum.level_db, origin="lower", aspect="auto", cmap="magma", vmin=top - RANGE_DB, vmax=top,
            extent=(0, spectrum.seconds, 0, spectrum.sample_rate / 2000),
        )  # fmt: skip
        panels[-1].set_ylabel("kHz")
        figure.colorbar(image, ax=panels[-1], label="dB", pad=0.01)
    _time_axis(panels[-1], latents.seconds)
    figure.suptitle(one_line(title), fontsize=11, parse_math=False)
    with io.BytesIO() as picture:
        figure.savefig(picture, format=format)
        _write(target, picture.getvalue(), overwrite)


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
        raise LincaeError(f"cannot write {name}: {e.strerror or e}", "free some room or choose another -o") from e


def _draw_maps(panels: list[Axes], maps: np.ndarray, latents: LatentPicture) -> None:
    limit = float(np.quantile(np.abs(maps), 0.99)) or 1.0
    channels = len(latents.maps)
    for number, (panel, values) in enumerate(zip(panels, maps, strict=False), 1):
        image = panel.imshow(
            values, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest",
            extent=(0, latents.seconds, -0.5, len(values) - 0.5),
        )  # fmt: skip
        of = f" {number} of {channels}" if channels > 1 else ""
        panel.set_ylabel(f"latents{of}")
        panel.figure.colorbar(image, ax=panel, pad=0.01)


def _draw_level(panel: Axes, latents: LatentPicture) -> None:
    columns = latents.level_db.shape[1]
    middle = (np.arange(columns) + 0.5) * latents.seconds / columns
    for level in latents.level_db:
        panel.plot(middle, level, linewidth=0.8)
    top = float(latents.level_db.max())
    panel.set_ylim(max(float(latents.level_db.min()), top - RANGE_DB) - 3, top + 3)
    panel.set_ylabel("level, dB")
    panel.grid(alpha=0.3)


def _time_axis(panel: Axes, seconds: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    step = next((s for s in _STEPS if seconds / s <= 12), seconds / 10)
    panel.set_xlim(0, seconds)
    panel.xaxis.set_major_locator(MultipleLocator(step))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda at, _: clock(at, step)))
    panel.set_xlabel("minutes:seconds")


def clock(seconds: float, step: float = 1.0) -> str:
    """`1:05`; with tenths where ticks are closer than a second apart; `1:02:05` from an hour on."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    shown = f"{rest // 10:02d}" + (f".{rest % 10}" if step < 1 else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{shown}" if hours else f"{minutes}:{shown}"


def _regrouped(blocks: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """The same data in blocks ``[..., width]``, the last one shorter."""
    held: list[np.ndarray] = []
    have = 0
    for block in blocks:
        held.append(block)
        have += block.shape[-1]
        if have >= width:
            data = np.concatenate(held, axis=-1)
            whole = have // width * width
            yield from np.split(data[..., :whole], whole // width, axis=-1)
            held, have = [data[..., whole:]], have - whole
    if have:
        yield np.concatenate(held, axis=-1)
