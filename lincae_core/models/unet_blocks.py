"""Building blocks of Music2Latent's network: images ``[B, C, T, F]`` of time and frequency."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.cpu_layout import activated, added, convolved, mixed, quadrupled, scaled


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of 4 channels or more, at most 32 groups."""
    return nn.GroupNorm(min(channels // 4, 32), channels)


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def zeroed(module: AnyModule) -> AnyModule:
    """The module with all its parameters at 0: a residual branch begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FrequencyAttention(nn.Module):
    """Self-attention along frequency, every time step on its own: ``[B, C, T, F] -> [B, C, T, F]``.

    Args:
        channels: channels C.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = zeroed(nn.Linear(channels, channels))
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attends along the last axis."""
        h = self.norm(x).permute(0, 2, 3, 1).contiguous()  # [B, T, F, C]: no copy where x is channels-last
        batch, time, bins, channels = h.shape
        split = self.qkv(h).view(batch * time, bins, 3, self.heads, channels // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # [B T, heads, F, C / heads]
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, time, bins, channels)
        return self.output(h).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, the noise level added, and the same again, beside a shortcut.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        condition: width of the noise level's embedding; 0 for none.
        heads: attention heads; 0 for no attention.
        flat: sequences ``[B, C, T]`` instead of images.
    """

    def __init__(self, inputs: int, outputs: int, *, condition: int = 0, heads: int = 0, flat: bool = False) -> None:
        super().__init__()
        conv: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if flat else nn.Conv2d
        self.norm1 = group_norm(inputs)
        self.conv1 = conv(inputs, outputs, 3, padding=1)
        self.level = zeroed(nn.Linear(condition, outputs)) if condition else None
        self.norm2 = group_norm(outputs)
        self.conv2 = zeroed(conv(outputs, outputs, 3, padding=1))
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else None
        self.attention = FrequencyAttention(outputs, heads) if heads else None

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """``x`` [B, C, T, F] (or [B, C, T]) and the noise level's embedding [B, E]."""
        shift = None if self.level is None or level is None else self.level(level)
        h = convolved(self.conv1, activated(self.norm1, x), shift)
        h = convolved(self.conv2, activated(self.norm2, h))
        h = added(h, x if self.shortcut is None else mixed(self.shortcut, x))
        return h if self.attention is None else added(h, self.attention(h))


class Downsample(nn.Module):
    """Strided convolution: a quarter of the frequencies, or half of frequencies and times.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        frequency_only: whether time stays.
        normalised: whether a group norm comes first.
    """

    def __init__(self, inputs: int, outputs: int, frequency_only: bool, normalised: bool) -> None:
        super().__init__()
        self.norm = group_norm(inputs) if normalised else None
        if frequency_only:
            self.conv = nn.Conv2d(inputs, outputs, (1, 5), stride=(1, 4), padding=(0, 2))
        else:
            self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F]`` to ``[B, C', T, F / 4]`` or ``[B, C', T / 2, F / 2]``."""
        return self.conv(x if self.norm is None else self.norm(x))


class Upsample(nn.Module):
    """Nearest neighbours, then a convolution: the inverse shapes of `Downsample`."""

    def __init__(self, inputs: int, outputs: int, frequency_only: bool) -> None:
        super().__init__()
        self.frequency_only = frequency_only
        if frequency_only:
            self.conv = nn.Conv2d(inputs, outputs, (1, 5), padding=(0, 2))
        else:
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F]`` to ``[B, C', T, 4 F]`` or ``[B, C', 2 T, 2 F]``."""
        if self.frequency_only:
            return quadrupled(self.conv, x)
        return convolved(self.conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))


class NoiseEmbedding(nn.Module):
    """Sinusoids of ``ln(sigma) / 4``, sines then cosines (arXiv 1706.03762, section 3.5): ``[B] -> [B, E]``."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = torch.arange(width // 2) / (width // 2 - 1)
        self.register_buffer("frequencies", (1 / 10_000) ** steps, persistent=False)

    def forward(self, sigma: Tensor) -> Tensor:
        """Noise levels sigma [B] (> 0) to [B, E]."""
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def mlp(width: int, outputs: int | None = None) -> nn.Sequential:
    """Two linear layers with SiLU; with ``outputs``, a third one that begins at 0."""
    layers: list[nn.Module] = [nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
    if outputs is not None:
        layers.append(zeroed(nn.Linear(width, outputs)))
    return nn.Sequential(*layers)


def blended(own: Tensor, *others: Tensor) -> Tensor:
    """The sum of images over the root of their number, which keeps the variance; may overwrite the first."""
    for other in others:
        own = added(own, other)
    return scaled(own, 1 / math.sqrt(1 + len(others)))
