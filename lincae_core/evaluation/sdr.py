"""Signal-to-distortion ratios of estimates, by segments."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from lincae_core.evaluation.segments import is_silent, spans

LIMIT_DB = 100.0  # beyond it the error is float32 rounding, or the estimate has nothing of the target


def sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """``10 log10(||x||^2 / ||x - y||^2)``, dB: the SDR of the Lin-CAE paper ("SNR without zero-mean").

    No mean is taken off, no gain or filter is allowed for: half the volume is 6 dB. Limited to +-100 dB; 100 for an
    exact estimate.

    Args:
        estimate: y, ``[samples]``.
        target: x, of the same shape, not silent.

    Raises:
        ValueError: different shapes.
    """
    x, y = _pair(estimate, target)
    return _decibels(float(x @ x), float((x - y) @ (x - y)))


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """Scale-invariant SDR, ``10 log10(||a x||^2 / ||a x - y||^2)`` with ``a = <x, y> / ||x||^2``, dB.

    Le Roux et al., "SDR - half-baked or well done?", 2019, equation 4; no mean is taken off. Limited to +-100 dB.

    Args:
        estimate: y, ``[samples]``.
        target: x, of the same shape, not silent.

    Raises:
        ValueError: different shapes.
    """
    x, y = _pair(estimate, target)
    power = float(x @ x)
    scaled = (float(x @ y) / power if power else 0.0) * x
    return _decibels(float(scaled @ scaled), float((scaled - y) @ (scaled - y)))


def by_segments(
    measure: Callable[[np.ndarray, np.ndarray], float], estimate: np.ndarray, target: np.ndarray, sample_rate: int
) -> np.ndarray:
    """A measure of every 10 s segment, ``[segments]``; NaN where the target is silent.

    Args:
        measure: `sdr` or `si_sdr`.
        estimate: ``[samples]``.
        target: ``[samples]``.
        sample_rate: Hz.
    """
    return np.array(
        [
            math.nan if is_silent(target[span]) else measure(estimate[span], target[span])
            for span in spans(len(target), sample_rate)
        ]
    )


def _pair(estimate: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if np.shape(estimate) != np.shape(target):
        raise ValueError(f"the estimate has shape {np.shape(estimate)}, the target {np.shape(target)}")
    return np.asarray(target, np.float64), np.asarray(estimate, np.float64)


def _decibels(signal: float, error: float) -> float:
    floor = 10 ** (-LIMIT_DB / 10)
    if signal <= floor * error:  # first: a silent estimate has nothing of the target, and no error either
        return -LIMIT_DB
    if error <= floor * signal:
        return LIMIT_DB
    return 10 * math.log10(signal / error)
