"""The paper's two tricks (arXiv 2510.23530, section 3): linearity by augmentation alone. Pure functions."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def draw_mixing_weights(batch: int, generator: Generator) -> Tensor:
    """Weights ``w ~ U(0.5, 1)``, ``[B]``."""
    return 0.5 + 0.5 * torch.rand(batch, generator=generator)


def mix_neighbours(x: Tensor, w: Tensor) -> Tensor:
    """``w x + (1 - w) roll(x, 1)`` along the batch; the same call mixes audio and latents.

    Args:
        x: ``[B, ...]``.
        w: weights ``[B]``.
    """
    w = w.to(x).view(-1, *[1] * (x.ndim - 1))
    return w * x + (1 - w) * x.roll(1, 0)


def gain_range(progress: float, low: float, high: float, shrink: bool) -> tuple[float, float]:
    """Range of the gains at a point of training.

    With ``shrink`` it narrows towards 1 by a cosine between 20 % and 90 % of training (`lin-cae`), else it stays
    (`lin-cae-2`).

    Args:
        progress: part of training done, in [0, 1].
        low: smallest gain at the start.
        high: largest gain at the start.
        shrink: whether the range shrinks.
    """
    if not shrink:
        return low, high
    t = min(max((progress - 0.2) / 0.7, 0.0), 1.0)
    keep = 0.5 * (1 + math.cos(math.pi * t))
    return 1 - (1 - low) * keep, 1 + (high - 1) * keep


def draw_gains(peaks: Tensor, bounds: tuple[float, float], probability: float, generator: Generator) -> Tensor:
    """Gains ``a``, ``[B]``: uniform in ``bounds`` with a probability, else 1; below 0.05 they become 0.

    Each is capped so that the scaled audio's peak stays <= 1.

    Args:
        peaks: largest magnitude of each item's audio, ``[B]``.
        bounds: range of the gains.
        probability: chance that an item is scaled at all.
        generator: source of randomness (on the CPU).
    """
    low, high = bounds
    a = low + (high - low) * torch.rand(len(peaks), generator=generator)
    a = torch.where(torch.rand(len(peaks), generator=generator) < probability, a, torch.ones(()))
    a = torch.where(a < 0.05, torch.zeros(()), a)
    return torch.minimum(a, 1 / peaks.cpu().clamp_min(1e-6))
