"""The `frame64` family: the paper's method on a network that is cheap on a CPU; every STFT frame is one vector."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.consistency import BINS, FRAME, RATIO, ConsistencyModel, Frontend, Preconditioning, Window
from lincae_core.models.cpu_layout import with_mlp


@dataclass(frozen=True, kw_only=True)
class Frame64Config:
    """Shape of a `frame64` network. Also the `model` section of a training recipe.

    Args:
        family: "frame64".
        latent_dim: numbers in a latent frame.
        width: channels of the blocks at the STFT frame rate (86.1 Hz).
        latent_width: channels of the blocks at the latent frame rate (10.8 Hz).
        kernel: taps of the convolutions along time, odd.
        expand: hidden width of the MLPs as a multiple of their width.
        encoder_frame_blocks: encoder blocks at the STFT frame rate.
        encoder_latent_blocks: encoder blocks at the latent frame rate.
        decoder_latent_blocks: decoder blocks at the latent frame rate.
        decoder_frame_blocks: decoder blocks at the STFT frame rate.
        denoiser_blocks: blocks of the denoiser, at the STFT frame rate.
        alpha: exponent of the compressed magnitudes.
        beta: factor on the compressed magnitudes.
        sigma_data: standard deviation of the compressed frames that the preconditioning assumes.
        sigma_min: smallest noise level.
        sigma_max: largest noise level, where decoding starts.
        gain_equivariant: encode as ``s E(x / s)`` and decode as ``s D(z / s)``.
        reference_rms: RMS to which a whole signal is scaled for the network (0.1 is -20 dBFS).
        latent_scale: factor that gives the latents of typical music unit variance; set by the export.

    Raises:
        ValueError: the kernel is even, or the noise levels are not in order.
    """

    family: Literal["frame64"] = "frame64"
    latent_dim: Annotated[int, Ge(1), Le(1024)] = 64
    width: Annotated[int, Ge(8), Le(4096)] = 320
    latent_width: Annotated[int, Ge(8), Le(4096)] = 512
    kernel: Annotated[int, Ge(1), Le(63)] = 7
    expand: Annotated[int, Ge(1), Le(8)] = 3
    encoder_frame_blocks: Annotated[int, Ge(0), Le(32)] = 2
    encoder_latent_blocks: Annotated[int, Ge(0), Le(32)] = 3
    decoder_latent_blocks: Annotated[int, Ge(0), Le(32)] = 3
    decoder_frame_blocks: Annotated[int, Ge(0), Le(32)] = 1
    denoiser_blocks: Annotated[int, Ge(1), Le(32)] = 4
    alpha: Annotated[float, Gt(0), Le(1)] = 0.65
    beta: Annotated[float, Gt(0)] = 0.34
    sigma_data: Annotated[float, Gt(0)] = 0.25
    sigma_min: Annotated[float, Gt(0)] = 0.002
    sigma_max: Annotated[float, Gt(0)] = 20.0
    gain_equivariant: bool = True
    reference_rms: Annotated[float, Gt(0)] = 0.1
    latent_scale: Annotated[float, Gt(0)] = 1.0

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012  (an unknown key in a recipe is an error)

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd")
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")

    def to_dict(self) -> dict[str, Any]:
        """The fields as a dictionary that JSON can hold."""
        return asdict(self)


class TimeConv(nn.Module):
    """Depthwise convolution along time, ``[B, T, C] -> [B, T, C]``, zero-padded at the ends.

    Runs as a channels-last two-dimensional convolution: on a CPU many times faster than ``conv1d`` and without a copy.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, 1, 1, kernel) / math.sqrt(kernel))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        """Convolves every channel along time."""
        image = x.transpose(1, 2).unsqueeze(2)  # [B, C, 1, T], channels last in memory
        pad = (0, self.weight.shape[-1] // 2)
        out = F.conv2d(image, self.weight, self.bias, padding=pad, groups=self.weight.shape[0])
        return out.squeeze(2).transpose(1, 2)


class Block(nn.Module):
    """ConvNeXt-style residual block (arXiv 2201.03545) over ``[B, T, C]`` with per-frame RMS norm.

    Args:
        width: channels C.
        kernel: taps of the depthwise convolution along time.
        expand: hidden width of the MLP as a multiple of C.
        modulated: whether ``forward`` takes a scale and a shift (from the noise level).
        condition_width: channels of the features added before the MLP; 0 for none.
    """

    def __init__(self, width: int, kernel: int, expand: int, modulated: bool = False, condition_width: int = 0) -> None:
        super().__init__()
        self.conv = TimeConv(width, kernel)
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)
        nn.init.normal_(self.down.weight, std=0.3 / math.sqrt(expand * width))
        nn.init.zeros_(self.down.bias)
        self.modulation = nn.Linear(width, 2 * width) if modulated else None
        if self.modulation is not None:
            nn.init.normal_(self.modulation.weight, std=0.02)
            nn.init.zeros_(self.modulation.bias)
        self.condition = nn.Linear(condition_width, width) if condition_width else None

    def forward(self, x: Tensor, noise_level: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """``x`` [B, T, C], ``noise_level`` embedding [B, 1, C], ``features`` [B, T, F] -> [B, T, C]."""
        h = self.conv(x)
        # in the dtype of autocast, whose mixture with float32 weights has no fused kernel
        h = F.rms_norm(h, self.norm.normalized_shape, self.norm.weight.to(h.dtype), self.norm.eps)
        if self.modulation is not None and noise_level is not None:
            scale, shift = self.modulation(noise_level).chunk(2, -1)
            h = h * (1 + scale) + shift
        if self.condition is not None and features is not None:
            h = h + self.condition(features)
        return with_mlp(x, h, self.up, self.down)


class NoiseLevel(nn.Module):
    """Embedding of ``ln(sigma) / 4`` (EDM, arXiv 2206.00364, table 1): ``[B] -> [B, 1, C]``."""

    frequencies: Tensor

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        steps = torch.arange(features // 2) / (features // 2 - 1)
        self.register_buffer("frequencies", 64.0**steps, persistent=False)
        self.mlp = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, sigma: Tensor) -> Tensor:
        """Noise levels sigma [B] (> 0) to an embedding [B, 1, C]."""
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], -1))[:, None]


