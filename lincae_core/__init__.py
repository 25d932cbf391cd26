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

_OWN = {
    "LatDataset": "lat_dataset", "LatFile": "api", "Model": "api", "faders": "unmix", "load": "api", "open_lat": "api",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"lincae_core.{_OWN[name]}" if name in _OWN else "lincae_formats"
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    """What is there, imported or not."""
    return sorted({*globals(), *__all__})
