"""The `unet` family: Music2Latent's network (arXiv 2408.06500, section 3), parameter for parameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, TypeVar

import torch
from annotated_types import Ge, Gt, Le, MinLen, MultipleOf
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models.consistency import BINS, ConsistencyModel, Frontend, Preconditioning, Window, fixed_windows
from lincae_core.models.cpu_layout import activated, added, convolved, laid_out, mixed, quadrupled, scaled

WINDOW = 8  # latent frames that the network sees at once, as in training
MARGIN = 1  # latent frames on either side of a window that its neighbours answer for


@dataclass(frozen=True, kw_only=True)
class UnetConfig:
    """Shape of a `unet` network; the defaults are the published network. Also the `model` section of a recipe.

    Args:
        family: "unet".
        latent_dim: numbers in a latent frame.
        base_channels: channels at full resolution.
        multipliers: channels of every level over ``base_channels``.
        blocks: residual blocks in a level of the denoiser; encoder and latent-side decoder have one.
        attention: whether a level attends along frequency.
        frequency_only: whether the step below a level (all but the last) is 4 in frequency, or 2 in both.
        heads: attention heads.
        bottleneck_channels: channels of the one-dimensional blocks.
        bottleneck_blocks: number of those, in encoder and latent-side decoder.
        condition_channels: width of the noise level's embedding.
        alpha: exponent of the compressed magnitudes.
        beta: factor on the compressed magnitudes.
        sigma_data: standard deviation of the compressed frames that the preconditioning assumes.
        sigma_min: smallest noise level.
        sigma_max: largest noise level, where decoding starts.
        gain_equivariant: encode as ``s E(x / s)`` and decode as ``s D(z / s)``; the paper's models do not.
        reference_rms: RMS to which a whole signal is scaled for the network, where it is gain-equivariant.
        latent_scale: factor that gives the latents of typical music unit variance; set by the export.

    Raises:
        ValueError: values that do not go together.
    """

    family: Literal["unet"] = "unet"
    latent_dim: Annotated[int, Ge(1), Le(1024)] = 64
    base_channels: Annotated[int, Ge(8), Le(1024), MultipleOf(4)] = 64
    multipliers: Annotated[tuple[int, ...], MinLen(4)] = (1, 2, 4, 4, 4)
    blocks: Annotated[int, Ge(1), Le(16)] = 2
    attention: tuple[bool, ...] = (False, False, True, True, True)
    frequency_only: tuple[bool, ...] = (True, False, False, False)
    heads: Annotated[int, Ge(1)] = 4
    bottleneck_channels: Annotated[int, Ge(8), MultipleOf(4)] = 512
    bottleneck_blocks: Annotated[int, Ge(0), Le(32)] = 4
    condition_channels: Annotated[int, Ge(4), MultipleOf(2)] = 256
    alpha: Annotated[float, Gt(0), Le(1)] = 0.65
    beta: Annotated[float, Gt(0)] = 0.34
    sigma_data: Annotated[float, Gt(0)] = 0.5
    sigma_min: Annotated[float, Gt(0)] = 0.002
    sigma_max: Annotated[float, Gt(0)] = 80.0
    gain_equivariant: bool = False
    reference_rms: Annotated[float, Gt(0)] = 0.1
    latent_scale: Annotated[float, Gt(0)] = 1.0

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # noqa: RUF012  (an unknown key in a recipe is an error)

    def __post_init__(self) -> None:
        for name in ("multipliers", "attention", "frequency_only"):  # a config read from JSON has lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        levels = len(self.multipliers)
        if self.sigma_min >= self.sigma_max:
            raise ValueError("sigma_min must be below sigma_max")
        if min(self.multipliers) < 1:
            raise ValueError("multipliers must be 1 or more")
        if len(self.attention) != levels or len(self.frequency_only) != levels - 1:
            raise ValueError(f"{levels} multipliers need {levels} of attention and {levels - 1} of frequency_only")
        if self.frequency_only.count(False) != 3 or self.frequency_only.count(True) > 3:
            raise ValueError("frequency_only needs three times false (8 STFT frames in a latent one), true at most 3")
        if any(self.base_channels * m % self.heads for m in self.multipliers):
            raise ValueError("heads must divide the channels")

    def to_dict(self) -> dict[str, object]:
        """The fields as a plain dictionary of what JSON knows."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def channels(self) -> list[int]:
        """Channels of every level."""
        return [self.base_channels * m for m in self.multipliers]

    @property
    def lowest_bins(self) -> int:
        """Frequencies at the lowest level."""
        return BINS // 4 ** self.frequency_only.count(True) // 2 ** self.frequency_only.count(False)

    def heads_at(self, level: int) -> int:
        """Attention heads of a level; 0 for no attention."""
        return self.heads if self.attention[level] else 0


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with groups of 4 channels or more, at most 32 groups."""
    return nn.GroupNorm(min(channels // 4, 32), channels)


AnyModule = TypeVar("AnyModule", bound=nn.Module)


def zeroed(module: AnyModule) -> AnyModule:
    """The module with all its parameters at 0: a residual branch begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class FrequencyAttention(nn.Module):
    """Self-attention along frequency, every time step on its own: ``[B, C, T, F] -> [B, C, T, F]``.

    Args:
        channels: channels C.
        heads: attention heads.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.output = zeroed(nn.Linear(channels, channels))
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Attends along the last axis."""
        h = self.norm(x).permute(0, 2, 3, 1).contiguous()  # [B, T, F, C]: no copy where x is channels-last
        batch, time, bins, channels = h.shape
        split = self.qkv(h).view(batch * time, bins, 3, self.heads, channels // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # [B T, heads, F, C / heads]
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, time, bins, channels)
        return self.output(h).permute(0, 3, 1, 2)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, the noise level added, and the same again, beside a shortcut.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        condition: width of the noise level's embedding; 0 for none.
        heads: attention heads; 0 for no attention.
        flat: sequences ``[B, C, T]`` instead of images.
    """

    def __init__(self, inputs: int, outputs: int, *, condition: int = 0, heads: int = 0, flat: bool = False) -> None:
        super().__init__()
        conv: type[nn.Conv1d | nn.Conv2d] = nn.Conv1d if flat else nn.Conv2d
        self.norm1 = group_norm(inputs)
        self.conv1 = conv(inputs, outputs, 3, padding=1)
        self.level = zeroed(nn.Linear(condition, outputs)) if condition else None
        self.norm2 = group_norm(outputs)
        self.conv2 = zeroed(conv(outputs, outputs, 3, padding=1))
        self.shortcut = conv(inputs, outputs, 1) if inputs != outputs else None
        self.attention = FrequencyAttention(outputs, heads) if heads else None

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """``x`` [B, C, T, F] (or [B, C, T]) and the noise level's embedding [B, E]."""
        shift = None if self.level is None or level is None else self.level(level)
        h = convolved(self.conv1, activated(self.norm1, x), shift)
        h = convolved(self.conv2, activated(self.norm2, h))
        h = added(h, x if self.shortcut is None else mixed(self.shortcut, x))
        return h if self.attention is None else added(h, self.attention(h))


