"""`lincae desk`: a mixing desk in the browser on compressed stems."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import open_files
from .messages import failure, say, usage_error
from .options import Whole, argument, command, device, force, model, output
from .paths import ModelCache, check_targets, nearest

if TYPE_CHECKING:
    from lincae_core.arrangement.load import Loaded


@command(
    "desk",
    "lincae desk song.yaml",
    "lincae desk stems/*.lat -o song.yaml",
    "lincae desk song.yaml --read-only --host 0.0.0.0 --port 8000 --no-browser",
)
@argument("inputs", "YAML|LAT...", "An arrangement, or stems as .lat files.", required=True)
@output("Where Save writes. [default: the arrangement itself; desk.yaml for stems]", metavar="YAML")
@click.option("--port", type=Whole(0, 65535), default="0", help="Port to listen at; 0 is any that is free.")
@click.option("--host", metavar="ADDRESS", default="127.0.0.1", help="Address to listen at; by default this machine's.")
@click.option("--no-browser", is_flag=True, help="Print the address and open no browser.")
@click.option("--read-only", is_flag=True, help="Listen only: nothing can be moved or saved.")
@click.option("--allow-outside", is_flag=True, help="Allow files outside the arrangement's folder.")
@model("The model's file, where the model is not installed.")
@device
@force
def desk(
    inputs: tuple[str, ...],
    output: str | None,
    port: int,
    host: str,
    no_browser: bool,
    read_only: bool,
    allow_outside: bool,
    model: str | None,
    device: str,
    force: bool,
) -> None:
    """Mix in the browser, on latents.

    Opens a page with a strip for each track (fader, mute, solo, polarity, pan, meter), the arrangement's buses and the
    master, a time line and a transport. One decoder runs, whatever the number of tracks; a move is heard at the next
    latent frame (93 ms). While Record is on, faders that are moved are written as curves. Save writes an arrangement
    that lincae render renders to the same audio. Only the files named here can be read. Needs: pip install
    'lincae[desk]'.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise failure("lincae desk needs starlette and uvicorn", "pip install 'lincae[desk]'") from None

    loaded, folder, target = _load(inputs, output)
    if not read_only and (output is not None or not _is_arrangement(inputs)):
        check_targets([str(target)], [], force)

    import torch

    from lincae_core.arrangement.song import Song
    from lincae_core.desk.server import Server, serve
    from lincae_core.desk.state import Desk
    from lincae_formats import Pool

    outside = allow_outside or not _is_arrangement(inputs)
    files = open_files(len(loaded.song.tracks) * 2)
    with Pool(files) as pool:
        header = Song(loaded, folder, pool, outside).header
    models = ModelCache(device)
    loaded_model = models.load(models.matching(header, inputs[0], model))
    torch.set_num_threads(1)  # a few frames at a time: threads that wait for each other cost more than they do
    state = Desk(loaded, folder, target, outside)
    server = Server(state, loaded_model, read_only=read_only, open_files=files)

    def ready(address: str) -> None:
        click.echo(address)
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(server, host, port, ready)
    finally:
        if state.dirty:
            say("note", "there were changes that were not saved")


def _is_arrangement(inputs: tuple[str, ...]) -> bool:
    return inputs[0].lower().endswith((".yaml", ".yml"))


def _load(inputs: tuple[str, ...], output: str | None) -> tuple[Loaded, Path, Path]:
    """The arrangement, the folder its file names are relative to, and where it is saved."""
    from lincae_core.arrangement.load import load
    from lincae_core.desk.state import arrangement

    if output is not None and not output.lower().endswith((".yaml", ".yml")):
        raise usage_error(f"-o {output} is not an arrangement", "write -o song.yaml")
    for path in inputs:
        if not os.path.exists(path):
            raise failure(f"{path}: no such file", nearest(path))
    if _is_arrangement(inputs):
        if len(inputs) > 1:
            raise usage_error("lincae desk opens one arrangement", f"lincae desk {inputs[0]}")
        source, target = Path(inputs[0]), Path(output or inputs[0])
        if target.resolve().parent != source.resolve().parent:
            raise usage_error(
                f"-o {output} lies in another folder than {inputs[0]}, whose files are named from there",
                f"write -o {source.parent / target.name}",
            )
        return load(source), source.parent, target
    target = Path(output or "desk.yaml")
    folder = target.resolve().parent
    names = [os.path.relpath(os.path.realpath(path), folder) for path in inputs]
    if any(name.startswith("..") for name in names):
        say("note", f"some stems lie outside the folder of {target}: render it with --allow-outside")
    return load(arrangement(names), target.name), folder, target
