"""`lincae models` and `lincae train`: which models are installed, getting more, and training them."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import click

from .messages import Progress, describe, dumps, failure, format_time, say, table, usage_error
from .options import (
    DURATION,
    MODEL,
    PATH,
    POSITIVE,
    SETTING,
    SETTINGS,
    STDIO,
    Group,
    OneOf,
    Setting,
    argument,
    as_json,
    command,
    device,
    example,
    force,
    output,
)  # fmt: skip
from .paths import nearest


@click.group(
    "models", cls=Group, invoke_without_command=True, context_settings=SETTINGS, epilog=example("lincae models list")
)
@click.pass_context
def models(context: click.Context) -> None:
    """List the models, show one, or get more."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@command("list", "lincae models list")
@as_json
def list_models(as_json: bool) -> None:
    """List the models that can be used; * marks the default."""
    from lincae_core.models.store import DEFAULT_MODEL, available

    infos = available()
    if as_json:
        click.echo(dumps([_facts(info) for info in infos]))
        return
    rows: list[tuple[str, ...]] = [("", "name", "version", "family", "parameters", "bytes", "license")]
    for info in infos:
        mark = "*" if info.name == DEFAULT_MODEL else ""
        sizes = str(info.parameters), str(info.size_bytes)
        rows.append((mark, info.name, str(info.version), info.family, *sizes, info.license))
    click.echo(table(rows))


@command("show", "lincae models show frame")
@argument("name", "NAME|PATH", "A model's name, or its file.", type=MODEL)
@as_json
def show(name: str, as_json: bool) -> None:
    """Show one model: its facts, its configuration and its card."""
    from lincae_core.models.store import resolve

    info = resolve(name)
    facts = _facts(info)
    if as_json:
        click.echo(dumps(facts))
        return
    shown = {key: "-" if value is None else value for key, value in facts.items() if key != "config"}
    width = max(len(key) for key in shown)
    for key, value in {**shown, "config": json.dumps(info.config)}.items():
        click.echo(f"{key:<{width}}  {value}")
    if info.card_path is not None and Path(info.card_path).is_file():
        click.echo("\n" + Path(info.card_path).read_text(encoding="utf-8").rstrip())


@command("pull", "lincae models pull lin-cae", "lincae models pull lin-cae m2l music2latent stable-audio-vae")
@argument("names", "NAME...", "lin-cae, lin-cae-2, m2l, music2latent, stable-audio-vae.", required=True, type=str)
@force
def pull(names: tuple[str, ...], force: bool) -> None:
    """Download published weights from the Hugging Face hub.

    They are checked against the hub's hashes, converted to safetensors and kept in $LINCAE_MODELS (by default
    ~/.local/share/lincae/models).
    """
    from lincae_core.models.hub import pull as get
    from lincae_formats.errors import LincaeError

    failed = 0
    for name in names:
        try:
            got = get(name, force=force)
        except LincaeError as e:
            if len(names) == 1:
                raise
            say("error", describe(e))
            failed += 1
            continue
        click.echo(f"{name}: {got if isinstance(got, Path) else got.path}")
    if failed:
        raise failure(f"{failed} of {len(names)} models were not downloaded", "run the same command again")


@command("import", "lincae models import checkpoint.pth --as unet --name mine")
@argument("file", "FILE", "A checkpoint, or weights of lincae.")
@click.option("--as", "family", type=OneOf("unet"), help="What a checkpoint is: unet is Music2Latent's network.")
@click.option("--name", metavar="NAME", help="The name of the model. [default: that of the file]")
@click.option("--scale", type=POSITIVE, help="Factor on its latents. [default: the published one]")
@force
def import_model(file: str, family: str | None, name: str | None, scale: float | None, force: bool) -> None:
    """Install weights from disk under a name.

    A checkpoint is read without running code in it. The Lin-CAE authors' *_kwargs_last.yaml beside it is read too.
    """
    if not Path(file).exists():
        raise failure(f"{file}: no such file", nearest(file))
    from lincae_core.models.convert import import_file

    info = import_file(Path(file), family, name, scale, force=force)
    click.echo(f"{info.name}: {info.path}")


for _command in (list_models, show, pull, import_model):
    models.add_command(_command)


def _facts(info: Any) -> dict[str, Any]:
    return {
        "name": info.name,
        "version": info.version,
        "family": info.family,
        "parameters": info.parameters,
        "size_bytes": info.size_bytes,
        "license": info.license,
        "fingerprint": info.fingerprint,
        "path": str(info.path),
        "card_path": None if info.card_path is None else str(info.card_path),
        "config": info.config,
    }


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
    recipe: str, output: str | None, data: tuple[str, ...], budget: float | None, settings: tuple[Setting, ...], resume:
    bool, device: str, dry_run: bool,
) -> None:  # fmt: skip
    """Train a model. Run the same command again to go on after an interruption.

    Relative folders in a recipe file are looked up from the file's own folder; those of a recipe given by name or on
    stdin, and those on the command line, from the working folder.
    """
    if recipe == STDIO and sys.stdin.isatty():
        raise usage_error("stdin (-) is a terminal, not a recipe", "pipe a recipe in, or name a file")

    from lincae_core.training.recipe import as_yaml, load_recipe, parse_recipe
    from lincae_core.yaml_schema import MAX_BYTES

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
