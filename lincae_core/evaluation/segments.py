"""The pieces of 10 s by which every measure is taken."""

import math

import numpy as np

SEGMENT_SECONDS = 10
SILENCE_RMS = 1e-3


def spans(num_samples: int, sample_rate: int) -> list[slice]:
    """Segments of 10 s; a rest of up to 5 s after the last whole one is left out.

    Audio shorter than that is one segment.
    """
    step = SEGMENT_SECONDS * sample_rate
    return [slice(start, start + step) for start in range(0, max(1, num_samples - step // 2), step)]


def is_silent(target: np.ndarray) -> bool:
    """Whether a segment of the target says nothing: its RMS is below 1e-3."""
    return math.sqrt(float(np.mean(target.astype(np.float64) ** 2))) < SILENCE_RMS