class Downsample(nn.Module):
    """Strided convolution: a quarter of the frequencies, or half of frequencies and times.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        frequency_only: whether time stays.
        normalised: whether a group norm comes first.
    """

    def __init__(self, inputs: int, outputs: int, frequency_only: bool, normalised: bool) -> None:
        super().__init__()
        self.norm = group_norm(inputs) if normalised else None
        if frequency_only:
            self.conv = nn.Conv2d(inputs, outputs, (1, 5), stride=(1, 4), padding=(0, 2))
        else:
            self.conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F]`` to ``[B, C', T, F / 4]`` or ``[B, C', T / 2, F / 2]``."""
        return self.conv(x if self.norm is None else self.norm(x))


class Upsample(nn.Module):
    """Nearest neighbours, then a convolution: the inverse shapes of `Downsample`."""

    def __init__(self, inputs: int, outputs: int, frequency_only: bool) -> None:
        super().__init__()
        self.frequency_only = frequency_only
        if frequency_only:
            self.conv = nn.Conv2d(inputs, outputs, (1, 5), padding=(0, 2))
        else:
            self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, T, F]`` to ``[B, C', T, 4 F]`` or ``[B, C', 2 T, 2 F]``."""
        if self.frequency_only:
            return quadrupled(self.conv, x)
        return convolved(self.conv, F.interpolate(x, scale_factor=2.0, mode="nearest"))


