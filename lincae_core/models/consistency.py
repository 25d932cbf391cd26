"""Consistency models: preconditioning, noise levels and sampling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

RHO = 7.0


@dataclass(frozen=True)
class Preconditioning:
    """Scalings around the trained network (EDM, arXiv 2206.00364, table 1; arXiv 2303.01469, app. C).

    ``f(x, sigma) = c_skip x + c_out F(c_in x, sigma)``, with ``f(x, sigma_min) = x`` exactly.

    Args:
        sigma_data: standard deviation of the data.
        sigma_min: smallest noise level.
        sigma_max: largest noise level.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def c_skip(self, sigma: Tensor) -> Tensor:
        """``sigma_d^2 / ((sigma - sigma_min)^2 + sigma_d^2)``."""
        return self.sigma_data**2 / ((sigma - self.sigma_min) ** 2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        """``sigma_d (sigma - sigma_min) / sqrt(sigma_d^2 + sigma^2)``."""
        return self.sigma_data * (sigma - self.sigma_min) / (self.sigma_data**2 + sigma**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        """``1 / sqrt(sigma^2 + sigma_d^2)``."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def sigma(self, index: Tensor) -> Tensor:
        """Noise level at index i in [0, 1]: ``(smin^(1/rho) + i (smax^(1/rho) - smin^(1/rho)))^rho`` (EDM, eq. 5)."""
        low, high = self.sigma_min ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return (low + index * (high - low)) ** RHO

    def index(self, sigma: Tensor) -> Tensor:
        """Index in [0, 1] of a noise level: the inverse of ``sigma``."""
        low, high = self.sigma_min ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return (sigma ** (1 / RHO) - low) / (high - low)


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Callable[[int], Tensor],
    p: Preconditioning,
    steps: int = 1,
) -> Tensor:
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1) from noise at sigma_max.

    Args:
        denoise: the consistency function of frames [B, T, 2048] and sigma [B].
        noise: unit Gaussian noise of step i, [B, T, 2048].
        p: preconditioning, which knows the noise levels.
        steps: number of evaluations, at indices 1, 1 - 1/steps, ...

    Returns:
        Frames ``[B, T, 2048]``.
    """
    x = p.sigma_max * noise(0)
    out = denoise(x, x.new_full((x.shape[0],), p.sigma_max))
    for step in range(1, steps):
        sigma = p.sigma(torch.tensor(1 - step / steps, device=x.device, dtype=x.dtype))
        x = out + (sigma**2 - p.sigma_min**2).clamp_min(0).sqrt() * noise(step)
        out = denoise(x, sigma.expand(x.shape[0]))
    return out
