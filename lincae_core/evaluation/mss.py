"""The multi-scale spectral distance (MSS) by which results are judged."""

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lincae_core.evaluation.segments import is_silent, spans

if TYPE_CHECKING:
    import torch
    from torch import nn

WINDOWS_MS = (10, 25, 50)
MEL_BINS = 80


def mss(estimate: np.ndarray, target: np.ndarray, sample_rate: int) -> float:
    """Multi-scale spectral distance of mono audio; 0 when equal, smaller is better.

    The distance of the Lin-CAE paper (arXiv:2510.23530), by the settings of its authors' code: the
    multi-resolution STFT loss of auraloss (Steinmetz and Reiss, "auraloss: Audio focused loss functions in
    PyTorch", 2020), i.e. per resolution the spectral convergence ||Y - X||_F / ||Y||_F plus the mean of
    |log X - log Y| over magnitudes, with X, Y mel spectra of 80 bins, Hann windows of 10, 25 and 50 ms, hops
    of half a window and FFTs of the next power of two; the mean of the three resolutions.

    It is the mean over segments of 10 s. A rest of up to 5 s after the last whole segment is left out, as
    are segments whose target's RMS is below 1e-3, as silence says nothing of spectra.

    Args:
        estimate: `[samples]`, or `[channels, samples]`, whose channels are averaged.
        target: Likewise, of the same shape.
        sample_rate: Hz.

    Returns:
        The distance; NaN when every segment is silent.

    Raises:
        ValueError: different shapes, no samples, or values that are not finite.
    """
    values = mss_segments(estimate, target, sample_rate)
    values = values[~np.isnan(values)]
    return float(np.mean(values)) if len(values) else math.nan


def mss_segments(
    estimate: np.ndarray, target: np.ndarray, sample_rate: int, device: "str | torch.device" = "cpu"
) -> np.ndarray:
    """The distance of every segment of 10 s, ``[segments]``; NaN where the target is silent.

    Arguments and errors are those of `mss`, which is the mean of what is not NaN; `device` is where torch computes it.
    """
    import torch

    x, y = _mono(estimate, "estimate"), _mono(target, "target")
    if np.shape(estimate) != np.shape(target):
        raise ValueError(f"the estimate has shape {np.shape(estimate)}, the target {np.shape(target)}")
    metric = _metric(sample_rate)
    # Shorter than one window, a signal has no spectrum of its own: zeros follow it.
    pad = max(0, _fft_sizes(sample_rate)[-1] - len(y))
    values = []
    for span in spans(len(y), sample_rate):
        if is_silent(y[span]):
            values.append(math.nan)
            continue
        pair = [torch.from_numpy(np.pad(v[span], (0, pad)))[None, None].to(device) for v in (x, y)]
        with torch.no_grad():
            values.append(float(metric(*pair)))
    return np.array(values)


def _mono(signal: np.ndarray, name: str) -> np.ndarray:
    signal = np.asarray(signal, dtype=np.float32)
    if signal.ndim not in (1, 2) or not signal.size:
        raise ValueError(f"the {name} has shape {signal.shape}, must be [samples] or [channels, samples]")
    if not np.isfinite(signal).all():
        raise ValueError(f"the {name} holds NaN or infinity")
    return signal if signal.ndim == 1 else signal.mean(axis=0, dtype=np.float32)


def _window_sizes(sample_rate: int) -> list[int]:
    return [int(sample_rate * ms / 1000) for ms in WINDOWS_MS]


def _fft_sizes(sample_rate: int) -> list[int]:
    return [2 ** math.ceil(math.log2(w)) for w in _window_sizes(sample_rate)]


@functools.lru_cache(maxsize=4)
def _metric(sample_rate: int) -> "nn.Module":
    import auraloss

    windows = _window_sizes(sample_rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters detected")  # they are left out below
        loss: nn.Module = auraloss.freq.MultiResolutionSTFTLoss(
            fft_sizes=_fft_sizes(sample_rate),
            hop_sizes=[w // 2 for w in windows],
            win_lengths=windows,
            scale="mel",
            n_bins=MEL_BINS,
            sample_rate=sample_rate,
        )
    parts: Any = loss.stft_losses
    for part in parts:
        # below 32 kHz some mel filters fall between the FFT's bins: they hear nothing, and the logarithm of it is NaN
        part.fb = part.fb[:, part.fb[0].sum(-1) > 0]
    return loss
