"""Explains a mix by its stems: which gains, over time, make the mix from them? Least squares on latents, no torch.

Latents are linear, so that a mix of audio is the same mix of latents. Gains are straight lines between knots, one knot
every `window` seconds; all of them are found at once from the products of stems and mix in each frame. Stems that were
rounded to integers are louder than what was mixed, by the power of the rounding; it is taken off their products.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solveh_banded
from scipy.ndimage import uniform_filter1d

from lincae_formats import check_compatible
from lincae_formats.errors import LatError
from lincae_formats.signal import STEPS, Signal, block_frames, layout

MAX_STEMS = 64
_PROJECTION = 24  # numbers per frame in which delays are searched
CLEAR = 7.0  # how far the best delay must stand out for a stem to be found
_AROUND = 2  # frames before and after one over which the mix's power is averaged
_FLOOR = 1e-2  # of a frame's mean power: groups weaker than that do not count for more
_MISFIT = 0.01  # power that is explained by no gains, relative to the mix's, beside which rounding counts
_COARSE = 1e-4  # weight of groups with a level relative to the others: they are rounded most coarsely
_ROUNDED = 0.05  # of the power of the stems' rounding: if more is unexplained, the stems were not rounded when mixed
_SOUNDING = 1e-3  # of a stem's greatest power around a knot: below that it does not sound there
_FOREIGN = 0.03  # a stem whose typical gain is below this does not belong to the mix


@dataclass(frozen=True)
class Faders:
    """The gains that make a mix from its stems.

    Attributes:
        times: Times of the knots, s, `[J]`, the last at the end of the mix; between them gains are straight lines.
        gains: A factor for each stem and knot, `[N, J]`.
        delays: By how many frames each stem begins later than the mix, `[N]`.
        residual: Power of what the stems do not explain relative to the mix's, around each knot, `[J]`; NaN in silence.
        total: The same for the whole mix.
        shares: Power of each stem, with its gains, relative to the mix's, `[N]`.
        sounding: Whether a stem sounds around a knot, bool `[N, J]`; elsewhere its gain is interpolated.
    """

    times: np.ndarray
    gains: np.ndarray
    delays: np.ndarray
    residual: np.ndarray
    total: float
    shares: np.ndarray
    sounding: np.ndarray

    def typical(self, stem: int) -> float:
        """The median gain of a stem where it sounds."""
        where = self.sounding[stem]
        return float(np.median(self.gains[stem, where])) if where.any() else 0.0

    def foreign(self, stem: int) -> bool:
        """Whether a stem does not seem to be part of the mix: another take, another song. A silent one may be."""
        return bool(self.sounding[stem].any()) and abs(self.typical(stem)) < _FOREIGN


def faders(
    mix: Signal,
    stems: Sequence[Signal],
    *,
    window: float = 1.0,
    max_delay: float = 0.0,
    ridge: float = 1e-4,
    non_negative: bool = False,
) -> Faders:
    """Finds the gains that make a mix from its stems.

    Args:
        mix: The mix.
        stems: Its stems; mono ones are on every channel, and a mono mix is of the means of their channels.
        window: Time between the knots of the gains, s.
        max_delay: How far a stem may begin before or after the mix, s; whole frames are searched.
        ridge: Weight of the smoothness of gains, relative to the stems' power; more where stems are alike.
        non_negative: Whether gains may not be negative.

    Raises:
        IncompatibleError: they do not belong together.
        LatError: no stems, too many, or a window or delay out of range.
    """
    if not 1 <= len(stems) <= MAX_STEMS:
        raise LatError(f"{len(stems)} stems", f"name 1 to {MAX_STEMS}")
    if not (math.isfinite(window) and window > 0 and math.isfinite(max_delay) and max_delay >= 0):
        raise LatError(f"a window of {window} s and delays of up to {max_delay} s", "use numbers above 0")
    headers = [mix.header, *(s.header for s in stems)]
    check_compatible(headers, [mix.name, *(s.name for s in stems)], sample_rate=mix.header.sample_rate)
    frame = mix.header.samples_per_frame / mix.header.model_sample_rate
    window = min(window, mix.header.frames * frame)
    delays = np.zeros(len(stems), int)
    if max_delay:
        reference = projected(mix)
        delays = np.array([best_delay(projected(s), reference, round(max_delay / frame))[0] for s in stems])
    products = _products(mix, stems, delays)
    knots = max(2, math.ceil(mix.header.frames * frame / window) + 1)
    place = (np.arange(mix.header.frames) + 0.5) * frame / window
    gains = _solve(products, place, knots, ridge, non_negative)
    if _take_off_rounding(products, gains, place):
        with contextlib.suppress(np.linalg.LinAlgError):  # stems that are too much alike
            gains = _solve(products, place, knots, ridge, non_negative)
    energies, power = products.energies, products.power
    del products
    return _explained(mix, stems, delays, gains, place, window, energies, power)


def _blocks(
    mix: Signal, stems: Sequence[Signal], delays: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Frames from and to, and what is there in the stems and, last, in the mix.

    Yields:
        The frames; numbers `[N + 1, channels * dimensions, n]`; the squares of the steps to which they are rounded,
        summed over channels, `[N + 1, G, n]`.
    """
    header, n = mix.header, len(stems)
    size = max(16, min(block_frames(mix), 2**22 // (header.channels * header.latent_dim * (n + 1))))
    for start in range(0, header.frames, size):
        stop = min(start + size, header.frames)
        rows = np.zeros((n + 1, header.channels * header.latent_dim, stop - start))
        steps = np.zeros((n + 1, len(layout(header.groups).sizes), stop - start))
        for row, step, signal, delay in zip(rows, steps, [*stems, mix], [*delays, 0], strict=True):
            first, last = max(start - delay, 0), min(stop - delay, signal.header.frames)
            if first < last:
                part = slice(first + delay - start, last + delay - start)
                block = signal.block(first, last)
                count = len(block.data) if header.channels == 1 else 1  # channels that are one in a mono mix
                block = block if header.channels == 1 else block.spread(header.channels)
                numbers = block.values(header.groups)
                row[:, part] = (numbers.mean(axis=0) if count > 1 else numbers).reshape(-1, last - first)
                if block.steps is not None and block.scale is not None:
                    squares = np.square(STEPS.take(block.steps) * block.scale[:, None])
                    step[:, part] = squares.sum(axis=0) / count**2
        yield start, stop, rows, steps


@dataclass(frozen=True)
class _Products:
    """Weighted products of stems and mix in each frame, and powers.

    What is not linear (rounding, MP3, effects) is about as strong everywhere relative to the mix. So each group of
    numbers, and each time, counts by one over the mix's power there; groups that are rounded coarsely less, those with
    a level least of all.

    Attributes:
        gram: Of stems with each other, `[K, N, N]`.
        cross: Of stems with the mix, `[K, N]`.
        own: Of the mix with itself, `[K]`.
        rounding: Of the rounding of stems and, last, of the mix with itself, as expected, `[K, N + 1]`.
        energies: Powers of the stems, without weights, `[K, N]`.
        power: Power of the mix, without weights, `[K]`.
    """

    gram: np.ndarray
    cross: np.ndarray
    own: np.ndarray
    rounding: np.ndarray
    energies: np.ndarray
    power: np.ndarray


def _products(mix: Signal, stems: Sequence[Signal], delays: np.ndarray) -> _Products:
    header, n = mix.header, len(stems)
    lay = layout(header.groups)
    starts = lay.starts if header.groups else np.arange(0, header.latent_dim, 32)
    sizes = np.diff([*starts, header.latent_dim])
    rounded = [layout(x.header.groups).relative for x in (mix, *stems) if header.groups and x.dtype == "int8"]
    blur = np.max(rounded, axis=0)[:, None] ** 2 / 12 / _MISFIT if rounded else 0.0
    all_products, rounding = np.zeros((header.frames, n + 1, n + 1)), np.zeros((header.frames, n + 1))
    powers = np.zeros((header.frames, n + 1))
    for start, stop, rows, steps in _blocks(mix, stems, delays):
        powers[start:stop] = np.square(rows).sum(axis=1).T
        squares = np.square(rows[n]).reshape(header.channels, header.latent_dim, -1).mean(axis=0)
        near = _smoothed(np.add.reduceat(squares, starts, axis=0) / sizes[:, None])
        weight = 1 / (near * (1 + blur) + _FLOOR * near.mean(axis=0) + 1e-300)
        weight *= near.mean(axis=0)
        if header.groups:
            weight[lay.level] *= _COARSE
            rounding[start:stop] = (weight * (~lay.level * sizes / 12)[:, None] * steps).sum(axis=1).T
        rows *= np.tile(np.repeat(np.sqrt(weight), sizes, axis=0), (header.channels, 1))
        frames = rows.transpose(2, 0, 1)  # [k, N + 1, numbers]
        all_products[start:stop] = frames @ frames.transpose(0, 2, 1)
    power = powers[:, n]
    loud = 1 / (_smoothed(power) + 1e-3 * power.mean() + 1e-300)
    all_products *= loud[:, None, None]
    rounding *= loud[:, None]
    return _Products(
        all_products[:, :n, :n], all_products[:, :n, n], all_products[:, n, n], rounding, powers[:, :n], power
    )


def _take_off_rounding(products: _Products, gains: np.ndarray, place: np.ndarray) -> bool:
    """Takes the stems' rounding off their products with themselves, unless they were rounded when they were mixed.

    Where audio was mixed and encoded after, the stems' rounding is part of what the gains `[J, N]` leave unexplained;
    where latents were mixed it is in the mix, too.
    """
    at_frames, knots = _at_frames(gains, place), len(gains)
    rest = products.own - 2 * (at_frames * products.cross).sum(axis=1)
    rest += np.einsum("kn,knm,km->k", at_frames, products.gram, at_frames)
    of_stems = (np.square(at_frames) * products.rounding[:, :-1]).sum(axis=1)
    around = np.round(place).astype(int).clip(0, knots - 1)
    left_over, stems, mix = (np.bincount(around, x, knots) for x in (rest, of_stems, products.rounding[:, -1]))
    there = stems > 0
    if not there.any() or np.median((left_over - mix)[there] / stems[there]) < _ROUNDED:
        return False
    # As much of what is expected as there is, and nowhere more than half of what tells the stems from each other.
    noise = min(1.0, float(left_over.sum() / (stems + mix).sum())) * products.rounding[:, :-1]
    n = noise.shape[1]
    whole, own = np.zeros((knots, n, n)), np.zeros((knots, n))
    np.add.at(whole, around, products.gram)
    np.add.at(own, around, noise)
    size = np.sqrt(np.where(own > 0, own, np.inf))
    whole /= size[:, :, None] * size[:, None, :]
    whole[:, np.arange(n), np.arange(n)] += np.where(own > 0, 0.0, 2.0)
    share = np.clip(np.linalg.eigvalsh(whole)[:, 0] / 2, 0, 1)
    products.gram[:, np.arange(n), np.arange(n)] -= share[around, None] * noise
    return True


def _smoothed(rows: np.ndarray) -> np.ndarray:
    """Means over a few frames."""
    return uniform_filter1d(rows, 2 * _AROUND + 1, axis=-1, mode="nearest")


def _solve(products: _Products, place: np.ndarray, knots: int, ridge: float, non_negative: bool) -> np.ndarray:
    """Gains at the knots, `[J, N]`; `place` is that of each frame between the knots."""
    gram, cross = products.gram, products.cross
    n = cross.shape[1]
    left, weights = _hats(place, knots)
    # Normal equations: blocks of the knots j with j, and j with j + 1.
    own, next_, target = np.zeros((knots, n, n)), np.zeros((knots - 1, n, n)), np.zeros((knots, n))
    for side in (0, 1):
        np.add.at(own, left + side, weights[side, :, None, None] ** 2 * gram)
        np.add.at(target, left + side, weights[side, :, None] * cross)
    np.add.at(next_, left, (weights[0] * weights[1])[:, None, None] * gram)
    mean = np.einsum("jnn->nj", own).mean(axis=1)
    smooth = np.maximum(ridge * mean, 1e-12 * max(float(mean.max()), 1e-300))
    diagonal = np.arange(n)
    for j in range(knots - 1):  # gains of neighbouring knots are alike
        own[j][diagonal, diagonal] += smooth
        own[j + 1][diagonal, diagonal] += smooth
        next_[j][diagonal, diagonal] -= smooth
    own[:, diagonal, diagonal] += 1e-9 * smooth  # a stem that never sounds has the gain 0
    return _solve_blocks(own, next_, target, non_negative)


def _hats(place: np.ndarray, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """The knot before each frame, `[K]`, and the weights of it and of the next one, `[2, K]`."""
    left = np.minimum(place.astype(int), knots - 2)
    right = (place - left).clip(0, 1)
    return left, np.stack([1 - right, right])


def _at_frames(gains: np.ndarray, place: np.ndarray) -> np.ndarray:
    """The gains `[J, N]` of the knots at each frame, `[K, N]`."""
    left, weights = _hats(place, len(gains))
    return np.asarray(weights[0][:, None] * gains[left] + weights[1][:, None] * gains[left + 1])


def _explained(
    mix: Signal,
    stems: Sequence[Signal],
    delays: np.ndarray,
    gains: np.ndarray,
    place: np.ndarray,
    window: float,
    energies: np.ndarray,
    power: np.ndarray,
) -> Faders:
    """The gains `[J, N]` with what they explain, and what they leave."""
    knots = len(gains)
    at_frames = _at_frames(gains, place)
    rest = np.zeros(len(power))
    for start, stop, rows, _ in _blocks(mix, stems, delays):
        found = np.einsum("kn,ndk->dk", at_frames[start:stop], rows[:-1])
        rest[start:stop] = np.square(rows[-1] - found).sum(axis=0)
    around = np.round(place).astype(int).clip(0, knots - 1)
    total, left_over = np.bincount(around, power, knots), np.bincount(around, rest, knots)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.where(total > 0, left_over / total, np.nan)
    whole = max(float(power.sum()), 1e-300)
    near = np.stack([np.bincount(around, row, knots) for row in energies.T])  # [N, J]
    sounding = near > _SOUNDING * near.max(axis=1, keepdims=True).clip(1e-300)
    shares = (np.square(at_frames) * energies).sum(axis=0) / whole
    times, end = np.arange(knots) * window, mix.header.duration
    if knots > 2 and times[-2] >= end:  # the last latent frame reaches beyond the audio
        times, gains, residual, sounding = times[:-1], gains[:-1], residual[:-1], sounding[:, :-1]
    elif end < times[-1]:  # along its line
        gains[-1] = gains[-2] + (end - times[-2]) / window * (gains[-1] - gains[-2])
        times[-1] = end
    return Faders(times, gains.T, delays, residual, float(rest.sum()) / whole, shares, sounding)


def _solve_blocks(own: np.ndarray, next_: np.ndarray, target: np.ndarray, non_negative: bool) -> np.ndarray:
    """Solves the block-tridiagonal system; returns `[J, N]`."""
    knots, n, _ = own.shape
    size = knots * n
    banded = np.zeros((2 * n, size))  # lower form: banded[d, i] is the element (i + d, i)
    for column in range(n):
        at = np.arange(knots) * n + column
        for row in range(column, n):
            banded[row - column, at] = own[:, row, column]
        for row in range(n):
            banded[n + row - column, at[:-1]] = next_[:, row, column]
    right = target.reshape(-1)
    free = np.ones(size, bool)
    found = solveh_banded(banded, right, lower=True)
    while non_negative and (found[free] < 0).any():  # negative gains become 0, the others are found again
        free &= found >= 0
        held, fixed = banded.copy(), np.flatnonzero(~free)
        held[1:, fixed] = 0
        for distance in range(1, 2 * n):
            held[distance, fixed[fixed >= distance] - distance] = 0
        found = solveh_banded(held, np.where(free, right, 0), lower=True)
    return found.reshape(knots, n)


def projected(signal: Signal) -> np.ndarray:
    """A few numbers per frame, `[P, K]`: random sums of the latents, the same for all signals of a model."""
    header = signal.header
    basis = np.random.default_rng(0).standard_normal((_PROJECTION, header.latent_dim)).astype(np.float32)
    size = block_frames(signal)
    blocks = []
    for start in range(0, header.frames, size):
        block = signal.read(start, min(start + size, header.frames)).sum(axis=0)  # all channels together
        blocks.append(basis @ block)
    return np.concatenate(blocks, axis=1)


def best_delay(stem: np.ndarray, mix: np.ndarray, most: int | None = None) -> tuple[int, float]:
    """The delay at which a stem fits a mix best, from their `projected` numbers.

    Returns:
        The delay, frames, negative where the stem begins before the mix; and how clearly: the correlation there over
        the root mean square of the others.
    """
    length = stem.shape[1] + mix.shape[1]
    size = 1 << (length - 1).bit_length()
    found = np.zeros(size)
    for a, b in zip(stem, mix, strict=True):  # one row at a time: hours fit in memory
        found += np.fft.irfft(np.fft.rfft(b, size) * np.fft.rfft(a, size).conj(), size)
    lags = np.arange(-stem.shape[1] + 1, mix.shape[1])
    values = found[lags % size]
    if most is not None:
        keep = np.abs(lags) <= most
        lags, values = lags[keep], values[keep]
    best = int(np.abs(values).argmax())
    others = np.delete(values, best)
    spread = float(np.sqrt(np.square(others).mean())) if others.size else 0.0
    return int(lags[best]), float(abs(values[best]) / spread) if spread else 0.0


def gain_at(stem: Signal, mix: Signal, delay: int) -> float:
    """The gain of a stem in a mix in which it begins after `delay` frames, if nothing else were alike."""
    products = _products(mix, [stem], np.array([delay]))
    power = float(products.gram.sum())
    return float(products.cross.sum()) / power if power else 0.0


def track_names(files: Sequence[str]) -> list[str]:
    """A name for each track of an arrangement, after its file: `drums`, `drums 2`; none is `master`."""
    names: list[str] = []
    for file in files:
        stem = file.replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".lat")[:60] or "track"
        name, number = stem, 2
        while name in (*names, "master"):
            name, number = f"{stem} {number}", number + 1
        names.append(name)
    return names


def arrangement(found: Faders, files: Sequence[str], frame: float) -> dict[str, Any]:
    """An arrangement that renders to the mix: a track for each stem, its gains as a curve.

    Args:
        found: From `faders`.
        files: The stems' files, relative to the arrangement.
        frame: Length of a latent frame, s.
    """
    tracks: dict[str, Any] = {}
    for i, (file, name) in enumerate(zip(files, track_names(files), strict=True)):
        sign = -1.0 if found.typical(i) < 0 else 1.0
        track: dict[str, Any] = {"file": file}
        if found.delays[i]:
            track["offset"] = round(float(found.delays[i]) * frame, 6)
        if sign < 0:
            track["invert"] = True
        points = simplified(found.times, np.maximum(sign * found.gains[i], 0.0))
        if len(points) == 1:
            track["gain"] = float(f"{points[0][1]:.6g}")
        else:
            track["curve"] = " ".join(f"{time:.6g}:{gain:.6g}" for time, gain in points)
        tracks[name] = track
    return {"tracks": tracks}


def simplified(times: np.ndarray, gains: np.ndarray, most: int = 1000) -> list[tuple[float, float]]:
    """As few points as follow the gains within 0.02 dB of the largest, or more loosely for at most `most` points."""
    tolerance = 0.0023 * float(gains.max(initial=0.0))
    if float(np.ptp(gains)) <= 2 * tolerance:
        return [(0.0, float(np.median(gains)))]
    while True:
        keep = {0, len(gains) - 1}
        parts = [(0, len(gains) - 1)]
        while parts:
            a, b = parts.pop()
            if b - a < 2:
                continue
            line = np.interp(times[a : b + 1], [times[a], times[b]], [gains[a], gains[b]])
            error = np.abs(line - gains[a : b + 1])
            worst = int(error.argmax())
            if error[worst] > tolerance:
                keep.add(a + worst)
                parts += [(a, a + worst), (a + worst, b)]
        if len(keep) <= most:
            return [(float(times[i]), float(gains[i])) for i in sorted(keep)]
        tolerance *= 2
