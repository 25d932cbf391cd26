"""Options that several subcommands share."""

from typing import Annotated

import typer

LatArgument = Annotated[str, typer.Argument(metavar="LAT", help="A .lat file, or - for stdin.", show_default=False)]
LatArguments = Annotated[
    list[str],
    typer.Argument(metavar="LAT...", help="Files, folders, or - for stdin.", show_default=False),
]
LatOutput = Annotated[
    str | None, typer.Option("--output", "-o", metavar="OUT", help="The .lat file to write, or - for stdout.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files that exist.")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where to compute.", show_default=True)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SampleRate = Annotated[
    str | None,
    typer.Option(
        "--sample-rate",
        metavar="HZ",
        help="The result's sample rate, where the operands' differ; nothing is resampled.",
    ),
]
