"""Augmentation of the audio that latents and targets share, so that it leaves linearity true."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

BUMPS = 3


def equalise(x: Tensor, decibels: float, low_pass: float, generator: Generator, sample_rate: int = 44100) -> Tensor:
    """Filters every crop by a random smooth curve, and some by a random low-pass, at unchanged RMS.

    The curve is a slope of ``N(0, decibels)`` dB an octave about 1 kHz plus three sinusoids over log frequency. The
    low-pass begins between 300 Hz and 15 kHz and falls by 12 to 60 dB an octave, to -90 dB.

    Args:
        x: audio ``[B, n]``.
        decibels: strength of the curve, dB.
        low_pass: chance of the low-pass.
        generator: source of randomness (on the CPU).
        sample_rate: Hz.
    """
    if not decibels and not low_pass:
        return x
    count = len(x)

    def uniform(low: float, high: float, columns: int = 1) -> Tensor:
        return low + (high - low) * torch.rand(count, columns, generator=generator)

    slope = decibels * torch.randn(count, 1, generator=generator)
    height = 2.25 * decibels * torch.randn(count, BUMPS, generator=generator)
    phase, rate = uniform(0, 2 * torch.pi, BUMPS), uniform(0.4, 1.6, BUMPS)
    corner, fall = uniform(0, 1), 12 * 5 ** uniform(0, 1)
    filtered = torch.rand(count, 1, generator=generator) < low_pass

    device = x.device
    octaves = torch.log2(torch.fft.rfftfreq(x.shape[1], 1 / sample_rate, device=device).clamp_min(20) / 1000)
    curve = slope.to(device) * octaves
    for h, r, p in zip(height.T, rate.T, phase.T, strict=True):
        curve = curve + h[:, None].to(device) * torch.sin(r[:, None].to(device) * octaves + p[:, None].to(device))
    above = (octaves - torch.log2(0.3 * 50**corner).to(device)).clamp_min(0)
    curve = torch.where(filtered.to(device), curve - (fall.to(device) * above).clamp_max(90), curve)
    y = torch.fft.irfft(torch.fft.rfft(x) * 10 ** (curve / 20), n=x.shape[1])
    return y * (_rms(x) / _rms(y))


def _rms(x: Tensor) -> Tensor:
    return x.square().mean(1, keepdim=True).sqrt().clamp_min(1e-6)
