"""The optimiser."""

from __future__ import annotations

import torch
from torch import nn

from lincae_core.training.recipe import OptimiserSection


def make_optimiser(model: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """AdamW or RAdam over all of a model's parameters.

    Args:
        model: the model.
        section: of the recipe.
    """
    parameters, betas = model.parameters(), (section.beta1, section.beta2)
    if section.name == "radam":
        return torch.optim.RAdam(
            parameters, lr=section.learning_rate, betas=betas, weight_decay=section.weight_decay, foreach=True
        )
    return torch.optim.AdamW(
        parameters, lr=section.learning_rate, betas=betas, weight_decay=section.weight_decay, fused=True
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = rate
