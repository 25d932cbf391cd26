"""The network families, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lincae_core.models.frame import FrameConfig, FrameModel
from lincae_core.models.unet import UnetConfig, UnetModel

Model = FrameModel | UnetModel
FAMILIES: dict[str, tuple[Callable[..., Any], Callable[[Any], Model]]] = {
    "frame": (FrameConfig, FrameModel),
    "unet": (UnetConfig, UnetModel),
}


def build(family: str, fields: dict[str, Any]) -> Model:
    """A model with fresh weights.

    Args:
        family: key of `FAMILIES`.
        fields: fields of the family's config; the rest take their defaults.

    Raises:
        KeyError: unknown family.
        TypeError: unknown field.
    """
    config, model = FAMILIES[family]
    return model(config(**fields))
