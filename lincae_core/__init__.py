"""The models and everything around them: audio files, encoding, decoding, training, evaluation.

`import lincae_core as lincae` is the Python interface; see docs/api.md. Nothing heavy is imported until it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lincae_formats import (
        Curve,
        Header,
        Latents,
        LincaeError,
        __version__,
        concat,
        gain,
        mix,
        read_lat,
        subtract,
        write_lat,
    )

    from .api import LatFile, Model, load, open_lat
    from .lat_dataset import LatDataset

_HOMES = {
    "Curve": "lincae_formats",
    "Header": "lincae_formats",
    "LatDataset": "lincae_core.lat_dataset",
    "LatFile": "lincae_core.api",
    "Latents": "lincae_formats",
    "LincaeError": "lincae_formats",
    "Model": "lincae_core.api",
    "__version__": "lincae_formats",
    "concat": "lincae_formats",
    "gain": "lincae_formats",
    "load": "lincae_core.api",
    "mix": "lincae_formats",
    "open_lat": "lincae_core.api",
    "read_lat": "lincae_formats",
    "subtract": "lincae_formats",
    "write_lat": "lincae_formats",
}

__all__ = [
    "Curve",
    "Header",
    "LatDataset",
    "LatFile",
    "Latents",
    "LincaeError",
    "Model",
    "__version__",
    "concat",
    "gain",
    "load",
    "mix",
    "open_lat",
    "read_lat",
    "subtract",
    "write_lat",
]


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    """What is there, imported or not."""
    return sorted({*globals(), *_HOMES})
