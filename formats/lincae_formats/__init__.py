"""The `.lat` format: audio latents in which mixing is addition and volume is multiplication.

Needs numpy and h5py, nothing else. The format itself is described in SPEC.md.
"""

from ._version import __version__
from .algebra import check_compatible, requantised
from .curve import Curve, Fade
from .errors import (
    ChecksumError,
    DTypeError,
    HeaderError,
    IncompatibleError,
    LatError,
    LayoutError,
    LincaeError,
    NonFiniteError,
    NotHDF5Error,
    OverflowFloat16Error,
    ShapeError,
    TargetExistsError,
    TruncatedError,
    UnsupportedVersionError,
    UsageError,
    WrongFormatError,
)
from .files import atomic_path, check_target, remove_leftovers
from .header import Group, Header
from .latents import (
    Latents,
    collect,
    concat,
    crossfade,
    fade,
    gain,
    mix,
    pad,
    read_lat,
    remix,
    repeat,
    shift,
    subtract,
)
from .reader import LatReader, Pool, verify
from .writer import LatWriter, write_lat, write_lats

__all__ = [
    "ChecksumError",
    "Curve",
    "DTypeError",
    "Fade",
    "Group",
    "Header",
    "HeaderError",
    "IncompatibleError",
    "LatError",
    "LatReader",
    "LatWriter",
    "Latents",
    "LayoutError",
    "LincaeError",
    "NonFiniteError",
    "NotHDF5Error",
    "OverflowFloat16Error",
    "Pool",
    "ShapeError",
    "TargetExistsError",
    "TruncatedError",
    "UnsupportedVersionError",
    "UsageError",
    "WrongFormatError",
    "__version__",
    "atomic_path",
    "check_compatible",
    "check_target",
    "collect",
    "concat",
    "crossfade",
    "fade",
    "gain",
    "mix",
    "pad",
    "read_lat",
    "remix",
    "remove_leftovers",
    "repeat",
    "requantised",
    "shift",
    "subtract",
    "verify",
    "write_lat",
    "write_lats",
]
