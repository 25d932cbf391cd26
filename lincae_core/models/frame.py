"""The `frame` model: a fixed linear filterbank encodes, a small network over bands decodes.

The encoder has no learned weights. Of a signal x it keeps, for every latent frame of 4096 samples,

- 384 numbers: the lowest 192 coefficients of two MDCT frames of 2048 (0 to 2067 Hz, the waveform);
- 128 probes: 16 bands above that times 8 slots of 512 samples. A probe is the sum of the band's MDCT coefficients
  (frames of 512) of ``x - low(x)`` with fixed random signs.

All of it is linear in x. Beside the latents a file may hold the *levels* of the bands (RMS per band and slot): they are
not linear, but powers of independent sources add up.

The decoder starts from the inverse MDCT and adds to each band a copy of the upper octave of the low band (spectral band
replication), shaped by energies that a network reads from probes, levels and the low band. It has no randomness of its
own, ``D(-z) = -D(z)`` and ``D(g z) = g D(z)``.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lincae_formats.header import Group

SAMPLE_RATE = 44100  # Hz
FRAME = 4096  # samples in a latent frame
LOW_HOP = 2048  # samples between MDCT frames of the low band
LOW_BINS = 192  # MDCT coefficients of the low band: up to 2067 Hz
SLOT = 512  # samples between probes of a band
SLOTS = FRAME // SLOT
BANDS = 16  # above the low band, equally wide in mel
TOP = 20000.0  # Hz, upper edge of the highest band
WINDOW, HOP = 1024, 256  # samples: the STFT in which bands are measured and made
STEPS = FRAME // HOP  # STFT frames in a latent frame
FINE = 3  # parts of a band whose energies the decoder estimates separately
LATENT_DIM = 2 * LOW_BINS + BANDS * SLOTS
EDGE_BIN = LOW_BINS * WINDOW // (2 * LOW_HOP)  # STFT bin at which the bands begin
LEAST = 1e-4  # of the mean energy: where levels are unknown, bands are first taken to be at least that
TINY = 1e-20


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


def mdct_basis(hop: int, bins: int) -> Tensor:
    """Orthonormal MDCT with a sine window: ``[2 hop, bins]`` (Princen and Bradley, 1986)."""
    n = torch.arange(2 * hop, dtype=torch.float64)[:, None]
    k = torch.arange(bins, dtype=torch.float64)
    window = torch.sin(math.pi * (n + 0.5) / (2 * hop))
    return (math.sqrt(2 / hop) * window * torch.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))).float()


# Steps of the integers at each quality: relative steps of the lowest and the highest runs of the low band's groups
# (the others lie between, by equal ratios), of the probes, and the grid of the levels in steps of 1.5 dB. Probes at a
# step of 8 are all rounded to 0: then the levels alone tell of the bands.
LOW_GROUPS, LOW_RUNS = 12, 4
QUALITIES = {
    "low": (0.6, 1.8, 8.0, 4),
    "medium": (0.27, 0.9, 2.0, 2),
    "high": (0.12, 0.4, 0.7, 1),
    "exact": (0.12, 0.4, 0.7, 1),  # float32: the steps are those of results that are stored as integers
}


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


class Filterbank(nn.Module):
    """The linear encoder and its synthesis; no learned weights."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", mdct_basis(LOW_HOP, LOW_BINS), persistent=False)
        edges = band_edges(BANDS)
        signs = torch.zeros(SLOT, BANDS)
        state = 1
        for band in range(BANDS):
            for i in range(edges[band], edges[band + 1]):
                state = (1103515245 * state + 12345) % 2**31  # a fixed sequence, the same with every library
                signs[i, band] = 1.0 if state & 2**20 else -1.0
        self.register_buffer("probe", mdct_basis(SLOT, SLOT) @ signs, persistent=False)
        window = torch.hann_window(WINDOW, dtype=torch.float64).sqrt()
        self.register_buffer("window", (window / math.sqrt(WINDOW / 2)).float(), persistent=False)

    low: Tensor
    probe: Tensor
    window: Tensor

    def analyse_low(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 4096 K + 2048]``, from 1024 samples before, to MDCT numbers ``[B, K, 384]`` (bin, time)."""
        x = audio.unfold(-1, 2 * LOW_HOP, LOW_HOP) @ self.low
        b, n, _ = x.shape
        return x.view(b, n // 2, 2, LOW_BINS).transpose(2, 3).reshape(b, n // 2, 2 * LOW_BINS)

    def synthesise_low(self, z: Tensor) -> Tensor:
        """MDCT numbers ``[B, K, 384]`` to audio ``[B, 4096 K + 2048]``, from 1024 samples before."""
        b, k, _ = z.shape
        x = z.view(b, k, LOW_BINS, 2).transpose(2, 3).reshape(b, 2 * k, LOW_BINS) @ self.low.T
        first, second = x.chunk(2, -1)
        return F.pad(first.reshape(b, -1), (0, LOW_HOP)) + F.pad(second.reshape(b, -1), (LOW_HOP, 0))

    def analyse_probes(self, rest: Tensor) -> Tensor:
        """What the low band leaves out ``[B, 4096 K + 512]``, from 256 samples before, to probes ``[B, K, 16, 8]``."""
        p = rest.unfold(-1, 2 * SLOT, SLOT) @ self.probe
        return p.view(len(p), -1, SLOTS, BANDS).transpose(2, 3)

    def stft(self, audio: Tensor) -> Tensor:
        """Audio ``[B, 256 T + 768]``, from 384 samples before, to its STFT ``[B, T, 513]``, unitary for white noise."""
        return torch.fft.rfft(audio.unfold(-1, WINDOW, HOP) * self.window)

    def istft(self, x: Tensor) -> Tensor:
        """STFT ``[B, T, 513]`` to audio ``[B, 256 T + 768]``, from 384 samples before."""
        frames = torch.fft.irfft(x, n=WINDOW) * self.window  # sum of squared windows: 2 / 512 * 512 = 2
        b, t, _ = frames.shape
        out = F.fold(frames.transpose(1, 2), (1, HOP * t + WINDOW - HOP), (1, WINDOW), stride=(1, HOP))
        return out.view(b, -1) * (WINDOW / 2 / 2)


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
        h = self.norm(self.conv(x.transpose(1, 2)).transpose(1, 2))
        return x + self.down(F.gelu(self.up(h), approximate="tanh"))


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


def _power(x: Tensor) -> Tensor:
    """Squared magnitude of complex numbers; on a CPU three times as fast as by `abs`."""
    parts = torch.view_as_real(x).square()
    return parts[..., 0] + parts[..., 1]


def _ln(power: Tensor, reference: Tensor) -> Tensor:
    """ln of a power over the reference, not below -80 dB."""
    return torch.log(power / reference + 1e-8)


class FrameModel(nn.Module):
    """See the module's text.

    Shapes: audio ``[B, n]``; latents ``[B, 512, K]``; levels ``[B, 128, K]`` (by band, then slot).
    """

    sample_rate = SAMPLE_RATE
    samples_per_frame = FRAME
    margin = FRAME + LOW_HOP // 2  # samples of context beside the audio to encode
    reach = 7  # latent frames of context beside those to decode

    def __init__(self, config: FrameConfig) -> None:
        super().__init__()
        self.config = config
        self.bank = Filterbank()
        self.network = Network(config)
        edges, fine = band_edges(BANDS), fine_edges()
        self.edges, self.fine = edges, fine
        widths = torch.tensor([b - a for a, b in pairwise(fine)])
        part_of = torch.tensor([i for i, (a, b) in enumerate(pairwise(fine)) for _ in range(b - a)])
        self.register_buffer("part_of", part_of, persistent=False)
        self.register_buffer("widths", widths.float(), persistent=False)
        membership = (part_of[:, None] == torch.arange(BANDS * FINE)).float()
        self.register_buffer("membership", membership, persistent=False)
        generator = torch.Generator().manual_seed(1)
        phase = torch.rand(64 * STEPS, fine[-1] - EDGE_BIN, generator=generator) * (2 * math.pi)
        self.register_buffer("noise", torch.polar(torch.ones_like(phase), phase), persistent=False)

    part_of: Tensor
    widths: Tensor
    membership: Tensor
    noise: Tensor

    @staticmethod
    def groups(quality: str) -> tuple[Group, ...]:
        """How latents are rounded to integers at a quality, see formats/SPEC.md."""
        first, last, probes, grid = QUALITIES[quality]
        steps = [round(first * (last / first) ** (i / (LOW_RUNS - 1)), 3) for i in range(LOW_RUNS)]
        low = [Group(LOW_GROUPS // LOW_RUNS, 2 * LOW_BINS // LOW_GROUPS, step, 4) for step in steps]
        return (*low, Group(BANDS * SLOTS, 1, probes, grid, level=True, slots=SLOTS))

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
        power = _power(self.bank.stft(rest)[..., EDGE_BIN : self.fine[-1]])
        return self.parts(power)

    def parts(self, power: Tensor) -> Tensor:
        """Sums powers of bins ``[..., bins]`` over the bands' parts ``[..., 48]``."""
        return power @ self.membership

    def coarse(self, parts: Tensor) -> Tensor:
        """Energies ``[B, T, 48]`` of STFT frames to those of bands and slots ``[B, T / 2, 16]``."""
        b, t, _ = parts.shape
        return parts.view(b, t // 2, 2, BANDS, FINE).sum(-1).mean(2)

    def analyse(self, audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Audio ``[B, 4096 K + 2 margin]`` to low ``[B, K, 384]``, probes ``[B, K, 16, 8]`` and `measure`'s parts."""
        low, rest = self.split(audio)
        side = FRAME - LOW_HOP // 2
        probes = self.bank.analyse_probes(rest[:, side - SLOT // 2 : rest.shape[1] - side + SLOT // 2])
        lead = WINDOW // 2 - HOP // 2
        return low, probes, self.measure(rest[:, side - lead : rest.shape[1] - side + lead])

    def read(self, low: Tensor, audio: Tensor, probes: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
        """What the network reads, and a first estimate of the energies of the bands' parts.

        Args:
            low: ``[B, K, 384]``.
            audio: the low band's audio, ``[B, 4096 K + 768]``, from 384 samples before.
            probes: ``[B, K, 16, 8]``.
            levels: ``[B, K, 16, 8]``; negative where they are uncertain (of a difference), NaN where unknown.

        Returns:
            ``[B, 8 K, FEATURES]`` and ``[B, 8 K, 1, 48]``.
        """
        b, k, _ = low.shape
        t = k * SLOTS
        power = _power(self.bank.stft(audio)[..., :EDGE_BIN])
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

    def energies(self, low: Tensor, audio: Tensor, probes: Tensor, levels: Tensor) -> Tensor:
        """Energies of the bands' parts that the decoder aims at, ``[B, 16 K, 48]``; arguments as of `read`."""
        features, start = self.read(low, audio, probes, levels)
        return self.corrected(start, self.network(features))

    @staticmethod
    def corrected(start: Tensor, change: Tensor) -> Tensor:
        """First estimates ``[B, T, 1, 48]`` with the network's corrections ``[B, T, 2, 48]``: ``[B, 2 T, 48]``."""
        return (start * change.clamp(-12, 12).exp()).flatten(1, 2)

    def carrier(self, x: Tensor, first: int) -> Tensor:
        """The bands' content before it is shaped: about 1 in every bin.

        Args:
            x: STFT of the low band ``[B, T, 513]``.
            first: absolute STFT frame of the first.

        Returns:
            ``[B, T, bins]``: the upper octave of the low band, whitened, repeated upwards. Copies are moved by
            multiples of 4 bins, so that a steady tone stays one (``2 pi 4 HOP / WINDOW`` is a whole turn). Where the
            octave is empty, fixed noise whose sign follows the low band's.
        """
        count = self.fine[-1] - EDGE_BIN
        source = x[..., EDGE_BIN // 2 : EDGE_BIN]
        power = _power(source)
        smooth = F.avg_pool1d(F.pad(power, (2, 2)), 5, 1) * 1.0
        overall = _power(x[..., :EDGE_BIN]).mean(-1, keepdim=True)
        smooth = smooth + 1e-7 * overall + TINY
        whitened = source / smooth.sqrt()
        missing = (1 - power / smooth).clamp_min(0)
        missing = F.avg_pool1d(missing, 5, 1, 2)
        repeats = -(-count // source.shape[-1])
        copies = whitened.repeat(1, 1, repeats)[..., :count]
        empty = (missing.repeat(1, 1, repeats)[..., :count] > 0.9).float()
        strongest = x.real.gather(-1, x.real.abs().argmax(-1, keepdim=True))
        sign = torch.where(strongest < 0, -1.0, 1.0)
        at = (torch.arange(x.shape[1], device=x.device) + first) % len(self.noise)
        return copies + empty * sign * self.noise[at][None, :, :count]

    def decode_parts(self, low: Tensor, probes: Tensor, levels: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
        """Low band's audio ``[B, 4096 K + 2048]``, the bands' STFT ``[B, 16 K, 513]`` and the energies aimed at."""
        audio = self.bank.synthesise_low(low)
        lead = WINDOW // 2 - HOP // 2
        cut = audio[:, LOW_HOP // 2 - lead : audio.shape[1] - LOW_HOP // 2 + lead]
        aim = self.energies(low, cut, probes, levels)
        carrier = self.carrier(self.bank.stft(cut), first * STEPS)
        gains = (aim / self.widths).sqrt()[..., self.part_of]  # per bin
        shaped = carrier * gains
        have, want = self.coarse(self.parts(_power(shaped))), self.coarse(aim)
        scale = (want / (have + 1e-4 * want + TINY)).sqrt()  # every band and slot has the energy aimed at
        scale = scale.repeat_interleave(2, 1)
        parts_of_band = self.part_of // FINE
        bins = F.pad(shaped * scale[..., parts_of_band], (EDGE_BIN, WINDOW // 2 + 1 - self.fine[-1]))
        return audio, bins, aim

    def decode(
        self, z: Tensor, levels: Tensor | None, first: int = 0, ends: tuple[bool, bool] = (False, False)
    ) -> Tensor:
        """Latents to audio.

        Args:
            z: ``[B, 512, K + 2 reach]``.
            levels: ``[B, 128, K + 2 reach]``: negative where uncertain, NaN where unknown. None: unknown everywhere.
            first: absolute latent frame of the first one kept.
            ends: whether the kept part begins at the signal's first frame, and ends at its last.

        Returns:
            ``[B, 4096 K]``.
        """
        b, _, k = z.shape
        low = z[:, : 2 * LOW_BINS].transpose(1, 2)
        probes = z[:, 2 * LOW_BINS :].transpose(1, 2).reshape(b, k, BANDS, SLOTS)
        v = torch.full_like(probes, math.nan) if levels is None else levels.transpose(1, 2).reshape(b, k, BANDS, SLOTS)
        audio, bins, _ = self.decode_parts(low, probes, v, first - self.reach)
        start, count = self.reach * FRAME, (k - 2 * self.reach) * FRAME
        kept = audio[:, LOW_HOP // 2 + start : LOW_HOP // 2 + start + count].clone()
        half = torch.sin(
            math.pi * (torch.arange(LOW_HOP // 2, device=z.device) + 0.5 + LOW_HOP // 2) / (2 * LOW_HOP)
        ).square()
        if ends[0]:
            kept[:, : LOW_HOP // 2] /= half
        if ends[1]:
            kept[:, -LOW_HOP // 2 :] /= half.flip(0)
        high = self.bank.istft(bins)
        lead = WINDOW // 2 - HOP // 2
        return kept + high[:, lead + start : lead + start + count]

    def encode(self, audio: Tensor, quality: str = "medium") -> tuple[Tensor, Tensor | None]:
        """Audio ``[B, 4096 K + 2 margin]`` to latents ``[B, 512, K]`` and levels ``[B, 128, K]`` (None: `exact`)."""
        low, probes, parts = self.analyse(audio)
        z = torch.cat([low, probes.flatten(2)], 2).transpose(1, 2)
        if quality == "exact":
            return z, None
        b, k = z.shape[0], z.shape[2]
        power = self.coarse(parts).view(b, k, SLOTS, BANDS)
        return z, power.sqrt().transpose(2, 3).reshape(b, k, -1).transpose(1, 2)
