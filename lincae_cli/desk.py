"""`lincae desk`: a mixing desk in the browser on compressed stems."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .batch import open_files, opened
from .messages import failure, say, usage_error
from .options import STDIO, Whole, argument, command, device, force, model, output
from .paths import ModelCache, check_targets, gather
from .render import load_arrangement

if TYPE_CHECKING:
    from lincae_core.arrangement.load import Loaded


@command(
    "desk",
    "lincae desk song.yaml",
    "lincae desk stems/ -o song.yaml",
    "lincae desk song.yaml --read-only --host 0.0.0.0 --port 8000 --no-browser",
)
@argument("inputs", "YAML|LAT...", "An arrangement, or stems: .lat files or their folder.", required=True)
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
    that lincae render renders to the same audio. Only the files named here can be read. Ctrl+C ends it. Needs: pip
    install 'lincae[desk]'.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise failure("lincae desk needs starlette and uvicorn", "pip install 'lincae[desk]'") from None

    stems = not inputs[0].lower().endswith((".yaml", ".yml"))
    loaded, folder, target = _stems(inputs, output) if stems else _arrangement(inputs, output)
    if not read_only and (output is not None or stems):
        check_targets([str(target)], [], force)

    import torch

    from lincae_core.arrangement.song import Song
    from lincae_core.desk.server import Server, serve
    from lincae_core.desk.state import Desk
    from lincae_formats import Pool

    outside = allow_outside or stems
    files = open_files(len(loaded.song.tracks) * 2)
    with Pool(files) as pool:
        header = Song(loaded, folder, pool, outside).header
    models = ModelCache(device)
    info = models.matching(header, inputs[0], model)
    if info.family != "frame":
        raise failure(
            f"lincae desk cannot play {header.model}: it decodes too slowly, and not a part at a time",
            "encode the audio again, without --model; to mix these: lincae render song.yaml -o song.wav",
        )
    loaded_model = models.load(info)
    torch.set_num_threads(1)  # a few frames at a time: threads that wait for each other cost more than they do
    state = Desk(loaded, folder, target, outside)
    server = Server(state, loaded_model, read_only=read_only, open_files=files)

    def ready(address: str) -> None:
        click.echo(address)
        say("note", f"{'open this address in a browser' if no_browser else 'a browser opens'}; Ctrl+C ends the desk")
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    try:
        serve(server, host, port, ready)
    finally:
        if state.dirty:
            say("note", "there were changes that were not saved")


def _arrangement(inputs: tuple[str, ...], output: str | None) -> tuple[Loaded, Path, Path]:
    """The arrangement named, the folder its file names are relative to, and where it is saved."""
    if len(inputs) > 1:
        raise usage_error("lincae desk opens one arrangement", f"lincae desk {inputs[0]}")
    loaded, folder = load_arrangement(inputs[0])
    target = Path(_yaml(output) if output else inputs[0])
    if target.resolve().parent != folder.resolve():
        raise usage_error(
            f"-o {output} lies in another folder than {inputs[0]}, whose files are named from there",
            f"write -o {folder / target.name}",
        )
    return loaded, folder, target


def _stems(inputs: tuple[str, ...], output: str | None) -> tuple[Loaded, Path, Path]:
    """An arrangement of stems, the folder its file names are relative to, and where it is saved."""
    from lincae_core.arrangement.load import load
    from lincae_core.desk.state import arrangement

    target = Path(_yaml(output) if output else "desk.yaml")
    folder = target.resolve().parent
    paths = [f.path for f in gather(inputs, suffixes={".lat"}, kind=".lat", missing="lincae desk: YAML|LAT").found]
    if STDIO in paths:
        raise usage_error("lincae desk reads files again and again, and stdin (-) only once", "name files")
    with opened(paths) as files:
        rates = [file.header.sample_rate for file in files]
    if len(set(rates)) > 1:
        say("note", f"the stems' sample rates differ; the mix is saved and exported at {rates[0]} Hz")
    names = [os.path.relpath(os.path.realpath(path), folder) for path in paths]
    if any(name.startswith("..") for name in names):
        say("note", f"some stems lie outside the folder of {target}: render it with --allow-outside")
    text = arrangement(names, rates[0] if len(set(rates)) > 1 else None)
    return load(text, target.name), folder, target


def _yaml(output: str) -> str:
    if not output.lower().endswith((".yaml", ".yml")):
        raise usage_error(f"-o {output} is not an arrangement", "write -o song.yaml")
    return output
