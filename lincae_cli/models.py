"""`lincae models`: which models are here, and what each is. Reads their headers only."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .command import Group, add, example
from .options import Json


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    models = typer.Typer(cls=Group, rich_markup_mode=None)

    @models.callback(invoke_without_command=True, epilog=example("lincae models list"))
    def root(context: typer.Context) -> None:
        """List the models, or show one."""
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    add(models, list_models, "lincae models list", name="list")
    add(models, show, "lincae models show frame")
    app.add_typer(models, name="models")


def list_models(as_json: Json = False) -> None:
    """List the models that encode and decode can use; * marks the default."""
    from lincae_core.models.registry import DEFAULT_MODEL, available

    infos = available()
    if as_json:
        typer.echo(json.dumps([_facts(info) for info in infos], indent=2, ensure_ascii=False))
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
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    shown = {key: value for key, value in facts.items() if key != "config"}
    width = max(len(key) for key in shown)
    for key, value in shown.items():
        typer.echo(f"{key:<{width}}  {'-' if value is None else value}")
    typer.echo(f"{'config':<{width}}  {json.dumps(info.config)}")
    if info.card_path is not None and Path(info.card_path).is_file():
        typer.echo("\n" + Path(info.card_path).read_text(encoding="utf-8").rstrip())


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
