"""Chunks of zeros: silence, or a hole in the file.

HDF5's checksum of zeros is zero, so that a chunk whose bytes are lost and read as zeros passes it. Since version 1.1
the first number of a chunk of silence is a negative zero: no chunk is stored as zero bytes, and one that is is damaged.
"""

from collections.abc import Iterator

import numpy as np


def silent(stored: np.ndarray, chunk: int) -> Iterator[np.ndarray]:
    """Yields the chunks without a number but zeros, positive or negative: views `[latent_dim, <= chunk]`.

    Args:
        stored: Frames from the beginning of a chunk on, `[channels, latent_dim, n]`.
        chunk: Frames per chunk.
    """
    for channel, place in np.argwhere(stored[:, 0, ::chunk] == 0):
        part = stored[channel, :, place * chunk : (place + 1) * chunk]
        if not part.any():
            yield part


def marked(stored: np.ndarray, chunk: int) -> np.ndarray:
    """The same frames as version 1.1 stores them; a copy where there is silence."""
    if not any(True for _ in silent(stored, chunk)):
        return stored
    copy = stored.copy()
    for part in silent(copy, chunk):
        part[:] = 0
        part[0, 0] = -0.0
    return copy


def unmarked(stored: np.ndarray, chunk: int) -> np.ndarray:
    """The same frames with positive zeros in chunks of silence, as they are hashed; a copy where there is any."""
    if not any(True for _ in silent(stored, chunk)):
        return stored
    copy = stored.copy()
    unmark(copy, chunk)
    return copy


def unmark(stored: np.ndarray, chunk: int) -> bool:
    """Puts positive zeros into chunks of silence, in place; returns whether one of them had no mark: a hole."""
    hole = False
    for part in silent(stored, chunk):
        hole = hole or not np.signbit(part).any()
        part[:] = 0
    return hole
