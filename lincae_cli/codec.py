"""`lincae encode` and `decode`, and what the two share."""

import typer

from . import decode, encode
from .command import add


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    add(
        app,
        encode.encode,
        "lincae encode song.wav",
        "lincae encode stems/ -o latents/ --jobs 2",
        "find in -name '*.wav' -print0 | lincae encode -0 --files-from - -o latents/",
        "lincae encode - - < song.wav | lincae gain - --db -6 -o - | lincae decode - -o quiet.flac",
    )
    add(
        app,
        decode.decode,
        "lincae decode song.lat",
        "lincae decode song.lat --start 1:00 --end 1:10 -o chorus.flac",
        "lincae decode 'latents/**/mix.lat' -o mixes/",
    )
