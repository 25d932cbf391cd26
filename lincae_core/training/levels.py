"""The training step of the `frame` model: its network learns the energies of bands from rounded latents.

The encoder is fixed and linear, so the paper's tricks need no loss: the latents of mixtures are sums of latents. What
the network must learn is to read *rounded* latents, of signals as they are, and of sums and differences.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from lincae_core.models import LOW_GROUPS
from lincae_core.models.frame import BANDS, FRAME, SLOTS, FrameModel
from lincae_core.training.method import Step, per_item

FRAMES = 24  # latent frames in a crop
EDGE = 8  # slots at both ends of a crop that the loss leaves out
PLAIN, SUM, DIFFERENCE, EXACT = range(4)
SHARES = (0.4, 0.15, 0.3, 0.15)  # of the crops, in that order
UNHEARD = 1e-3  # of a mixture's energy: differences are not measured below it
LEAD = 384  # samples before the first STFT frame
SIDE = FRAME - 1024  # samples at both ends of what is above the low band that belong to no latent frame
FLOOR = 1e-6  # energies below that part of the mean energy of all bands are equal

Latents = tuple[Tensor, Tensor, Tensor]  # low, probes, levels


class LevelsStep(Step):
    """Distance of logarithms of energies, of signals, sums and differences; see `method.Step`."""

    crop_samples = FRAMES * FRAME + 2 * FrameModel.margin

    def draw(self, model: FrameModel, crops: Tensor, progress: float, generator: Generator) -> dict[str, Tensor]:
        """What becomes of each crop, and how its latents are rounded. See `method.Step.draw`."""
        n = len(crops)

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(n, *shape, generator=generator)

        first, ramp = uniform(-1.8, -0.2), uniform(0.0, 1.6)  # ln of the lowest group's step, and its growth
        where = torch.linspace(0, 1, LOW_GROUPS)
        probe = torch.tensor([8.0, 1.4, 0.9, 0.5])[torch.randint(4, (n,), generator=generator)]
        return {
            "kind": torch.multinomial(torch.tensor(SHARES), n, replacement=True, generator=generator),
            "gain": uniform(-1.6, 1.6).exp(),  # of the other signal, -14 to 14 dB
            "low_step": (first[:, None] + ramp[:, None] * where).exp(),
            "probe_step": probe,
            "nothing": torch.rand(n, generator=generator) < 0.1,  # of the differences: levels are unknown
            "grid": torch.tensor([1.0, 2.0, 3.0, 4.0])[torch.randint(4, (n,), generator=generator)],
            "paired": torch.rand(n, generator=generator) < torch.where(probe > 2, 0.5, 0.1),  # one level for two slots
        }

    def loss(self, model: FrameModel, crops: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean absolute error of ln energy, of bands' parts and of bands. See `method.Step.loss`."""
        with torch.autocast(crops.device.type, enabled=False), torch.no_grad():
            latents, rest, whole = self._heard(model, crops, draws)
            low, probes, levels = latents
            audio = model.bank.synthesise_low(low)
            features, start = model.read(low, model.low_stft(audio), probes, levels)
            cut = slice(SIDE - LEAD, rest.shape[1] - SIDE + LEAD)
            truth = model.measure(rest[:, cut])
            energy = truth.mean((1, 2), keepdim=True) * truth.shape[2] + audio.square().mean(1)[:, None, None]
            floor = FLOOR * energy + 1e-12
            difference = (draws["kind"] == DIFFERENCE)[:, None, None]
            floor = floor + UNHEARD * difference * model.measure(whole[:, cut])  # what rounding of the mixture hides
        change = model.network(features)
        with torch.autocast(crops.device.type, enabled=False):
            aim = model.corrected(start, change.float())
            keep = slice(2 * EDGE, -2 * EDGE)
            fine = ((aim + floor).log() - (truth + floor).log()).abs()[:, keep]
            total = model.coarse(aim + floor).log() - model.coarse(truth + floor).log()
            coarse = total.abs()[:, EDGE:-EDGE]
            decibels = 10 / math.log(10) * coarse.detach().mean((1, 2))
            figures = {}
            for kind, name in enumerate(("plain_db", "sum_db", "difference_db", "exact_db")):
                chosen = (draws["kind"] == kind).float()
                figures[name] = (decibels * chosen).sum() / chosen.sum().clamp_min(1)
            return fine.mean() + coarse.mean(), figures

    def _heard(self, model: FrameModel, x: Tensor, d: dict[str, Tensor]) -> tuple[Latents, Tensor, Tensor]:
        """Latents as a decoder would get them; above the low band: what they stand for, and the sum of both signals."""
        low, rest = model.split(x)
        probes = model.bank.analyse_probes(rest[:, SIDE - 256 : rest.shape[1] - SIDE + 256])
        signals = (low, probes, rest)
        others = [per_item(d["gain"], v) * v.roll(1, 0) for v in signals]
        kind = d["kind"]

        def of(which: int, v: Tensor) -> Tensor:
            return per_item(kind == which, v)

        # the first operand is the signal, or for differences the mixture
        first = [torch.where(of(DIFFERENCE, v), v + w, v) for v, w in zip(signals, others, strict=True)]
        a_low, a_probes, a_levels = self._rounded(model, first, d)
        b_low, b_probes, b_levels = self._rounded(model, others, d)
        sign = torch.where(kind == SUM, 1.0, torch.where(kind == DIFFERENCE, -1.0, 0.0))
        low = torch.where(of(EXACT, low), low, a_low + per_item(sign, b_low) * b_low)
        probes = torch.where(of(EXACT, probes), probes, a_probes + per_item(sign, b_probes) * b_probes)
        a_power, b_power = a_levels.square(), b_levels.square()
        levels = torch.where(of(SUM, a_power), a_power + b_power, a_power).sqrt()
        least = probes.abs() / 45  # files store no less beside a number
        uncertain = -torch.maximum((a_power - b_power).clamp_min(1e-20).sqrt(), least)
        levels = torch.where(of(DIFFERENCE, levels), uncertain, levels)
        unknown = of(EXACT, levels) | (of(DIFFERENCE, levels) & per_item(d["nothing"], levels))
        levels = levels.masked_fill(unknown, float("nan"))
        mixture = rest + others[2]
        return (low, probes, levels), torch.where(of(SUM, rest), mixture, rest), mixture

    @staticmethod
    def _rounded(model: FrameModel, signal: list[Tensor], d: dict[str, Tensor]) -> Latents:
        """Latents (low, probes, and what is above the low band) as files round them (formats/SPEC.md), and levels."""
        low, probes, rest = signal
        b, k, _ = low.shape
        power = model.coarse(model.measure(rest[:, SIDE - LEAD : rest.shape[1] - SIDE + LEAD]))
        power = power.view(b, k, SLOTS, BANDS)
        pairs = power.view(b, k, SLOTS // 2, 2, BANDS).mean(3).repeat_interleave(2, 2)
        level = torch.where(d["paired"].view(-1, 1, 1, 1), pairs, power).sqrt().transpose(2, 3)
        step = on_grid(d["probe_step"].view(-1, 1, 1, 1) * level, d["grid"].view(-1, 1, 1, 1))
        level = step / d["probe_step"].view(-1, 1, 1, 1)
        rounded_probes = (probes / step.clamp_min(1e-20)).round().clamp(-127, 127) * step
        groups = low.view(b, k, LOW_GROUPS, -1)
        rms = groups.square().mean(-1, keepdim=True).sqrt()
        rms = torch.maximum(rms, 10 ** (-45 / 20) * groups.square().mean((-2, -1), keepdim=True).sqrt())
        step = on_grid(d["low_step"][:, None, :, None] * rms, torch.full((1, 1, 1, 1), 4.0, device=low.device))
        rounded_low = ((groups / step.clamp_min(1e-20)).round().clamp(-127, 127) * step).view_as(low)
        return rounded_low, rounded_probes, level


def on_grid(step: Tensor, grid: Tensor) -> Tensor:
    """Steps ``2^(code / 4)`` with codes that are multiples of ``grid``; 0 stays 0."""
    code = (4 * torch.log2(step.clamp_min(1e-14)) / grid).round() * grid
    return torch.where(step > 1e-14, torch.exp2(code / 4), torch.zeros_like(step))
