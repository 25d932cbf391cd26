"""Checkpoints: one safetensors file, written atomically, that resumes a training exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError


@dataclass
class Progress:
    """Where a training stands.

    Args:
        step: steps done.
        elapsed: s spent training, over all runs.
        validations: validations done.
        gradient_norm: running mean of the gradients' norm.
    """

    step: int = 0
    elapsed: float = 0.0
    validations: int = 0
    gradient_norm: float = 0.0


def save_checkpoint(
    path: Path,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    recipe: str,
) -> None:
    """Writes weights, moving average, optimiser state, progress and the recipe they belong to."""
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{key}/{name}"] = value
    cpu = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_bytes(save(cpu, {"progress": json.dumps(vars(progress)), "recipe": recipe}))


def load_checkpoint(
    path: Path, model: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer, recipe: str
) -> Progress:
    """Restores what `save_checkpoint` wrote, in place; returns the progress.

    Raises:
        LincaeError: the file is damaged or belongs to another recipe.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            progress = Progress(**json.loads(metadata["progress"]))
            if metadata["recipe"] != recipe:
                raise LincaeError(f"{path}: belongs to another recipe", "use another --out or --no-resume")
            model.load_state_dict({k: file.get_tensor(f"model/{k}") for k in model.state_dict()})
            for key in ema:
                ema[key].copy_(file.get_tensor(f"ema/{key}"))
            parameters = dict(model.named_parameters())
            for name in file.keys():  # noqa: SIM118
                if name.startswith("optimiser/"):
                    _, key, target = name.split("/", 2)
                    value = file.get_tensor(name)
                    parameter = parameters[target]
                    optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise LincaeError(f"{path}: damaged checkpoint ({type(e).__name__})", "start anew with --no-resume") from None
    return progress
