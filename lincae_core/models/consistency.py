"""Consistency models: STFT frontend, preconditioning, noise levels, sampling, and the base class of the networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 2048  # samples
HOP = 512  # samples
BINS = WINDOW // 2  # the Nyquist bin is dropped
LEAD = (WINDOW - HOP) // 2  # samples a frame reaches before (and after) the hop it is centred on
FRAME = 2 * BINS  # numbers in an STFT frame
RATIO = 8  # STFT frames in a latent frame
EDGE = 2  # STFT frames on either side of a stretch that overlap its samples
RHO = 7.0


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
        spectrum = F.pad(spectrum, (0, 1))
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


@dataclass(frozen=True)
class Preconditioning:
    """Scalings around the trained network (EDM, arXiv 2206.00364, table 1; arXiv 2303.01469, app. C).

    ``f(x, sigma) = c_skip x + c_out F(c_in x, sigma)``, with ``f(x, sigma_min) = x`` exactly.

    Args:
        sigma_data: standard deviation of the data.
        sigma_min: smallest noise level.
        sigma_max: largest noise level.
    """

    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def c_skip(self, sigma: Tensor) -> Tensor:
        """``sigma_d^2 / ((sigma - sigma_min)^2 + sigma_d^2)``."""
        return self.sigma_data**2 / ((sigma - self.sigma_min) ** 2 + self.sigma_data**2)

    def c_out(self, sigma: Tensor) -> Tensor:
        """``sigma_d (sigma - sigma_min) / sqrt(sigma_d^2 + sigma^2)``."""
        return self.sigma_data * (sigma - self.sigma_min) / (self.sigma_data**2 + sigma**2).sqrt()

    def c_in(self, sigma: Tensor) -> Tensor:
        """``1 / sqrt(sigma^2 + sigma_d^2)``."""
        return (sigma**2 + self.sigma_data**2).rsqrt()

    def sigma(self, index: Tensor) -> Tensor:
        """Noise level at index i in [0, 1]: ``(smin^(1/rho) + i (smax^(1/rho) - smin^(1/rho)))^rho`` (EDM, eq. 5)."""
        low, high = self.sigma_min ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return (low + index * (high - low)) ** RHO

    def index(self, sigma: Tensor) -> Tensor:
        """Index in [0, 1] of a noise level: the inverse of ``sigma``."""
        low, high = self.sigma_min ** (1 / RHO), self.sigma_max ** (1 / RHO)
        return (sigma ** (1 / RHO) - low) / (high - low)


def sample(
    denoise: Callable[[Tensor, Tensor], Tensor],
    noise: Callable[[int], Tensor],
    p: Preconditioning,
    steps: int = 1,
) -> Tensor:
    """Multistep consistency sampling (arXiv 2303.01469, algorithm 1) from noise at sigma_max.

    Args:
        denoise: the consistency function of frames [B, T, 2048] and sigma [B].
        noise: unit Gaussian noise of step i, [B, T, 2048].
        p: preconditioning, which knows the noise levels.
        steps: number of evaluations, at indices 1, 1 - 1/steps, ...

    Returns:
        Frames ``[B, T, 2048]``.
    """
    x = p.sigma_max * noise(0)
    out = denoise(x, x.new_full((x.shape[0],), p.sigma_max))
    for step in range(1, steps):
        sigma = p.sigma(torch.tensor(1 - step / steps, device=x.device, dtype=x.dtype))
        x = out + (sigma**2 - p.sigma_min**2).clamp_min(0).sqrt() * noise(step)
        out = denoise(x, sigma.expand(x.shape[0]))
    return out


def frame_noise(seed: int, step: int, start: int, stop: int, size: int) -> np.ndarray:
    """Unit Gaussian noise of latent frames ``start`` to ``stop`` (exclusive), ``[stop - start, size]`` float32.

    The numbers of a frame are a function of (seed, step, frame) alone, so whole decodes, blocks and seeks agree; all
    channels share them, so that two equal channels stay equal. Philox 4x64 counters (Salmon et al., SC 2011; NumPy
    guarantees its raw stream) and the Box-Muller transform.

    Args:
        seed: any integer >= 0.
        step: sampling step.
        start: first latent frame; negative for windows that begin before the file.
        stop: latent frame after the last.
        size: numbers per latent frame, even.
    """
    out = np.empty((stop - start, size), np.float32)
    key = np.array([seed & (2**64 - 1), step], np.uint64)
    half = size // 2
    for row, frame in enumerate(range(start, stop)):
        raw = np.random.Philox(key=key, counter=np.array([0, 0, frame & (2**64 - 1), 0], np.uint64)).random_raw(half)
        uniform = ((raw >> 40).astype(np.float32) + 0.5) * np.float32(2**-24)
        angle = (raw & 0xFFFFFF).astype(np.float32) * np.float32(2 * np.pi * 2**-24)
        radius = np.sqrt(-2 * np.log(uniform))
        np.multiply(radius, np.cos(angle), out=out[row, :half])
        np.multiply(radius, np.sin(angle), out=out[row, half:])
    return out


@dataclass(frozen=True)
class Window:
    """A run of latent frames that a network sees at once, and the part of it that is used. Stops are exclusive.

    Args:
        start: first frame seen.
        stop: frame after the last seen.
        low: first frame used.
        high: frame after the last used.
    """

    start: int
    stop: int
    low: int
    high: int


def fixed_windows(low: int, high: int, size: int, margin: int) -> list[Window]:
    """Windows of one size at fixed places: window j is used for ``[j hop, (j + 1) hop)`` and sees ``margin`` more.

    Args:
        low: first frame wanted.
        high: frame after the last.
        size: frames that a window sees.
        margin: frames at either end that only give context; hop = size - 2 margin.
    """
    hop = size - 2 * margin
    return [
        Window(j * hop - margin, (j + 1) * hop + margin, max(j * hop, low), min((j + 1) * hop, high))
        for j in range(low // hop, -(-high // hop))
    ]


def cut(x: Tensor, window: Window, first: int, ratio: int = 1) -> Tensor:
    """The rows of a sequence that a window sees, ``[ratio (stop - start), C]``; zeros where there are none.

    Args:
        x: ``[ratio K, C]``.
        window: the window.
        first: latent frame of the timeline at which ``x`` begins.
        ratio: rows of ``x`` in a latent frame.
    """
    start, stop = (window.start - first) * ratio, (window.stop - first) * ratio
    piece = x[max(start, 0) : min(stop, len(x))]
    before, after = max(-start, 0), max(stop - len(x), 0)
    return F.pad(piece, (0, 0, before, after)) if before or after else piece


class ConsistencyModel(nn.Module):
    """Base class of `frame64` and `unet`: a network encoder, and a consistency decoder that starts from noise.

    A latent frame is 8 STFT frames, 4096 samples. The methods work on one channel of one stretch of a timeline at a
    time; the result depends on the audio or latents around it, its place and the seed, never on how the timeline was
    cut. `lincae_core.models.codec` walks whole files.

    Subclasses make ``config``, ``frontend``, ``preconditioning``, ``encoder``, ``decoder`` and ``denoiser``.
    """

    sample_rate = 44100  # Hz
    samples_per_frame = RATIO * HOP
    margin = LEAD  # samples of context on either side of a stretch that its STFT frames read
    grid = 1  # latent frames from one window to the next; 1: a window may begin anywhere
    encoder_context: int  # latent frames on either side that a latent frame depends on
    decoder_context: int  # the same for the STFT frames of a latent frame

    config: Any
    frontend: Frontend
    preconditioning: Preconditioning
    encoder: nn.Module
    decoder: nn.Module
    denoiser: nn.Module

    def windows(self, low: int, high: int, first: int, last: int) -> list[Window]:
        """Windows from which latent frames ``low`` to ``high`` are computed, where ``first`` to ``last`` exist.

        By default a single one that sees everything.
        """
        return [Window(first, last, low, high)]

    def features(self, z: Tensor, seen: list[Window]) -> tuple[Any, list[Window]]:
        """Features for the denoiser from latents ``[W, K, latent_dim]``, and the windows they are valid for."""
        return self.decoder(z), seen

    def denoise(self, x: Tensor, sigma: Tensor, features: Any) -> Tensor:
        """The consistency function ``f(x, sigma | features)``: ``x`` [B, T, 2048], ``sigma`` [B]."""
        p, s = self.preconditioning, sigma[:, None, None]
        return p.c_skip(s) * x + p.c_out(s) * self.denoiser(p.c_in(s) * x, sigma, features)

    def encode_stretch(self, audio: Tensor, level: float, first: int, before: int, count: int) -> Tensor:
        """Audio around a stretch to its latents, ``s E(x / s)``.

        Args:
            audio: ``[4096 K + 1536]``: the samples of K latent frames with 768 samples on both sides.
            level: s; 0 for silence.
            first: place on the timeline of the first of the K latent frames.
            before: latent frames of context at the start, to drop.
            count: latent frames to keep.

        Returns:
            ``[latent_dim, count]``.
        """
        if level == 0:
            return audio.new_zeros(self.config.latent_dim, count)
        frames = self.frontend.analyse(audio[None] / level)[0]
        low, last = first + before, first + len(frames) // RATIO
        parts: list[Tensor] = []
        for group in _batches(self.windows(low, low + count, first, last), audio.device):
            z = self.encoder(torch.stack([cut(frames, w, first, RATIO) for w in group]))
            parts += [v[w.low - w.start : w.high - w.start] for v, w in zip(z, group, strict=True)]
        return torch.cat(parts).T * (level * self.config.latent_scale)

    def decode_stretch(
        self, z: Tensor, level: float, first: int, before: int, count: int, ends: tuple[bool, bool],
        steps: int = 1, seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """Latents around a stretch to its samples, ``s D(z / s)``.

        Args:
            z: ``[latent_dim, K]``: the stretch with its context.
            level: RMS of the whole file's latents in this channel; 0 for silence.
            first: place on the timeline of z's first frame.
            before: latent frames of context at the start.
            count: latent frames of the stretch.
            ends: whether the stretch begins at the file's first frame, and ends at its last.
            steps: sampling steps.
            seed: of the noise.

        Returns:
            ``[4096 count]``.
        """
        size = self.samples_per_frame
        if level == 0:
            return z.new_zeros(count * size)
        scale = level if self.config.gain_equivariant else 1.0
        x = z.T.contiguous() / (scale * self.config.latent_scale)
        # no STFT frames exist beyond the file; inside it, EDGE frames on each side overlap the stretch
        left, right = (0 if ends[0] else 1), (0 if ends[1] else 1)
        low, high = first + before - left, first + before + count + right
        parts: list[Tensor] = []
        for group in _batches(self.windows(low, high, first, first + len(x)), z.device):
            frames, group = self._sampled(torch.stack([cut(x, w, first) for w in group]), group, steps, seed)
            parts += [
                v[(w.low - w.start) * RATIO : (w.high - w.start) * RATIO] for v, w in zip(frames, group, strict=True)
            ]
        drop = RATIO - EDGE
        frames = torch.cat(parts)[left * drop : (high - low) * RATIO - right * drop]
        blocks, weight = self.frontend.synthesise(frames[None])[0], self.frontend.overlap(len(frames))
        skip = LEAD + left * EDGE * HOP
        keep = slice(skip, skip + count * size)
        return blocks[keep] / weight[keep] * scale

    def _sampled(self, z: Tensor, group: list[Window], steps: int, seed: int) -> tuple[Tensor, list[Window]]:
        """Latents ``[W, K, latent_dim]`` of windows to STFT frames ``[W, 8 N, 2048]`` and the windows they cover."""
        features, group = self.features(z, group)

        def noise(step: int) -> Tensor:
            parts = [frame_noise(seed, step, w.start, w.stop, RATIO * FRAME) for w in group]
            return torch.from_numpy(np.stack(parts)).view(len(group), -1, FRAME).to(z.device)

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(noisy, sigma, features)

        return sample(denoise, noise, self.preconditioning, steps), group


def _batches(windows: list[Window], device: torch.device) -> Iterator[list[Window]]:
    """Windows computed at once: one on a CPU, up to 32 on a GPU."""
    size = 1 if device.type == "cpu" else 32
    return (windows[i : i + size] for i in range(0, len(windows), size))
