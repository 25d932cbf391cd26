"""The training loop: optimiser, moving average of the weights, budget, metrics, checkpoints."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor, nn

from lincae_core.models.store import build, save_weights
from lincae_core.training.data import RATE, Clips, equalise
from lincae_core.training.levels import LevelsStep
from lincae_core.training.method import LinCaeStep, Step
from lincae_core.training.processes import Processes
from lincae_core.training.recipe import OptimiserSection, Recipe, parse_duration
from lincae_formats.errors import LincaeError
from lincae_formats.files import atomic_path

log = logging.getLogger("lincae")


@dataclass
class State:
    """Where a training stands.

    Args:
        step: steps done.
        elapsed: time spent on steps, over all runs, s.
        validations: validations done before the end.
        gradient_norm: running mean of the norm of the gradients.
    """

    step: int = 0
    elapsed: float = 0.0
    validations: int = 0
    gradient_norm: float = 0.0


def step_for(recipe: Recipe) -> Step:
    """The training step for a recipe's family of models."""
    return LevelsStep() if recipe.model.family == "frame" else LinCaeStep(recipe)


class Loss(nn.Module):
    """A step's loss as a module, which is what DistributedDataParallel and torch.compile take."""

    def __init__(self, step: Step, model: nn.Module) -> None:
        super().__init__()
        self.step, self.model = step, model

    def forward(self, crops: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """See `method.Step.loss`."""
        return self.step.loss(self.model, crops, draws)


class Trainer:
    """The state of a training; `run` takes it to the end of its budget.

    Args:
        recipe: what to train.
        clips: the audio.
        out: folder for checkpoint, metrics and exported weights.
        processes: this process, alone or among several.
    """

    def __init__(self, recipe: Recipe, clips: Clips, out: Path, processes: Processes) -> None:
        self.recipe, self.out, self.processes, self.device = recipe, out, processes, processes.device
        device = processes.device
        if self.batch % processes.count:
            raise LincaeError(
                f"a batch of {self.batch} cannot be shared by {processes.count} processes",
                f"use a multiple: --set data.batch={-(-self.batch // processes.count) * processes.count}",
            )
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.model.to_dict())
        self.how = step_for(recipe)
        if not self.checkpoint.exists():
            self.how.begin(self.model, clips)
        self.model.to(device)
        self.clips = clips.to(device) if device.type == "cuda" else clips
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimiser = make_optimiser(self.model, recipe.optimiser)
        self.state = State()
        self.consistent = True  # False while a step changes weights: then an interrupted training must not be saved
        half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
        self.uncompiled = processes.wrapped(Loss(self.how, self.model))
        compiled = recipe.compile == "on" or (recipe.compile == "auto" and device.type == "cuda")
        self.loss: Callable[..., Any] = torch.compile(self.uncompiled) if compiled else self.uncompiled

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.out / "checkpoint.safetensors"

    @property
    def done(self) -> float:
        """Progress in [0, 1], by time or by steps."""
        budget = self.recipe.budget
        if budget.seconds is not None:
            return min(self.state.elapsed / budget.seconds, 1.0)
        return min(self.state.step / (budget.steps or 1), 1.0)

    @property
    def batch(self) -> int:
        """Crops in a step, before the mixtures are added."""
        data = self.recipe.data
        return data.batch if self.device.type == "cpu" or data.batch_gpu is None else data.batch_gpu

    def step(self) -> dict[str, float]:
        """One step of the optimiser; returns loss, gradient norm and the figures of `method.Step.loss`."""
        recipe, done = self.recipe, self.done
        # every draw depends on seed and step alone, so a resumed training repeats an unbroken one
        generator = Generator().manual_seed(recipe.seed * 1_000_003 + self.state.step)
        crops = self.clips.crops(self.batch, self.how.crop_samples, generator, recipe.augment.speed)
        crops = equalise(crops, recipe.augment.equalise, recipe.augment.low_pass, generator)
        draws = self.how.draw(self.model, crops, done, generator)
        if self.processes.count > 1:
            crops, draws = self.how.share(crops, draws, self.processes.rank, self.processes.count)
        draws = {k: v.to(self.device, non_blocking=True) for k, v in draws.items()}

        rates = recipe.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(done, rates.learning_rate, rates.final_learning_rate, rates.warmup)
        self.optimiser.zero_grad(set_to_none=True)
        loss, figures = self._backward(crops, draws)
        self.consistent = False
        norm = self._clip()
        self.optimiser.step()
        self.state.step += 1
        self._average()
        self.consistent = True
        return {"loss": float(loss.detach()), "gradient_norm": norm, **{k: float(v) for k, v in figures.items()}}

    def _backward(self, crops: Tensor, draws: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch; leaves its gradients. Goes on uncompiled where torch.compile fails."""
        from torch._dynamo.exc import TorchDynamoException

        while True:
            try:
                with self.autocast:
                    loss, figures = self.loss(crops, draws)
                loss.backward()  # compiled when first needed, so it can fail here, too
                return loss, figures
            except TorchDynamoException as e:
                if self.loss is self.uncompiled:
                    raise
                reason = str(e).strip().partition("\n")[0][:200]
                log.warning("torch.compile failed, training goes on without it: %s", reason)
                self.loss = self.uncompiled
                self.optimiser.zero_grad(set_to_none=True)

    def _clip(self) -> float:
        """Limits the gradients' norm to `clip_norm` times its running mean; returns the norm before."""
        factor, state = self.recipe.optimiser.clip_norm, self.state
        limit = math.inf
        if factor is not None and state.step >= 20:
            limit = factor * max(state.gradient_norm, 1e-6)
        norm = float(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        if math.isfinite(norm):
            mean = state.gradient_norm
            state.gradient_norm = norm if mean == 0 else 0.98 * mean + 0.02 * min(norm, 3 * mean)
        return norm

    def _average(self) -> None:
        decay = ema_decay(self.state.step, self.recipe.optimiser.ema)
        weights = self.model.state_dict()
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.values()), [weights[k] for k in self.ema], 1 - decay)

    def averaged(self) -> Any:
        """A model with the averaged weights, on the training device, in evaluation mode."""
        model = build(self.model.config.to_dict()).to(self.device)
        model.load_state_dict(self.ema)
        return model.eval()

    def save(self) -> None:
        """Writes the checkpoint."""
        save_checkpoint(self.checkpoint, self.model, self.ema, self.optimiser, self.state, self._recipe_text())

    def resume(self) -> None:
        """Restores the checkpoint."""
        self.state = load_checkpoint(self.checkpoint, self.model, self.ema, self.optimiser, self._recipe_text())

    def _recipe_text(self) -> str:
        return self.recipe.model_dump_json(exclude={"report"})

    @property
    def exported(self) -> Path:
        """The file of the exported weights."""
        return self.out / f"{self.recipe.name}.safetensors"

    def export(self) -> None:
        """Writes the averaged weights."""
        recipe = self.recipe
        config = {**self.model.config.to_dict(), **self.how.measured(self.averaged(), self.clips)}
        save_weights(self.ema, config, self.exported, name=recipe.name, version=recipe.version, license=recipe.license)

    def run(
        self,
        validate: Callable[[Trainer], None] | None = None,
        report: Callable[[Trainer, dict[str, float]], None] | None = None,
    ) -> Path:
        """Trains until the budget is spent, then exports the weights and returns their file.

        Args:
            validate: called `report.validate_times` times during the training and once at its end.
            report: called about once a second with the latest figures.

        Raises:
            FloatingPointError: the loss is not a number.
        """
        every = parse_duration(self.recipe.report.checkpoint_every)
        times = self.recipe.report.validate_times
        last = saved = reported = time.monotonic()
        sums: dict[str, float] = {}
        count, first = 0, self.processes.rank == 0
        while self.done < 1:
            figures = self.step()
            now = time.monotonic()
            figures = self._agree(figures, now - last)
            last = now
            if math.isnan(figures["loss"]):
                raise FloatingPointError("the loss is not a number")
            sums, count = {k: sums.get(k, 0.0) + v for k, v in figures.items()}, count + 1
            if now - reported >= 1 or self.done >= 1:
                row = self._row({k: v / count for k, v in sums.items()}, count, now - reported)
                if first:
                    append_row(self.out / "metrics.csv", row)
                if report and first:
                    report(self, row)
                reported, sums, count = now, {}, 0
            if first and now - saved >= every:
                self.save()
                saved = last = time.monotonic()
            if times and self.done < 1 and self.done * times >= self.state.validations + 1:
                self.state.validations += 1
                if validate and first:
                    validate(self)
                reported = last = time.monotonic()
        if first:
            self.save()
            self.export()
            if validate:
                validate(self)
        return self.exported

    def _agree(self, figures: dict[str, float], seconds: float) -> dict[str, float]:
        """Means over the processes; the time that a step took is the first's, and counts as spent for all."""
        processes = self.processes
        *totals, elapsed = processes.summed([*figures.values(), seconds if processes.rank == 0 else 0.0])
        self.state.elapsed += elapsed
        return {k: total / processes.count for k, total in zip(figures, totals, strict=True)}

    def _row(self, means: dict[str, float], steps: int, seconds: float) -> dict[str, float]:
        """A row of metrics.csv."""
        audio = steps * self.batch * self.how.crop_samples / RATE
        return {
            "step": self.state.step, "elapsed_s": round(self.state.elapsed, 2), "progress": round(self.done, 5),
            **means, "learning_rate": self.optimiser.param_groups[0]["lr"],
            "audio_s_per_s": round(audio / max(seconds, 1e-9), 2),
        }  # fmt: skip


