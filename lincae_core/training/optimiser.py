"""The optimiser, with a pace of its own for the linear path."""

from __future__ import annotations

import torch
from torch import nn

from lincae_core.models.linear import LinearAnalysis, LinearSynthesis
from lincae_core.training.recipe import OptimiserSection

# learning rate over that of the networks: about the RMS of the numbers that `linear_start` begins with
PACE = {LinearAnalysis: 0.003, LinearSynthesis: 0.3}


def make_optimiser(model: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """AdamW or RAdam over all of a model's parameters.

    A step of theirs changes every number by about the learning rate, whatever its size. The linear path begins as what
    it has to be, in numbers far from 1, so its rate is a share of them: see `PACE`.

    Args:
        model: the model.
        section: of the recipe.
    """
    maps = {id(m.weight): PACE[type(m)] for m in model.modules() if isinstance(m, tuple(PACE))}
    parameters = list(model.parameters())
    groups = [{"params": [p for p in parameters if id(p) not in maps], "pace": 1.0}]
    groups += [{"params": [p], "pace": maps[id(p)], "weight_decay": 0.0} for p in parameters if id(p) in maps]
    betas = (section.beta1, section.beta2)
    if section.name == "radam":
        return torch.optim.RAdam(
            groups, lr=section.learning_rate, betas=betas, weight_decay=section.weight_decay, foreach=True
        )
    return torch.optim.AdamW(
        groups, lr=section.learning_rate, betas=betas, weight_decay=section.weight_decay, fused=True
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Sets the rate of every group, each at its pace."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["pace"]
