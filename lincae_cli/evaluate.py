"""`lincae eval`: systems compared by the paper's protocols on tracks with stems."""

import sys
from pathlib import Path
from typing import Annotated, Any, Self

import typer

from . import errors
from .command import add
from .errors import failure, usage_error
from .options import Device, Force
from .parsing import parse_budget, parse_choice, parse_device, parse_gain, parse_int

OUT = "lincae-eval"
STDOUT = "-"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(
        app,
        evaluate,
        "lincae eval --data musdb18hq --model frame --model opus --html report.html",
        "lincae eval --data stems --seconds 10 --model frame --model klt --model identity",
        name="eval",
    )


def evaluate(
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DIR", help="Tracks: DIR/TRACK/{bass,drums,other,vocals}.wav, or MUSDB18."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="M",
            help="A model's name or file, opus, opus:KBPS, klt (fitted on the other tracks), klt:DIR, identity, "
            "stable-audio-vae, random:unet; repeat it.",
        ),
    ] = None,
    seconds: Annotated[
        str | None, typer.Option("--seconds", metavar="TIME", help="Only the beginning of each track.")
    ] = None,
    tracks: Annotated[
        list[str] | None, typer.Option("--tracks", metavar="A,B", help="Only these tracks; may be repeated.")
    ] = None,
    json: Annotated[str | None, typer.Option("--json", metavar="F", help="Write all figures; - is stdout.")] = None,
    html: Annotated[str | None, typer.Option("--html", metavar="F", help="Write a page with players.")] = None,
    markdown: Annotated[str | None, typer.Option("--markdown", metavar="F", help="Write the tables.")] = None,
    csv: Annotated[str | None, typer.Option("--csv", metavar="F", help="Write the tables.")] = None,
    latex: Annotated[str | None, typer.Option("--latex", metavar="F", help="Write the tables.")] = None,
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Where figures and excerpts are kept, to go on from.")
    ] = OUT,
    gains: Annotated[
        str | None, typer.Option("--gains", metavar="A,B", help="Of homogeneity; default: 0.25,0.5,0.75,1.5.")
    ] = None,
    steps: Annotated[str, typer.Option("--steps", metavar="N", help="Sampling steps.")] = "1",
    seed: Annotated[str, typer.Option("--seed", metavar="N", help="Seed of the noise.")] = "0",
    subtype: Annotated[
        str,
        typer.Option(
            "--subtype", metavar="PCM_16|PCM_24|FLOAT", help="What decoded audio is rounded to, as in a file."
        ),
    ] = "PCM_16",
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Compare systems by the paper's protocols. The same command again goes on where it stopped."""
    if data is None:
        raise usage_error("lincae eval: --data is missing", "for example: lincae eval --data stems --model frame")
    limit = None if seconds is None else parse_budget(seconds, "--seconds")
    count = parse_int(steps, "--steps", 1, 1000)
    noise = parse_int(seed, "--seed", 0, 2**63 - 1)
    parse_device(device, "--device")
    factors = None if gains is None else tuple(_gain(text) for text in gains.split(","))
    targets = {"json": json, "html": html, "markdown": markdown, "csv": csv, "latex": latex}
    wanted = {kind: target for kind, target in targets.items() if target is not None}
    _check_targets(wanted, force)

    from lincae_core.evaluation.dataset import find_tracks
    from lincae_core.evaluation.protocols import GAINS
    from lincae_core.evaluation.results import Settings
    from lincae_core.evaluation.runner import evaluate as run
    from lincae_core.evaluation.systems import Options, choose_systems
    from lincae_core.evaluation.written import SUBTYPES
    from lincae_formats.errors import LincaeError

    kind = parse_choice(subtype, "--subtype", SUBTYPES)
    folder = Path(data)
    every = find_tracks(folder)
    some = find_tracks(folder, _names(tracks or [], {track.name for track in every}))
    systems = choose_systems(model or ["frame"], every, Options(device, count, noise))
    settings = Settings(seconds=limit, gains=factors or GAINS, steps=count, seed=noise, subtype=kind)
    with _Line() as line:
        results, failures = run(folder, some, systems, Path(out), settings, device=device, say=line.show)
    if results["systems"] and not results["measures"]:
        failures.append(
            LincaeError(f"{data}: all that was read is silent, nothing can be measured", "give other tracks")
        )
    elif results["systems"]:
        _report(results, Path(out), wanted)
    for error in failures:
        errors.show(error)
    if failures:
        total = len(some) * len(systems)
        if total > 1 and results["measures"]:
            errors.say("error", f"{len(failures)} of {total} measurements failed; the others are done")
        raise typer.Exit(errors.FAILURE)


class _Line:
    """A line on stderr that says what is measured; only on a terminal, and gone at the end."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        if self._live:
            sys.stderr.write(f"\r\033[K{text}")
            sys.stderr.flush()


def _gain(text: str) -> float:
    gain = parse_gain(text, "--gains")
    if gain == 0:
        raise usage_error("--gains 0 is silence, which no error can be measured against", "for example: --gains 0.5,2")
    return gain


def _names(texts: list[str], known: set[str]) -> list[str]:
    """Track names from `A,B`; a name that has a comma itself is taken whole."""
    parts = [[text] if text in known else text.split(",") for text in texts]
    return [name.strip() for part in parts for name in part if name.strip()]


def _check_targets(wanted: dict[str, str], force: bool) -> None:
    from lincae_formats.atomic import check_target

    files = [target for target in wanted.values() if target != STDOUT]
    if len(wanted) - len(files) > 1:
        raise usage_error("only one of --json, --markdown, --csv and --latex can go to stdout", "name files instead")
    if wanted.get("html") == STDOUT:
        raise usage_error("--html - is a page to open, not to print", "write --html report.html")
    twice = next((f for i, f in enumerate(files) if f in files[:i]), None)
    if twice is not None:
        raise usage_error(f"{twice} would be written twice", "give every output a file of its own")
    for target in files:
        if Path(target).is_dir():
            raise failure(f"{target} is a folder", f"name a file: {Path(target) / 'report'}")
        check_target(target, force)


def _report(results: dict[str, Any], out: Path, wanted: dict[str, str]) -> None:
    """Writes what was asked for; the tables go to stdout unless something else does."""
    from lincae_core.evaluation.report import (
        render_csv,
        render_latex,
        render_markdown,
        render_terminal,
        write_html,
    )
    from lincae_core.evaluation.results import dump_results, write_results

    texts = {"markdown": render_markdown, "csv": render_csv, "latex": render_latex}
    printed = False
    for kind, target in wanted.items():
        path = Path(target)
        if kind == "html":
            write_html(results, out, path)
        elif target == STDOUT:
            text = dump_results(results, out, Path()) if kind == "json" else texts[kind](results)
            typer.echo(text.rstrip("\n"))
            printed = True
        elif kind == "json":
            write_results(results, out, path)
        else:
            _write(path, texts[kind](results))
    if not printed:
        typer.echo(render_terminal(results).rstrip("\n"))
        if sys.stderr.isatty():
            print(f"\nlincae eval: figures and excerpts are kept in {out}", file=sys.stderr)


def _write(path: Path, text: str) -> None:
    from lincae_formats.atomic import atomic_path

    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
