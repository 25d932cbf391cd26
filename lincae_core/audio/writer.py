"""Writing audio files: checked before any work, complete or not there at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import soundfile

from lincae_formats.atomic import atomic_path, check_target
from lincae_formats.errors import LincaeError, UsageError

from .formats import BYTES_PER_SAMPLE, INTEGER_SUBTYPES, check_writable, find_format

Target = str | os.PathLike[str] | BinaryIO

_PIECE = 1 << 16  # values given to libsndfile at once: its Vorbis encoder keeps a whole call on the stack


class AudioWriter:
    """An audio file being written. A context manager.

    The file gets its name when the block ends without an exception; otherwise nothing is left. A file object
    (a pipe, too) gets the finished file's bytes at the end. Values beyond [-1, 1] are clipped in integer
    subtypes only.

    Args:
        target: A path, or a binary file object.
        sample_rate: Hz.
        channels: Channels of every block.
        format: "WAV", "FLAC", "OGG", "OPUS", "MP3", "AIFF", "CAF", "AU", "W64" or "RF64"; default: what the
            path's extension says, WAV for a file object.
        subtype: "PCM_16", "PCM_24", "PCM_32", "FLOAT", ...; default: PCM_16 where the format has it.
        overwrite: Whether an existing file may be replaced.
        num_samples: How long it will be, if known: a file too long for its format is then refused at once.

    Attributes:
        clipped: Values clipped so far, of all channels.
        num_samples: Samples per channel written so far.

    Raises:
        UsageError: format, extension, subtype, rate, channels or length do not go together.
        TargetExistsError, LincaeError: the target cannot be written. All of these before any work.
    """

    def __init__(
        self,
        target: Target,
        sample_rate: int,
        channels: int,
        *,
        format: str | None = None,
        subtype: str | None = None,
        overwrite: bool = False,
        num_samples: int | None = None,
    ) -> None:
        """Checks everything that can be checked; creates nothing yet."""
        self._path = Path(target) if isinstance(target, (str, os.PathLike)) else None
        self._object = None if isinstance(target, (str, os.PathLike)) else target
        self.name = os.fspath(target) if isinstance(target, (str, os.PathLike)) else _stream_name(target)
        self._kind = find_format(self.name, self._path, format)
        self.subtype = check_writable(self.name, self._kind, sample_rate, channels, subtype)
        self.format = self._kind.container
        self.sample_rate, self.channels = sample_rate, channels
        self._overwrite = overwrite
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
                    os.fspath(self._temp),
                    "w",
                    samplerate=self.sample_rate,
                    channels=self.channels,
                    subtype=self.subtype,
                    format=self.format,
                )
            stack.callback(self._close_quietly)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finishes and names the file, or removes it."""
        if error is None:
            try:
                self._finish()
            except BaseException as e:
                self._stack.__exit__(type(e), e, e.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)

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
        if self.subtype in INTEGER_SUBTYPES:
            self.clipped += int(np.count_nonzero(np.abs(data) > 1))
            data = np.clip(data, -1, 1)
        step = max(1, _PIECE // self.channels)
        with self._errors():
            for i in range(0, len(data), step):
                self._file.write(data[i : i + step])
        self.num_samples += block.shape[1]

    def _finish(self) -> None:
        with self._errors():
            self._file.close()
            # libsndfile keeps some failures to itself (a full disk under the last page of an Ogg file).
            written = soundfile.info(os.fspath(self._temp)).frames if self.num_samples else 0
        if written != self.num_samples:
            raise LincaeError(
                f"cannot write {self.name}: {written} of {self.num_samples} samples arrived",
                "free some room or choose another -o",
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
            reason = (isinstance(e, OSError) and e.strerror) or "the disk is full or the write failed"
            raise LincaeError(f"cannot write {self.name}: {reason}", "free some room or choose another -o") from e

    def _close_quietly(self) -> None:
        with contextlib.suppress(soundfile.LibsndfileError):
            self._file.close()


def _stream_name(target: BinaryIO) -> str:
    name = getattr(target, "name", None)
    return "standard output" if name in (None, "<stdout>", 1) else str(name)
