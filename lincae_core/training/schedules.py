"""Schedules: functions of progress in [0, 1]."""

from __future__ import annotations

import math


def step_size(progress: float, start: float, end: float) -> float:
    """Distance between student and teacher in noise-level index: ``0.1^e``, e from ``start`` to ``end``."""
    return 0.1 ** (start + (end - start) * progress)


def learning_rate(progress: float, peak: float, final: float, warmup: float) -> float:
    """Linear warm-up over the first ``warmup`` of training, then a cosine from ``peak`` to ``final``."""
    if progress < warmup:
        return peak * max(progress / warmup, 1e-3)
    t = min((progress - warmup) / max(1 - warmup, 1e-9), 1.0)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * t))


def ema_decay(step: int, limit: float) -> float:
    """Decay of the weights' moving average: ``min(limit, (1 + step) / (10 + step))``, so that it starts fast."""
    return min(limit, (1 + step) / (10 + step))
