"""Sums that do not depend on the order of their terms, not by one bit."""

import math
from collections.abc import Sequence

import numpy as np

Term = tuple[int, np.ndarray]  # the frame it begins at, and float32 [channels or 1, latent_dim, n]


def add(terms: Sequence[Term], shape: tuple[int, int, int]) -> np.ndarray:
    """The exact sum of the terms rounded to float64, then to float32 `[channels, latent_dim, frames]`.

    A term with one channel is added to every channel. What is beyond float32 comes out infinite.
    """
    if len(terms) <= 2:
        return _add_two(terms, shape)  # the same bits: a float64 holds a sum of two well enough to round it again
    total = np.zeros(shape, dtype=np.float64)
    for at, term in terms:
        total[:, :, at : at + term.shape[2]] += term
    if not _surely_exact([term for _, term in terms]):
        _repair(total, terms)
    with np.errstate(over="ignore"):
        return total.astype(np.float32)


def _add_two(terms: Sequence[Term], shape: tuple[int, int, int]) -> np.ndarray:
    with np.errstate(over="ignore"):
        if terms and all(term.shape == shape for _, term in terms):
            total = terms[0][1] + (terms[1][1] if len(terms) == 2 else np.float32(0))
            total += np.float32(0)  # no negative zeros, as below
            return total
        total = np.zeros(shape, dtype=np.float32)
        for at, term in terms:
            total[:, :, at : at + term.shape[2]] += term
    return total


def _surely_exact(terms: Sequence[np.ndarray]) -> bool:
    """Whether float64 adds these without rounding, in any order.

    It does when 53 bits reach from the sum of the greatest down to the last bit of the smallest.
    """
    most, least = 0.0, 0xFFFFFFFF
    for term in terms:
        size = np.ascontiguousarray(term).view(np.uint32) & np.uint32(0x7FFFFFFF)
        most += float(size.max(initial=0).view(np.float32))
        size -= np.uint32(1)  # zeros, which cost no bits, become the greatest
        least = min(least, int(size.min(initial=0xFFFFFFFF)))
    if least == 0xFFFFFFFF:
        return True
    smallest = np.uint32(least + 1).view(np.float32)
    return most <= 2.0**53 * float(np.spacing(smallest))


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
