"""The public packages as oracles: their networks with random weights, filled so that no branch is dead."""

from __future__ import annotations

from types import ModuleType

import torch
from peers import imported
from torch import nn


def linear_cae() -> ModuleType:
    """The Lin-CAE authors' network; skips where it is not installed."""
    return imported("linear_cae.components.generator", "linear-cae 0.1.4")


def music2latent() -> ModuleType:
    """Music2Latent's network; skips where it is not installed."""
    return imported("music2latent.models", "music2latent 0.1.8")


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values everywhere, also where training begins at 0, small enough that nothing explodes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            fan = p[0].numel() if p.ndim > 1 else 1
            noise = torch.randn(p.shape, generator=generator)
            one = (name.endswith("weight") and p.ndim == 1) or name.endswith("gain.scale")
            p.copy_(1 + 0.1 * noise if one else 0.1 * noise if p.ndim == 1 else noise / max(fan, 1) ** 0.5)
    return module.eval()


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference over the largest magnitude."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
