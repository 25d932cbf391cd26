"""Building blocks that run over frames: sequences ``[B, T, C]`` with no statistics over time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.cpu_layout import with_mlp


class TimeConv(nn.Module):
    """Depthwise convolution along time, ``[B, T, C] -> [B, T, C]``, zero-padded at the ends.

    Runs as a channels-last two-dimensional convolution: on a CPU many times faster than ``conv1d`` and without a copy.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 1, 1, kernel) / math.sqrt(kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolves every channel along time."""
        image = x.transpose(1, 2).unsqueeze(2)  # [B, C, 1, T], channels last in memory
        pad = (0, self.weight.shape[-1] // 2)
        out = F.conv2d(image, self.weight, self.bias, padding=pad, groups=self.weight.shape[0])
        return out.squeeze(2).transpose(1, 2)


class Block(nn.Module):
    """ConvNeXt-style residual block (arXiv 2201.03545) over ``[B, T, C]`` with per-frame RMS norm.

    Args:
        width: channels C.
        kernel: taps of the depthwise convolution along time.
        expand: hidden width of the MLP as a multiple of C.
        modulated: whether ``forward`` takes a scale and a shift (from the noise level).
        condition_width: channels of the features added before the MLP; 0 for none.
    """

    def __init__(self, width: int, kernel: int, expand: int, modulated: bool = False, condition_width: int = 0) -> None:
        super().__init__()
        self.conv = TimeConv(width, kernel)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)
        nn.init.normal_(self.down.weight, std=0.3 / math.sqrt(expand * width))
        nn.init.zeros_(self.down.bias)
        self.modulation = nn.Linear(width, 2 * width) if modulated else None
        if self.modulation is not None:
            nn.init.normal_(self.modulation.weight, std=0.02)
            nn.init.zeros_(self.modulation.bias)
        self.condition = nn.Linear(condition_width, width) if condition_width else None

    def forward(self, x: Tensor, noise_level: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """``x`` [B, T, C], ``noise_level`` embedding [B, 1, C], ``features`` [B, T, F] -> [B, T, C]."""
        h = self.conv(x)
        # in the dtype of autocast, whose mixture with float32 weights has no fused kernel
        h = F.rms_norm(h, self.norm.normalized_shape, self.norm.weight.to(h.dtype), self.norm.eps)
        if self.modulation is not None and noise_level is not None:
            scale, shift = self.modulation(noise_level).chunk(2, -1)
            h = h * (1 + scale) + shift
        if self.condition is not None and features is not None:
            h = h + self.condition(features)
        return with_mlp(x, h, self.up, self.down)


class NoiseLevel(nn.Module):
    """Embedding of ``ln(sigma) / 4`` (EDM, arXiv 2206.00364, table 1): ``[B] -> [B, 1, C]``."""

    frequencies: Tensor

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        steps = torch.arange(features // 2) / (features // 2 - 1)
        self.register_buffer("frequencies", 64.0**steps, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        """Noise levels sigma [B] (> 0) to an embedding [B, 1, C]."""
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))[:, None]