class Encoder(nn.Module):
    """Frames ``[B, 8 K, 2048]`` to latents ``[B, K, latent_dim]``; a linear read-out, no tanh."""

    def __init__(self, c: Frame64Config) -> None:
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


class LatentDecoder(nn.Module):
    """Latents ``[B, K, latent_dim]`` to features for the denoiser.

    Reads the latents and the same compressed by the frontend's exponent, ``z level^(alpha - 1)`` with the RMS of the
    latent frame as the level: with the gain, the latter grow as the compressed STFT frames do.
    """

    def __init__(self, c: Frame64Config) -> None:
        super().__init__()
        self.alpha = c.alpha
        self.input = nn.Linear(2 * c.latent_dim, c.latent_width)
        self.latent_blocks = nn.ModuleList(
            Block(c.latent_width, c.kernel, c.expand) for _ in range(c.decoder_latent_blocks)
        )
        self.split = nn.Linear(c.latent_width, RATIO * c.width)
        self.frame_blocks = nn.ModuleList(Block(c.width, c.kernel, c.expand) for _ in range(c.decoder_frame_blocks))

    def forward(self, z: Tensor, before: int = 0, after: int = 0) -> Tensor:
        """Maps ``[B, K, latent_dim]`` to ``[B, 8 N, width]``.

        Args:
            z: latents of K frames.
            before: latent frames of context at the start, for which no features are returned.
            after: the same at the end; N = K - before - after.
        """
        level = z.square().mean(-1, keepdim=True).add(1e-8).sqrt()
        h = self.input(torch.cat([z, z * level ** (self.alpha - 1)], -1))
        for block in self.latent_blocks:
            h = block(h)
        h = self.split(h[:, before : z.shape[1] - after])
        h = h.reshape(h.shape[0], -1, h.shape[-1] // RATIO)
        for block in self.frame_blocks:
            h = block(h)
        return h


class Denoiser(nn.Module):
    """The trained part F of the consistency function: noisy frames and features to frames, ``[B, T, 2048]``.

    Its output is a linear layer of the hidden state plus the noisy input times a gain per bin. The width is far below
    2048, so a linear layer alone could not carry the noise of a frame; the gain can. For Gaussian texture it is the
    exact solution: the probability-flow ODE maps noise to ``s * noise`` where s is the texture's deviation.
    """

    def __init__(self, c: Frame64Config) -> None:
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

    def forward(self, x: Tensor, sigma: Tensor, features: Tensor) -> Tensor:
        """``x`` [B, T, 2048] (scaled by c_in), ``sigma`` [B], ``features`` [B, T, width] -> [B, T, 2048]."""
        level = self.noise_level(sigma)
        h = self.input(x) + self.features(features)
        for block in self.blocks:
            h = block(h, level, features)
        h = h * (1 + self.scale(level))
        gain = self.gain(h)
        return self.output(h) + torch.cat([gain, gain], -1) * x


class Frame64Model(ConsistencyModel):
    """Encoder, latent-side decoder and denoiser around one STFT frontend; sees stretches of any length."""

    family = "frame64"

    def __init__(self, config: Frame64Config) -> None:
        super().__init__()
        self.config = config
        self.frontend = Frontend(config.alpha, config.beta)
        self.preconditioning = Preconditioning(config.sigma_data, config.sigma_min, config.sigma_max)
        self.encoder = Encoder(config)
        self.decoder = LatentDecoder(config)
        self.denoiser = Denoiser(config)
        reach = config.kernel // 2
        # latent frames on either side that are reached through the blocks at the STFT frame rate alone
        self.frame_context = math.ceil((config.decoder_frame_blocks + config.denoiser_blocks) * reach / RATIO)
        self.encoder_context = config.encoder_latent_blocks * reach + math.ceil(
            config.encoder_frame_blocks * reach / RATIO
        )
        self.decoder_context = config.decoder_latent_blocks * reach + self.frame_context

    def features(self, z: Tensor, seen: list[Window]) -> tuple[Tensor, list[Window]]:
        """Features for the denoiser from latents ``[W, K, latent_dim]``, and the windows they are valid for.

        Blocks at the latent rate reach far and cost little, those at the STFT frame rate the reverse: the latter
        compute no more context than they reach.
        """
        first = seen[0]
        before = max(first.low - self.frame_context - first.start, 0)
        after = max(first.stop - first.high - self.frame_context, 0)
        return self.decoder(z, before, after), [Window(w.start + before, w.stop - after, w.low, w.high) for w in seen]
