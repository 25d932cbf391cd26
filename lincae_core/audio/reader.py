"""Reading audio files as blocks of float32."""

import contextlib
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import numpy as np
import soundfile

from lincae_formats.errors import LincaeError

from .formats import FFMPEG_EXTENSIONS
from .spool import spool

Source = str | os.PathLike[str] | BinaryIO

# Their frame counts follow from sizes and headers; every other coding pads or estimates, so is counted.
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC")
_IMPLAUSIBLE = 1 << 44  # samples: FLAC from a pipe says "unknown" as the largest integer
_COUNT_BLOCK = 1 << 16


class _ForwardFile(soundfile.SoundFile):
    """A file read from beginning to end.

    soundfile seeks after every read of a seekable file, which makes libsndfile's Opus decoder lose its state.
    """

    def seekable(self) -> bool:
        return False


class AudioReader:
    """An audio file open for reading. A context manager.

    Samples are float32; integers are scaled to [-1, 1), floats are kept as they are, beyond [-1, 1] too.
    Streams that cannot seek (a pipe) are first copied to a temporary file.

    Args:
        source: A path, or a binary file object.
        mono: Average the channels into one.

    Attributes:
        name: What messages call the file.
        subtype: libsndfile's name of the sample format.
        sample_rate: Hz.
        channels: Channels in the blocks: 1 with `mono`.
        num_samples: Exact number of samples per channel; what MP3, Ogg and other lossy files say of it is
            checked by decoding them once.

    Raises:
        LincaeError: missing, unreadable, not audio, or without a single sample; a file that changes meanwhile.
    """

    def __init__(self, source: Source, *, mono: bool = False) -> None:
        """Opens the file and finds its length."""
        self._stack = contextlib.ExitStack()
        self._mono = mono
        self._path: Path | None = None
        self._object: BinaryIO | None = None
        try:
            self._set_source(source)
            self._state = self._stat()
            with self._open() as file:
                self.subtype = str(file.subtype)
                self.sample_rate = int(file.samplerate)
                self._file_channels = int(file.channels)
                self.num_samples = self._length(file)
            self.channels = 1 if mono else self._file_channels
            if self.num_samples == 0:
                raise LincaeError(f"{self.name} holds no audio samples", "give a file with at least one")
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Gives back what the reader holds; a file object passed in stays open."""
        self._stack.close()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    def blocks(self, block: int = 1 << 16) -> Iterator[np.ndarray]:
        """Yields float32 `[channels, n]`, n = `block` except in the last, `num_samples` samples in all.

        Every call begins at the first sample. Of a file object or a pipe, run one iteration at a time.

        Raises:
            LincaeError: the file is damaged, or holds NaN or infinity; names the sample.
        """
        if block < 1:
            raise ValueError(f"block is {block} samples, must be at least 1")
        done = 0
        with self._open() as file:
            if (file.samplerate, file.channels) != (self.sample_rate, self._file_channels):
                raise self._changed()
            while done < self.num_samples:
                data = self._read(file, min(block, self.num_samples - done), done)
                if not len(data):
                    if self._stat() != self._state:
                        raise self._changed()
                    raise LincaeError(
                        f"{self.name} is damaged: it ends after {done} of {self.num_samples} samples",
                        "replace it by a whole copy",
                    )
                self._check_finite(data, done)
                done += len(data)
                if self._mono:
                    data = data.mean(axis=1, keepdims=True, dtype=np.float32)
                yield np.ascontiguousarray(data.T)
        if self._stat() != self._state:
            raise self._changed()

    def _set_source(self, source: Source) -> None:
        if not isinstance(source, (str, os.PathLike)):
            name = getattr(source, "name", None)
            self.name = "standard input" if name in (None, "<stdin>", 0) else str(name)
            self._object = source if _rewindable(source) else self._spool(source)
            return
        self.name = os.fspath(source)
        self._path = Path(source)
        try:
            mode = os.stat(source).st_mode
            if stat.S_ISDIR(mode):
                raise LincaeError(f"{self.name} is a folder, not an audio file", "name a file inside it")
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):  # reading it might never end
                raise LincaeError(f"{self.name} is a device, not an audio file", "name a file, or pipe audio in as -")
            if not stat.S_ISREG(mode):  # a pipe can be opened only once
                with open(source, "rb") as pipe:
                    self._object = self._spool(pipe)
        except (OSError, ValueError) as e:
            raise self._os_error(e) from e

    def _spool(self, source: BinaryIO) -> BinaryIO:
        copy = spool(source, self.name, self._not_audio)
        self._stack.callback(copy.close)
        return copy

    def _stat(self) -> tuple[int, ...] | None:
        """What tells whether a file was changed; None where that cannot be told."""
        try:
            found = os.stat(self._object.fileno() if self._object is not None else cast(Path, self._path))
        except (OSError, AttributeError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _changed(self) -> LincaeError:
        return LincaeError(f"{self.name} changed while it was being read", "run it again when the file is finished")

    def _open(self) -> soundfile.SoundFile:
        try:
            if self._object is not None:
                self._object.seek(0)
                return _ForwardFile(self._object)
            # A descriptor, not the name: soundfile takes names ending in .raw for headerless audio.
            fd = os.open(cast(Path, self._path), os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return _ForwardFile(fd, closefd=True)  # closes it when opening fails, too
        except soundfile.LibsndfileError as e:
            raise self._not_audio(e) from e
        except (OSError, ValueError) as e:
            raise self._os_error(e) from e

    def _length(self, file: soundfile.SoundFile) -> int:
        frames = int(file.frames)
        if file.format not in ("MP3", "OGG") and file.subtype.startswith(_EXACT) and frames < _IMPLAUSIBLE:
            return max(frames, 0)
        count = 0
        while n := len(self._read(file, max(1, _COUNT_BLOCK // file.channels), count)):
            count += n
        return count

    def _read(self, file: soundfile.SoundFile, n: int, at: int) -> np.ndarray:
        try:
            out = np.empty((n, file.channels), np.float32)
            return cast(np.ndarray, file.read(out=out))
        except soundfile.LibsndfileError as e:
            raise LincaeError(
                f"{self.name} is damaged after sample {at}: {_reason(e)}", "replace it by a whole copy"
            ) from e

    def _check_finite(self, data: np.ndarray, offset: int) -> None:
        finite = np.isfinite(data)
        if finite.all():
            return
        frame, channel = np.argwhere(~finite)[0]
        kind = "NaN" if np.isnan(data[frame, channel]) else "infinity"
        at = offset + int(frame)
        raise LincaeError(
            f"{self.name} holds {kind} at sample {at} ({at / self.sample_rate:.3f} s), channel {channel + 1}",
            "repair the file or render it again",
        )

    def _not_audio(self, error: soundfile.LibsndfileError) -> LincaeError:
        size = self._size()
        if size == 0:
            return LincaeError(f"{self.name} is empty (0 bytes)", "give an audio file")
        extension = Path(self.name).suffix.lower()
        source = shlex.quote(self.name)
        if extension in FFMPEG_EXTENSIONS:
            target = shlex.quote(str(Path(self.name).with_suffix(".wav")))
            return LincaeError(f"cannot read {extension} files: {self.name}", f"ffmpeg -i {source} {target}")
        if self._path is None:
            hint = "pipe in WAV, FLAC, OGG or MP3, for example: ffmpeg -i FILE -f wav - | lincae encode -"
        else:
            target = shlex.quote(str(self._path.with_name(self._path.stem + "-converted.wav")))
            hint = f"if it is audio, convert it: ffmpeg -i {source} {target}"
        return LincaeError(f"{self.name} is not audio in a known format ({_reason(error)})", hint)

    def _size(self) -> int:
        try:
            if self._object is not None:
                return self._object.seek(0, os.SEEK_END)
            return -1 if self._path is None else os.stat(self._path).st_size
        except OSError:
            return -1

    def _os_error(self, error: Exception) -> LincaeError:
        if isinstance(error, FileNotFoundError):
            return LincaeError(f"there is no file {self.name}", "check the name")
        if isinstance(error, PermissionError):
            quoted = shlex.quote(self.name)
            return LincaeError(f"not allowed to read {self.name}", f"check its permissions: ls -l {quoted}")
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return LincaeError(f"cannot read {self.name}: {reason}", "check the name")


def _rewindable(source: BinaryIO) -> bool:
    try:
        return source.seekable() and source.tell() == 0
    except (AttributeError, OSError):
        return False


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").rstrip(".")
