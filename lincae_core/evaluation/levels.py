"""Levels of signals and of differences between them."""

import math

import numpy as np


def rms(signal: np.ndarray) -> float:
    """Root mean square over all values; 0 of an empty signal."""
    values = np.asarray(signal, dtype=np.float64)
    return math.sqrt(float(np.mean(values**2))) if values.size else 0.0


def snr_db(estimate: np.ndarray, target: np.ndarray) -> float:
    """10 log10(||target||^2 / ||target - estimate||^2), dB.

    Infinite when they are equal, minus infinite when only the target is silent, NaN when both are.

    Raises:
        ValueError: different shapes.
    """
    estimate, target = np.asarray(estimate, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if estimate.shape != target.shape:
        raise ValueError(f"the estimate has shape {estimate.shape}, the target {target.shape}")
    signal, error = float(np.sum(target**2)), float(np.sum((target - estimate) ** 2))
    if error == 0:
        return math.inf if signal else math.nan
    return 10 * math.log10(signal / error) if signal else -math.inf
