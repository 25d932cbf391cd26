"""`lincae train`: trains a model from a recipe."""

import logging
import os
import sys
from pathlib import Path

import click

from .messages import usage_error
from .options import argument, command, device, output
from .progress import Progress
from .types import DURATION, PATH, SETTING, STDIO, Setting, format_time


@command(
    "train",
    "lincae train frame-64 --data ~/Music --budget 25m",
    "lincae train my.yaml --set optimiser.learning_rate=0.0005",
    "lincae train smoke --dry-run > my.yaml",
    "torchrun --nproc-per-node 4 -m lincae_cli train lin-cae --data ~/Music",
)
@argument("recipe", "RECIPE", "A YAML file, the name of a recipe that comes with lincae, or - for stdin.")
@output("Where checkpoints, metrics and the model go. [default: runs/NAME]", metavar="DIR")
@click.option("--data", type=PATH, multiple=True, metavar="DIR", help="Audio to train on, instead of the recipe's.")
@click.option("--budget", type=DURATION, help="Train for this long (25m, 1h30m), whatever the recipe says.")
@click.option("--set", "settings", type=SETTING, multiple=True, help="Change one value of the recipe.")
@click.option("--resume/--no-resume", default=True, help="Go on from the last checkpoint in DIR, if there is one.")
@device
@click.option("--dry-run", is_flag=True, help="Print the recipe with all its defaults, and stop.")
def train(
    recipe: str,
    output: str | None,
    data: tuple[str, ...],
    budget: float | None,
    settings: tuple[Setting, ...],
    resume: bool,
    device: str,
    dry_run: bool,
) -> None:
    """Train a model. Run the same command again to go on after an interruption.

    Relative folders in a recipe file are looked up from the file's own folder; those of a recipe given by name or on
    stdin, and those on the command line, from the working folder.
    """
    if recipe == STDIO and sys.stdin.isatty():
        raise usage_error("stdin (-) is a terminal, not a recipe", "pipe a recipe in, or name a file")

    from lincae_core.training.recipe import MAX_BYTES, as_yaml, load_recipe, parse_recipe

    overrides = {setting.key: setting.value for setting in settings}
    limit, folders = None if budget is None else f"{budget:g}s", [Path(folder) for folder in data]
    if recipe == STDIO:
        text = sys.stdin.buffer.read(MAX_BYTES + 1)
        resolved = parse_recipe(text, "<stdin>", Path.cwd(), overrides, limit, folders)
    else:
        resolved = load_recipe(recipe, overrides, limit, folders)
    if dry_run:
        click.echo(as_yaml(resolved), nl=False)
        return
    from lincae_core.training.loop import train as run

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    with Progress() as display:
        report = Report(display)
        report.setLevel(logging.INFO if first else logging.ERROR)
        log = logging.getLogger("lincae")
        log.setLevel(logging.INFO)
        log.addHandler(report)
        try:
            out = None if output is None else Path(output)
            weights = run(resolved, out, resume=resume, device=device, report=report.update)
        finally:
            log.removeHandler(report)
    if first:
        print(f"lincae train: {resolved.name}: {report.summary()}", file=sys.stderr)
        print(f"lincae train: to use it: lincae encode FILE --model {weights}", file=sys.stderr)
        click.echo(weights)


class Report(logging.Handler):
    """Writes what a training logs, and its progress: one line that is replaced on a terminal, else a line every 5 %."""

    def __init__(self, display: Progress) -> None:
        """Keeps the display."""
        super().__init__()
        self._display = display
        self._live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._next = 0.0
        self._figures: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        line = f"lincae train: {record.getMessage()}"
        if self._live:
            self._display.note(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def update(self, done: float, figures: dict[str, float]) -> None:
        """Shows progress in [0, 1] and the latest figures."""
        self._figures = figures
        left = figures["elapsed_s"] * (1 - done) / max(done, 1e-9)
        line = (
            f"step {figures['step']:.0f}  loss {figures['loss']:.4g}  {figures['audio_s_per_s']:.1f} s of audio per s  "
            f"{format_time(round(figures['elapsed_s']))} done"
        )
        if self._live:
            self._display.line(line, done)
        elif done >= self._next:
            self._next = done + 0.05
            text = f"lincae train: {100 * done:5.1f} %  {line}, {format_time(round(left))} left"
            print(text, file=sys.stderr, flush=True)

    def summary(self) -> str:
        """What was trained: steps, time, last loss."""
        if not self._figures:
            return "trained already"
        f = self._figures
        return f"{f['step']:.0f} steps in {format_time(round(f['elapsed_s']))}, loss {f['loss']:.4g}"