def make_optimiser(model: nn.Module, section: OptimiserSection) -> torch.optim.Optimizer:
    """AdamW or RAdam over the parameters that are trained."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    betas, decay = (section.beta1, section.beta2), section.weight_decay
    if section.name == "radam":
        return torch.optim.RAdam(parameters, section.learning_rate, betas, weight_decay=decay, foreach=True)
    return torch.optim.AdamW(parameters, section.learning_rate, betas, weight_decay=decay, fused=True)


def learning_rate(progress: float, peak: float, final: float, warmup: float) -> float:
    """Linear warm-up over the first ``warmup`` of training, then a cosine from ``peak`` to ``final``."""
    if progress < warmup:
        return peak * max(progress / warmup, 1e-3)
    t = min((progress - warmup) / max(1 - warmup, 1e-9), 1.0)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * t))


def ema_decay(step: int, limit: float) -> float:
    """Decay of the weights' moving average, ``min(limit, (1 + step) / (10 + step))``."""
    return min(limit, (1 + step) / (10 + step))


def save_checkpoint(
    path: Path,
    model: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    state: State,
    recipe: str,
) -> None:
    """Writes weights, moving average, optimiser state and progress, and the recipe they belong to, atomically."""
    tensors = {f"model/{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"ema/{k}": v for k, v in ema.items()}
    for name, parameter in model.named_parameters():
        for key, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser/{key}/{name}"] = value
    cpu = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_bytes(save(cpu, {"progress": json.dumps(vars(state)), "recipe": recipe}))


def load_checkpoint(
    path: Path, model: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer, recipe: str
) -> State:
    """Restores in place what `save_checkpoint` wrote; returns the progress.

    Raises:
        LincaeError: the file is damaged or belongs to another recipe.
    """
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            state = State(**json.loads(metadata["progress"]))
            if metadata["recipe"] != recipe:
                raise LincaeError(f"{path}: belongs to another recipe", "use another -o, or start anew: --no-resume")
            model.load_state_dict({k: file.get_tensor(f"model/{k}") for k in model.state_dict()})
            for key in ema:
                ema[key].copy_(file.get_tensor(f"ema/{key}"))
            parameters = dict(model.named_parameters())
            for name in file.keys():  # noqa: SIM118
                if name.startswith("optimiser/"):
                    _, key, target = name.split("/", 2)
                    value = file.get_tensor(name)
                    parameter = parameters[target]
                    optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
        raise LincaeError(f"{path}: damaged checkpoint ({type(e).__name__})", "start anew: --no-resume") from None
    return state


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Appends a row to a CSV file, after a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def drop_rows_after(path: Path, step: int) -> None:
    """Removes the rows that a killed run wrote after its last checkpoint, and incomplete ones.

    Args:
        path: CSV file with a column `step`; nothing happens if it is missing.
        step: last step to keep.
    """
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    columns = lines[0].split(",") if lines else []
    if "step" not in columns:
        return
    at = columns.index("step")
    rows = [line.split(",") for line in lines[1:]]
    kept = [r for r in rows if len(r) == len(columns) and r[at].isdigit() and int(r[at]) <= step]
    with atomic_path(path, overwrite=True) as temporary:
        Path(temporary).write_text("\n".join(",".join(r) for r in [columns, *kept]) + "\n", encoding="utf-8")
