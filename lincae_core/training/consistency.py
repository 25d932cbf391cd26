"""Consistency training (arXiv 2303.01469, 2310.14189): noise levels and the loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from lincae_core.models.consistency import Preconditioning
from lincae_core.models.families import Model

LOWEST = 0.05  # index of the lowest student: at 0 the consistency function is the identity
GRID = 10_000  # noise levels that `draw_indices` chooses among


def draw_levels(
    batch: int, p: Preconditioning, mean: float, std: float, step: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels of student and teacher with a normal ln sigma, two tensors ``[B]``.

    The student is clamped to the model's range; the teacher stands ``step`` lower in index, at least at sigma_min.
    There the consistency function is the identity, so a step of 1 is plain regression to the clean frames and a
    shrinking step goes from regression to consistency (as in "easy consistency tuning", arXiv 2406.14548).
    """
    sigma = (mean + std * torch.randn(batch, generator=generator)).exp().clamp(p.sigma_min, p.sigma_max)
    return levels(p.index(sigma).clamp_min(LOWEST), step, p)


def index_weights(p: Preconditioning, mean: float, std: float) -> Tensor:
    """Chance (unnormalised) of every noise level of a grid even in index, ``[GRID - 1]``.

    The density of a normal ln sigma, but per unit of *index* (arXiv 2310.14189, section 3.5, as Music2Latent and
    Lin-CAE draw it), which puts more weight on the lowest levels than `draw_levels` does.
    """
    index = torch.arange(GRID - 1, dtype=torch.float64) / (GRID - 1)
    log_sigma = p.sigma(index).log()
    return (-0.5 * ((log_sigma - mean) / std) ** 2).exp() / (std * math.sqrt(2 * math.pi))


def draw_indices(
    batch: int, p: Preconditioning, mean: float, std: float, step: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels of student and teacher, two tensors ``[B]``, drawn on the grid of `index_weights` with jitter."""
    cell = torch.multinomial(index_weights(p, mean, std), batch, replacement=True, generator=generator)
    index = (cell + torch.rand(batch, generator=generator)) / (GRID - 1)
    return levels(index.clamp_min(1e-4), step, p)  # at 0 student and teacher would be one


def levels(student: Tensor, step: float, p: Preconditioning) -> tuple[Tensor, Tensor]:
    """Noise levels of students at the given indices and of teachers ``step`` lower, two tensors ``[B]``."""
    return p.sigma(student), p.sigma((student - step).clamp_min(0)).clamp_min(p.sigma_min)


def pseudo_huber(difference: Tensor) -> Tensor:
    """``sqrt(||d||^2 + c^2) - c`` per item, ``[B]``, with ``c = 0.00054 sqrt(dimensions)`` (2310.14189, eq. 7)."""
    flat = difference.flatten(1)
    c = 0.00054 * math.sqrt(flat.shape[1])
    return (flat.square().sum(1) + c * c).sqrt() - c


def consistency_loss(
    model: Model,
    target: Tensor,
    features: Any,
    noise: Tensor,
    student: Tensor,
    teacher: Tensor,
    weighting: str,
) -> Tensor:
    """Mean loss of a batch: student and teacher see the same noise, the teacher gives no gradient.

    Args:
        model: the model (student and teacher share its weights).
        target: clean frames ``[B, T, 2048]``.
        features: what the latent-side decoder gave.
        noise: unit Gaussian, like ``target``.
        student: noise levels ``[B]``.
        teacher: lower noise levels ``[B]``.
        weighting: "step" for the paper's ``1 / (sigma_student - sigma_teacher)``; "relative" for that times
            ``sigma_student / c_out``, which gives every noise level about the same say in the network's output.
    """
    with torch.no_grad():
        aim = model.denoise(target + teacher[:, None, None] * noise, teacher, features)
    out = model.denoise(target + student[:, None, None] * noise, student, features)
    weight = 1 / (student - teacher)
    if weighting == "relative":
        weight = weight * student / model.preconditioning.c_out(student)
    return (weight * pseudo_huber(out.float() - aim.float())).mean()


class Select:
    """Picks items of a batch, from tensors and from tuples or lists of them.

    Args:
        chosen: places of the items ``[S]``.
        batch: items that there are; where all are chosen nothing is copied.
    """

    def __init__(self, chosen: Tensor, batch: int) -> None:
        self.chosen = None if len(chosen) == batch else chosen

    def __call__(self, x: Any) -> Any:
        """The same structure with ``[S, ...]`` for ``[B, ...]``."""
        if self.chosen is None:
            return x
        return x[self.chosen] if isinstance(x, Tensor) else type(x)(v[self.chosen] for v in x)
