"""`lincae train`: a recipe becomes a model."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Self

import typer

from .command import add
from .errors import failure, usage_error
from .inputs import STDIO
from .options import Device
from .parsing import parse_budget, parse_device, parse_settings

_MOST = 1 << 20  # bytes of a recipe from stdin


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(
        app,
        train,
        "lincae train recipes/frame.yaml --budget 25m",
        "lincae train recipes/smoke.yaml --dry-run",
        "sed s/frame/mine/ recipes/frame.yaml | lincae train -",
    )


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML recipe, or - for stdin.", show_default=False)],
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
    """Train a model from a recipe. The same command again goes on where it stopped.

    Folders in a recipe are looked up from the recipe's own; from stdin, from the working folder.
    """
    seconds = None if budget is None else parse_budget(budget, "--budget")
    overrides = parse_settings(settings or [], "--set")
    parse_device(device, "--device")
    path, limit = Path(recipe), None if seconds is None else f"{seconds:g}s"
    if recipe == STDIO and sys.stdin.isatty():
        raise usage_error("stdin (-) is a terminal, not a recipe", "pipe something in, or name a file")
    if recipe != STDIO and not path.is_file():
        raise failure(f"{recipe}: no such recipe", "for example: lincae train recipes/frame.yaml")

    from lincae_core.training.run import resolve
    from lincae_core.training.run import train as run

    if dry_run or recipe == STDIO:
        with _stdin() if recipe == STDIO else _as_it_is(path) as file:
            text = resolve(file, overrides, limit)[1]
    if dry_run:
        typer.echo(text, nl=False)
        return
    logging.basicConfig(format="lincae train: %(message)s", level=logging.INFO, stream=sys.stderr)
    with TrainingProgress() as progress, _resolved(text) if recipe == STDIO else _as_it_is(path) as file:
        weights = run(
            file,
            None if out is None else Path(out),
            resume=resume,
            budget=None if recipe == STDIO else limit,
            overrides={} if recipe == STDIO else overrides,
            device=device,
            report=progress.update,
        )
    typer.echo(weights)


@contextmanager
def _as_it_is(path: Path) -> Iterator[Path]:
    yield path


@contextmanager
def _stdin() -> Iterator[Path]:
    """What comes from stdin, in a file of the working folder, as a recipe's folders are looked up from its own."""
    from lincae_formats.errors import LincaeError

    data = sys.stdin.buffer.read(_MOST + 1)  # more than a recipe may have is refused where it is read
    try:
        fd, name = tempfile.mkstemp(prefix=".lincae-recipe-", suffix=".yaml", dir=".")
    except OSError as e:
        hint = "run it in a folder that can be written, or name a file"
        raise failure(f"cannot keep the recipe from stdin in {os.getcwd()}: {e.strerror}", hint) from e
    try:
        with open(fd, "wb") as file:
            file.write(data)
        yield Path(name)
    except LincaeError as e:
        raise type(e)(e.message.replace(str(Path(name)), "<stdin>"), e.hint) from e
    finally:
        os.unlink(name)


@contextmanager
def _resolved(text: str) -> Iterator[Path]:
    """A recipe in which nothing depends on where it lies, in a file for as long as it is needed."""
    with tempfile.TemporaryDirectory(prefix="lincae-") as folder:
        path = Path(folder, "recipe.yaml")
        path.write_text(text, encoding="utf-8")
        yield path


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