class NoiseEmbedding(nn.Module):
    """Sinusoids of ``ln(sigma) / 4``, sines then cosines (arXiv 1706.03762, section 3.5): ``[B] -> [B, E]``."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        steps = torch.arange(width // 2) / (width // 2 - 1)
        self.register_buffer("frequencies", (1 / 10_000) ** steps, persistent=False)

    def forward(self, sigma: Tensor) -> Tensor:
        """Noise levels sigma [B] (> 0) to [B, E]."""
        angles = (sigma.log() / 4)[:, None] * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], -1)


def mlp(width: int, outputs: int | None = None) -> nn.Sequential:
    """Two linear layers with SiLU; with ``outputs``, a third one that begins at 0."""
    layers: list[nn.Module] = [nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
    if outputs is not None:
        layers.append(zeroed(nn.Linear(width, outputs)))
    return nn.Sequential(*layers)


def blended(own: Tensor, *others: Tensor) -> Tensor:
    """The sum of images over the root of their number, which keeps the variance; may overwrite the first."""
    for other in others:
        own = added(own, other)
    return scaled(own, 1 / math.sqrt(1 + len(others)))


def to_image(frames: Tensor) -> Tensor:
    """Frames ``[B, T, 2048]`` to images ``[B, 2, T, 1024]`` of real and imaginary parts."""
    return laid_out(frames.view(*frames.shape[:2], 2, BINS).transpose(1, 2))


def to_frames(image: Tensor) -> Tensor:
    """Images ``[B, 2, T, 1024]`` to frames ``[B, T, 2048]``."""
    return image.transpose(1, 2).flatten(2)


class Encoder(nn.Module):
    """Frames ``[B, 8 K, 2048]`` to latents ``[B, K, latent_dim]`` in (-1, 1)."""

    def __init__(self, c: UnetConfig) -> None:
        super().__init__()
        channels = c.channels
        self.input = nn.Conv2d(2, channels[0], 3, padding=1)
        self.frequency_gain = nn.Parameter(torch.ones(BINS))
        self.blocks = nn.ModuleList(
            ResidualBlock(channels[max(i - 1, 0)], n, heads=c.heads_at(i)) for i, n in enumerate(channels)
        )
        self.down = nn.ModuleList(
            Downsample(n, n, only, normalised=True) for n, only in zip(channels, c.frequency_only, strict=False)
        )
        self.norm_image = group_norm(channels[-1])
        self.flatten = nn.Conv1d(channels[-1] * c.lowest_bins, c.bottleneck_channels, 1)
        self.bottleneck = nn.ModuleList(
            ResidualBlock(c.bottleneck_channels, c.bottleneck_channels, flat=True) for _ in range(c.bottleneck_blocks)
        )
        self.norm_out = group_norm(c.bottleneck_channels)
        self.output = nn.Conv1d(c.bottleneck_channels, c.latent_dim, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Encodes ``[B, 8 K, 2048]`` to ``[B, K, latent_dim]``."""
        x = scaled(convolved(self.input, to_image(frames)), self.frequency_gain)
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i < len(self.down):
                x = self.down[i](x)
        x = self.norm_image(x)
        x = self.flatten(x.transpose(2, 3).flatten(1, 2))  # [B, C F, K], channels outside
        for block in self.bottleneck:
            x = block(x)
        return self.output(activated(self.norm_out, x)).tanh().transpose(1, 2)


class LatentDecoder(nn.Module):
    """Latents ``[B, K, latent_dim]`` to a pyramid of images, one for every level of the denoiser, finest first."""

    def __init__(self, c: UnetConfig) -> None:
        super().__init__()
        channels = c.channels
        self.bins = c.lowest_bins
        self.input = nn.Conv1d(c.latent_dim, c.bottleneck_channels, 1)
        self.bottleneck = nn.ModuleList(
            ResidualBlock(c.bottleneck_channels, c.bottleneck_channels, condition=c.condition_channels, flat=True)
            for _ in range(c.bottleneck_blocks)
        )
        self.unflatten = nn.Conv1d(c.bottleneck_channels, channels[-1] * c.lowest_bins, 1)
        self.blocks = nn.ModuleList(ResidualBlock(n, n, heads=c.heads_at(i)) for i, n in enumerate(channels))
        self.up = nn.ModuleList(Upsample(channels[i + 1], channels[i], only) for i, only in enumerate(c.frequency_only))

    def forward(self, z: Tensor) -> list[Tensor]:
        """Maps ``[B, K, latent_dim]`` to images ``[B, C_i, T_i, F_i]``."""
        x = self.input(z.transpose(1, 2))
        for block in self.bottleneck:
            x = block(x)
        x = self.unflatten(x).unflatten(1, (self.bins, -1)).permute(0, 2, 3, 1)  # frequencies outside, [B, C, K, F]
        x = laid_out(x)
        pyramid = []
        for i in reversed(range(len(self.blocks))):
            x = self.blocks[i](x)
            pyramid.append(x)
            if i:
                x = self.up[i - 1](x)
        return pyramid[::-1]


