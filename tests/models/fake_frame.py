"""A very small model with the interface of the `frame` family: an MDCT of low bands, and levels of two high ones."""

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lincae_formats.header import Group

SIZE = 4096
STEPS = {"low": 1.4, "medium": 0.7, "high": 0.2, "exact": 0.7}


@dataclass(frozen=True, kw_only=True)
class FakeConfig:
    latent_dim: int = 36
    latent_scale: float = 1.0

    def to_dict(self):
        return asdict(self)


class FakeFrameModel(nn.Module):
    sample_rate, samples_per_frame, margin, reach = 44100, SIZE, 2048, 3
    family = "frame"

    def __init__(self, config=None):
        super().__init__()
        self.config = config or FakeConfig()
        time = (torch.arange(2 * SIZE) + 0.5 + SIZE / 2) / SIZE
        window = torch.sin(math.pi * (torch.arange(2 * SIZE) + 0.5) / (2 * SIZE))
        basis = torch.cos(math.pi * (torch.arange(32)[:, None] + 0.5) * time) * window * math.sqrt(2 / SIZE)
        generator = torch.Generator().manual_seed(0)
        probes = torch.randn(4, 2 * SIZE, generator=generator) * window / math.sqrt(SIZE)
        self.register_buffer("basis", torch.cat([basis, probes]))

    def groups(self, quality):
        return (Group(4, 8, STEPS[quality], 1, False), Group(2, 2, 2 * STEPS[quality], 2, True))

    def encode(self, audio, quality):
        assert (audio.shape[1] - 2 * self.margin) % SIZE == 0
        blocks = audio.unfold(-1, 2 * SIZE, SIZE)
        z = (blocks @ self.basis.T).mT
        level = z[:, 32:].unflatten(1, (2, 2)).square().mean(2).sqrt()
        return z.contiguous(), None if quality == "exact" else level

    def decode(self, z, levels, first, ends):
        """The MDCT's synthesis, and a sine in every level band; what is unknown takes the size of its numbers."""
        own = z[:, 32:].unflatten(1, (2, 2)).square().mean(2).sqrt()
        levels = own if levels is None else torch.where(levels.isnan(), own, levels)
        smooth = F.avg_pool1d(levels, 5, 1, 2, count_include_pad=True)  # depends on frames 2 beyond, reach is 3
        blocks = (z[:, :32].mT @ self.basis[:32]).view(len(z), -1, 2, SIZE)
        middle = blocks[:, :, 0]  # with margin 2048 a block begins half a frame early
        summed = F.pad(middle, (0, 0, 0, 1)) + F.pad(blocks[:, :, 1], (0, 0, 1, 0))
        audio = summed.flatten(1)[:, SIZE // 2 : -SIZE // 2]
        tone = torch.sin(2 * math.pi * torch.tensor([2000.0, 5000.0])[:, None] * torch.arange(SIZE) / 44100)
        audio = audio + (smooth.mT @ tone).flatten(1)
        return audio[:, self.reach * SIZE : audio.shape[1] - self.reach * SIZE]


def fake_autoencoder():
    from lincae_core.models.codec import Autoencoder

    info = {"name": "fake", "version": "0", "fingerprint": "sha256:" + "f" * 64}
    return Autoencoder(FakeFrameModel(), info, torch.device("cpu"))


def noise(channels, n, seed=0):
    envelope = 0.2 * (1.1 + np.sin(np.arange(n) / 3000))
    return (np.random.default_rng(seed).standard_normal((channels, n)) * envelope).astype(np.float32)
