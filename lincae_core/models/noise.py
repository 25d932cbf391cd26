"""The Gaussian noise a decode starts from, as a pure function of where it lies."""

from __future__ import annotations

import numpy as np


def frame_noise(seed: int, channel: int, step: int, start: int, stop: int, size: int) -> np.ndarray:
    """Unit Gaussian noise of latent frames ``start`` to ``stop`` (exclusive), ``[stop - start, size]`` float32.

    A frame's numbers depend on (seed, channel, step, frame) and on nothing else, so whole decodes, blocks and seeks
    agree. Philox 4x64 counters (Salmon et al., SC 2011; NumPy fixes its raw stream) and Box-Muller.

    Args:
        seed: any integer >= 0.
        channel: audio channel.
        step: sampling step.
        start: first latent frame; windows that begin before a file have negative ones.
        stop: latent frame after the last.
        size: numbers per latent frame (even).
    """
    out = np.empty((stop - start, size), np.float32)
    key = np.array([seed & (2**64 - 1), (channel << 32) | step], np.uint64)
    half = size // 2
    for row, frame in enumerate(range(start, stop)):
        raw = np.random.Philox(key=key, counter=np.array([0, 0, frame & (2**64 - 1), 0], np.uint64)).random_raw(half)
        uniform = ((raw >> 40).astype(np.float32) + 0.5) * np.float32(2**-24)
        angle = (raw & 0xFFFFFF).astype(np.float32) * np.float32(2 * np.pi * 2**-24)
        radius = np.sqrt(-2 * np.log(uniform))
        np.multiply(radius, np.cos(angle), out=out[row, :half])
        np.multiply(radius, np.sin(angle), out=out[row, half:])
    return out
