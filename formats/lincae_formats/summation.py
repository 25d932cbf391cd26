"""Sums that do not depend on the order of their terms, not by one bit."""

import math
from collections.abc import Sequence

import numpy as np

Term = tuple[int, np.ndarray]  # the frame it begins at, and float32 [channels or 1, latent_dim, n]


class Total:
    """A sum that grows term by term.

    Attributes:
        exact: Whether nothing was rounded away so far, for certain, so that another order would give the same.

    Args:
        shape: Of the sum, `[channels, latent_dim, frames]`.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Begins with zeros."""
        self._sum = np.zeros(shape, dtype=np.float64)
        self._terms, self._most, self._least, self._bits = 0, 0.0, _ZERO, np.uint32(0)

    def add(self, at: int, term: np.ndarray) -> None:
        """Adds a finite term from frame `at` on; one with one channel is added to every channel."""
        self._sum[:, :, at : at + term.shape[2]] += term
        size = np.ascontiguousarray(term).view(np.uint32) & np.uint32(0x7FFFFFFF)
        self._most += float(size.max(initial=0).view(np.float32))
        self._bits |= np.bitwise_or.reduce(size, axis=None)
        size -= np.uint32(1)  # zeros, which cost no bits, become the greatest
        self._least = min(self._least, int(size.min(initial=_ZERO)))
        self._terms += 1

    @property
    def exact(self) -> bool:
        """True where 53 bits reach from the sum of the greatest down to the last bit of the smallest.

        What float16 held leaves the 13 lowest bits of every float32 empty, so that thousands of such terms fit.
        """
        if self._terms <= 2 or self._least == _ZERO:
            return True  # a sum of two is rounded once, whatever the order
        smallest = np.uint32(self._least + 1).view(np.float32)
        used = int(self._bits) | 1 << 23  # the bit before the point, which is not stored
        return self._most <= 2.0**53 * (used & -used) * float(np.spacing(smallest))

    def repair(self, start: int, terms: Sequence[Term]) -> None:
        """Puts right what may be wrong from frame `start` on, given all terms of that stretch again."""
        stop = start + max(at + term.shape[2] for at, term in terms)
        _repair(self._sum[:, :, start:stop], terms)

    def rounded(self) -> np.ndarray:
        """The sum in float32; infinite where that cannot hold it."""
        with np.errstate(over="ignore"):
            return self._sum.astype(np.float32)


_ZERO = 0xFFFFFFFF


def add(terms: Sequence[Term], shape: tuple[int, int, int]) -> np.ndarray:
    """The exact sum of the terms rounded to float64, then to float32."""
    total = Total(shape)
    for at, term in terms:
        total.add(at, term)
    if not total.exact:
        total.repair(0, terms)
    return total.rounded()


def _repair(total: np.ndarray, terms: Sequence[Term]) -> None:
    """Puts right the numbers in whose sum something was rounded away, which are few in practice.

    Knuth's two-sum finds them: it gives the exact error of every addition.
    """
    running, rounded = np.zeros_like(total), np.zeros(total.shape, dtype=bool)
    with np.errstate(over="ignore", invalid="ignore"):
        for at, term in terms:
            part = running[:, :, at : at + term.shape[2]]
            after = part + term
            added = after - part
            error = (part - (after - added)) + (term - added)
            rounded[:, :, at : at + term.shape[2]] |= error != 0
            part[:] = after
    for channel, row, frame in zip(*np.nonzero(rounded), strict=True):
        values = (
            float(term[min(channel, term.shape[0] - 1), row, frame - at])
            for at, term in terms
            if 0 <= frame - at < term.shape[2]
        )
        total[channel, row, frame] = math.fsum(values)
