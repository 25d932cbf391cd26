"""Losses on what one decoding step gives: beyond the paper, whose decoder learns from consistency alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lincae_core.models.families import Model
from lincae_core.models.frontend import HOP, LEAD, WINDOW
from lincae_core.training.recipe import DecodedSection
from lincae_core.training.spectral import SpectralDistance, frame_distance


class DecodedLoss(nn.Module):
    """Decodes a batch as `lincae decode` does, in one step from noise at sigma_max, and compares.

    Args:
        section: weights of the distances.
    """

    def __init__(self, section: DecodedSection) -> None:
        super().__init__()
        self.section = section
        self.spectral = SpectralDistance() if section.spectral else None

    @property
    def wanted(self) -> bool:
        """Whether any distance has a weight."""
        return bool(self.section.spectral or self.section.frames)

    def forward(self, model: Model, features: Any, noise: Tensor, truth: Tensor, target: Tensor) -> Tensor:
        """Mean weighted distance of a batch.

        Args:
            model: the model.
            features: what its latent-side decoder gave.
            noise: unit Gaussian ``[B, T, 2048]``.
            truth: audio ``[B, 512 T + 1536]``.
            target: its compressed frames ``[B, T, 2048]``.
        """
        sigma = model.preconditioning.sigma_max
        frames = model.denoise(sigma * noise, noise.new_full((len(noise),), sigma), features).float()
        loss = noise.new_zeros(())
        if self.section.frames:
            loss = loss + self.section.frames * frame_distance(frames, target).mean()
        if self.spectral is not None:
            with torch.autocast(noise.device.type, enabled=False):
                overlap = model.frontend.overlap(frames.shape[1]).clamp_min(1e-3)
                audio = model.frontend.synthesise(frames) / overlap
                inside = _inside(audio.shape[1])
                loss = loss + self.section.spectral * self.spectral(audio[:, inside], truth[:, inside]).mean()
        return loss


def _inside(num_samples: int) -> slice:
    """The samples for which no frame beyond the crop is missing; all of them where that leaves less than a window."""
    edge = WINDOW - HOP
    return slice(edge, num_samples - edge) if num_samples > 2 * edge + 2 * WINDOW else slice(LEAD, num_samples - LEAD)
