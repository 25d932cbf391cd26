"""`lincae demo`: stems mixed, turned down and pulled apart in latent space."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .command import add

if TYPE_CHECKING:
    from lincae_core.demo.run import Summary


def register(app: typer.Typer) -> None:
    """Adds the command."""
    add(app, demo, "lincae demo -o lincae-demo")


def demo(
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="DIR", help="The folder to write audio, picture and page to."),
    ] = None,
) -> None:
    """Hear it: encode the bundled stems, add, subtract and scale their latents, decode."""
    from lincae_core.demo import run_demo

    summary = run_demo(
        None if output is None else Path(output),
        tell=lambda line: typer.echo(f"lincae demo: {line} ...", err=True),
    )
    _print_table(summary)


def _print_table(summary: "Summary") -> None:
    cells = [("result", ".lat bytes", "vs PCM", "operation", "decode", "MSS")]
    for row in summary.rows:
        operation = "-" if row.operation_seconds is None else f"{1000 * row.operation_seconds:.0f} ms"
        cells.append(
            (
                row.title, str(row.lat_bytes), f"{row.pcm_bytes / row.lat_bytes:.1f}x", operation,
                f"{row.decode_speed:.0f}x real time", f"{row.distance:.2f}",
            )
        )  # fmt: skip
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    for line in cells:
        first, *rest = (
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        typer.echo("  ".join([first, *rest]))
    typer.echo(
        f"\n{summary.seconds:.0f} s of stereo, encoded at {summary.encode_speed:.0f}x real time. "
        "MSS: multi-scale spectral distance to the truth, 0 is equal."
    )
    typer.echo(f"Listen: open {summary.folder / 'index.html'}")
