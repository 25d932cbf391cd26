"""`lincae train`: a recipe becomes a model."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Self

import typer

from .command import add
from .errors import failure
from .options import Device
from .parsing import parse_budget, parse_device, parse_settings


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(
        app,
        train,
        "lincae train recipes/frame.yaml --budget 25m",
        "lincae train recipes/smoke.yaml --dry-run",
    )


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML recipe.", show_default=False)],
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where checkpoints, metrics and the model go.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume/--no-resume", help="Go on from the last checkpoint in DIR, if there is one."),
    ] = True,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Wall-clock time to end within: 25m, 1h30m."),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one value of the recipe.")
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Train a model from a recipe. The same command again goes on where it stopped."""
    seconds = None if budget is None else parse_budget(budget, "--budget")
    overrides = parse_settings(settings or [], "--set")
    parse_device(device, "--device")
    path = Path(recipe)
    if not path.is_file():
        raise failure(f"{recipe}: no such recipe", "for example: lincae train recipes/frame.yaml")

    limit = None if seconds is None else f"{seconds:g}s"
    from lincae_core.training.run import resolve
    from lincae_core.training.run import train as run

    if dry_run:
        typer.echo(resolve(path, overrides, limit)[1], nl=False)
        return
    logging.basicConfig(format="lincae train: %(message)s", level=logging.INFO, stream=sys.stderr)
    with TrainingProgress() as progress:
        weights = run(
            path,
            None if out is None else Path(out),
            resume=resume,
            budget=limit,
            overrides=overrides,
            device=device,
            report=progress.update,
        )
    typer.echo(weights)


class TrainingProgress:
    """A line on stderr: rewritten once a second on a terminal, written anew at every twentieth elsewhere."""

    def __init__(self) -> None:
        """Finds out where stderr goes."""
        self._live = sys.stderr.isatty()
        self._next = 0.0

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Clears the line."""
        if self._live:
            sys.stderr.write("\r\033[K")

    def update(self, done: float, figures: dict[str, float]) -> None:
        """Shows progress in [0, 1] and the latest figures."""
        line = (
            f"{100 * done:5.1f} %  step {figures['step']:.0f}  loss {figures['loss']:.4g}  "
            f"{figures['audio_s_per_s']:.1f} s of audio per s  {figures['elapsed_s']:.0f} s"
        )
        if self._live:
            sys.stderr.write(f"\r\033[K{line}")
            sys.stderr.flush()
        elif done >= self._next:
            self._next = done + 0.05
            print(f"lincae train: {line}", file=sys.stderr)
