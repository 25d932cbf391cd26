"""Writing audio files: checked before any work, complete or not there at all.

What libsndfile can write stands in tables, for libsndfile itself says too little ("Format not recognised") or, for
Vorbis beyond its rates and channels, ends the process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import soundfile

from lincae_formats.errors import LincaeError, UsageError
from lincae_formats.files import atomic_path, check_target

from .containers import add_flac_gains, add_id3, write_tags
from .read import printable

Target = str | os.PathLike[str] | BinaryIO

_PIECE = 1 << 16  # values given to libsndfile at once: its Vorbis encoder keeps a whole call on the stack
_PCM = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MAX_RATE = 2**31 - 1

INTEGER_SUBTYPES = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32"})
BYTES_PER_SAMPLE = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class WriteFormat:
    """One kind of file that can be written.

    Attributes:
        container: libsndfile's name of the container.
        subtypes: Sample formats allowed; the first is the default.
        max_channels: Most channels.
        max_rate: Highest sample rate, Hz.
        rates: The only sample rates allowed, Hz; empty when all up to `max_rate` are.
        max_bytes: Most bytes of samples; None when there is no limit.
    """

    container: str
    subtypes: tuple[str, ...]
    max_channels: int = 1024
    max_rate: int = _MAX_RATE
    rates: tuple[int, ...] = ()
    max_bytes: int | None = None

    def allows_rate(self, rate: int) -> bool:
        """Whether a file of this kind can say it has `rate` Hz."""
        return rate in self.rates if self.rates else 1 <= rate <= self.max_rate

    def nearest_rate(self, rate: int) -> int:
        """The allowed rate that loses least: the lowest above `rate`, else the highest."""
        rates = self.rates or (self.max_rate,)
        return min((r for r in rates if r >= rate), default=max(rates))


# 32-bit sizes; a MiB is left for the other chunks of the file.
_4_GIB = 2**32 - 2**20

WRITE_FORMATS = {
    "WAV": WriteFormat("WAV", (*_PCM, "PCM_U8"), max_bytes=_4_GIB),
    "W64": WriteFormat("W64", (*_PCM, "PCM_U8")),
    "RF64": WriteFormat("RF64", (*_PCM, "PCM_U8")),
    "AIFF": WriteFormat("AIFF", _PCM, max_bytes=_4_GIB // 2),
    "AU": WriteFormat("AU", _PCM, max_bytes=_4_GIB),
    "CAF": WriteFormat("CAF", _PCM),
    "FLAC": WriteFormat("FLAC", ("PCM_16", "PCM_24"), max_channels=8, max_rate=655350),
    "OGG": WriteFormat("OGG", ("VORBIS",), max_channels=255, max_rate=200000),
    "OPUS": WriteFormat("OGG", ("OPUS",), max_channels=255, rates=_OPUS_RATES),
    "MP3": WriteFormat("MP3", ("MPEG_LAYER_III",), max_channels=2, rates=_MP3_RATES),
}

WRITE_EXTENSIONS = {
    ".wav": "WAV", ".wave": "WAV", ".w64": "W64", ".rf64": "RF64",
    ".aif": "AIFF", ".aiff": "AIFF", ".au": "AU", ".caf": "CAF",
    ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OPUS", ".mp3": "MP3",
}  # fmt: skip


def find_format(name: str, path: str | os.PathLike[str] | None, format: str | None) -> WriteFormat:
    """The kind of file to write: the one named, else the one the path's extension says, else WAV.

    Args:
        name: What error messages call the target.
        path: The target; None for a stream.
        format: "WAV", "FLAC", "OGG", "OPUS", "MP3", ... in any case.

    Raises:
        UsageError: an unknown format or extension.
    """
    known = ", ".join(WRITE_FORMATS)
    if format is not None:
        if format.upper() not in WRITE_FORMATS:
            raise UsageError(f"cannot write {name}: unknown audio format {format!r}", f"use one of {known}")
        return WRITE_FORMATS[format.upper()]
    if path is None:
        return WRITE_FORMATS["WAV"]
    extension = Path(path).suffix.lower()
    if extension not in WRITE_EXTENSIONS:
        what = f"the extension {extension} is none of" if extension else "there is no extension of"
        raise UsageError(
            f"cannot write {name}: {what} an audio format that can be written",
            "end the name in .wav, .flac, .ogg, .opus, .mp3, .aiff, .caf, .au, .w64 or .rf64",
        )
    return WRITE_FORMATS[WRITE_EXTENSIONS[extension]]


def check_writable(name: str, kind: WriteFormat, sample_rate: int, channels: int, subtype: str | None) -> str:
    """The subtype to write with, once everything about the file is known to be possible.

    Raises:
        UsageError: the subtype, the rate or the channel count is not possible in this kind of file.
    """
    shown = "OPUS" if kind.rates == _OPUS_RATES else kind.container
    subtype = (subtype or kind.subtypes[0]).upper()
    if subtype not in kind.subtypes:
        one_of = "one of " if len(kind.subtypes) > 1 else ""
        raise UsageError(
            f"cannot write {name}: {shown} does not hold {subtype}",
            f"use --subtype {one_of}{', '.join(kind.subtypes)}",
        )
    if channels < 1:
        raise UsageError(f"cannot write {name}: {channels} channels", "give at least one")
    if channels > kind.max_channels:
        other = "write a .wav" if kind.container != "WAV" and channels <= 1024 else "use fewer channels"
        raise UsageError(
            f"cannot write {name}: {shown} holds at most {kind.max_channels} channels, not {channels}", other
        )
    if not kind.allows_rate(sample_rate):
        rates = ", ".join(map(str, kind.rates)) if kind.rates else f"1 to {kind.max_rate}"
        raise UsageError(
            f"cannot write {name}: {shown} holds {rates} Hz, not {sample_rate}",
            f"add --sample-rate {kind.nearest_rate(sample_rate)}, or write a .wav",
        )
    return subtype


def output_rate(path: str | os.PathLike[str] | None, format: str | None, rate: int) -> int:
    """The rate to write audio of `rate` Hz at: its own, or the one of the format that loses least.

    Args:
        path: The target; None for a stream.
        format: As for `AudioWriter`.
        rate: Hz.
    """
    kind = find_format("the output" if path is None else os.fspath(path), path, format)
    return rate if kind.allows_rate(rate) else kind.nearest_rate(rate)


class AudioWriter:
    """An audio file being written. A context manager.

    The file gets its name when the block ends without an exception; otherwise nothing is left. A file object
    (a pipe, too) gets the finished file's bytes at the end. Values beyond [-1, 1] are clipped in integer
    subtypes; MP3, Vorbis and Opus get them as they are, but most players clip them.

    Args:
        target: A path, or a binary file object.
        sample_rate: Hz.
        channels: Channels of every block.
        format: "WAV", "FLAC", "OGG", "OPUS", "MP3", "AIFF", "CAF", "AU", "W64" or "RF64"; default: what the
            path's extension says, WAV for a file object.
        subtype: "PCM_16", "PCM_24", "PCM_32", "FLOAT", ...; default: PCM_16 where the format has it.
        overwrite: Whether an existing file may be replaced.
        num_samples: How long it will be, if known: a file too long for its format is then refused at once.
        tags: Title, artist, ... for the formats that hold them.

    Attributes:
        clipped: Values beyond [-1, 1] so far, of all channels, where the format is not made for them.
        num_samples: Samples per channel written so far.

    Raises:
        UsageError: format, extension, subtype, rate, channels or length do not go together.
        TargetExistsError, LincaeError: the target cannot be written. All of these before any work.
    """

    def __init__(
        self, target: Target, sample_rate: int, channels: int, *, format: str | None = None,
        subtype: str | None = None, overwrite: bool = False, num_samples: int | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Checks everything that can be checked; creates nothing yet."""
        self._path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self._object = None if isinstance(target, (str, os.PathLike)) else target
        self.name = printable(target) if isinstance(target, (str, os.PathLike)) else _stream_name(target)
        self._kind = find_format(self.name, self._path, format)
        self.subtype = check_writable(self.name, self._kind, sample_rate, channels, subtype)
        self.format = self._kind.container
        self.sample_rate, self.channels = sample_rate, channels
        self._overwrite = overwrite
        self._tags = dict(tags or {})
        self.clipped = 0
        self.num_samples = 0
        self._check_size(num_samples or 0)
        if self._path is not None:
            check_target(self._path, overwrite)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Makes the temporary file."""
        with contextlib.ExitStack() as stack:
            self._temp = stack.enter_context(self._temporary())
            with self._errors():
                self._file = soundfile.SoundFile(
                    os.fsencode(self._temp), "w", samplerate=self.sample_rate, channels=self.channels,
                    subtype=self.subtype, format=self.format,
                )  # fmt: skip
            stack.callback(self._close_quietly)
            write_tags(self._file, self._tags)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Finishes and names the file, or removes it."""
        if error[1] is None:
            try:
                self._finish()
            except BaseException as e:
                self._stack.__exit__(type(e), e, e.__traceback__)
                raise
        self._stack.__exit__(*error)

    def write(self, block: np.ndarray) -> None:
        """Appends finite float32 `[channels, n]`.

        Raises:
            LincaeError: NaN or infinity, a full disk, or more than the format can hold.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ValueError(f"a block has shape {block.shape}, must be ({self.channels}, n)")
        if not np.isfinite(block).all():
            raise LincaeError(f"cannot write {self.name}: the audio holds NaN or infinity", "report this")
        self._check_size(self.num_samples + block.shape[1])
        data = np.ascontiguousarray(block.T, dtype=np.float32)
        if self.subtype not in ("FLOAT", "DOUBLE"):
            self.clipped += int(np.count_nonzero(np.abs(data) > 1))
        if self.subtype in INTEGER_SUBTYPES:
            data = np.clip(data, -1, 1)
        step = max(1, _PIECE // self.channels)
        with self._errors():
            for i in range(0, len(data), step):
                self._file.write(data[i : i + step])
        self.num_samples += block.shape[1]

    def _finish(self) -> None:
        with self._errors():
            self._file.close()
            if self.format == "FLAC":
                add_flac_gains(self._temp, self._tags)
            elif self.format == "MP3":
                add_id3(self._temp, self._tags)
            # libsndfile keeps some failures to itself (a full disk under the last page of an Ogg file).
            written = soundfile.info(os.fsencode(self._temp)).frames if self.num_samples else 0
        if written != self.num_samples:
            raise LincaeError(
                f"cannot write {self.name}: {written} of {self.num_samples} samples arrived",
                "free some space, or write elsewhere",
            )

    def _check_size(self, num_samples: int) -> None:
        limit = self._kind.max_bytes
        size = num_samples * self.channels * BYTES_PER_SAMPLE.get(self.subtype, 0)
        if limit is not None and size > limit:
            raise UsageError(
                f"cannot write {self.name}: {self.format} holds at most {limit / 2**30:.0f} GiB",
                "write .w64 or .flac",
            )

    @contextlib.contextmanager
    def _temporary(self) -> Iterator[Path]:
        if self._path is not None:
            with atomic_path(self._path, self._overwrite) as path:
                yield path
            return
        with self._errors():
            folder = tempfile.TemporaryDirectory(prefix="lincae-")
        with folder as name:
            path = Path(name) / "audio"
            yield path
            self._copy_to_object(path)

    def _copy_to_object(self, path: Path) -> None:
        assert self._object is not None
        with self._errors(), open(path, "rb") as file:
            shutil.copyfileobj(file, self._object, 1 << 20)
            self._object.flush()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except (soundfile.LibsndfileError, OSError, AssertionError) as e:
            # soundfile asserts that libsndfile wrote everything; the system's reason is lost on the way.
            full = self._path is not None and shutil.disk_usage(self._path.parent).free < 1 << 16
            reason = (isinstance(e, OSError) and e.strerror) or (os.strerror(errno.ENOSPC) if full else "it failed")
            raise LincaeError(f"cannot write {self.name}: {reason}", "free some space, or write elsewhere") from e

    def _close_quietly(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.close()


def _stream_name(target: BinaryIO) -> str:
    name = getattr(target, "name", None)
    return "standard output" if name in (None, "<stdout>", 1) else str(name)
