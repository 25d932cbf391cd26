"""Weights that a training starts from."""

from __future__ import annotations

from lincae_core.models.families import Model
from lincae_core.models.registry import resolve
from lincae_core.models.weights import load_weights
from lincae_formats.errors import LincaeError


def start_from(model: Model, name_or_path: str) -> None:
    """Gives a model the weights of one that is at hand.

    Args:
        model: fresh; changed in place.
        name_or_path: name of a model, or a weights file.

    Raises:
        LincaeError: there is none of that name, or its networks have another shape.
    """
    info = resolve(name_or_path)
    source, _ = load_weights(info.path)
    try:
        if source.family != model.family:
            raise RuntimeError
        model.load_state_dict(source.state_dict())
    except RuntimeError:
        raise LincaeError(
            f"initial: the networks of {name_or_path} have another shape than the recipe's `model`",
            f"see lincae models show {name_or_path}",
        ) from None
