"""Distances between what one decoding step gives and the truth: spectra of the audio, and the frames themselves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

WINDOWS_MS = (10, 25, 50)
MEL_BINS = 80
QUIET = 0.05  # of the batch's mean: what is quieter counts relative to that, or silence would weigh without bound


class SpectralDistance(nn.Module):
    """Multi-resolution mel distance of audio, per item: the mean over the windows of two terms.

    ``||Y - X||_F / ||Y||_F + mean |ln X - ln Y|`` (Arik et al., arXiv 1808.06719, eq. 1 and 2; Yamamoto et al.,
    arXiv 1910.11480, eq. 5) on mel magnitudes at the windows of `lincae_core.evaluation.mss`: what is judged by is what
    is trained on, but for quiet items, which are not divided by their own level alone.

    Args:
        sample_rate: Hz.
    """

    def __init__(self, sample_rate: int = 44100) -> None:
        super().__init__()
        from librosa.filters import mel

        self.windows = [int(sample_rate * ms / 1000) for ms in WINDOWS_MS]
        self.sizes = [2 ** math.ceil(math.log2(w)) for w in self.windows]
        for i, (window, size) in enumerate(zip(self.windows, self.sizes, strict=True)):
            filters = torch.from_numpy(mel(sr=sample_rate, n_fft=size, n_mels=MEL_BINS)).T.contiguous()
            self.register_buffer(f"mel{i}", filters, persistent=False)
            self.register_buffer(f"window{i}", torch.hann_window(window), persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Audio ``[B, n]`` and the truth to distances ``[B]``."""
        total = estimate.new_zeros(len(estimate))
        for i in range(len(self.windows)):
            x, y = self._mel(estimate, i), self._mel(target, i)
            size = y.flatten(1).norm(dim=1)
            total = total + (x - y).flatten(1).norm(dim=1) / torch.maximum(size, QUIET * size.mean() + 1e-8)
            total = total + (x.clamp_min(1e-5).log() - y.clamp_min(1e-5).log()).abs().mean((1, 2))
        return total / len(self.windows)

    def _mel(self, audio: Tensor, i: int) -> Tensor:
        """Mel magnitudes ``[B, T, 80]``."""
        window = self.windows[i]
        spectrum = torch.stft(
            audio, self.sizes[i], window // 2, window, self.get_buffer(f"window{i}"), center=False, return_complex=True
        )
        magnitude = (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-8).sqrt()
        return magnitude.transpose(1, 2) @ self.get_buffer(f"mel{i}")


def frame_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """``||F' - F|| / ||F||`` of compressed frames ``[B, T, 2048]``, per item ``[B]``: here phases count, too."""
    error = ((estimate - target).square().sum((1, 2)) + 1e-2).sqrt()
    return error / (target.square().sum((1, 2)) + 1).sqrt()
