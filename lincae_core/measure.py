"""Peak, RMS and loudness of audio; estimates of them from latents, without decoding. Needs no torch.

Loudness is that of ITU-R BS.1770-5: K-weighting, blocks of 400 ms every 100 ms, an absolute gate at -70 LUFS and a
relative one at -10 LU. Short-term loudness (EBU Tech 3341) is that of 3 s, here the greatest of the file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.signal import sosfilt

from lincae_formats.errors import LincaeError
from lincae_formats.signal import Signal, spans

Table = Mapping[str, Mapping[str, Sequence[float]]]

_HOP = 0.1  # s
_BLOCK = 4  # hops, 400 ms
_SHORT_TERM = 30  # hops, 3 s
_OFFSET = -0.691  # LUFS; BS.1770 equation 2
_ABSOLUTE_GATE = -70.0  # LUFS
_RELATIVE_GATE = -10.0  # LU
_SURROUND = {5: (1.0, 1.0, 1.0, 1.41, 1.41), 6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41)}  # L R C (LFE) Ls Rs


class AudioSource(Protocol):
    """Audio that is read in blocks."""

    sample_rate: int
    channels: int
    num_samples: int

    def blocks(self) -> Iterable[np.ndarray]:
        """Yields float32 `[C, n]`."""


@dataclass(frozen=True)
class Measurement:
    """How loud something is.

    Attributes:
        peak: Largest absolute sample; None where it is not known.
        rms: Root mean square over all channels and samples, full scale is 1.
        integrated: Integrated loudness, LUFS; minus infinity for silence.
        short_term: Greatest short-term loudness, LUFS.
    """

    peak: float | None
    rms: float
    integrated: float
    short_term: float


class LoudnessMeter:
    """Measures audio block by block, in constant memory but for one number per 100 ms.

    Args:
        sample_rate: Hz.
        channels: Number of channels. Five and six are taken for L R C (LFE) Ls Rs, any other number is weighted alike.
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        """Starts at the first sample."""
        self._sos = k_weighting(sample_rate)
        self._state = np.zeros((len(self._sos), channels, 2))
        self._weights = np.array(_SURROUND.get(channels, (1.0,) * channels))
        self._rate, self._channels = sample_rate, channels
        self._samples, self._peak, self._energy = 0, 0.0, 0.0
        self._hops: list[float] = [0.0]  # K-weighted energy of each hop; the last one is not complete

    def feed(self, block: np.ndarray) -> None:
        """Takes the next samples, `[C, n]`."""
        n = block.shape[1]
        if not n:
            return
        self._peak = max(self._peak, float(np.abs(block).max()))
        self._energy += float(np.square(block, dtype=np.float64).sum())
        filtered, self._state = sosfilt(self._sos, block, axis=1, zi=self._state)
        energy = self._weights @ np.square(filtered)
        # Hop i begins at sample ceil(i * rate / 10), so that rates which are no multiple of 10 Hz stay in step.
        begins, hop = [0], len(self._hops)
        while (start := -(-hop * self._rate // 10) - self._samples) < n:
            begins.append(start)
            hop += 1
        sums = np.add.reduceat(energy, begins)
        if len(begins) > 1 and begins[1] == 0:
            sums[0] = 0.0  # reduceat gives the element itself for an empty range
        self._hops[-1] += float(sums[0])
        self._hops += [float(s) for s in sums[1:]]
        self._samples += n

    def result(self) -> Measurement:
        """The measurement of everything so far."""
        count = self._samples * self._channels
        edges = [min(self._samples, -(-i * self._rate // 10)) for i in range(len(self._hops) + 1)]
        power = np.array(self._hops) / np.maximum(np.diff(edges), 1)
        whole = self._samples * 10 // self._rate  # complete hops
        # Audio that is too short for one block is measured as one.
        power = power[:whole] if whole >= _BLOCK else np.array([sum(self._hops) / max(self._samples, 1)])
        return Measurement(
            self._peak,
            math.sqrt(self._energy / count) if count else 0.0,
            integrated_loudness(_moving_mean(power, _BLOCK)),
            lufs(float(_moving_mean(power, _SHORT_TERM).max())),
        )


def measure_audio(source: AudioSource) -> Measurement:
    """Measures all of an audio source.

    Raises:
        LincaeError: it cannot be read.
    """
    meter = LoudnessMeter(source.sample_rate, source.channels)
    for block in source.blocks():
        meter.feed(block)
    return meter.result()


def k_weighting(sample_rate: int) -> np.ndarray:
    """The two biquads of BS.1770's K-weighting for any sample rate, as second-order sections `[2, 6]`.

    The standard gives coefficients for 48 kHz. These are the bilinear transforms of the analogue filters behind them,
    with the constants of libebur128 (https://github.com/jiixyj/libebur128, `ebur128_init_filter`).
    """
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle, norm = high**0.4996667741545416, 1 + k / q + k * k
    shelf = [(high + middle * k / q + k * k) / norm, 2 * (k * k - high) / norm, (high - middle * k / q + k * k) / norm]
    shelf += [1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]
    k, q = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    norm = 1 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / q + k * k) / norm]
    return np.array([shelf, high_pass])


def lufs(power: float) -> float:
    """Loudness of a K-weighted power, LUFS."""
    return _OFFSET + 10 * math.log10(power) if power > 0 else -math.inf


def integrated_loudness(power: np.ndarray) -> float:
    """Integrated loudness, LUFS, from the K-weighted powers of overlapping blocks: BS.1770 equations 3 to 7."""
    power = power[power > 10 ** ((_ABSOLUTE_GATE - _OFFSET) / 10)]
    if not len(power):
        return -math.inf
    return lufs(float(power[power > power.mean() * 10 ** (_RELATIVE_GATE / 10)].mean()))


def _moving_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Means of every `window` consecutive values; of all of them where there are fewer."""
    window = min(window, len(values))
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return np.maximum(sums[window:] - sums[:-window], 0.0) / window


# --- Latents


def estimate(signal: Signal, table: Table) -> Measurement:
    """Estimates the loudness of latents from their group powers, without decoding. The peak is not known.

    Args:
        signal: The latents.
        table: Weights fitted for the latents' model by `fit_table`, which the model's file carries.

    Raises:
        LincaeError: the table is not one of this model.
    """
    header = signal.header
    weights = {kind: [np.asarray(table[kind][name], float) for name in ("numbers", "levels")] for kind in table}
    blocks: dict[str, list[np.ndarray]] = {kind: [] for kind in weights}
    for start, stop in spans([signal]):
        numbers, levels = group_powers(signal, start, stop)
        known = ~np.isnan(levels).any(axis=1)  # [C, n]
        for kind, (by_numbers, by_levels) in weights.items():
            if len(by_numbers) != numbers.shape[1]:
                raise LincaeError(f"{signal.name}: the loudness table of {header.model} is for other latents")
            with_levels = np.einsum("g,cgk->ck", by_levels, np.nan_to_num(levels))
            blocks[kind].append(np.where(known, with_levels, np.einsum("g,cgk->ck", by_numbers, numbers)))
    powers = {kind: np.concatenate(found, axis=1) for kind, found in blocks.items()}
    frame = header.samples_per_frame / header.model_sample_rate  # s
    loud = np.array(_SURROUND.get(header.channels, (1.0,) * header.channels)) @ powers["weighted"]
    covered = min(1.0, header.duration / (header.frames * frame))  # the last frame may reach beyond the end
    return Measurement(
        None,
        math.sqrt(float(powers["flat"].mean()) / covered),
        integrated_loudness(_moving_mean(loud, max(1, round(_BLOCK * _HOP / frame)))),
        lufs(float(_moving_mean(loud, max(1, round(_SHORT_TERM * _HOP / frame))).max())),
    )


def group_powers(signal: Signal, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers in frames `[start, stop)`, of which the loudness is a weighted sum.

    Returns:
        `[C, P, n]`: the squares of the numbers without a level, and the mean squares of each band of level groups (over
        its slots); and the same with squared levels for the bands, NaN where unknown. One mean square without groups.
    """
    header = signal.header
    data = np.square(signal.read(start, stop), dtype=np.float64)
    if not header.groups:
        whole = data.mean(axis=1, keepdims=True)
        return whole, whole.copy()
    known = np.square(signal.levels(start, stop), dtype=np.float64)
    channels, _, frames = data.shape
    numbers, levels, dim, band = [], [], 0, 0
    for run in header.groups:
        part = data[:, dim : dim + run.count * run.size]
        if run.level:
            rows = (channels, run.count // run.slots, -1, frames)
            numbers.append(part.reshape(rows).mean(axis=2))
            levels.append(known[:, band : band + run.count].reshape(rows).mean(axis=2))
            band += run.count
        else:
            numbers.append(part)
            levels.append(part)
        dim += run.count * run.size
    return np.concatenate(numbers, axis=1), np.concatenate(levels, axis=1)


def fit_table(pairs: Iterable[tuple[Signal, np.ndarray]]) -> dict[str, dict[str, list[float]]]:
    """Fits the weights by which `estimate` turns group powers into audio powers.

    Least squares of the relative error of the power of stretches of 3 s that are not nearly silent, by multiplicative
    updates (Lee and Seung 2001), which keep weights positive and, as they start from equal ones, smooth.

    Args:
        pairs: Latents, and the audio `[C, n]` that they were encoded from, at the model's sample rate.
    """
    features: dict[str, list[np.ndarray]] = {"numbers": [], "levels": []}
    targets: dict[str, list[np.ndarray]] = {"weighted": [], "flat": []}
    for signal, audio in pairs:
        header = signal.header
        numbers, levels = group_powers(signal, 0, header.frames)
        length = header.frames * header.samples_per_frame
        padded = np.zeros((header.channels, length))
        padded[:, : audio.shape[1]] = audio
        for kind, sound in (
            ("flat", padded),
            ("weighted", sosfilt(k_weighting(header.model_sample_rate), padded, axis=1)),
        ):
            power = np.square(sound).reshape(header.channels, header.frames, -1).mean(axis=2)
            targets[kind].append(_stretches(power[:, None]).reshape(-1))
        for name, powers in (("numbers", numbers), ("levels", levels)):
            features[name].append(_stretches(powers).transpose(0, 2, 1).reshape(-1, powers.shape[1]))
    found: dict[str, dict[str, list[float]]] = {}
    for kind, rows in targets.items():
        power = np.concatenate(rows)
        keep = power > 1e-5 * power.mean()
        found[kind] = {}
        for name, blocks in features.items():
            # Loud and soft stretches count alike: every equation is divided by its power.
            matrix = np.concatenate(blocks)[keep] / power[keep, None]
            gram, target = matrix.T @ matrix, matrix.sum(axis=0)
            weights = np.full(len(target), target.sum() / max(float(gram.sum()), 1e-300))
            for _ in range(500):
                weights = weights * target / np.maximum(gram @ weights, 1e-300)
            found[kind][name] = [float(f"{w:.4g}") for w in weights]
    return found


def _stretches(powers: np.ndarray, frames: int = 32) -> np.ndarray:
    """Means over stretches of frames, `[C, G, K]` to `[C, G, stretches]`."""
    frames = min(frames, powers.shape[2])
    sums = np.cumsum(np.pad(powers, ((0, 0), (0, 0), (1, 0))), axis=2)
    starts = np.arange(0, powers.shape[2] - frames + 1, max(1, frames // 4))
    return np.asarray((sums[:, :, starts + frames] - sums[:, :, starts]) / frames)


def dimension_statistics(signals: Iterable[Signal]) -> dict[str, Any]:
    """Mean and standard deviation of each latent dimension, over all channels and frames of the signals.

    Raises:
        LincaeError: they come from different models.
    """
    count, frames, seconds, files = 0, 0, 0.0, 0
    total = squares = np.zeros(0)
    first: Signal | None = None
    for signal in signals:
        if first is None:
            first = signal
            total = squares = np.zeros(signal.header.latent_dim)
        elif signal.header.model_fingerprint != first.header.model_fingerprint:
            raise LincaeError(f"{first.name} and {signal.name} come from different models", "name files of one model")
        for start, stop in spans([signal]):
            block = signal.read(start, stop).astype(np.float64)
            total = total + block.sum(axis=(0, 2))
            squares = squares + np.square(block).sum(axis=(0, 2))
            count += block.shape[0] * block.shape[2]
        frames, files = frames + signal.header.frames, files + 1
        seconds += signal.header.duration
    if first is None:
        raise LincaeError("there are no latents to measure", "name .lat files")
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    header = first.header
    return {
        "model": header.model,
        "model_fingerprint": header.model_fingerprint,
        "files": files,
        "seconds": seconds,
        "frames": frames,
        "latent_dim": header.latent_dim,
        "mean": [float(f"{x:.6g}") for x in mean],
        "deviation": [float(f"{x:.6g}") for x in deviation],
    }
