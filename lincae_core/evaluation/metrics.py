"""Measures of a decoded signal against its original. None of them needs an optional package.

Estimate and target are mono audio ``[n]`` at a sample rate in Hz, unless said otherwise. Levels and ratios are in dB.
Results are averaged over segments of 10 s (`spans`); segments whose target is silent (`is_silent`) are left out.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

SEGMENT_SECONDS = 10
SILENCE_RMS = 1e-3
LIMIT_DB = 100.0  # ratios beyond it are float32 rounding
MSS_WINDOWS_MS = (10, 25, 50)
MEL_BINS = 80
FRAME_HOP = 512  # samples at 44.1 kHz; a decoder that works in STFT frames may buzz at multiples of their rate
FRAME_HZ = 44100 / FRAME_HOP
OCTAVES = (500, 1000, 2000, 4000, 8000, 16000)  # centres, Hz
IMAGE_LIMIT_DB = 40.0  # a side signal further below (or above) the middle is not heard as anything else


def spans(num_samples: int, sample_rate: int) -> list[slice]:
    """Segments of 10 s. A rest of up to 5 s after the last whole segment is left out; short audio is one segment."""
    step = SEGMENT_SECONDS * sample_rate
    return [slice(start, start + step) for start in range(0, max(1, num_samples - step // 2), step)]


def regrouped(blocks: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
    """The same data in blocks ``[..., width]``, the last one shorter, in constant memory."""
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


def is_silent(signal: np.ndarray) -> bool:
    """Whether a signal's RMS is below 1e-3 (-60 dB)."""
    return rms(signal) < SILENCE_RMS


