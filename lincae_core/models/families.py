"""The network families, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lincae_core.models.frame64 import Frame64Config, Frame64Model
from lincae_core.models.unet import UnetConfig, UnetModel

Model = Frame64Model | UnetModel
FAMILIES: dict[str, tuple[Any, Any]] = {
    "frame64": (Frame64Config, Frame64Model),
    "unet": (UnetConfig, UnetModel),
}


def build(config: Mapping[str, Any]) -> Model:
    """A model with fresh random weights.

    Args:
        config: `family`, a key of `FAMILIES`, and fields of its config; the rest take their defaults.

    Raises:
        KeyError: unknown family.
        TypeError: unknown field.
        ValueError: a value that the config refuses.
    """
    kind, model = FAMILIES[config["family"]]
    return model(kind(**config))
