"""Operands that may be audio or `.lat`: told apart by their first bytes, decoded or encoded where needed."""

import io
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from . import paths
from .inputs import STDIO
from .used import Models

if TYPE_CHECKING:
    from lincae_core.sources import DecodedAudio
    from lincae_formats import LatReader

_SIGNATURE = b"\x89HDF"


def is_lat(path: str) -> bool:
    """Whether a file, or stdin, begins as a `.lat` does.

    Raises:
        LincaeError: there is no such file.
    """
    paths.open_source(path, "audio or a .lat file")
    if path == STDIO:
        stdin = cast(io.BufferedReader, sys.stdin.buffer)
        return stdin.peek(len(_SIGNATURE))[: len(_SIGNATURE)] == _SIGNATURE
    with open(path, "rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def open_audio(path: str, models: Models, model: str | None, stack: ExitStack) -> Any:
    """An audio file, or a `.lat` as the audio it decodes to."""
    source: str | BinaryIO = paths.open_source(path, "audio or a .lat file")
    if is_lat(path):
        from lincae_formats import LatReader

        return decoded(stack.enter_context(LatReader(source)), models, model)
    from lincae_core.audio import AudioReader

    return stack.enter_context(AudioReader(source))


def decoded(reader: "LatReader", models: Models, model: str | None) -> "DecodedAudio":
    """What a `.lat` decodes to.

    Raises:
        LincaeError: its model is not at hand.
    """
    loaded = models.load(models.matching(reader.header, reader.name, model))

    from lincae_core.plan import decoded_span
    from lincae_core.sources import DecodedAudio

    return DecodedAudio(loaded, reader, decoded_span(reader.header, reader.name))
