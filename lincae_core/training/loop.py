"""The training loop: one step by the paper's method, over and over, until the budget is spent."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Generator, Tensor

from lincae_core.models.families import Model, build
from lincae_core.models.frame64 import FRAME, RATIO
from lincae_core.models.frontend import HOP, LEAD
from lincae_core.models.unet import WINDOW
from lincae_core.models.weights import save_weights
from lincae_core.training import linearity
from lincae_core.training.augment import equalise
from lincae_core.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from lincae_core.training.consistency import Select, consistency_loss, draw_indices, draw_levels
from lincae_core.training.csvlog import append_row
from lincae_core.training.data import Clips
from lincae_core.training.decoded import DecodedLoss
from lincae_core.training.optimiser import make_optimiser, set_learning_rate
from lincae_core.training.recipe import Recipe, parse_duration
from lincae_core.training.schedules import ema_decay, learning_rate, step_size

log = logging.getLogger("lincae")


class Trainer:
    """Holds a training's state; `run` takes it to the end of its budget.

    Args:
        recipe: what to train.
        clips: the audio.
        out: folder for checkpoint, metrics and export.
        device: where to train.
    """

    def __init__(self, recipe: Recipe, clips: Clips, out: Path, device: torch.device) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.model.to_dict())
        self.model.to(device)
        self.decoded = DecodedLoss(recipe.decoded).to(device)
        self.clips = clips.to(device) if device.type == "cuda" else clips
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimiser = make_optimiser(self.model, recipe.optimiser)
        self.progress = Progress()
        self.consistent = True  # False while a step changes weights: an interrupted one must not be saved
        half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
        compiled = recipe.compile == "on" or (recipe.compile == "auto" and device.type == "cuda")
        self.loss: Callable[..., Tensor] = torch.compile(self._loss) if compiled else self._loss

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.out / "checkpoint.safetensors"

    @property
    def done(self) -> float:
        """Progress in [0, 1]."""
        budget = self.recipe.budget
        if budget.seconds is not None:
            return min(self.progress.elapsed / budget.seconds, 1.0)
        return min(self.progress.step / (budget.steps or 1), 1.0)

    @property
    def batch(self) -> int:
        """Crops in a step, before mixing doubles them."""
        data = self.recipe.data
        return data.batch if self.device.type == "cpu" or data.batch_gpu is None else data.batch_gpu

    def save(self) -> None:
        """Writes the checkpoint."""
        save_checkpoint(self.checkpoint, self.model, self.ema, self.optimiser, self.progress, self._recipe_text())

    def resume(self) -> None:
        """Restores the checkpoint."""
        self.progress = load_checkpoint(self.checkpoint, self.model, self.ema, self.optimiser, self._recipe_text())

    def _recipe_text(self) -> str:
        return self.recipe.model_dump_json(exclude={"report"})

    def step(self) -> tuple[float, float]:
        """One optimiser step; returns the loss and the gradients' norm."""
        r, done = self.recipe, self.done
        # every draw depends on the seed and the step alone, so a resumed training repeats an unbroken one
        generator = Generator().manual_seed(r.seed * 1_000_003 + self.progress.step)
        frames = r.data.crop_frames
        x = self.clips.crops(self.batch, frames * HOP + 2 * LEAD, generator, r.augment.speed)
        x = equalise(x, r.augment.equalise, r.augment.low_pass, generator)
        weights = linearity.draw_mixing_weights(len(x), generator, r.linearity.sources)
        if r.linearity.mixtures == "replace":
            x = linearity.replace_by_mixtures(x, weights, r.linearity.mixture_probability, generator)
        elif r.linearity.mixtures != "none":
            x = torch.cat([x, linearity.mix_neighbours(x, weights)])
        gains = torch.ones(len(x))
        if r.linearity.gains != "none":
            bounds = linearity.gain_range(done, r.linearity.gain_low, r.linearity.gain_high, r.linearity.shrink_gains)
            gains = linearity.draw_gains(x.abs().amax(1), bounds, r.linearity.gain_probability, generator)
        c = r.consistency
        size = step_size(done, c.step_exponent_start, c.step_exponent_end)
        draw = draw_levels if c.draw == "sigma" else draw_indices
        count = round(c.share * len(x))
        chosen = torch.arange(len(x)) if count == len(x) else torch.randperm(len(x), generator=generator)[:count]
        student, teacher = draw(count, self.model.preconditioning, c.log_sigma_mean, c.log_sigma_std, size, generator)
        noise = self._noise(len(x), frames, generator)
        rate = learning_rate(done, r.optimiser.learning_rate, r.optimiser.final_learning_rate, r.optimiser.warmup)
        set_learning_rate(self.optimiser, rate)
        self.optimiser.zero_grad(set_to_none=True)
        moved = [t.to(self.device, non_blocking=True) for t in (weights, gains, noise, chosen, student, teacher)]
        loss = self._backward(x, *moved)
        self.consistent = False
        norm = self._clip()
        self.optimiser.step()
        self.progress.step += 1
        self._average()
        self.consistent = True
        return float(loss.detach()), norm

    def _backward(self, *batch: Tensor) -> Tensor:
        """The loss of a batch, whose gradients it leaves; where torch cannot compile it, it is computed as is."""
        if self.loss != self._loss:
            from torch._dynamo.exc import TorchDynamoException

            try:
                loss = self.loss(*batch)
                loss.backward()  # compiled when it is first needed, so it can fail there
                return loss
            except TorchDynamoException as e:
                reason = str(e).strip().partition("\n")[0][:200]
                log.warning("torch.compile failed, training goes on without it: %s", reason)
                self.loss = self._loss
                self.optimiser.zero_grad(set_to_none=True)
        loss = self.loss(*batch)
        loss.backward()
        return loss

    def _noise(self, count: int, frames: int, generator: Generator) -> Tensor:
        """Unit Gaussian ``[count, frames, 2048]``, drawn where it is needed: a CPU would keep a GPU waiting."""
        if self.device.type != "cpu":
            seed = int(torch.randint(2**62, (), generator=generator))
            generator = Generator(self.device).manual_seed(seed)
        return torch.randn(count, frames, FRAME, generator=generator, device=self.device)

    def _loss(
        self, x: Tensor, weights: Tensor, gains: Tensor, noise: Tensor, chosen: Tensor, student: Tensor, teacher: Tensor
    ) -> Tensor:
        """Training step of the paper (arXiv 2510.23530, section 3) up to the loss.

        Args:
            x: crops, then (with mixtures) as many mixtures of neighbours, ``[B, n]``.
            weights: mixing weights of the crops ``[b, sources]``.
            gains: gain of every item ``[B]``.
            noise: unit Gaussian ``[B, T, 2048]``.
            chosen: the items that learn consistency ``[S]``.
            student: their noise levels ``[S]``.
            teacher: their noise levels ``[S]``.
        """
        model, how, c = self.model, self.recipe.linearity, self.recipe.consistency
        parts = x
        if split := self._differences:  # of these crops the target is their share of a mixture
            parts = torch.cat([weights[:split, :1] * x[:split], x[split:]])
        truth = gains[:, None] * parts
        target = model.frontend.analyse(truth)
        # the encoder never sees a gain that acts on the latents
        source = target if how.gains == "audio" else model.frontend.analyse(self._heard(x, weights))
        with self.autocast:
            z, disagreement = model.encoder(source), target.new_zeros(())
            if how.mixtures == "latent":
                z, disagreement = self._mixtures(z, weights)
            if how.gains == "latent":
                z = gains[:, None, None] * z
            features = model.decoder(z)
            loss = how.agreement * disagreement
            if self.decoded.wanted:
                loss = loss + self.decoded(model, features, noise, truth, target)
            if c.weight and len(chosen):
                part = Select(chosen, len(x))
                consistency = consistency_loss(
                    model, part(target), part(features), part(noise), student, teacher, c.weighting
                )
                loss = loss + c.weight * consistency
            return loss

    @property
    def _differences(self) -> int:
        """Crops in a step whose latents are a mixture's less those of its other sources."""
        return round(self.recipe.linearity.differences * self.batch)

    def _heard(self, x: Tensor, weights: Tensor) -> Tensor:
        """What the encoder hears of the crops and their mixtures ``[B, n]``: of the mixtures those to subtract from.

        A model that is equivariant by construction meets those at the loudness it meets everything at.
        """
        if self.recipe.linearity.mixtures != "latent":
            return x
        mixed = x[len(weights) : len(weights) + self._differences]
        return torch.cat([x[: len(weights)], mixed / self._loudness(weights)[:, None]])

    def _loudness(self, weights: Tensor) -> Tensor:
        """Expected RMS of the mixtures to subtract from against that of the crops, ``[D]``; 1 if it does not matter."""
        if not self.model.config.gain_equivariant:
            return torch.ones_like(weights[: self._differences, 0])
        return weights[: self._differences].square().sum(1).sqrt()

    def _mixtures(self, z: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of everything in a batch ``[B, K, C]`` from those of what the encoder heard, and its disagreement.

        Those of the mixtures are the mixtures of the latents; those of the first crops may be differences. The
        disagreement is the mean squared relative error of the encoder's own latents of mixtures; 0 if it heard none.
        """
        crops, mixed = z.split([len(weights), len(z) - len(weights)])
        joined = linearity.mix_neighbours(crops, weights)
        if not len(mixed):
            return torch.cat([crops, joined]), z.new_zeros(())
        mixed = self._loudness(weights)[:, None, None] * mixed
        error = (mixed - joined[: len(mixed)]).float().square().mean((1, 2))
        power = joined[: len(mixed)].detach().float().square().mean((1, 2))
        left = linearity.without_neighbours(mixed, crops, weights)
        return torch.cat([left, crops[len(mixed) :], joined]), (error / (power + 1e-6)).mean()

    def _clip(self) -> float:
        """Scales gradients down where their norm exceeds `clip_norm` times its running mean; returns the norm."""
        factor = self.recipe.optimiser.clip_norm
        limit = float("inf")
        if factor is not None and self.progress.step >= 20:
            limit = factor * max(self.progress.gradient_norm, 1e-6)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if norm == norm and norm != float("inf"):
            mean = self.progress.gradient_norm
            self.progress.gradient_norm = norm if mean == 0 else 0.98 * mean + 0.02 * min(norm, 3 * mean)
        return norm

    def _average(self) -> None:
        decay = ema_decay(self.progress.step, self.recipe.optimiser.ema)
        state = self.model.state_dict()
        torch._foreach_lerp_(list(self.ema.values()), [state[k] for k in self.ema], 1 - decay)

    def averaged(self) -> Model:
        """A model with the moving average's weights, on the CPU or the training device, in evaluation mode."""
        model = build(self.model.config.to_dict()).to(self.device)
        model.load_state_dict(self.ema)
        return model.eval()

    def export(self) -> Path:
        """Writes the averaged weights as `<name>.safetensors`, with the latents' measured scale; returns the file."""
        config = {**self.model.config.to_dict(), "latent_scale": self._latent_scale()}
        r = self.recipe
        path = self.out / f"{r.name}.safetensors"
        save_weights(self.ema, config, path, name=r.name, version=r.version, license=r.license)
        return path

    @torch.no_grad()
    def _latent_scale(self) -> float:
        """One over the latents' deviation on 64 crops from the training audio, 4 digits."""
        length = 24 if self.model.grid == 1 else WINDOW  # latent frames
        crops = self.clips.crops(64, length * RATIO * HOP + 2 * LEAD, Generator().manual_seed(self.recipe.seed))
        model = self.averaged()
        power = [float(model.encoder(model.frontend.analyse(c)).square().mean()) for c in crops.split(8)]
        return float(f"{1 / max(math.sqrt(sum(power) / len(power)), 1e-6):.4g}")

    def run(
        self, validate: Callable[[Trainer], None] | None = None,
        report: Callable[[Trainer, dict[str, float]], None] | None = None,
    ) -> Path:  # fmt: skip
        """Trains until the budget is spent, then exports.

        Args:
            validate: called `report.validate_times` times over the training and at its end; gives figures.
            report: called about once a second with the latest figures.

        Returns:
            The exported weights.
        """
        every = parse_duration(self.recipe.report.checkpoint_every)
        times = self.recipe.report.validate_times
        saved = reported = time.monotonic()
        loss_sum, norm, count = 0.0, 0.0, 0
        last = time.monotonic()
        seconds_per_step = self.batch * self.recipe.data.crop_frames * HOP / 44100
        while self.done < 1:
            loss, norm = self.step()
            if loss != loss:
                raise FloatingPointError("the loss is not a number")
            now = time.monotonic()
            self.progress.elapsed += now - last
            last = now
            loss_sum, count = loss_sum + loss, count + 1
            if now - reported >= 1 or self.done >= 1:
                figures = {
                    "step": self.progress.step, "elapsed_s": round(self.progress.elapsed, 2),
                    "progress": round(self.done, 5), "loss": loss_sum / count, "gradient_norm": norm,
                    "learning_rate": self.optimiser.param_groups[0]["lr"],
                    "audio_s_per_s": round(count * seconds_per_step / max(now - reported, 1e-9), 2),
                }  # fmt: skip
                append_row(self.out / "metrics.csv", figures)
                if report:
                    report(self, figures)
                reported, loss_sum, count = now, 0.0, 0
            if now - saved >= every:
                self.save()
                saved = last = time.monotonic()
            if validate and times and self.done < 1 and self.done * times >= self.progress.validations + 1:
                self.progress.validations += 1
                validate(self)
                reported = last = time.monotonic()
        self.save()
        path = self.export()
        if validate:
            validate(self)
        return path
