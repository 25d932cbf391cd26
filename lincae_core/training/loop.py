"""From a recipe to weights: optimiser, moving average, budget, metrics, checkpoints, several processes.

A training that was stopped goes on from its last checkpoint.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Generator, Tensor, nn

from lincae_core.models.store import build, choose_device, save_weights
from lincae_core.training.data import RATE, Clips, equalise, load_clips
from lincae_core.training.levels import LevelsStep
from lincae_core.training.method import LinCaeStep, Step
from lincae_core.training.recipe import OptimiserSection, Recipe, as_yaml, load_recipe, parse_duration
from lincae_core.training.validation import validate, write_sounds
from lincae_formats.errors import LincaeError
from lincae_formats.files import atomic_path
from lincae_formats.header import clock

PATIENCE = timedelta(hours=2)  # how long the other processes wait for the first, which alone validates

log = logging.getLogger("lincae")
Report = Callable[[float, dict[str, float]], None]  # progress in [0, 1], latest figures


def train(
    recipe: Recipe | Path | str, out: Path | None = None, *, resume: bool = True, budget: str | None = None,
    overrides: dict[str, str] | None = None, device: str = "auto", report: Report | None = None,
) -> Path:  # fmt: skip
    """Trains a recipe to the end of its budget, exports the averaged weights and returns their file.

    A training that was stopped goes on from its last checkpoint in `out` and ends with the weights of an unbroken one
    (bit for bit where the budget counts steps).

    Args:
        recipe: a recipe, its YAML file, or the name of one that comes with the package.
        out: folder for everything that is written; `runs/<name>` by default.
        resume: whether to go on from a checkpoint in `out`.
        budget: duration that replaces the recipe's budget (`25m`).
        overrides: dotted keys and values that replace the recipe's (see `parse_recipe`).
        device: auto, cpu, cuda or cuda:N. Processes that torchrun started each take the GPU of their number.
        report: called about once a second.

    Raises:
        LincaeError: wrong recipe, no audio, another training in `out`, a damaged checkpoint or one of another recipe,
            a full disk, a loss that is not a number.
    """
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides, budget)
    out = Path(out) if out else Path("runs") / recipe.name
    with joined(device) as processes, locked(out) if processes.rank == 0 else nullcontext():
        shortest = math.ceil(step_for(recipe).crop_samples * recipe.augment.speed)
        folders = [(f.path, f.fraction) for f in recipe.data.folders]
        clips, held_out = load_clips(folders, recipe.reference_rms, shortest, recipe.data.held_out)
        files = (f"{n} file{'s'[: n != 1]}" for n in (len(clips.names), len(held_out)))
        log.info("%s of audio in %s; %s held out", clock(round(clips.seconds)), *files)
        trainer = Trainer(recipe, clips, out, processes)
        if resume and trainer.checkpoint.exists():
            trainer.resume()
            log.info("resumed at step %d (%.0f %%)", trainer.state.step, 100 * trainer.done)
        if processes.rank == 0:
            (out / "recipe.yaml").write_text(as_yaml(recipe), encoding="utf-8")
            for name in ("metrics.csv", "validation.csv"):
                drop_rows_after(out / name, trainer.state.step)
        try:
            return trainer.run(held_out, report)
        except (KeyboardInterrupt, SystemExit):
            if trainer.consistent and trainer.state.step and processes.rank == 0:
                trainer.save()
                log.info("stopped at step %d; run the same command to go on", trainer.state.step)
            raise
        except OSError as e:
            hint = "free some space, and run it again to go on"
            raise LincaeError(f"cannot write {out}: {e.strerror}", hint) from None
        except FloatingPointError as e:
            raise LincaeError(
                f"{out}: training failed at step {trainer.state.step}: {e}",
                f"lower the learning rate: --set optimiser.learning_rate={recipe.optimiser.learning_rate / 3:.2g}",
            ) from None


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes a folder and holds it for one training: two would overwrite each other's checkpoints.

    Raises:
        LincaeError: another training holds it, or it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".lock", timeout=0):
            for leftover in out.glob(".checkpoint.safetensors.*.tmp"):  # of a run that was killed while saving
                leftover.unlink(missing_ok=True)
            yield
    except Timeout:
        raise LincaeError(f"{out}: another training writes there", "wait for it to end, or choose another -o") from None
    except OSError as e:
        raise LincaeError(f"{out}: cannot write there ({e.strerror})", "choose another -o") from None


@dataclass
class State:
    """Where a training stands."""

    step: int = 0  # steps done
    elapsed: float = 0.0  # time spent on steps, over all runs, s
    validations: int = 0  # done before the end
    gradient_norm: float = 0.0  # running mean


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
    """A training of a recipe on clips, with its files in a folder; `run` takes it to the end of its budget."""

    def __init__(self, recipe: Recipe, clips: Clips, out: Path, processes: Processes) -> None:
        self.recipe, self.out, self.processes, self.device = recipe, out, processes, processes.device
        self.checkpoint, self.exported = out / "checkpoint.safetensors", out / f"{recipe.name}.safetensors"
        device, self.seconds = processes.device, recipe.budget.seconds
        if self.batch % processes.count:
            raise LincaeError(
                f"a batch of {self.batch} cannot be shared by {processes.count} processes",
                f"use a multiple: --set data.batch={-(-self.batch // processes.count) * processes.count}",
            )
        torch.manual_seed(recipe.seed)
        self.model = build(recipe.model.to_dict()).to(device)
        self.how = step_for(recipe)
        self.clips = clips.to(device) if device.type == "cuda" else clips
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.optimiser = make_optimiser(self.model, recipe.optimiser)
        self.state, self.recipe_text = State(), recipe.model_dump_json(exclude={"report"})
        self.consistent = True  # False while a step changes weights: then an interrupted training must not be saved
        half = recipe.precision == "bfloat16" or (recipe.precision == "auto" and device.type == "cuda")
        self.autocast = torch.autocast(device.type, torch.bfloat16) if half else nullcontext()
        self.uncompiled = processes.wrapped(Loss(self.how, self.model))
        compiled = recipe.compile == "on" or (recipe.compile == "auto" and device.type == "cuda")
        self.loss: Callable[..., Any] = torch.compile(self.uncompiled) if compiled else self.uncompiled

    @property
    def done(self) -> float:
        """Progress in [0, 1], by time or by steps."""
        if self.seconds is not None:
            return min(self.state.elapsed / self.seconds, 1.0)
        return min(self.state.step / (self.recipe.budget.steps or 1), 1.0)

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

    @torch.no_grad()
    def _average(self) -> None:
        weights, decay = self.model.state_dict(), ema_decay(self.state.step, self.recipe.optimiser.ema)
        torch._foreach_lerp_(list(self.ema.values()), [weights[k] for k in self.ema], 1 - decay)

    def averaged(self) -> Any:
        """A model with the averaged weights, on the training device, in evaluation mode."""
        model = build(self.model.config.to_dict()).to(self.device)
        model.load_state_dict(self.ema)
        return model.eval()

    def save(self) -> None:
        """Writes weights, moving average, optimiser state, progress and the recipe they belong to, atomically."""
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema/{k}": v for k, v in self.ema.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser/{key}/{name}"] = value
        cpu = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
        metadata = {"progress": json.dumps(vars(self.state)), "recipe": self.recipe_text}
        with atomic_path(self.checkpoint, overwrite=True) as temporary:
            temporary.write_bytes(save(cpu, metadata))

    def resume(self) -> None:
        """Restores what `save` wrote.

        Raises:
            LincaeError: the file is damaged or belongs to another recipe.
        """
        path = self.checkpoint
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                state = State(**json.loads(metadata["progress"]))
                if metadata["recipe"] != self.recipe_text:
                    hint = "use another -o, or start anew: --no-resume"
                    raise LincaeError(f"{path}: belongs to another recipe", hint)
                self.model.load_state_dict({k: file.get_tensor(f"model/{k}") for k in self.model.state_dict()})
                for key in self.ema:
                    self.ema[key].copy_(file.get_tensor(f"ema/{key}"))
                parameters = dict(self.model.named_parameters())
                for name in file.keys():  # noqa: SIM118
                    if name.startswith("optimiser/"):
                        _, key, target = name.split("/", 2)
                        value, parameter = file.get_tensor(name), parameters[target]
                        self.optimiser.state[parameter][key] = value if key == "step" else value.to(parameter.device)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError) as e:
            raise LincaeError(f"{path}: damaged checkpoint ({type(e).__name__})", "start anew: --no-resume") from None
        self.state = state

    def export(self) -> None:
        """Writes the averaged weights."""
        recipe = self.recipe
        config = {**self.model.config.to_dict(), **self.how.measured(self.averaged(), self.clips)}
        save_weights(self.ema, config, self.exported, name=recipe.name, version=recipe.version, license=recipe.license)

    def run(self, held_out: Sequence[Path], report: Report | None = None) -> Path:
        """Trains until the budget is spent, then exports the weights and returns their file.

        Args:
            held_out: files to validate on, `report.validate_times` times during the training and once at its end.
            report: called about once a second with progress and the latest figures.

        Raises:
            FloatingPointError: the loss is not a number.
        """
        every = parse_duration(self.recipe.report.checkpoint_every)
        times = self.recipe.report.validate_times
        last = saved = reported = time.monotonic()
        first = self.processes.rank == 0
        recent: list[dict[str, float]] = []  # figures since the last report
        while self.done < 1:
            figures, now = self.step(), time.monotonic()
            recent.append(self._agree(figures, now - last))
            last = now
            if math.isnan(recent[-1]["loss"]):
                raise FloatingPointError("the loss is not a number")
            if now - reported >= 1 or self.done >= 1:
                if first:
                    row = self._row(recent, now - reported)
                    append_row(self.out / "metrics.csv", row)
                    if report:
                        report(self.done, row)
                reported, recent = now, []
            if first and now - saved >= every:
                self.save()
                saved = last = time.monotonic()
            if times and self.done < 1 and self.done * times >= self.state.validations + 1:
                self.state.validations += 1
                if first:
                    self.validate(held_out)
                reported = last = time.monotonic()
        if first:
            self.save()
            self.export()
            self.validate(held_out)
        return self.exported

    def validate(self, files: Sequence[Path]) -> None:
        """Measures the averaged model on files, if there are any; writes figures, samples and a picture."""
        if not files:
            return
        step = self.state.step
        try:
            figures, heard = validate(self.recipe, self.averaged(), files)
            append_row(self.out / "validation.csv", {"step": step, "progress": round(self.done, 4), **figures})
            write_sounds(heard, self.out, f"{self.recipe.name}, step {step}, MSS {figures['recon']:.2f}")
        except Exception as e:  # hours of training must not be lost to a picture
            log.warning("validation failed, training goes on: %s: %s", type(e).__name__, e)
        else:
            log.info("validation at step %d: %s", step, ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))

    def _agree(self, figures: dict[str, float], seconds: float) -> dict[str, float]:
        """Means over the processes; the time that a step took is the first's, and counts as spent for all."""
        processes = self.processes
        *totals, elapsed = processes.summed([*figures.values(), seconds if processes.rank == 0 else 0.0])
        self.state.elapsed += elapsed
        return {k: total / processes.count for k, total in zip(figures, totals, strict=True)}

    def _row(self, recent: Sequence[Mapping[str, float]], seconds: float) -> dict[str, float]:
        """A row of metrics.csv: means over the steps of so many seconds."""
        audio = len(recent) * self.batch * self.how.crop_samples / RATE
        return {
            "step": self.state.step, "elapsed_s": round(self.state.elapsed, 2), "progress": round(self.done, 5),
            **{key: statistics.fmean(figures[key] for figures in recent) for key in recent[0]},
            "learning_rate": self.optimiser.param_groups[0]["lr"],
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


def append_row(path: Path, row: Mapping[str, float]) -> None:
    """Appends a row to a CSV file, after a header if the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)


def drop_rows_after(path: Path, step: int) -> None:
    """Removes from a CSV file, if there is one, incomplete rows and those after a step: of a run that was killed."""
    if not path.exists():
        return
    header, *rows = path.read_text(encoding="utf-8").splitlines() or [""]
    whole = [row for row in rows if row.count(",") == header.count(",")]
    kept = [row for row in whole if row.partition(",")[0].isdigit() and int(row.partition(",")[0]) <= step]
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text("\n".join([header, *kept]) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Processes:
    """This process among those that train together, one for each GPU, started by torchrun."""

    device: torch.device  # where this one computes
    rank: int = 0  # its number; the first writes all files
    count: int = 1

    def wrapped(self, loss: nn.Module) -> Any:
        """A module whose backward pass averages the gradients of all processes."""
        if self.count == 1:
            return loss
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(loss, device_ids=devices, broadcast_buffers=False)

    def summed(self, values: list[float]) -> list[float]:
        """The sum over all processes of each value; waits for the others."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return list(total.tolist())


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone.

    Args:
        device: auto, cpu, cuda or cuda:N; with several processes each takes the GPU of its number on its machine.

    Raises:
        LincaeError: no such device, or the processes do not find each other.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1 and device == "auto" and torch.cuda.is_available():
        device = "cuda"
    if count > 1 and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', rank)}"
    where = choose_device(device)
    if count == 1:
        yield Processes(where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as e:
        raise LincaeError(
            f"process {rank} of {count} cannot join the others ({str(e).partition(chr(10))[0][:200]})",
            "start them together: torchrun --nproc-per-node N -m lincae_cli train RECIPE",
        ) from None
    try:
        yield Processes(where, rank, count)
    finally:
        torch.distributed.destroy_process_group()
