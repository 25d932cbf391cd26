"""The linear path of a `frame` model: lapped transforms over STFT frames that are not compressed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.frontend import BINS

FRAME = 2 * BINS  # numbers in an STFT frame
RATIO = 8  # STFT frames in a latent frame
SPAN = 16  # STFT frames that a latent frame's functions cover: its own and 4 on either side, 9728 samples
BESIDE = (SPAN - RATIO) // 2
REACH = 1  # latent frames on either side that the linear path reaches


class LinearAnalysis(nn.Module):
    """Latents as inner products of the audio with fixed functions: additive and homogeneous to rounding.

    Args:
        latent_dim: functions, one for each number in a latent frame.
        alpha: exponent of the frontend's magnitudes, which is undone.
        beta: factor on them, which is undone.
    """

    def __init__(self, latent_dim: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.weight = nn.Parameter(torch.randn(latent_dim, SPAN * FRAME) / (SPAN * FRAME) ** 0.5)

    def forward(self, frames: Tensor) -> Tensor:
        """Compressed frames ``[B, 8 K, 2048]`` to latents ``[B, K, latent_dim]`` in float32."""
        with torch.autocast(frames.device.type, enabled=False):
            spectrum = magnitude_power(frames.float() / self.beta, 1 / self.alpha)
            spans = F.pad(spectrum, (0, 0, BESIDE, BESIDE)).unfold(1, SPAN, RATIO)  # [B, K, 2048, 16]
            return F.linear(spans.transpose(2, 3).flatten(2), self.weight)


class LinearSynthesis(nn.Module):
    """A sum of fixed functions weighted by latents: the linear estimate of the audio, as compressed frames.

    Args:
        latent_dim: functions, one for each number in a latent frame.
        alpha: exponent of the frontend's magnitudes.
        beta: factor on them.
    """

    def __init__(self, latent_dim: int, alpha: float, beta: float) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.weight = nn.Parameter(torch.randn(SPAN * FRAME, latent_dim) / latent_dim**0.5)

    def forward(self, z: Tensor) -> Tensor:
        """Latents ``[B, K, latent_dim]`` to compressed frames ``[B, 8 K, 2048]`` in float32."""
        with torch.autocast(z.device.type, enabled=False):
            halves = F.linear(z.float(), self.weight).unflatten(-1, (2, RATIO, FRAME))
            first, second = halves.unbind(2)  # of the 16 STFT frames, [B, K, 8, 2048]
            summed = F.pad(first, (0, 0, 0, 0, 0, 1)) + F.pad(second, (0, 0, 0, 0, 1, 0))
            return self.beta * magnitude_power(summed.flatten(1, 2)[:, BESIDE:-BESIDE], self.alpha)


def magnitude_power(frames: Tensor, exponent: float) -> Tensor:
    """``|X|^exponent e^{i arg X}`` of frames ``[..., 2048]``; its gradient stays finite at 0."""
    real, imag = frames.chunk(2, -1)
    factor = (real.square() + imag.square()).clamp_min(1e-10) ** ((exponent - 1) / 2)
    return torch.cat([real * factor, imag * factor], -1)
