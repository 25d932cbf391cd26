"""Audio from a pipe, copied to a temporary file: it is read more than once."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable
from typing import BinaryIO, cast

import soundfile

from lincae_formats.errors import LincaeError

HEAD = 1 << 20  # bytes by which audio is known
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT


def spool(source: BinaryIO, name: str, refuse: Callable[[soundfile.LibsndfileError], LincaeError]) -> BinaryIO:
    """Copies a stream to a temporary file, which whoever gets it closes.

    Args:
        source: The stream.
        name: What messages call it.
        refuse: Makes the error for what is no audio. That is found out after the first MiB: the rest might never end.

    Raises:
        LincaeError: no audio, or no room for it.
    """
    try:
        with contextlib.ExitStack() as stack:
            copy = cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile(prefix="lincae-")))
            for part in _parts(source, HEAD):
                copy.write(part)
            if copy.tell() >= HEAD:
                _check_head(copy, refuse)
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            stack.pop_all()
            return copy
    except OSError as e:
        raise LincaeError(
            f"cannot copy {name} to {tempfile.gettempdir()}: {e.strerror or e}",
            "set TMPDIR to a folder with more room",
        ) from e


def _parts(source: BinaryIO, left: int) -> list[bytes]:
    parts = []
    while left > 0 and (part := source.read(left)):
        parts.append(part)
        left -= len(part)
    return parts


def _check_head(copy: BinaryIO, refuse: Callable[[soundfile.LibsndfileError], LincaeError]) -> None:
    copy.flush()
    copy.seek(0)
    tagged = copy.read(3) == b"ID3"  # a picture of the album may be longer than the head
    copy.seek(0)
    try:
        soundfile.SoundFile(copy).close()
    except soundfile.LibsndfileError as e:
        if e.code == _UNRECOGNISED and not tagged:
            raise refuse(e) from e
    copy.seek(0, 2)
