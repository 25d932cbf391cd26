"""The `frame` model: a fixed linear filterbank encodes (`filterbank.py`), a small network over bands decodes.

The decoder starts from the inverse MDCT and adds to each band a copy of the upper octave of the low band (spectral band
replication), shaped by energies that a network reads from probes, levels and the low band. It has no randomness of its
own, ``D(-z) = -D(z)`` and ``D(g z) = g D(z)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_core.models import frame_groups
from lincae_core.models.cpu_layout import with_mlp
from lincae_core.models.filterbank import (
    BANDS,
    EDGE_BIN,
    FINE,
    FRAME,
    HOP,
    LATENT_DIM,
    LEAD,
    LOW_BINS,
    LOW_HOP,
    MARGIN,
    SAMPLE_RATE,
    SLOT,
    SLOTS,
    WINDOW,
    Filterbank,
    band_edges,
    fine_edges,
    mdct_basis,
    probe_basis,
    stft_window,
)

CACHED = 256  # STFT frames computed at once, so that they stay in the CPU's cache
STEPS = FRAME // HOP  # STFT frames in a latent frame
LOW_STFT = EDGE_BIN + 8  # STFT bins that the low band reaches into
OCTAVE = EDGE_BIN // 2  # STFT bins of the low band's upper octave
REPEATS = -(-(WINDOW // 2 + 1) // OCTAVE)  # of the octave, to cover the whole STFT
LEAST = 1e-4  # of the mean energy: where levels are unknown, bands are first taken to be at least that
TINY = 1e-20


@dataclass(frozen=True, kw_only=True)
class FrameConfig:
    """Everything that fixes a `frame` model beside its weights.

    Args:
        width: channels of the network.
        blocks: residual blocks of the network.
        kernel: taps of its convolutions over slots.
        expand: hidden width of its MLPs as a multiple of `width`.
    """

    family: Literal["frame"] = "frame"
    width: int = 256
    blocks: int = 8
    kernel: int = 7
    expand: int = 3

    @property
    def latent_dim(self) -> int:
        """Numbers in a latent frame."""
        return LATENT_DIM

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dictionary."""
        return asdict(self)