class Level(nn.Module):
    """One level of the denoiser on its way down or up: pyramid, skip and block, as often as the config says."""

    def __init__(self, channels: int, c: UnetConfig, heads: int) -> None:
        super().__init__()
        self.cross = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(c.blocks))
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, channels, condition=c.condition_channels, heads=heads) for _ in range(c.blocks)
        )

    def forward(self, x: Tensor, pyramid: Tensor, level: Tensor, skips: list[Tensor], up: bool) -> Tensor:
        """Going down it appends to ``skips``, going up it takes from there."""
        for cross, block in zip(self.cross, self.blocks, strict=True):
            x = blended(mixed(cross, pyramid), x, *([skips.pop()] if up else []))
            x = block(x, level)
            if not up:
                skips.append(x)
        return x


class Denoiser(nn.Module):
    """The trained part F of the consistency function: noisy frames and a pyramid to frames, ``[B, T, 2048]``."""

    def __init__(self, c: UnetConfig) -> None:
        super().__init__()
        channels = c.channels
        self.embedding = NoiseEmbedding(c.condition_channels)
        self.level = mlp(c.condition_channels)
        self.scale_in = mlp(c.condition_channels, BINS)
        self.scale_out = mlp(c.condition_channels, BINS)
        self.input = nn.Conv2d(2, channels[0], 3, padding=1)
        self.descent = nn.ModuleList(Level(n, c, c.heads_at(i)) for i, n in enumerate(channels))
        self.down = nn.ModuleList(
            Downsample(channels[i], channels[i + 1], only, normalised=False) for i, only in enumerate(c.frequency_only)
        )
        self.ascent = nn.ModuleList(Level(n, c, c.heads_at(i)) for i, n in enumerate(channels))
        self.up = nn.ModuleList(Upsample(channels[i + 1], channels[i], only) for i, only in enumerate(c.frequency_only))
        self.cross_out = nn.Conv2d(channels[0], channels[0], 1)
        self.norm_out = group_norm(channels[0])
        self.output = zeroed(nn.Conv2d(channels[0], 2, 3, padding=1))

    def forward(self, x: Tensor, sigma: Tensor, pyramid: Sequence[Tensor]) -> Tensor:
        """``x`` [B, T, 2048] (scaled by c_in), ``sigma`` [B], ``pyramid`` of `LatentDecoder` -> [B, T, 2048]."""
        embedding = self.embedding(sigma)
        level = self.level(embedding)
        h = scaled(convolved(self.input, to_image(x)), (1 + self.scale_in(embedding))[:, None, None])
        skips: list[Tensor] = []
        for i, stage in enumerate(self.descent):
            h = stage(h, pyramid[i], level, skips, False)
            if i < len(self.down):
                h = self.down[i](h)
        for i in reversed(range(len(self.ascent))):
            h = self.ascent[i](h, pyramid[i], level, skips, True)
            if i:
                h = self.up[i - 1](h)
        h = activated(self.norm_out, blended(mixed(self.cross_out, pyramid[0]), h))
        return to_frames(convolved(self.output, scaled(h, (1 + self.scale_out(embedding))[:, None, None])))


class UnetModel(ConsistencyModel):
    """Encoder, latent-side decoder and denoiser around one STFT frontend; sees windows of 8 latent frames."""

    family = "unet"
    grid = WINDOW - 2 * MARGIN
    encoder_context = MARGIN
    decoder_context = MARGIN

    def __init__(self, config: UnetConfig) -> None:
        super().__init__()
        self.config = config
        self.frontend = Frontend(config.alpha, config.beta)
        self.preconditioning = Preconditioning(config.sigma_data, config.sigma_min, config.sigma_max)
        self.encoder = Encoder(config)
        self.decoder = LatentDecoder(config)
        self.denoiser = Denoiser(config)

    def _apply(self, *args: Any, **kwargs: Any) -> UnetModel:
        super()._apply(*args, **kwargs)
        for parameter in self.parameters():  # on a GPU, weights in the memory format of the images
            if parameter.ndim == 4 and parameter.is_cuda:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        return self

    def windows(self, low: int, high: int, first: int, last: int) -> list[Window]:
        """Windows of one length at fixed places, of which latent frames ``low`` to ``high`` (exclusive) are used.

        The group norms take statistics over all that they see, so a window must not depend on where a stretch was
        cut. Beyond what exists (``first`` to ``last``), a window sees zeros.
        """
        return fixed_windows(low, high, WINDOW, MARGIN)