def rms(signal: np.ndarray) -> float:
    """Root mean square over all values; 0 for an empty signal."""
    values = np.asarray(signal)
    return math.sqrt(float(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def ratio_db(signal: float, error: float) -> float:
    """``10 log10(signal / error)`` of two energies, limited to +-100 dB; NaN when both are 0."""
    floor = 10 ** (-LIMIT_DB / 10)
    if not signal and not error:
        return math.nan
    if error <= floor * signal:
        return LIMIT_DB
    return 10 * math.log10(signal / error) if signal > floor * error else -LIMIT_DB


def sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """Signal-to-distortion ratio ``10 log10(||x||^2 / ||x - y||^2)``, dB, as in the Lin-CAE paper; any shape.

    No mean is removed and no gain is allowed for: half the volume gives 6 dB. Limited to +-100 dB (100 for an exact
    estimate); NaN when target and estimate are both silent.

    Raises:
        ValueError: different shapes.
    """
    x, y = _pair(estimate, target)
    return ratio_db(float(x @ x), float((x - y) @ (x - y)))


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """Scale-invariant SDR ``10 log10(||a x||^2 / ||a x - y||^2)``, ``a = <x, y> / ||x||^2``, dB; any shape.

    Le Roux et al., "SDR - half-baked or well done?", 2019, equation 4; no mean is removed. Limited to +-100 dB, -100
    for a silent estimate.

    Raises:
        ValueError: different shapes.
    """
    x, y = _pair(estimate, target)
    power = float(x @ x)
    scaled = (float(x @ y) / power if power else 0.0) * x
    found = ratio_db(float(scaled @ scaled), float((scaled - y) @ (scaled - y)))
    return -LIMIT_DB if math.isnan(found) and power else found


def mss(estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """Multi-scale spectral distance, the mean over segments: 0 when equal, smaller is better; NaN when all are silent.

    The distance of the Lin-CAE paper (arXiv:2510.23530) with the settings of its authors' code: the multi-resolution
    STFT loss of auraloss (Steinmetz and Reiss, 2020). For each resolution it is the spectral convergence
    ``||Y - X||_F / ||Y||_F`` plus the mean of ``|log X - log Y|``, X and Y mel magnitudes of 80 bands; Hann windows of
    10, 25 and 50 ms, hops of half a window, FFT sizes of the next power of two; then the mean of the three. Both
    signals are ``[n]``, or ``[C, n]``, whose channels are averaged.

    Raises:
        ValueError: different shapes, no samples, or values that are not finite.
    """
    return mean_heard(mss_segments(estimate, target, sample_rate))


def mss_segments(
    estimate: np.ndarray, target: np.ndarray, sample_rate: int, device: str | torch.device = "cpu"
) -> np.ndarray:
    """`mss` of every segment, ``[segments]``; NaN where the target is silent. Computed on `device` by torch."""
    import torch

    if np.shape(estimate) != np.shape(target):
        raise ValueError(_SHAPES.format(np.shape(estimate), np.shape(target)))
    x, y = _mono(estimate, "estimate"), _mono(target, "target")
    metric = _mel_distance(sample_rate)
    pad = max(0, metric.stft_losses[-1].fft_size - len(y))  # a signal shorter than a window is followed by zeros

    def distance(a: np.ndarray, b: np.ndarray) -> float:
        with torch.no_grad():
            return float(metric(*(torch.from_numpy(np.pad(v, (0, pad)))[None, None].to(device) for v in (a, b))))

    return by_segments(distance, x, y, sample_rate)


def by_segments(
    measure: Callable[[np.ndarray, np.ndarray], float], estimate: np.ndarray, target: np.ndarray, sample_rate: int
) -> np.ndarray:
    """A measure of (estimate, target) ``[..., n]`` of every segment, ``[segments]``; NaN where the target is silent."""
    values = [
        math.nan if is_silent(target[..., s]) else measure(estimate[..., s], target[..., s])
        for s in spans(target.shape[-1], sample_rate)
    ]
    return np.array(values)


def mean_heard(values: np.ndarray) -> float:
    """Mean of the values that are not NaN; NaN when there are none."""
    heard = values[~np.isnan(values)]
    return float(heard.mean()) if len(heard) else math.nan


def tone(estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """How much a decoder buzzes at its frame rate: 1 is right, more is a buzz.

    The share of the energy between 1 and 10 kHz that lies within 3 Hz of multiples of 86.13 Hz (44100 / 512), in the
    estimate over the target. A spectral distance with windows of 50 ms cannot see such a comb. NaN for signals shorter
    than half a second, whose spectrum is too coarse.
    """
    if len(target) < sample_rate / 2:
        return math.nan
    hz, (y, x) = _power([estimate, target], sample_rate)
    inside = (hz > 1000) & (hz < 10_000)
    comb = inside & (np.abs(hz / FRAME_HZ - np.round(hz / FRAME_HZ)) * FRAME_HZ < 3)
    share = [power[comb].sum() / (power[inside].sum() + 1e-20) for power in (y, x)]
    return float(share[0] / max(share[1], 1e-6))


def octave_levels(estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """Mean of ``|level of an octave, estimate over target|``, dB, over octaves centred at 500 Hz to 16 kHz.

    Octaves in which the target has less than 1e-9 of its energy are left out; NaN when all are.
    """
    (y, x), sounding = _octaves([estimate, target], sample_rate, np.array([0, 1]))
    return mean_heard(np.where(sounding, np.abs(10 * np.log10(y / x)), np.nan))


def stereo_image(estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """How far the stereo width is off: mean over octaves of ``|S/M of the estimate - S/M of the target|``, dB.

    ``M = (L + R) / 2``, ``S = (L - R) / 2`` of ``[2, n]``; S/M is their ratio of energies in an octave, limited to
    +-40 dB. Octaves as in `octave_levels`.
    """
    halves = [(lr[0] + sign * lr[1]) / 2 for lr in (estimate, target) for sign in (1, -1)]
    (ym, ys, xm, xs), sounding = _octaves(halves, sample_rate, np.array([0, 0, 1, 1]))
    y, x = (np.clip(10 * np.log10(v), -IMAGE_LIMIT_DB, IMAGE_LIMIT_DB) for v in (ys / ym, xs / xm))
    return mean_heard(np.where(sounding, np.abs(y - x), np.nan))


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and the ends of its 95 % confidence interval (Student's t), taking the values as independent.

    The ends are None for a single value.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    from scipy.stats import sem, t

    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError("a mean needs one or more finite values")
    mean = float(x.mean())
    if len(x) < 2:
        return mean, None, None
    half = float(sem(x) * t.ppf(0.975, len(x) - 1))
    return mean, mean - half, mean + half


_SHAPES = "the estimate has shape {}, the target {}"


def _pair(estimate: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(estimate) != np.shape(target):
        raise ValueError(_SHAPES.format(np.shape(estimate), np.shape(target)))
    return np.asarray(target, np.float64).ravel(), np.asarray(estimate, np.float64).ravel()


def _mono(signal: np.ndarray, name: str) -> np.ndarray:
    signal = np.asarray(signal, dtype=np.float32)
    if signal.ndim not in (1, 2) or not signal.size:
        raise ValueError(f"the {name} has shape {signal.shape}, must be [samples] or [channels, samples]")
    if not np.isfinite(signal).all():
        raise ValueError(f"the {name} holds NaN or infinity")
    return signal if signal.ndim == 1 else signal.mean(axis=0, dtype=np.float32)


def _power(signals: Sequence[np.ndarray], sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies in Hz ``[bins]`` and power spectra ``[signals, bins]`` (Welch, windows of 32768 samples)."""
    from scipy.signal import welch

    stacked = np.stack([np.asarray(s, np.float64) for s in signals])
    hz, power = welch(stacked, sample_rate, nperseg=min(32768, stacked.shape[1]))
    return hz, power


def _octaves(signals: Sequence[np.ndarray], sample_rate: int, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies ``[signals, octaves]``, above 0, and in which octaves there is something of the target.

    `target` ``[signals]`` is 1 for the signals that it is the sum of, else 0.
    """
    hz, power = _power(signals, sample_rate)
    bands = np.array([(hz >= centre / 2**0.5) & (hz < centre * 2**0.5) for centre in OCTAVES])
    energies = power @ bands.T
    return energies + 1e-20, target @ energies > 1e-9 * (target @ power).sum()


@functools.lru_cache(maxsize=4)
def _mel_distance(sample_rate: int) -> Any:
    import auraloss

    windows = [int(sample_rate * ms / 1000) for ms in MSS_WINDOWS_MS]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters detected")  # they are removed below
        loss: Any = auraloss.freq.MultiResolutionSTFTLoss(
            fft_sizes=[2 ** math.ceil(math.log2(w)) for w in windows], hop_sizes=[w // 2 for w in windows],
            win_lengths=windows, scale="mel", n_bins=MEL_BINS, sample_rate=sample_rate,
        )  # fmt: skip
    for part in loss.stft_losses:
        # below 32 kHz some mel filters fall between two bins of the FFT: empty, their logarithm would be NaN
        part.fb = part.fb[:, part.fb[0].sum(-1) > 0]
    return loss
