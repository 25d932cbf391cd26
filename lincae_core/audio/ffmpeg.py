"""Audio and video that libsndfile does not read, decoded by the ffmpeg program where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from lincae_formats.errors import LincaeError

FFMPEG_EXTENSIONS = frozenset({
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".wma", ".wmv", ".asf", ".mkv", ".mka", ".webm", ".avi",
    ".ac3", ".eac3", ".dts", ".ape", ".wv", ".mpc", ".tta", ".amr", ".ra", ".rm", ".3gp", ".alac", ".weba",
})  # fmt: skip
"""Lower-case extensions of audio and video that libsndfile does not read but ffmpeg does."""

_SIGNATURES = (
    b"\x1aE\xdf\xa3",
    b"0&\xb2u",
    b"\xff\xf1",
    b"\xff\xf9",
    b"MAC ",
    b"wvpk",
    b"MPCK",
    b"TTA1",
    b"#!AMR",
    b"\x0bw",
)


def has_ffmpeg() -> bool:
    """Whether the program is installed."""
    return shutil.which("ffmpeg") is not None


def is_known(head: bytes) -> bool:
    """Whether a file that begins so is of a kind that ffmpeg reads: MP4, Matroska, ASF, ADTS, ..."""
    return head[4:8] == b"ftyp" or head.startswith(_SIGNATURES)


class FfmpegStream:
    """The first audio stream of a file, decoded from its beginning. A context manager.

    Args:
        source: A path, or an open file with a descriptor.
        name: Of the file, for messages.

    Attributes:
        sample_rate: Hz.
        channels: Channels.

    Raises:
        LincaeError: ffmpeg does not read it, or finds no audio in it.
    """

    def __init__(self, source: str | BinaryIO, name: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        command, descriptors = _input(source)
        self._process = subprocess.Popen(
            [*command, "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=descriptors,
        )  # fmt: skip
        try:
            self.sample_rate, self.channels = self._header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FfmpegStream:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends ffmpeg."""
        self.close()

    def close(self) -> None:
        """Ends ffmpeg."""
        if self._process.poll() is None:
            self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def blocks(self, block: int = 1 << 16) -> Iterator[np.ndarray]:
        """Yields float32 ``[n, channels]`` to the end.

        Raises:
            LincaeError: ffmpeg failed on the way.
        """
        assert self._process.stdout is not None
        width, rest = 4 * self.channels, b""
        while data := self._process.stdout.read(block * width - len(rest)):
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            yield np.frombuffer(data[:whole], "<f4").reshape(-1, self.channels)
        if self._process.wait():
            raise self._failed()

    def warning(self) -> str:
        """The last line that ffmpeg wrote to stderr; empty when it had nothing to say."""
        return next((line.strip() for line in reversed(self._said().split("\n")) if line.strip()), "")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4096:].decode(errors="replace")

    def _header(self) -> tuple[int, int]:
        file, rate, channels = self._process.stdout, 0, 0
        assert file is not None
        if len(file.read(12)) == 12:
            while len(head := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", head)
                if name == b"data":
                    return rate, channels
                data = file.read(length + length % 2)
                if name == b"fmt ":
                    _, channels, rate = struct.unpack("<HHI", data[:8])
        self._process.wait()
        raise self._failed()

    def _failed(self) -> LincaeError:
        said = self.warning().rpartition(self.name)[2].strip(" :") or "it says nothing"
        if "matches no streams" in self._said():
            return LincaeError(f"{self.name} holds no audio", "give a file with an audio stream")
        return LincaeError(f"ffmpeg cannot read {self.name}: {said[:200]}", "is it audio, and whole?")


def ffmpeg_tags(source: str | BinaryIO) -> dict[str, str]:
    """The metadata of a file as ffmpeg names it, lower-case keys; empty where there is none."""
    command, descriptors = _input(source)
    done = subprocess.run(
        [*command, "-f", "ffmetadata", "-"], stdin=subprocess.DEVNULL, capture_output=True, pass_fds=descriptors
    )
    tags = {}
    for line in done.stdout.decode(errors="replace").replace("\\\n", "\n").split("\n"):
        if line.startswith("["):  # chapters and streams follow
            break
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            tags[key.strip().lower()] = value.replace("\\", "")
    return tags


def _input(source: str | BinaryIO) -> tuple[list[str], tuple[int, ...]]:
    descriptors: tuple[int, ...] = ()
    if isinstance(source, str):
        where = f"file:{source}"
    else:
        with contextlib.suppress(OSError):
            source.flush()
        where, descriptors = f"file:/dev/fd/{source.fileno()}", (source.fileno(),)
    program = shutil.which("ffmpeg") or "ffmpeg"
    return [os.fspath(program), "-nostdin", "-v", "error", "-i", where], descriptors