class TorchFilterbank(nn.Module):
    """The linear encoder and its synthesis; no learned weights. On a CPU `filterbank.Filterbank` encodes."""

    def __init__(self) -> None:
        super().__init__()
        low, probe, window = (
            torch.from_numpy(x) for x in (mdct_basis(LOW_HOP, LOW_BINS), probe_basis(), stft_window())
        )
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("probe", probe, persistent=False)
        self.register_buffer("window", window, persistent=False)

    low: Tensor
    probe: Tensor
    window: Tensor

    def analyse_low(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 4096 K + 2048]``, from 1024 samples before, to MDCT numbers ``[B, K, 384]`` (bin, time)."""
        x = framed(audio, self.low, LOW_HOP)
        return x.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2)

    def synthesise_low(self, z: Tensor) -> Tensor:
        """MDCT numbers ``[B, K, 384]`` to audio ``[B, 4096 K + 2048]``, from 1024 samples before."""
        x = z.unflatten(2, (LOW_BINS, 2)).transpose(2, 3).flatten(1, 2)
        both = torch.cat([F.pad(x, (0, 0, 0, 1)), F.pad(x, (0, 0, 1, 0))], 2)  # the frames that overlap in each hop
        return (both @ torch.cat(self.low.split(LOW_HOP), 1).T).flatten(1)

    def analyse_probes(self, rest: Tensor) -> Tensor:
        """What the low band leaves out ``[B, 4096 K + 512]``, from 256 samples before, to probes ``[B, K, 16, 8]``."""
        return framed(rest, self.probe, SLOT).unflatten(1, (-1, SLOTS)).transpose(2, 3)

    def stft(self, audio: Tensor) -> Iterator[Tensor]:
        """STFT ``[B, T, 513]`` of audio ``[B, 256 T + 768]`` from 384 samples before, `CACHED` frames at a time.

        It is unitary for white noise.
        """
        for frames in audio.unfold(-1, WINDOW, HOP).split(CACHED, 1):
            yield torch.fft.rfft(frames * self.window)

    def istft(self, x: Tensor) -> Tensor:
        """STFT ``[B, T, 513]`` to audio ``[B, 256 T + 768]``, from 384 samples before."""
        frames = torch.fft.irfft(x, n=WINDOW).unflatten(2, (-1, HOP))
        window = (self.window * (WINDOW / 2 / 2)).view(-1, HOP)  # sum of squared windows: 2 / 512 * 512 = 2
        count, more = x.shape[1], len(window) - 1
        out = F.pad(frames[:, :, 0] * window[0], (0, 0, 0, more))
        for i in range(1, more + 1):
            out[:, i : i + count].addcmul_(frames[:, :, i], window[i])
        return out.flatten(1)


def framed(audio: Tensor, basis: Tensor, hop: int) -> Tensor:
    """Overlapping frames times a basis: ``[B, n]``, ``[m hop, N]`` to ``[B, n / hop - m + 1, N]``.

    Every hop of audio is multiplied once by the parts of the basis that it meets; no frame is copied.
    """
    parts = basis.split(hop)
    count = audio.shape[1] // hop - len(parts) + 1
    products = torch.bmm(audio.unflatten(1, (-1, hop)), torch.cat(parts, 1).expand(len(audio), -1, -1))
    total, *others = (x[:, i : i + count] for i, x in enumerate(products.split(basis.shape[1], 2)))
    for x in others:
        total = total + x
    return total


class Block(nn.Module):
    """ConvNeXt block over time: depthwise convolution, norm, MLP."""

    def __init__(self, width: int, kernel: int, expand: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, expand * width)
        self.down = nn.Linear(expand * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, width]`` to the same shape."""
        image, kernel = x.transpose(1, 2).unsqueeze(2), self.conv.weight.unsqueeze(2)
        # [B, C, 1, T] with channels innermost: on a CPU many times as fast as conv1d
        h = F.conv2d(image, kernel, self.conv.bias, padding=(0, kernel.shape[3] // 2), groups=len(kernel))
        h = self.norm(h.squeeze(2).transpose(1, 2))
        return with_mlp(x, h, self.up, self.down)


REFERENCE = 33  # slots over which the reference energy is averaged
FEATURES = 2 * EDGE_BIN + LOW_BINS + 6 * BANDS


class Network(nn.Module):
    """Reads the energies of the bands' parts from probes, levels and the low band."""

    def __init__(self, c: FrameConfig) -> None:
        super().__init__()
        self.input = nn.Linear(FEATURES, c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.kernel, c.expand) for _ in range(c.blocks))
        self.norm = nn.LayerNorm(c.width)
        self.output = nn.Linear(c.width, 2 * BANDS * FINE)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features ``[B, T, FEATURES]`` to corrections ``[B, T, 2, 48]`` of ln energy."""
        h = self.input(features)
        for block in self.blocks:
            h = block(h)
        return self.output(self.norm(h)).float().view(*h.shape[:2], 2, BANDS * FINE)


def low_power(x: Tensor) -> Tensor:
    """Energies of the low band's bins ``[B, T, 48]`` from its STFT ``[B, T, 56]``; faster than by `abs`."""
    return x.real[..., :EDGE_BIN].square() + x.imag[..., :EDGE_BIN].square()


def _ln(power: Tensor, reference: Tensor) -> Tensor:
    """ln of a power over the reference, not below -80 dB."""
    return torch.log(power / reference + 1e-8)


class FrameModel(nn.Module):
    """See the module's text.

    Shapes: audio ``[B, n]``; latents ``[B, 512, K]``; levels ``[B, 128, K]`` (by band, then slot).
    """

    sample_rate = SAMPLE_RATE
    samples_per_frame = FRAME
    margin = MARGIN
    reach = 7  # latent frames of context beside those to decode

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        self.bank = TorchFilterbank()
        self.network = Network(config)
        edges, fine = band_edges(BANDS), fine_edges()
        self.edges, self.fine = edges, fine
        widths = torch.tensor([b - a for a, b in pairwise(fine)])
        part_of = torch.tensor([i for i, (a, b) in enumerate(pairwise(fine)) for _ in range(b - a)])
        self.register_buffer("widths", widths.float(), persistent=False)
        membership = (part_of[:, None] == torch.arange(BANDS * FINE)).float()
        membership = F.pad(membership, (0, 0, EDGE_BIN, REPEATS * OCTAVE - fine[-1]))
        self.register_buffer("membership", membership.repeat_interleave(2, 0), persistent=False)
        generator = torch.Generator().manual_seed(1)
        phase = torch.rand(64 * STEPS, fine[-1] - EDGE_BIN, generator=generator) * (2 * math.pi)
        noise = F.pad(torch.stack([phase.cos(), phase.sin()], 2), (0, 0, EDGE_BIN, REPEATS * OCTAVE - fine[-1]))
        self.register_buffer("noise", noise.flatten(1), persistent=False)

    widths: Tensor
    membership: Tensor
    noise: Tensor

    groups = staticmethod(frame_groups)
    numpy_encoder = Filterbank  # what encodes on a CPU

    def split(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Audio ``[B, 4096 K + 2 margin]`` to the low band's numbers ``[B, K, 384]`` and the rest of the audio.

        The rest is ``[B, 4096 K + 6144]`` and begins 3072 samples before the first frame.
        """
        z = self.bank.analyse_low(audio)
        low = self.bank.synthesise_low(z)
        rest = audio - low
        return z[:, 1:-1], rest[:, LOW_HOP:-LOW_HOP]

    def measure(self, rest: Tensor) -> Tensor:
        """Energies of the bands' parts in every STFT frame: rest ``[B, 256 T + 768]`` to ``[B, T, 48]``."""
        edges = slice(EDGE_BIN, self.fine[-1])
        bins = (torch.view_as_real(x[..., edges]).square().flatten(2) for x in self.bank.stft(rest))
        return torch.cat([power @ self.membership[2 * edges.start : 2 * edges.stop] for power in bins], 1)

    def coarse(self, parts: Tensor) -> Tensor:
        """Energies ``[B, T, 48]`` of STFT frames to those of bands and slots ``[B, T / 2, 16]``."""
        b, t, _ = parts.shape
        return parts.view(b, t // 2, 2, BANDS, FINE).sum(-1).mean(2)

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Audio ``[B, 4096 K + 2 margin]`` to low ``[B, K, 384]``, probes ``[B, K, 16, 8]`` and `measure`'s parts."""
        low, rest = self.split(audio)
        side = FRAME - LOW_HOP // 2
        probes = self.bank.analyse_probes(rest[:, side - SLOT // 2 : rest.shape[1] - side + SLOT // 2])
        return low, probes, self.measure(rest[:, side - LEAD : rest.shape[1] - side + LEAD])

    def low_stft(self, audio: Tensor) -> Tensor:
        """The low band's audio ``[B, 4096 K + 2048]``, from 1024 samples before, to its STFT ``[B, 16 K, 56]``."""
        side = LOW_HOP // 2 - LEAD
        return torch.cat([x[..., :LOW_STFT] for x in self.bank.stft(audio[:, side : audio.shape[1] - side])], 1)

    def read(self, low: Tensor, x: Tensor, probes: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """What the network reads, and a first estimate of the energies of the bands' parts.

        Args:
            low: ``[B, K, 384]``.
            x: the low band's STFT, ``[B, 16 K, 56]``.
            probes: ``[B, K, 16, 8]``.
            levels: ``[B, K, 16, 8]``; negative where they are uncertain (of a difference), NaN where unknown.

        Returns:
            ``[B, 8 K, FEATURES]`` and ``[B, 8 K, 1, 48]``.
        """
        b, k, _ = low.shape
        t = k * SLOTS
        power = low_power(x)
        p = probes.transpose(2, 3).reshape(b, t, BANDS).square()
        v = levels.transpose(2, 3).reshape(b, t, BANDS)
        known, uncertain = v >= 0, v < 0  # neither: unknown
        v = v.nan_to_num(0.0).square()
        smooth = F.avg_pool1d(F.pad(p, (0, 0, 2, 2)).transpose(1, 2), 5, 1).transpose(1, 2)
        total = power.view(b, t, 2, EDGE_BIN).sum(-1).mean(2) + torch.where(v > 0, v, smooth).sum(-1)
        half = REFERENCE // 2
        reference = F.avg_pool1d(F.pad(total, (half, half))[:, None], REFERENCE, 1)[:, 0, :, None] + TINY
        base = torch.where(known, v, torch.where(uncertain, v, smooth) + LEAST * reference)
        numbers = low.view(b, k, LOW_BINS, 2).transpose(2, 3).square()  # [B, K, 2, 192]
        numbers = numbers.repeat_interleave(SLOTS // 2, 2).reshape(b, t, LOW_BINS)
        features = torch.cat(
            [
                _ln(power.view(b, t, 2 * EDGE_BIN), reference),
                _ln(numbers, reference),
                _ln(p, reference),
                _ln(base, reference),
                4.0 * (p == 0).float() - 2,
                4.0 * known.float() - 4.0 * uncertain.float(),
                _ln(smooth, reference),
                _ln(p, 10 * smooth + 1e-6 * reference),
            ],
            -1,
        )
        share = (self.widths.view(BANDS, FINE) / self.widths.view(BANDS, FINE).sum(-1, keepdim=True)).view(-1)
        start = base.repeat_interleave(FINE, -1) * share
        return features / 4, start[:, :, None]

    @staticmethod
    def corrected(start: Tensor, change: Tensor) -> Tensor:
        """First estimates ``[B, T, 1, 48]`` with the network's corrections ``[B, T, 2, 48]``: ``[B, 2 T, 48]``."""
        return (start * change.clamp(-12, 12).exp()).flatten(1, 2)

    def bands(self, x: Tensor, aim: Tensor, first: int | Tensor) -> Tensor:
        """What is above the low band: the low band's upper octave, whitened, repeated upwards and shaped.

        Copies are moved by multiples of 4 bins, so that a steady tone stays one (``2 pi 4 HOP / WINDOW`` is a whole
        turn). Where the octave is empty, fixed noise whose sign follows the low band's.

        Args:
            x: STFT of the low band ``[B, T, 56]``.
            aim: energies of the bands' parts ``[B, T, 48]``.
            first: absolute STFT frame of the first, of all or ``[B]``.

        Returns:
            STFT ``[B, T, 513]``.
        """
        low = low_power(x)
        power = low[..., OCTAVE:]
        smooth = F.avg_pool1d(F.pad(power, (2, 2)), 5, 1) + 1e-7 * low.mean(-1, keepdim=True) + TINY
        whitened = torch.view_as_real(x[..., OCTAVE:EDGE_BIN] * smooth.rsqrt()).flatten(2)
        power = power / smooth
        empty = F.avg_pool1d((1 - power).clamp_min(0), 5, 1, 2) > 0.9
        have = power @ self.membership[::2].unflatten(0, (REPEATS, OCTAVE)).sum(0)
        item, time = empty.any(2).nonzero(as_tuple=True)
        if len(item):
            real = x.real[item, time]
            sign = torch.where(real.gather(1, real.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)
            noise = self.noise[(time + (first if isinstance(first, int) else first[item])) % len(self.noise)]
            noise = noise * (sign * empty[item, time]).repeat_interleave(2, 1).repeat(1, REPEATS)
            have[item, time] = (whitened[item, time].repeat(1, REPEATS) + noise).square() @ self.membership
        gain = aim / self.widths
        have, want = self.coarse(have * gain), self.coarse(aim)
        scale = want / (have + 1e-4 * want + TINY)  # every band and slot has the energy aimed at
        gain = (gain * scale.repeat_interleave(2, 1).repeat_interleave(FINE, 2)).sqrt() @ self.membership.T
        bins = (gain.unflatten(2, (REPEATS, -1)) * whitened[:, :, None]).flatten(2)
        if len(item):
            bins[item, time] += noise * gain[item, time]
        return torch.view_as_complex(bins.unflatten(2, (-1, 2)))[..., : WINDOW // 2 + 1]

    def decode_parts(
        self, low: Tensor, probes: Tensor, levels: Tensor, first: int | Tensor
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Audio of the low band, ``[B, 4096 K + 2048]`` from 1024 samples before, and of the bands above it.

        The bands' audio begins 384 samples before and has ``[B, 4096 K + 4096]``.

        Args:
            low: ``[B, K, 384]``.
            probes: ``[B, K, 16, 8]``.
            levels: ``[B, K, 16, 8]``.
            first: absolute latent frame of the first, of all or ``[B]``.
        """
        audio = self.bank.synthesise_low(low)
        x = self.low_stft(audio)
        features, start = self.read(low, x, probes, levels)
        aim = self.corrected(start, self.network(features))
        high = audio.new_zeros(len(x), x.shape[1] + STEPS, HOP)
        for a in range(0, x.shape[1], CACHED):
            b = min(a + CACHED, x.shape[1])
            part = self.bank.istft(self.bands(x[:, a:b], aim[:, a:b], first * STEPS + a)).unflatten(1, (-1, HOP))
            high[:, a : a + part.shape[1]] += part
        return audio, high.flatten(1)

    def decode(self, z: Tensor, levels: Tensor | None, first: int | Tensor, ends: Sequence[tuple[bool, int]]) -> Tensor:
        """Latents to audio.

        Args:
            z: ``[B, 512, K + 2 reach]``.
            levels: ``[B, 128, K + 2 reach]``: negative where uncertain, NaN where unknown. None: unknown everywhere.
            first: absolute latent frame of the first one kept, of all or ``[B]``.
            ends: of each row whether the kept part begins at its signal's first frame, and the frame kept after its
                last (0: that is not within the part).

        Returns:
            ``[B, 4096 K]``.
        """
        b, _, k = z.shape
        low = z[:, : 2 * LOW_BINS].transpose(1, 2)
        probes = z[:, 2 * LOW_BINS :].transpose(1, 2).reshape(b, k, BANDS, SLOTS)
        v = torch.full_like(probes, math.nan) if levels is None else levels.transpose(1, 2).reshape(b, k, BANDS, SLOTS)
        audio, high = self.decode_parts(low, probes, v, first - self.reach)
        start, count = self.reach * FRAME, (k - 2 * self.reach) * FRAME
        kept = audio[:, LOW_HOP // 2 + start : LOW_HOP // 2 + start + count].clone()
        half = torch.sin(
            math.pi * (torch.arange(LOW_HOP // 2, device=z.device) + 0.5 + LOW_HOP // 2) / (2 * LOW_HOP)
        ).square()
        for row, (begins, stop) in enumerate(ends):
            if begins:
                kept[row, : LOW_HOP // 2] /= half
            if stop:
                kept[row, stop * FRAME - LOW_HOP // 2 : stop * FRAME] /= half.flip(0)
        return kept + high[:, LEAD + start : LEAD + start + count]

    def encode(self, audio: Tensor, quality: str = "medium") -> tuple[Tensor, Tensor | None]:
        """Audio ``[B, 4096 K + 2 margin]`` to latents ``[B, 512, K]`` and levels ``[B, 128, K]`` (None: `exact`)."""
        low, probes, parts = self.analyse(audio)
        z = torch.cat([low, probes.flatten(2)], 2).transpose(1, 2)
        if quality == "exact":
            return z, None
        b, k = z.shape[0], z.shape[2]
        power = self.coarse(parts).view(b, k, SLOTS, BANDS)
        return z, power.sqrt().transpose(2, 3).reshape(b, k, -1).transpose(1, 2)
