"""The `frame` family: every STFT frame is one vector, the networks run along time."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.blocks import Block, NoiseLevel
from lincae_core.models.consistency import Preconditioning
from lincae_core.models.frontend import BINS, HOP, Frontend
from lincae_core.models.linear import FRAME, RATIO, REACH, LinearAnalysis, LinearSynthesis
from lincae_core.models.windows import Window

Features = tuple[Tensor, ...]  # [B, 8 K, width], then with a linear path its estimate [B, 8 K, 2048]


@dataclass(frozen=True)
class FrameConfig:
    """Everything that fixes a `frame` model beside its weights.

    Args:
        latent_dim: numbers in a latent frame.
        width: channels of the blocks at the frame rate (86.1 Hz).
        latent_width: channels of the blocks at the latent rate (10.8 Hz).
        kernel: taps of the convolutions along time.
        expand: hidden width of the MLPs as a multiple of their width.
        encoder_frame_blocks: encoder blocks at the frame rate.
        encoder_latent_blocks: encoder blocks at the latent rate.
        decoder_latent_blocks: latent-side decoder blocks at the latent rate.
        decoder_frame_blocks: latent-side decoder blocks at the frame rate.
        denoiser_blocks: blocks of the denoiser, at the frame rate.
        alpha: exponent of the frontend's magnitudes.
        beta: factor on the frontend's compressed magnitudes.
        sigma_data: standard deviation of the frontend's output that the preconditioning assumes.
        sigma_min: smallest noise level.
        sigma_max: largest noise level, where decoding starts.
        gain_equivariant: encode as ``s E(x / s)`` and decode as ``s D(z / s)``.
        reference_rms: RMS the network sees a whole signal at (0.1 is -20 dBFS).
        latent_scale: factor that gives latents of typical music unit variance.
        linear_path: whether a linear analysis makes latents, or a part of them, and the decoder starts from the linear
            synthesis that belongs to it.
        encoder_network: whether the encoder has a network: without one its latents are exactly linear.
        power_spans: latent frames, odd, over each of which the decoder also reads the mean power of every latent.
    """

    latent_dim: int = 64
    width: int = 320
    latent_width: int = 512
    kernel: int = 7
    expand: int = 3
    encoder_frame_blocks: int = 2
    encoder_latent_blocks: int = 3
    decoder_latent_blocks: int = 3
    decoder_frame_blocks: int = 1
    denoiser_blocks: int = 4
    alpha: float = 0.65
    beta: float = 0.34
    sigma_data: float = 0.25
    sigma_min: float = 0.002
    sigma_max: float = 20.0
    gain_equivariant: bool = True
    reference_rms: float = 0.1
    latent_scale: float = 1.0
    linear_path: bool = False
    encoder_network: bool = True
    power_spans: tuple[int, ...] = ()

    def __post_init__(self) -> None:  # noqa: D105
        if not (self.linear_path or self.encoder_network):
            raise ValueError("an encoder needs a linear path or a network")
        object.__setattr__(self, "power_spans", tuple(self.power_spans))  # a list where it comes from JSON
        if any(span % 2 == 0 or span < 1 for span in self.power_spans):
            raise ValueError("power_spans must be odd")
        if self.power_spans and not self.linear_path:
            raise ValueError("power_spans need a linear path")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary, as JSON gives it back.

        Without `power_spans` where there are none: weights from before there were any keep their fingerprint.
        """
        fields = {**asdict(self), "power_spans": list(self.power_spans)}
        if not self.power_spans:
            del fields["power_spans"]
        return fields


