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
        crossfade,
        gain,
        mix,
        pad,
        read_lat,
        remix,
        repeat,
        subtract,
        write_lat,
    )

    from .api import LatFile, Model, load, open_lat
    from .lat_dataset import LatDataset
    from .unmix import faders

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
    "crossfade": "lincae_formats",
    "faders": "lincae_core.unmix",
    "gain": "lincae_formats",
    "load": "lincae_core.api",
    "mix": "lincae_formats",
    "open_lat": "lincae_core.api",
    "pad": "lincae_formats",
    "read_lat": "lincae_formats",
    "remix": "lincae_formats",
    "repeat": "lincae_formats",
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
    "crossfade",
    "faders",
    "gain",
    "load",
    "mix",
    "open_lat",
    "pad",
    "read_lat",
    "remix",
    "repeat",
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
