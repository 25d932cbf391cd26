"""`lincae train`: from a recipe to weights, resuming where an earlier run of the same command stopped."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from lincae_core.training.csvlog import drop_rows_after
from lincae_core.training.lock import only_training_in
from lincae_core.training.recipe import Recipe, load_recipe
from lincae_formats.errors import LincaeError

if TYPE_CHECKING:
    from lincae_core.training.loop import Trainer

log = logging.getLogger("lincae")


def resolve(recipe: Path, overrides: dict[str, str] | None = None, budget: str | None = None) -> tuple[Recipe, str]:
    """The recipe with every default filled in, and the same as YAML.

    Raises:
        LincaeError: the recipe is wrong.
    """
    resolved = load_recipe(Path(recipe), overrides, budget)
    return resolved, yaml.safe_dump(resolved.model_dump(mode="json"), sort_keys=False)


def train(
    recipe: Path, out: Path | None = None, *, resume: bool = True, budget: str | None = None,
    overrides: dict[str, str] | None = None, device: str = "auto",
    report: Callable[[float, dict[str, float]], None] | None = None,
) -> Path:  # fmt: skip
    """Trains a recipe to the end of its budget and exports the averaged weights.

    A run that was stopped goes on from its last checkpoint in `out` and ends with the weights of an unbroken one
    (to the bit where the budget counts steps).

    Args:
        recipe: YAML file.
        out: folder for everything that is written; `runs/<name>` by default.
        resume: go on from the checkpoint in `out` if there is one.
        budget: time that replaces the recipe's budget (`25m`).
        overrides: dotted keys and values that replace the recipe's.
        device: auto, cpu or cuda.
        report: called about once a second with progress in [0, 1] and the latest figures.

    Returns:
        The exported weights.

    Raises:
        LincaeError: wrong recipe, no audio, another training in `out`, a damaged or foreign checkpoint, a full disk.
    """
    resolved, text = resolve(recipe, overrides, budget)
    out = Path(out) if out else Path("runs") / resolved.name
    with ExitStack() as held:
        try:
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(only_training_in(out))
            for leftover in out.glob(".checkpoint.safetensors.*.tmp"):  # of a run that was killed while saving
                leftover.unlink(missing_ok=True)
        except OSError as e:
            raise LincaeError(f"{out}: cannot write there ({e.strerror})", "choose another --out") from None
        return _train(resolved, text, out, resume, device, report)


def _train(
    resolved: Recipe, text: str, out: Path, resume: bool, device: str,
    report: Callable[[float, dict[str, float]], None] | None,
) -> Path:  # fmt: skip
    """`train` in a folder that is held."""
    from lincae_core.models.device import choose_device
    from lincae_core.models.frontend import HOP, WINDOW
    from lincae_core.training.data import load_clips
    from lincae_core.training.loop import Trainer

    where = choose_device(device)
    folders = [(f.path, f.fraction) for f in resolved.data.folders]
    shortest = math.ceil((resolved.data.crop_frames * HOP + WINDOW - HOP) * resolved.augment.speed)
    rms = resolved.model.reference_rms if resolved.data.loudness == "reference" else None
    clips, held_out = load_clips(folders, rms, shortest, resolved.data.held_out)
    log.info("%.2f h of audio in %d files, %d held out", clips.seconds / 3600, len(clips.names), len(held_out))
    trainer = Trainer(resolved, clips, out, where)
    if resume and trainer.checkpoint.exists():
        trainer.resume()
        log.info("goes on from step %d (%.0f %%)", trainer.progress.step, 100 * trainer.done)
    try:
        (out / "recipe.yaml").write_text(text, encoding="utf-8")
        for name in ("metrics.csv", "validation.csv"):
            drop_rows_after(out / name, trainer.progress.step)
    except OSError as e:
        raise LincaeError(f"{out}: cannot write there ({e.strerror})", "choose another --out") from None

    def validate(t: Trainer) -> None:
        from lincae_core.training.validation import validate_and_write

        try:
            log.info("%s", validate_and_write(t, held_out))
        except Exception as e:  # hours of training must not die of a picture
            log.warning("validation failed, training goes on: %s: %s", type(e).__name__, e)

    def tell(t: Trainer, figures: dict[str, float]) -> None:
        if report:
            report(t.done, figures)

    try:
        return trainer.run(validate if held_out else None, tell)
    except (KeyboardInterrupt, SystemExit):
        if trainer.consistent and trainer.progress.step:
            trainer.save()
            log.info("stopped at step %d; the same command goes on from there", trainer.progress.step)
        raise
    except OSError as e:
        raise LincaeError(f"{out}: cannot write there ({e.strerror})", "free some space; rerun to go on") from None
    except FloatingPointError as e:
        raise LincaeError(
            f"{out}: training broke down at step {trainer.progress.step}: {e}",
            "lower optimiser.learning_rate",
        ) from None
