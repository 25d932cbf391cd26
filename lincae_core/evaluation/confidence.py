"""How sure a mean is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and its 95 % confidence interval, ``mean +- t(0.975, n - 1) s / sqrt(n)`` (Student, 1908).

    It takes the values as independent: segments of one track are not quite, so with few tracks it is somewhat too
    narrow. Two values know little of their mean: the interval of so few is as wide as it should be.

    Args:
        values: one or more finite numbers.

    Returns:
        (mean, low, high); low and high are None of a single value.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    from scipy.special import stdtrit

    x = np.asarray(values, np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError("a mean needs one or more finite values")
    mean = float(x.mean())
    if len(x) < 2:
        return mean, None, None
    margin = float(stdtrit(len(x) - 1, (1 + LEVEL) / 2)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - margin, mean + margin
