"""The paper's two tricks (arXiv 2510.23530, section 3): linearity by augmentation alone. Pure functions."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor


def draw_mixing_weights(batch: int, generator: Generator, sources: int = 2) -> Tensor:
    """Weights of the crops in every mixture, ``[B, sources]``; each row sums to 1.

    The first is the paper's ``w ~ U(1/2, 1)``, the second ``1 - w``. With more sources a mixture has 2, 3, ... or
    ``sources`` of them, as often, ``w ~ U(1/count, 1)``, and the others share ``1 - w`` by uniform proportions.
    """
    count = 2 + (torch.rand(batch, generator=generator) * (sources - 1)).long().clamp_max(sources - 2)
    w = 1 / count + (1 - 1 / count) * torch.rand(batch, generator=generator)
    shares = torch.ones(batch, 1) if sources == 2 else torch.rand(batch, sources - 1, generator=generator)
    shares = shares * (torch.arange(2, sources + 1) <= count[:, None])
    return torch.cat([w[:, None], (1 - w[:, None]) * shares / shares.sum(1, keepdim=True)], 1)


def mix_neighbours(x: Tensor, w: Tensor) -> Tensor:
    """``w_0 x + w_1 roll(x, 1) + ...`` along the batch; the same call mixes audio and latents.

    Args:
        x: ``[B, ...]``.
        w: weights ``[B, sources]``.
    """
    columns = w.to(x).view(*w.shape, *[1] * (x.ndim - 1)).unbind(1)
    return sum((c * x.roll(k, 0) for k, c in enumerate(columns[1:], 1)), columns[0] * x)


def without_neighbours(mixture: Tensor, x: Tensor, w: Tensor) -> Tensor:
    """``mixture - w_1 roll(x, 1) - ...``: what is left of the first mixtures when their other sources are taken out.

    Args:
        mixture: the first mixtures, ``[D, ...]`` with D <= B.
        x: what was mixed, ``[B, ...]``.
        w: weights ``[B, sources]``.
    """
    others = mix_neighbours(x, torch.cat([torch.zeros_like(w[:, :1]), w[:, 1:]], 1))
    return mixture - others[: len(mixture)]


def replace_by_mixtures(x: Tensor, w: Tensor, probability: float, generator: Generator) -> Tensor:
    """Replaces each item, with a probability, by its mixture with neighbours: plain augmentation of the audio.

    Args:
        x: ``[B, ...]``.
        w: mixing weights ``[B, sources]``.
        probability: chance that an item is replaced.
        generator: source of randomness (on the CPU).
    """
    chosen = (torch.rand(len(x), generator=generator) < probability).to(x.device)
    return torch.where(chosen.view(-1, *[1] * (x.ndim - 1)), mix_neighbours(x, w), x)


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
