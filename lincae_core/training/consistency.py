"""Consistency training (arXiv 2303.01469, 2310.14189): noise levels and the loss."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lincae_core.models.consistency import Preconditioning
from lincae_core.models.frame import FrameModel

LOWEST = 0.05  # index of the lowest student: at 0 the consistency function is the identity


def draw_levels(
    batch: int, p: Preconditioning, mean: float, std: float, step: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels of student and teacher, two tensors ``[B]``.

    The student's ln sigma is normal, clamped to the model's range; the teacher stands ``step`` lower in index, at least
    at sigma_min. There the consistency function is the identity, so a step of 1 is plain regression to the clean frames
    and a shrinking step goes from regression to consistency (as in "easy consistency tuning", arXiv 2406.14548).
    """
    sigma = (mean + std * torch.randn(batch, generator=generator)).exp().clamp(p.sigma_min, p.sigma_max)
    student = p.index(sigma).clamp_min(LOWEST)
    return p.sigma(student), p.sigma((student - step).clamp_min(0)).clamp_min(p.sigma_min)


def pseudo_huber(difference: Tensor) -> Tensor:
    """``sqrt(||d||^2 + c^2) - c`` per item, ``[B]``, with ``c = 0.00054 sqrt(dimensions)`` (2310.14189, eq. 7)."""
    flat = difference.flatten(1)
    c = 0.00054 * math.sqrt(flat.shape[1])
    return (flat.square().sum(1) + c * c).sqrt() - c


def consistency_loss(
    model: FrameModel,
    target: Tensor,
    features: Tensor,
    noise: Tensor,
    student: Tensor,
    teacher: Tensor,
    weighting: str,
) -> Tensor:
    """Mean loss of a batch: student and teacher see the same noise, the teacher gives no gradient.

    Args:
        model: the model (student and teacher share its weights).
        target: clean frames ``[B, T, 2048]``.
        features: of the latent-side decoder, ``[B, T, width]``.
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
