"""The encoder of the `frame` model in NumPy: a fixed linear filterbank, without learned weights and without torch.

Of a signal x it keeps, for every latent frame of 4096 samples,

- 384 numbers: the lowest 192 coefficients of two MDCT frames of 2048 (0 to 2067 Hz, the waveform);
- 128 probes: 16 bands above that times 8 slots of 512 samples. A probe is the sum of the band's MDCT coefficients
  (frames of 512) of ``x - low(x)`` with fixed random signs.

All of it is linear in x. Beside the latents a file may hold the *levels* of the bands (RMS per band and slot): they are
not linear, but powers of independent sources add up.

`frame.py` has the same filterbank in torch, for training and for GPUs, with the bases of this module.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

SAMPLE_RATE = 44100  # Hz
FRAME = 4096  # samples in a latent frame
LOW_HOP = 2048  # samples between MDCT frames of the low band
LOW_BINS = 192  # MDCT coefficients of the low band: up to 2067 Hz
SLOT = 512  # samples between probes of a band
SLOTS = FRAME // SLOT
BANDS = 16  # above the low band, equally wide in mel
TOP = 20000.0  # Hz, upper edge of the highest band
WINDOW, HOP = 1024, 256  # samples: the STFT in which bands are measured and made
FINE = 3  # parts of a band whose energies the decoder estimates separately
LATENT_DIM = 2 * LOW_BINS + BANDS * SLOTS
EDGE_BIN = LOW_BINS * WINDOW // (2 * LOW_HOP)  # STFT bin at which the bands begin
CACHED = 64  # STFT frames computed at once, so that they stay in the CPU's cache
LEAD = WINDOW // 2 - HOP // 2  # samples before a signal from which its first STFT frame begins
MARGIN = FRAME + LOW_HOP // 2  # samples of context beside the audio to encode


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def _bin(mel: float) -> int:
    return round(700 * (10 ** (mel / 2595) - 1) / (SAMPLE_RATE / WINDOW))


def band_edges(parts: int) -> list[int]:
    """STFT bins at which `parts` bands, equally wide in mel from the low band's edge to `TOP`, begin; and the end."""
    low, high = _mel(EDGE_BIN * SAMPLE_RATE / WINDOW), _mel(TOP)
    return [_bin(low + (high - low) * i / parts) for i in range(parts + 1)]


def fine_edges() -> list[int]:
    """STFT bins at which the parts of the bands begin (each band in `FINE` nearly equal parts), and the end."""
    edges = band_edges(BANDS)
    inner = [a + round((b - a) * i / FINE) for a, b in pairwise(edges) for i in range(FINE)]
    return [*inner, edges[-1]]


def mdct_basis(hop: int, bins: int) -> np.ndarray:
    """Orthonormal MDCT with a sine window: float32 ``[2 hop, bins]`` (Princen and Bradley, 1986)."""
    n, k = np.arange(2 * hop)[:, None], np.arange(bins)
    window = np.sin(math.pi * (n + 0.5) / (2 * hop))
    basis = math.sqrt(2 / hop) * window * np.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))
    return np.asarray(basis, np.float32)


def probe_basis() -> np.ndarray:
    """MDCT coefficients of a band added up with fixed random signs, for every band: float32 ``[1024, 16]``."""
    edges, state = band_edges(BANDS), 1
    signs = np.zeros((SLOT, BANDS), np.float32)
    for band, (start, stop) in enumerate(pairwise(edges)):
        for i in range(start, stop):
            state = (1103515245 * state + 12345) % 2**31  # a fixed sequence, the same with every library
            signs[i, band] = 1.0 if state & 2**20 else -1.0
    return mdct_basis(SLOT, SLOT) @ signs


def stft_window() -> np.ndarray:
    """Root of a Hann window, float32 ``[1024]``, with which the STFT is unitary for white noise."""
    hann = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(WINDOW) / WINDOW)
    return np.sqrt(hann / (WINDOW / 2)).astype(np.float32)


