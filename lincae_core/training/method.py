"""The training step of Lin-CAE (arXiv 2510.23530, section 3): the two tricks and the consistency loss.

docs/method.md puts the paper's formulas beside the functions here.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor

from lincae_core.models.consistency import FRAME, HOP, LEAD, RATIO, ConsistencyModel, Preconditioning
from lincae_core.training.data import Clips
from lincae_core.training.recipe import Recipe

LOWEST = 0.05  # smallest noise index of a student: at index 0 the consistency function is the identity
GRID = 10_000  # noise levels that `draw_index` chooses among


class Step(ABC):
    """What one kind of model learns in a training step. `loop.step_for` chooses it by the model's family."""

    crop_samples: int  # length of the crops that `loss` gets

    @abstractmethod
    def draw(self, model: Any, crops: Tensor, progress: float, generator: Generator) -> dict[str, Tensor]:
        """Everything random of a step beside the crops ``[B, crop_samples]``, by a generator on the CPU.

        `progress` is the part of the training done, in [0, 1]. All draws depend on seed and step alone.
        """

    @abstractmethod
    def loss(self, model: Any, x: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean loss of a batch ``[B, crop_samples]``, and figures for metrics.csv. Pure: torch.compile may take it."""

    def measured(self, model: Any, clips: Clips) -> dict[str, Any]:
        """Fields of the model's config that are measured on the trained model."""
        del model, clips
        return {}

    def share(self, crops: Tensor, draws: dict[str, Tensor], rank: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The part of a batch for process `rank` of `count`, which divides B; the mean of their losses is the batch's.

        Takes the whole batch and what `draw` gave for it.
        """
        return crops.chunk(count)[rank], {k: v.chunk(count)[rank] for k, v in draws.items()}


class LinCaeStep(Step):
    """Consistency training with the two tricks, for models with an encoder, a latent-side decoder and a denoiser."""

    def __init__(self, recipe: Recipe) -> None:
        self.linearity, self.consistency, self.seed = recipe.linearity, recipe.consistency, recipe.seed
        self.crop_frames = recipe.data.crop_frames
        self.crop_samples = self.crop_frames * HOP + 2 * LEAD

    def loss(self, model: ConsistencyModel, x: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The training step of the paper.

        Args:
            model: its `encoder` is E; `decoder` and `denoise` (the consistency function) are D.
            x: crops ``[B, n]``.
            draws: what `draw` gave: mixing weights w ``[B]``, gains a ``[2 B]`` and so on.
        """
        stft, how, c = model.frontend.analyse, self.linearity, self.consistency
        w, a = draws["weights"], draws["gains"]
        if how.mixtures == "latent" and how.gains == "audio":  # trick 1 alone: crops are scaled before they are mixed
            x, a = per_item(a[: len(x)], x) * x, torch.ones_like(a)
        audio = self.mixed(x, draws)
        target = stft(per_item(a, audio) * audio)

        if how.mixtures == "latent":
            z = model.encoder(stft(x))
            z = torch.cat([z, mix(z, w)])  # trick 1, additivity: the latents of mixtures are mixtures of latents
        else:
            z = model.encoder(target if how.gains == "audio" else stft(audio))
        if how.gains == "latent":
            z = per_item(a, z) * z  # trick 2, homogeneity: the encoder never sees the gains

        batch = [target, z, draws["noise"], draws["student"], draws["teacher"]]
        if "own" in draws:
            batch = [t[draws["own"]] for t in batch]
        target, z, noise, student, teacher = batch
        return consistency_loss(model, target, model.decoder(z), noise, student, teacher, c.weighting), {}

    def mixed(self, x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        """The audio of a batch: crops ``[B, n]``, with `mixtures: latent` or `audio` followed by as many mixtures."""
        if self.linearity.mixtures == "none":
            return x
        mixtures = mix(x, draws["weights"])
        if self.linearity.mixtures == "replace":
            return torch.where(draws["replaced"][:, None], mixtures, x)
        return torch.cat([x, mixtures])

    def draw(self, model: ConsistencyModel, crops: Tensor, progress: float, generator: Generator) -> dict[str, Tensor]:
        """Mixing weights, gains, noise and noise levels of a step. See `Step.draw`."""
        how, c, p = self.linearity, self.consistency, model.preconditioning
        draws = {"weights": draw_weights(len(crops), generator)}
        if how.mixtures == "replace":
            draws["replaced"] = torch.rand(len(crops), generator=generator) < how.mixture_probability
        peaks = self.mixed(crops, {k: v.to(crops.device) for k, v in draws.items()}).abs().amax(1).cpu()
        draws["gains"] = torch.ones(len(peaks))
        if how.gains != "none":
            bounds = gain_range(progress, how.gain_low, how.gain_high, how.shrink_gains)
            draws["gains"] = draw_gains(peaks, bounds, how.gain_probability, generator)
        step = step_size(progress, c.step_exponent_start, c.step_exponent_end)
        levels = draw_sigma if c.draw == "sigma" else draw_index
        student, teacher = levels(len(peaks), p, c.log_sigma_mean, c.log_sigma_std, step, generator)
        shape = (len(peaks), self.crop_frames, FRAME)
        return {**draws, "student": student, "teacher": teacher, "noise": draw_noise(shape, crops.device, generator)}

    def share(self, crops: Tensor, draws: dict[str, Tensor], rank: int, count: int) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Step.share`. The crop before the first comes along to be mixed with it; `own` are the other items."""
        size, n = len(crops), len(crops) // count
        items = both = torch.arange(rank * n - 1, (rank + 1) * n) % size
        own = torch.arange(1, n + 1)
        if len(draws["gains"]) > size:  # with mixtures
            both, own = torch.cat([items, size + items]), torch.cat([own, n + 1 + own])
        per_crop = ("weights", "replaced")
        part = {k: v[(items if k in per_crop else both).to(v.device)] for k, v in draws.items()}
        return crops[items.to(crops.device)], {**part, "own": own}

    @torch.no_grad()
    def measured(self, model: ConsistencyModel, clips: Clips) -> dict[str, Any]:
        """`latent_scale`: one over the standard deviation of the latents of 64 crops, to 4 digits."""
        length = 24 if model.grid == 1 else 8  # latent frames
        crops = clips.crops(64, length * RATIO * HOP + 2 * LEAD, Generator().manual_seed(self.seed))
        power = [float(model.encoder(model.frontend.analyse(c)).square().mean()) for c in crops.split(8)]
        return {"latent_scale": float(f"{1 / max(math.sqrt(sum(power) / len(power)), 1e-6):.4g}")}


# Trick 1: mixtures.


def draw_weights(batch: int, generator: Generator) -> Tensor:
    """Mixing weights ``w ~ U(1/2, 1)``, ``[B]``."""
    return 0.5 + 0.5 * torch.rand(batch, generator=generator)


def mix(x: Tensor, w: Tensor) -> Tensor:
    """``w x + (1 - w) roll(x, 1)``: mixes audio or latents ``[B, ...]`` with their neighbours, w ``[B]``."""
    w = per_item(w, x)
    return (w * x + (1 - w) * x.roll(1, 0)).to(x.dtype)


def per_item(values: Tensor, x: Tensor) -> Tensor:
    """Values ``[B]`` shaped ``[B, 1, ...]`` to multiply ``x`` [B, ...]."""
    return values.to(x.device).view(-1, *[1] * (x.ndim - 1))


# Trick 2: gains.


def gain_range(progress: float, low: float, high: float, shrink: bool) -> tuple[float, float]:
    """Range of the gains at a point of the training in [0, 1].

    With ``shrink`` both ends move to 1 by a cosine between 20 % and 90 % of the training (the paper's `lin-cae`), else
    they stay (`lin-cae-2`).
    """
    if not shrink:
        return low, high
    t = min(max((progress - 0.2) / 0.7, 0.0), 1.0)
    keep = 0.5 * (1 + math.cos(math.pi * t))
    return 1 - (1 - low) * keep, 1 + (high - 1) * keep


def draw_gains(peaks: Tensor, bounds: tuple[float, float], probability: float, generator: Generator) -> Tensor:
    """Gains ``a``, ``[B]``: uniform in the range with a probability, else 1; below 0.05 they become 0.

    Each is limited so that the peak of the scaled audio stays <= 1; `peaks` ``[B]`` are those before.
    """
    low, high = bounds
    a = low + (high - low) * torch.rand(len(peaks), generator=generator)
    a = torch.where(torch.rand(len(peaks), generator=generator) < probability, a, torch.ones(()))
    a = torch.where(a < 0.05, torch.zeros(()), a)
    return torch.minimum(a, 1 / peaks.clamp_min(1e-6))


# Consistency training (arXiv 2303.01469, 2310.14189).


def consistency_loss(
    model: ConsistencyModel, target: Tensor, features: Any, noise: Tensor, student: Tensor, teacher: Tensor,
    weighting: str,
) -> Tensor:  # fmt: skip
    """Mean of ``weight * pseudo_huber(f(x + sigma_s n) - f(x + sigma_t n))``; the teacher gets no gradient.

    Args:
        model: student and teacher are the same weights.
        target: clean frames x ``[B, T, 2048]``.
        features: output of the latent-side decoder.
        noise: unit Gaussian n, like ``target``; the same for student and teacher.
        student: noise levels sigma_s ``[B]``.
        teacher: lower noise levels sigma_t ``[B]``.
        weighting: "step" for the paper's ``1 / (sigma_s - sigma_t)``; "relative" for that times ``sigma_s / c_out``,
            which gives every noise level about the same weight in the network's output.
    """
    with torch.no_grad():
        aim = model.denoise(target + teacher[:, None, None] * noise, teacher, features)
    out = model.denoise(target + student[:, None, None] * noise, student, features)
    weight = 1 / (student - teacher)
    if weighting == "relative":
        weight = weight * student / model.preconditioning.c_out(student)
    return (weight * pseudo_huber(out.float() - aim.float())).mean()


def pseudo_huber(difference: Tensor) -> Tensor:
    """``sqrt(||d||^2 + c^2) - c`` of every item, ``[B]``, with ``c = 0.00054 sqrt(dimensions)`` (2310.14189, eq. 7)."""
    flat = difference.flatten(1)
    c = 0.00054 * math.sqrt(flat.shape[1])
    return (flat.square().sum(1) + c * c).sqrt() - c


def step_size(progress: float, start: float, end: float) -> float:
    """Distance between student and teacher in noise index: ``0.1^e``, e from ``start`` to ``end``."""
    return 0.1 ** (start + (end - start) * progress)


def draw_sigma(
    batch: int, p: Preconditioning, mean: float, std: float, step: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels of student and teacher with a normal ln sigma, two tensors ``[B]``.

    The student's level is limited to the model's range; the teacher's index is lower by ``step``, at least 0. At index
    0 the consistency function is the identity, so a step of 1 is regression to the clean frames, and a shrinking step
    goes from regression to consistency (arXiv 2406.14548).
    """
    sigma = (mean + std * torch.randn(batch, generator=generator)).exp().clamp(p.sigma_min, p.sigma_max)
    return noise_levels(p.index(sigma).clamp_min(LOWEST), step, p)


def draw_index(
    batch: int, p: Preconditioning, mean: float, std: float, step: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Noise levels of student and teacher drawn on a grid of indices, with jitter, two tensors ``[B]``."""
    cell = torch.multinomial(index_weights(p, mean, std), batch, replacement=True, generator=generator)
    index = (cell + torch.rand(batch, generator=generator)) / (GRID - 1)
    return noise_levels(index.clamp_min(1e-4), step, p)  # at 0 student and teacher would be the same


def index_weights(p: Preconditioning, mean: float, std: float) -> Tensor:
    """Probability (unnormalised) of every noise level of a grid that is even in index, ``[GRID - 1]``.

    The density of a normal ln sigma, taken per unit of *index* (arXiv 2310.14189, section 3.5, as Music2Latent and
    Lin-CAE draw it), which puts more weight on the lowest levels than `draw_sigma` does.
    """
    log_sigma = p.sigma(torch.arange(GRID - 1, dtype=torch.float64) / (GRID - 1)).log()
    return (-0.5 * ((log_sigma - mean) / std) ** 2).exp() / (std * math.sqrt(2 * math.pi))


def noise_levels(student: Tensor, step: float, p: Preconditioning) -> tuple[Tensor, Tensor]:
    """Noise levels of students at the given indices and of teachers ``step`` below them, two tensors ``[B]``."""
    return p.sigma(student), p.sigma((student - step).clamp_min(0)).clamp_min(p.sigma_min)


def draw_noise(shape: tuple[int, ...], device: torch.device, generator: Generator) -> Tensor:
    """Unit Gaussian noise on a device; on a GPU it is drawn there, as the CPU would be too slow."""
    if device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = Generator(device).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=device)
