"""Options that several subcommands share."""

from typing import Annotated

import typer

LatArgument = Annotated[str, typer.Argument(metavar="LAT", help="A .lat file, or - for stdin.", show_default=False)]
LatInputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="LAT...", help="Files, folders, quoted globs, or - for stdin.", show_default=False),
]
FilesFrom = Annotated[
    str | None,
    typer.Option("--files-from", metavar="LIST", help="Take the names in a file too, one a line; - is stdin."),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="NUL ends the names in the list, as find -print0 does.")]
Jobs = Annotated[str, typer.Option("--jobs", "-j", metavar="N", help="Files at once.")]
Batch = Annotated[
    str, typer.Option("--jobs", "-j", metavar="N", help="Files at once; as many as there are cores, if not told.")
]
LogOption = Annotated[
    str | None, typer.Option("--log", metavar="json", help="Write one JSON line a file to stderr, and no progress.")
]
LatOutput = Annotated[
    str | None, typer.Option("--output", "-o", metavar="OUT", help="The .lat file to write, or - for stdout.")
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files that exist.")]
Overwrite = Annotated[
    bool,
    typer.Option("--force", "-f", help="Overwrite files that exist; without it a batch skips those that are finished."),
]
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
