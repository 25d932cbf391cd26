"""Weights that a training starts from."""

from __future__ import annotations

import torch
from torch import nn

from lincae_core.models.blocks import Block
from lincae_core.models.families import Model
from lincae_core.models.frame import FrameModel, LinearEncoder
from lincae_core.models.registry import resolve
from lincae_core.models.weights import load_weights
from lincae_formats.errors import LincaeError


def start_from(model: Model, name_or_path: str) -> None:
    """Gives a model the weights of one that is at hand; blocks that are new begin as the identity.

    A network may have more blocks than the one it starts from, read more of the latents, or stand beside a linear
    encoder that had none: what is new adds nothing at first, so the model does at the first step what it did.

    Args:
        model: fresh; changed in place.
        name_or_path: name of a model, or a weights file.

    Raises:
        LincaeError: there is none of that name, or its networks have another shape.
    """
    info = resolve(name_or_path)
    source, _ = load_weights(info.path)
    own, given = model.state_dict(), source.state_dict()
    missing = own.keys() - given.keys()
    try:
        if source.family != model.family or not all(any(k.startswith(g) for g in _silent(model)) for k in missing):
            raise RuntimeError
        model.load_state_dict(given, strict=not missing)
        if given.keys() - own.keys():
            raise RuntimeError
    except RuntimeError:
        raise LincaeError(
            f"initial: the networks of {name_or_path} have another shape than the recipe's `model`",
            f"see lincae models show {name_or_path}",
        ) from None
    with torch.no_grad():
        for prefix, outlet in _silent(model).items():
            if any(k.startswith(prefix) for k in missing):
                for parameter in outlet.parameters():
                    parameter.zero_()


def _silent(model: Model) -> dict[str, nn.Module]:
    """Parts that may be new: the beginning of their parameters' names, and the layer that adds what they give."""
    parts: dict[str, nn.Module] = {
        f"{name}.": block.down for name, block in model.named_modules() if isinstance(block, Block)
    }
    if isinstance(model, FrameModel) and model.decoder.power_spans:
        parts["decoder.mean_power."] = model.decoder.mean_power
    if isinstance(model.encoder, LinearEncoder) and model.encoder.network is not None:
        parts["encoder.network."] = model.encoder.network.output
    return parts
