"""From a recipe to weights; a training that was stopped goes on from its last checkpoint."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lincae_core.training.recipe import Recipe, load_recipe
from lincae_formats import text as grammar
from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    from lincae_core.training.loop import Trainer
    from lincae_core.training.processes import Processes

log = logging.getLogger("lincae")
Report = Callable[[float, dict[str, float]], None]


def as_yaml(recipe: Recipe) -> str:
    """A recipe with every default filled in; loading it gives the same recipe."""
    unused = dict.fromkeys(recipe.unused, True)
    content = recipe.model_dump(mode="json", exclude={"model": {"latent_scale"}, **unused})  # type: ignore[arg-type]
    return yaml.safe_dump(content, sort_keys=False)


def train(
    recipe: Recipe | Path | str, out: Path | None = None, *, resume: bool = True, budget: str | None = None,
    overrides: dict[str, str] | None = None, device: str = "auto", report: Report | None = None,
) -> Path:  # fmt: skip
    """Trains a recipe to the end of its budget and exports the averaged weights.

    A training that was stopped goes on from its last checkpoint in `out` and ends with the weights of an unbroken one
    (bit for bit where the budget counts steps).

    Args:
        recipe: a recipe, its YAML file, or the name of one that comes with the package.
        out: folder for everything that is written; `runs/<name>` by default.
        resume: whether to go on from a checkpoint in `out`.
        budget: duration that replaces the recipe's budget (`25m`).
        overrides: dotted keys and values that replace the recipe's (see `parse_recipe`).
        device: auto, cpu, cuda or cuda:N. Processes that torchrun started each take the GPU of their number.
        report: called about once a second with progress in [0, 1] and the latest figures.

    Returns:
        The file of the exported weights.

    Raises:
        LincaeError: wrong recipe, no audio, another training in `out`, a damaged checkpoint or one of another recipe,
            a full disk, a loss that is not a number.
    """
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides, budget)
    out = Path(out) if out else Path("runs") / recipe.name
    from lincae_core.training.processes import joined

    with joined(device) as processes:
        if processes.rank > 0:
            return _train(recipe, out, resume, processes, report)
        with locked(out):
            return _train(recipe, out, resume, processes, report)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Makes a folder and holds it for one training: two would overwrite each other's checkpoints.

    Raises:
        LincaeError: another training holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

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


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


def _train(recipe: Recipe, out: Path, resume: bool, processes: Processes, report: Report | None) -> Path:
    """`train` in a folder that is locked; the first of several processes writes all files."""
    from lincae_core.training.data import load_clips
    from lincae_core.training.loop import Trainer, drop_rows_after, step_for

    shortest = math.ceil(step_for(recipe).crop_samples * recipe.augment.speed)
    folders = [(f.path, f.fraction) for f in recipe.data.folders]
    clips, held_out = load_clips(folders, recipe.reference_rms, shortest, recipe.data.held_out)
    log.info(
        "%s of audio in %s; %s held out",
        grammar.clock(round(clips.seconds)),
        _files(len(clips.names)),
        _files(len(held_out)),
    )
    trainer = Trainer(recipe, clips, out, processes)
    if resume and trainer.checkpoint.exists():
        trainer.resume()
        log.info("resumed at step %d (%.0f %%)", trainer.state.step, 100 * trainer.done)
    if processes.rank == 0:
        (out / "recipe.yaml").write_text(as_yaml(recipe), encoding="utf-8")
        for name in ("metrics.csv", "validation.csv"):
            drop_rows_after(out / name, trainer.state.step)

    def validate(t: Trainer) -> None:
        try:
            from lincae_core.training.validation import validate_and_write

            figures = validate_and_write(t, held_out)
        except Exception as e:  # hours of training must not be lost to a picture
            log.warning("validation failed, training goes on: %s: %s", type(e).__name__, e)
            return
        shown = ", ".join(f"{k} {v:.3f}" for k, v in figures.items() if k not in ("step", "progress"))
        log.info("validation at step %d: %s", t.state.step, shown)

    def tell(t: Trainer, figures: dict[str, float]) -> None:
        if report:
            report(t.done, figures)

    try:
        return trainer.run(validate if held_out else None, tell)
    except (KeyboardInterrupt, SystemExit):
        if trainer.consistent and trainer.state.step and processes.rank == 0:
            trainer.save()
            log.info("stopped at step %d; run the same command to go on", trainer.state.step)
        raise
    except OSError as e:
        raise LincaeError(f"{out}: cannot write there ({e.strerror})", "free some space; rerun to go on") from None
    except FloatingPointError as e:
        raise LincaeError(
            f"{out}: training failed at step {trainer.state.step}: {e}",
            f"lower the learning rate: --set optimiser.learning_rate={recipe.optimiser.learning_rate / 3:.2g}",
        ) from None