class Filterbank:
    """Audio to latents and levels. Shapes: audio ``[B, n]``, latents ``[B, 512, K]``, levels ``[B, 128, K]``."""

    def __init__(self) -> None:
        low = np.split(mdct_basis(LOW_HOP, LOW_BINS), 2)
        self._analysis = np.concatenate(low, 1)  # the parts of the basis that a hop of audio meets: [2048, 384]
        self._synthesis = np.ascontiguousarray(self._analysis.T)
        self._probe = np.concatenate(np.split(probe_basis(), 2), 1)
        self._window = stft_window().astype(np.float64)
        edges = band_edges(BANDS)
        self._bins = slice(2 * edges[0], 2 * edges[-1])  # real and imaginary parts of the bands
        self._part = np.eye(BANDS).repeat(2 * np.diff(edges), 0)

    def encode(self, audio: np.ndarray, quality: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Audio ``[B, 4096 K + 2 MARGIN]`` to latents ``[B, 512, K]`` and levels ``[B, 128, K]`` (None: `exact`)."""
        x = _framed(audio, self._analysis, LOW_HOP)
        rest = audio - self._synthesised(x)
        low = x[:, 2:-2].reshape(len(x), -1, 2, LOW_BINS).swapaxes(2, 3)
        k, side = low.shape[1], MARGIN - SLOT // 2
        probes = _framed(rest[:, side : rest.shape[1] - side], self._probe, SLOT)
        probes = probes.reshape(len(x), k, SLOTS, BANDS).swapaxes(2, 3)
        z = np.concatenate([low.reshape(len(x), k, -1), probes.reshape(len(x), k, -1)], 2).swapaxes(1, 2)
        if quality == "exact":
            return z, None
        power = self._power(rest[:, MARGIN - LEAD : rest.shape[1] - MARGIN + LEAD])
        levels = np.sqrt(power).reshape(len(x), k, SLOTS, BANDS).swapaxes(2, 3)
        return z, levels.reshape(len(x), k, -1).swapaxes(1, 2)

    def _synthesised(self, x: np.ndarray) -> np.ndarray:
        """MDCT coefficients ``[B, M, 192]`` to audio ``[B, 2048 (M + 1)]``."""
        both = np.zeros((len(x), x.shape[1] + 1, 2 * LOW_BINS), np.float32)  # the frames that overlap in each hop
        both[:, :-1, :LOW_BINS] = x
        both[:, 1:, LOW_BINS:] = x
        return (both @ self._synthesis).reshape(len(x), -1)

    def _power(self, rest: np.ndarray) -> np.ndarray:
        """Energies of bands and slots ``[B, T / 2, 16]`` of ``[B, 256 T + 768]``: means over two STFT frames."""
        frames = np.lib.stride_tricks.sliding_window_view(rest, WINDOW, 1)[:, ::HOP]
        power = np.empty((*frames.shape[:2], BANDS), np.float32)
        for channel, x in enumerate(frames):
            for i in range(0, len(x), CACHED):  # in float64, whose FFT numpy does faster
                bins = np.fft.rfft(x[i : i + CACHED] * self._window).view(np.float64)[:, self._bins]
                power[channel, i : i + CACHED] = np.square(bins, out=bins) @ self._part
        return (power[:, ::2] + power[:, 1::2]) / 2


def _framed(audio: np.ndarray, parts: np.ndarray, hop: int) -> np.ndarray:
    """Frames of two hops times a basis ``[2 hop, N]``, given as ``[hop, 2 N]``: ``[B, n]`` to ``[B, n / hop - 1, N]``.

    Every hop of audio is multiplied once by both halves of the basis; no frame is copied.
    """
    products = audio.reshape(len(audio), -1, hop) @ parts
    half = parts.shape[1] // 2
    return products[:, :-1, :half] + products[:, 1:, half:]
