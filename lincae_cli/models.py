"""`lincae models`: which models are installed, what each is, and getting more."""

import json
from pathlib import Path
from typing import Any

import click

from .inputs import nearest
from .inspect import table
from .messages import describe, dumps, failure, say
from .options import SETTINGS, Group, argument, as_json, command, example, force
from .types import MODEL, POSITIVE, OneOf


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