class EncoderNetwork(nn.Module):
    """Frames ``[B, 8 K, 2048]`` to latents ``[B, K, latent_dim]``; a linear read-out, no tanh."""

    def __init__(self, c: FrameConfig) -> None:
        super().__init__()
        self.input = nn.Linear(FRAME, c.width)
        self.frame_blocks = nn.ModuleList(Block(c.width, c.kernel, c.expand) for _ in range(c.encoder_frame_blocks))
        self.merge = nn.Linear(RATIO * c.width, c.latent_width)
        self.latent_blocks = nn.ModuleList(
            Block(c.latent_width, c.kernel, c.expand) for _ in range(c.encoder_latent_blocks)
        )
        self.output = nn.Linear(c.latent_width, c.latent_dim)

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes ``[B, 8 K, 2048]`` to ``[B, K, latent_dim]``."""
        h = self.input(frames)
        for block in self.frame_blocks:
            h = block(h)
        h = self.merge(h.reshape(h.shape[0], -1, RATIO * h.shape[-1]))
        for block in self.latent_blocks:
            h = block(h)
        return self.output(h)


class LinearEncoder(nn.Module):
    """The linear path's latents; with a network, which begins at 0, plus what that adds to them."""

    def __init__(self, c: FrameConfig) -> None:
        super().__init__()
        self.linear = LinearAnalysis(c.latent_dim, c.alpha, c.beta)
        self.network = EncoderNetwork(c) if c.encoder_network else None
        if self.network is not None:
            nn.init.zeros_(self.network.output.weight)
            nn.init.zeros_(self.network.output.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes ``[B, 8 K, 2048]`` to ``[B, K, latent_dim]``."""
        z = self.linear(frames)
        return z if self.network is None else z + self.network(frames)


class LatentDecoder(nn.Module):
    """Latents ``[B, K, latent_dim]`` to features for the denoiser.

    Beside the latents it reads them companded by the frontend's exponent, ``z |z|^(alpha - 1)`` with the RMS of the
    frame for ``|z|``: that grows with the gain as the frames it has to predict do. With a linear path it also reads
    ``ln z^2``: what a linear analysis tells of a band's level is the size of its numbers, not their sign. A single
    number tells little, so it may read the logarithm of the mean of ``z^2`` over neighbouring latent frames, too.
    """

    def __init__(self, c: FrameConfig) -> None:
        super().__init__()
        self.alpha = c.alpha
        self.input = nn.Linear(2 * c.latent_dim, c.latent_width)
        self.latent_blocks = nn.ModuleList(
            Block(c.latent_width, c.kernel, c.expand) for _ in range(c.decoder_latent_blocks)
        )
        self.split = nn.Linear(c.latent_width, RATIO * c.width)
        self.frame_blocks = nn.ModuleList(Block(c.width, c.kernel, c.expand) for _ in range(c.decoder_frame_blocks))
        self.power = nn.Linear(c.latent_dim, c.latent_width) if c.linear_path else None
        self.linear = LinearSynthesis(c.latent_dim, c.alpha, c.beta) if c.linear_path else None
        self.power_spans = c.power_spans
        if c.power_spans:
            self.mean_power = nn.Linear(len(c.power_spans) * c.latent_dim, c.latent_width, bias=False)

    def forward(self, z: Tensor, before: int = 0, after: int = 0) -> Features:
        """Maps ``[B, K, latent_dim]`` to ``[B, 8 N, width]`` and, with a linear path, ``[B, 8 N, 2048]``.

        Args:
            z: latents of K frames.
            before: latent frames at the start that are context only, which the features leave out.
            after: the same at the end; N is what is left of K.
        """
        last = z.shape[1] - after
        level = z.square().mean(-1, keepdim=True).add(1e-8).sqrt()
        h = self.input(torch.cat([z, z * level ** (self.alpha - 1)], -1))
        if self.power is not None:
            power = z.float().square()
            h = h + self.power((power + 1e-4).log())
            if self.power_spans:
                h = h + self.mean_power(torch.cat([mean_log_power(power, span) for span in self.power_spans], -1))
        for block in self.latent_blocks:
            h = block(h)
        h = self.split(h[:, before:last])
        h = h.reshape(h.shape[0], -1, h.shape[-1] // RATIO)
        for block in self.frame_blocks:
            h = block(h)
        if self.linear is None:
            return (h,)
        low, high = max(before - REACH, 0), min(last + REACH, z.shape[1])
        estimate = self.linear(z[:, low:high])
        return h, estimate[:, RATIO * (before - low) : RATIO * (last - low)]


def mean_log_power(power: Tensor, span: int) -> Tensor:
    """``ln`` of the mean of powers ``[B, K, C]`` over ``span`` neighbours, of which only those that exist count."""
    mean = F.avg_pool1d(power.transpose(1, 2), span, 1, span // 2, count_include_pad=False)
    return (mean.transpose(1, 2) + 1e-4).log()


class Denoiser(nn.Module):
    """The trained part F of the consistency function: noisy frames and features to frames, ``[B, T, 2048]``.

    Its output is a linear read-out plus the noisy input times a gain per bin. The width is far below 2048, so a
    read-out alone could not carry the noise of a frame; the gain can, and for Gaussian texture it is the exact
    solution: the probability-flow ODE maps noise to ``s * noise`` where s is the texture's deviation.
    With a linear path its estimate comes in beside the noise and goes out again, times a gain per bin that begins at 1.
    """

    def __init__(self, c: FrameConfig) -> None:
        super().__init__()
        self.noise_level = NoiseLevel(c.width)
        self.input = nn.Linear(FRAME, c.width)
        self.features = nn.Linear(c.width, c.width)
        self.blocks = nn.ModuleList(
            Block(c.width, c.kernel, c.expand, modulated=True, condition_width=c.width)
            for _ in range(c.denoiser_blocks)
        )
        self.scale = nn.Linear(c.width, c.width)
        self.output = nn.Linear(c.width, FRAME)
        self.gain = nn.Linear(c.width, BINS)
        for layer in (self.scale, self.output, self.gain):
            nn.init.normal_(layer.weight, std=0.1 / math.sqrt(c.width))
            nn.init.zeros_(layer.bias)
        self.sigma_data = c.sigma_data
        self.estimate = nn.Linear(FRAME, c.width) if c.linear_path else None
        self.estimate_gain = nn.Linear(c.width, BINS) if c.linear_path else None
        if self.estimate_gain is not None:
            nn.init.zeros_(self.estimate_gain.weight)
            nn.init.ones_(self.estimate_gain.bias)

    def forward(self, x: Tensor, sigma: Tensor, features: Features) -> Tensor:
        """``x`` [B, T, 2048] (scaled by c_in), ``sigma`` [B], ``features`` of `LatentDecoder` -> [B, T, 2048]."""
        level = self.noise_level(sigma)
        h = self.input(x) + self.features(features[0])
        if self.estimate is not None:
            h = h + self.estimate(features[1])
        for block in self.blocks:
            h = block(h, level, features[0])
        h = h * (1 + self.scale(level))
        gain = self.gain(h)
        out = self.output(h) + torch.cat([gain, gain], -1) * x
        if self.estimate_gain is not None:
            gain = self.estimate_gain(h) / self.sigma_data  # c_out is about sigma_data where decoding starts
            out = out + torch.cat([gain, gain], -1) * features[1]
        return out


class FrameModel(nn.Module):
    """Encoder, latent-side decoder and denoiser around one frontend."""

    family = "frame"
    sample_rate = 44100  # Hz
    samples_per_frame = RATIO * HOP  # samples
    grid = 1  # its networks see any stretch, wherever it begins

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = Frontend(config.alpha, config.beta)
        self.preconditioning = Preconditioning(config.sigma_data, config.sigma_min, config.sigma_max)
        self.encoder = LinearEncoder(config) if config.linear_path else EncoderNetwork(config)
        self.decoder = LatentDecoder(config)
        self.denoiser = Denoiser(config)

    @property
    def encoder_context(self) -> int:
        """Latent frames on either side that a latent frame depends on."""
        c = self.config
        reach = c.kernel // 2
        network = c.encoder_latent_blocks * reach + math.ceil(c.encoder_frame_blocks * reach / RATIO)
        return max(network * c.encoder_network, REACH * c.linear_path)

    @property
    def frame_context(self) -> int:
        """Latent frames on either side that they depend on through the blocks at the frame rate alone."""
        c = self.config
        return math.ceil((c.decoder_frame_blocks + c.denoiser_blocks) * (c.kernel // 2) / RATIO)

    @property
    def decoder_context(self) -> int:
        """Latent frames on either side that the STFT frames of a latent frame depend on."""
        c = self.config
        reach = c.kernel // 2
        features = max(c.power_spans, default=1) // 2 + c.decoder_latent_blocks * reach + self.frame_context
        estimate = (REACH + math.ceil(c.denoiser_blocks * reach / RATIO)) * c.linear_path
        return max(features, estimate)

    def windows(self, low: int, high: int, first: int, last: int) -> list[Window]:
        """One window: all there is, from ``first`` to ``last``, for the latent frames ``low`` to ``high``."""
        return [Window(first, last, low, high)]

    def features(self, z: Tensor, seen: list[Window]) -> tuple[Features, list[Window]]:
        """What the latent-side decoder gives for windows, and the part of each that it gives it for.

        The blocks at the latent rate reach far and cost little, those at the frame rate the reverse: these get no more
        of the context than they reach.

        Args:
            z: latents of the windows, ``[W, K, latent_dim]``.
            seen: the windows, of one shape.
        """
        first = seen[0]
        before = max(first.low - self.frame_context - first.start, 0)
        after = max(first.stop - first.high - self.frame_context, 0)
        return self.decoder(z, before, after), [Window(w.start + before, w.stop - after, w.low, w.high) for w in seen]

    def denoise(self, x: Tensor, sigma: Tensor, features: Features) -> Tensor:
        """The consistency function ``f(x, sigma | features)``: ``x`` [B, T, 2048], ``sigma`` [B]."""
        p, s = self.preconditioning, sigma[:, None, None]
        out = self.denoiser(p.c_in(s) * x, sigma, features)
        return p.c_skip(s) * x + p.c_out(s) * out
