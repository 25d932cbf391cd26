"""The modified discrete cosine transform: a lapped orthonormal basis of audio."""

from __future__ import annotations

import numpy as np


def mdct(audio: np.ndarray, hop: int) -> np.ndarray:
    """MDCT with a sine window of two hops; orthonormal (Princen and Bradley, 1986; Malvar, 1990).

    ``X[f, k] = sqrt(2/M) sum_n w[n] x[f M + n - M] cos(pi/M (n + 1/2 + M/2) (k + 1/2))``, M the hop.

    Args:
        audio: ``[n]``.
        hop: M, samples; even.

    Returns:
        float32 ``[ceil(n / hop) + 1, hop]``; silence surrounds the audio.
    """
    frames = -(-len(audio) // hop) + 1
    padded = np.zeros((frames + 1) * hop)
    padded[hop : hop + len(audio)] = audio
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    n, k = np.arange(2 * hop), np.arange(hop)
    spectrum = np.fft.fft(blocks * (_window(hop) * np.exp(-0.5j * np.pi * n / hop)), axis=1)[:, :hop]
    turned = spectrum * np.exp(-1j * np.pi / hop * (k + 0.5) * (0.5 + hop / 2))
    return (np.sqrt(2 / hop) * turned.real).astype(np.float32)


def imdct(coefficients: np.ndarray, num_samples: int) -> np.ndarray:
    """The inverse of `mdct`: windowed blocks summed, ``[num_samples]`` float32.

    Args:
        coefficients: ``[frames, hop]``.
        num_samples: at most ``(frames - 1) hop``.
    """
    frames, hop = coefficients.shape
    n, k = np.arange(2 * hop), np.arange(hop)
    spectrum = np.zeros((frames, 2 * hop), complex)
    spectrum[:, :hop] = coefficients * np.exp(1j * np.pi / hop * (k + 0.5) * (0.5 + hop / 2))
    blocks = np.fft.ifft(spectrum, axis=1) * np.exp(0.5j * np.pi * n / hop)
    blocks = blocks.real * (2 * hop * np.sqrt(2 / hop) * _window(hop))
    out = np.zeros((frames + 1, hop))
    out[:-1] += blocks[:, :hop]
    out[1:] += blocks[:, hop:]
    return out.reshape(-1)[hop : hop + num_samples].astype(np.float32)


def _window(hop: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))
