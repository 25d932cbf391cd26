"""STFT frontend: audio to amplitude-compressed complex frames and back."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOW = 2048  # samples
HOP = 512  # samples
BINS = WINDOW // 2  # the Nyquist bin is dropped
LEAD = (WINDOW - HOP) // 2  # samples a frame reaches before (and after) the hop it is centred on


class Frontend(nn.Module):
    """Amplitude-compressed STFT (Music2Latent, arXiv 2408.06500, section 3.1): ``beta |X|^alpha e^{i arg X}``.

    Frame ``j`` is centred on samples ``[512 j, 512 (j + 1))``: it reads ``[512 j - 768, 512 j + 1280)``, so eight
    frames belong to one latent frame of 4096 samples wherever in a file they lie.
    A frame is one vector of 2048 numbers: 1024 real parts, then 1024 imaginary parts.

    Args:
        alpha: exponent of the magnitudes.
        beta: factor on the compressed magnitudes.
    """

    window: Tensor

    def __init__(self, alpha: float = 0.65, beta: float = 0.34) -> None:
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def analyse(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 512 T + 1536]`` (768 samples of context on both sides) to frames ``[B, T, 2048]``."""
        spectrum = torch.fft.rfft(audio.unfold(-1, WINDOW, HOP) * self.window)[..., :BINS]
        spectrum = spectrum * (self.beta * spectrum.abs().clamp_min(1e-10) ** (self.alpha - 1))
        return torch.cat([spectrum.real, spectrum.imag], -1)

    def synthesise(self, frames: Tensor) -> Tensor:
        """Frames ``[B, T, 2048]`` to windowed blocks summed by overlap-add, ``[B, 512 T + 1536]``.

        Not yet divided by ``overlap(...)``, which depends on which frames exist at the ends of a file.
        """
        real, imag = frames.float().chunk(2, -1)
        spectrum = torch.complex(real, imag) / self.beta
        spectrum = spectrum * spectrum.abs().clamp_min(1e-10) ** (1 / self.alpha - 1)
        spectrum = nn.functional.pad(spectrum, (0, 1))
        return overlap_add(torch.fft.irfft(spectrum, n=WINDOW) * self.window)

    def overlap(self, num_frames: int) -> Tensor:
        """Sum of the squared windows of ``num_frames`` consecutive frames, ``[512 T + 1536]``."""
        return overlap_add(self.window.square().expand(1, num_frames, WINDOW))[0]


def overlap_add(blocks: Tensor) -> Tensor:
    """Blocks ``[B, T, 2048]`` at hops of 512 samples to their sum ``[B, 512 T + 1536]``."""
    batch, count, _ = blocks.shape
    quarters = blocks.view(batch, count, WINDOW // HOP, HOP)
    out = blocks.new_zeros(batch, count + WINDOW // HOP - 1, HOP)
    for i in range(WINDOW // HOP):
        out[:, i : i + count] += quarters[:, :, i]
    return out.view(batch, -1)
