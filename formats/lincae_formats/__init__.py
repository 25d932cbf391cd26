"""The `.lat` format: audio latents in which mixing is addition and volume is multiplication.

Needs numpy and h5py, nothing else. The format itself is described in SPEC.md.
"""

# ruff: noqa: F401, F403 (for type checkers alone)

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .algebra import Curve, Fade, check_compatible, requantised
    from .errors import *
    from .files import atomic_path, check_target, remove_leftovers
    from .header import Group, Header
    from .latents import *
    from .reader import LatReader, Pool, verify
    from .writer import LatWriter, write_lat, write_lats

# Modules are imported when a name of theirs is asked for: reading a header needs neither arithmetic nor the writer.
_NAMES = {
    "algebra": "Curve Fade check_compatible requantised",
    "errors": "ChecksumError DTypeError HeaderError IncompatibleError LatError LayoutError LincaeError NonFiniteError "
    "NotHDF5Error OverflowFloat16Error ShapeError TargetExistsError TruncatedError UnsupportedVersionError UsageError "
    "WrongFormatError",
    "files": "atomic_path check_target remove_leftovers",
    "header": "Group Header",
    "latents": "Latents collect concat crossfade fade gain mix pad read_lat remix repeat shift subtract",
    "reader": "LatReader Pool verify",
    "writer": "LatWriter write_lat write_lats",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_MODULES]


def __getattr__(name: str) -> Any:
    """Imports a public name from its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
