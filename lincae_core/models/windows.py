"""Windows on a timeline of latent frames that a network sees one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Window:
    """What a network sees at once, and what it is asked for; latent frames, ends exclusive.

    Args:
        start: first frame that it sees.
        stop: frame after the last that it sees.
        low: first frame that it answers for.
        high: frame after the last that it answers for.
    """

    start: int
    stop: int
    low: int
    high: int


def windows(low: int, high: int, size: int, margin: int) -> list[Window]:
    """Windows of one size at fixed places: the j-th answers for ``[j hop, (j + 1) hop)`` and sees ``margin`` more.

    Args:
        low: first frame asked for.
        high: frame after the last.
        size: frames that a window sees.
        margin: frames at either end that its neighbours answer for.
    """
    hop = size - 2 * margin
    first, last = low // hop, -(-high // hop)
    return [
        Window(j * hop - margin, (j + 1) * hop + margin, max(j * hop, low), min((j + 1) * hop, high))
        for j in range(first, last)
    ]


def cut(x: Tensor, window: Window, first: int, ratio: int = 1) -> Tensor:
    """What a window sees of a sequence, ``[ratio (stop - start), C]``; zeros where there is nothing.

    Args:
        x: ``[ratio K, C]``.
        window: the window.
        first: place on the timeline of the first latent frame of ``x``.
        ratio: rows of ``x`` in a latent frame.
    """
    start, stop = (window.start - first) * ratio, (window.stop - first) * ratio
    piece = x[max(start, 0) : min(stop, len(x))]
    before, after = max(-start, 0), max(stop - len(x), 0)
    return F.pad(piece, (0, 0, before, after)) if before or after else piece


def joined(pieces: list[Tensor]) -> Tensor:
    """Pieces of one length ``[n, C]`` as a batch ``[B, n, C]``; one alone is not copied."""
    return torch.stack(pieces) if len(pieces) > 1 else pieces[0][None]
