"""`lincae models`: which models are here, what each is, and getting more."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from . import jsontext
from .command import Group, add, example
from .errors import failure, say, usage_error
from .inputs import nearest
from .options import Force, Json


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    models = typer.Typer(cls=Group, rich_markup_mode=None)

    @models.callback(invoke_without_command=True, epilog=example("lincae models list"))
    def root(context: typer.Context) -> None:
        """List the models, show one, or get more."""
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    add(models, list_models, "lincae models list", name="list")
    add(models, show, "lincae models show frame")
    add(models, pull, "lincae models pull lin-cae", "lincae models pull lin-cae m2l music2latent stable-audio-vae")
    add(models, import_model, "lincae models import checkpoint.pth --as unet --name mine", name="import")
    app.add_typer(models, name="models")


def list_models(as_json: Json = False) -> None:
    """List the models that encode and decode can use; * marks the default."""
    from lincae_core.models.registry import DEFAULT_MODEL, available

    infos = available()
    if as_json:
        typer.echo(jsontext.dumps([_facts(info) for info in infos]))
        return
    lines = [("", "name", "version", "family", "parameters", "bytes", "license")]
    for info in infos:
        mark = "*" if info.name == DEFAULT_MODEL else ""
        sizes = str(info.parameters), str(info.size_bytes)
        lines.append((mark, info.name, str(info.version), info.family, *sizes, info.license))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def show(
    name: Annotated[str, typer.Argument(metavar="NAME|PATH", help="A model's name, or its file.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show one model: its facts, its configuration and its card."""
    from lincae_core.models.registry import resolve

    info = resolve(name)
    facts = _facts(info)
    if as_json:
        typer.echo(jsontext.dumps(facts))
        return
    shown = {key: value for key, value in facts.items() if key != "config"}
    width = max(len(key) for key in shown)
    for key, value in shown.items():
        typer.echo(f"{key:<{width}}  {'-' if value is None else value}")
    typer.echo(f"{'config':<{width}}  {json.dumps(info.config)}")
    if info.card_path is not None and Path(info.card_path).is_file():
        typer.echo("\n" + Path(info.card_path).read_text(encoding="utf-8").rstrip())


def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="lin-cae, lin-cae-2, m2l, music2latent, stable-audio-vae.",
            show_default=False,
        ),
    ],
    force: Force = False,
) -> None:
    """Get published weights from the Hugging Face hub.

    They are checked against the hub's hashes, made safetensors and kept in $LINCAE_MODELS
    (by default ~/.local/share/lincae/models).
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
            say("error", str(e))
            failed += 1
            continue
        typer.echo(f"{name}: {got if isinstance(got, Path) else got.path}")
    if failed:
        raise failure(f"{failed} of {len(names)} models could not be had")


def import_model(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A checkpoint or lincae weights.", show_default=False)],
    family: Annotated[
        str | None, typer.Option("--as", metavar="unet", help="What a checkpoint is: Music2Latent's network.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What to call it; by default as its file.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option("--scale", metavar="X", help="Factor on its latents; by default the published one."),
    ] = None,
    force: Force = False,
) -> None:
    """Make weights on disk a model that encode and decode know by name.

    A checkpoint is read without running anything in it. The Lin-CAE authors' *_kwargs_last.yaml beside it count.
    """
    factor = None
    if scale is not None:
        try:
            factor = float(scale)
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            raise usage_error(f"--scale {scale} is no number above 0", "for example: --scale 33")
    if not Path(file).exists():
        raise failure(f"{file}: no such file", nearest(file))
    from lincae_core.models.checkpoints import import_file

    info = import_file(Path(file), family, name, factor, force=force)
    typer.echo(f"{info.name}: {info.path}")


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
