"""Reading audio files as blocks of float32, and finding them in folders."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
import soundfile

from lincae_formats.errors import LincaeError

from .containers import (
    FFMPEG_EXTENSIONS,
    FfmpegStream,
    Section,
    Survey,
    clean,
    ffmpeg_tags,
    has_ffmpeg,
    is_known,
    read_tags,
    survey,
)
from .resample import StreamResampler

SNDFILE_EXTENSIONS = frozenset({
    ".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".au", ".snd", ".caf", ".flac", ".ogg", ".oga", ".opus",
    ".mp3",
})  # fmt: skip
"""Lower-case extensions of audio files that are read without ffmpeg."""

AUDIO_EXTENSIONS = SNDFILE_EXTENSIONS | FFMPEG_EXTENSIONS
"""Lower-case extensions of the files taken from a folder; those of ffmpeg only where it is installed."""

Source = str | os.PathLike[str] | BinaryIO

# Sample formats whose frame count follows from sizes and headers; in all others it is padded or estimated.
_EXACT = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC")
_IMPLAUSIBLE = 1 << 44  # samples: FLAC from a pipe says "unknown" as the largest integer
_COUNT_BLOCK = 1 << 16
_FLAC_FRAME = 4096  # samples, of usual FLAC files
_HEAD = 1 << 20  # bytes of a pipe after which it must be recognised
_UNRECOGNISED = 1  # libsndfile's SF_ERR_UNRECOGNISED_FORMAT


@dataclass
class Found:
    """The audio files of a folder.

    Attributes:
        files: The files, sorted.
        left_out: What was left out, and how many: `special files`, `.m4a files that need ffmpeg`, ...
    """

    files: list[Path] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)

    def note(self) -> str:
        """One line on what was left out; empty when nothing was."""
        return ", ".join(f"{n} {_singular(what) if n == 1 else what}" for what, n in sorted(self.left_out.items()))


def _singular(what: str) -> str:
    for many, one in (("files", "file"), ("folders", "folder"), ("links", "link"), (" need ", " needs ")):
        what = what.replace(many, one)
    return what


def find_audio(folder: str | os.PathLike[str]) -> Found:
    """Every audio file below a folder, by its extension; hidden files and folders are passed over.

    Pipes, sockets and devices are left out, for reading them may never end.

    Raises:
        LincaeError: there is no such folder, or it cannot be read.
    """
    found, readable = Found(), has_ffmpeg()

    def failed(error: OSError) -> None:
        if error.filename == os.fspath(folder):
            raise LincaeError(f"cannot read the folder {printable(folder)}: {error.strerror}", "check its name")
        found.left_out["folders that cannot be read"] += 1

    for place, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            extension, path = os.path.splitext(name)[1].lower(), os.path.join(place, name)
            if name.startswith(".") or extension not in AUDIO_EXTENSIONS:
                continue
            if not os.path.isfile(path):
                found.left_out["special files" if os.path.exists(path) else "links to nothing"] += 1
            elif extension in FFMPEG_EXTENSIONS and not readable:
                found.left_out[f"{extension} files that need ffmpeg"] += 1
            else:
                found.files.append(Path(path))
    found.files.sort()
    return found


def read_audio(source: Source, sample_rate: int | None = None, *, mono: bool = False) -> np.ndarray:
    """All of an audio file, float32 ``[C, n]``.

    Args:
        source: A path, or a binary file object.
        sample_rate: Hz; by default the file's own.
        mono: Average the channels into one.

    Raises:
        LincaeError: it cannot be read.
    """
    with AudioReader(source, mono=mono) as reader:
        resampler = StreamResampler(reader.sample_rate, sample_rate or reader.sample_rate, reader.channels)
        parts = [resampler.process(block) for block in reader.blocks()]
        parts.append(resampler.process(np.zeros((reader.channels, 0), np.float32), last=True))
    return np.concatenate(parts, axis=1)


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be printed and stored: bytes that are not UTF-8 become question marks."""
    return os.fsencode(path).decode("utf-8", "replace")


class _ForwardFile(soundfile.SoundFile):
    """A file read from beginning to end.

    soundfile seeks after every read of a seekable file, which makes libsndfile's Opus decoder lose its state.
    """

    def seekable(self) -> bool:
        return False


class AudioReader:
    """An audio file open for reading. A context manager.

    Samples are float32; integers are scaled to [-1, 1), floats are kept as they are, beyond [-1, 1] too.
    Streams that cannot seek (a pipe) are first copied to a temporary file. What libsndfile does not read is decoded by
    ffmpeg where it is installed. Joined streams (`cat a.ogg b.ogg`) are read one after the other.

    Args:
        source: A path, or a binary file object.
        mono: Average the channels into one.

    Attributes:
        name: Of the file, for messages.
        subtype: libsndfile's name of the sample format; `ffmpeg` for what that decodes.
        sample_rate: Hz.
        channels: Channels in the blocks: 1 with `mono`.
        num_samples: Exact number of samples per channel; that of lossy files is counted by decoding them once.
        tags: Title, artist, ReplayGain, ...
        warnings: What is wrong with the file without making it unreadable: it was cut short.

    Raises:
        LincaeError: missing, unreadable, not audio, or without a single sample; a file that changes meanwhile.
    """

    def __init__(self, source: Source, *, mono: bool = False) -> None:
        """Opens the file and finds its length."""
        self._stack = contextlib.ExitStack()
        self._mono = mono
        self._path: str | None = None
        self._object: BinaryIO | None = None
        self._survey = Survey([(0, 0)])
        self._ffmpeg = False
        self.tags: dict[str, str] = {}
        self.warnings: tuple[str, ...] = ()
        try:
            self._set_source(source)
            self._state = self._stat()
            self._examine()
            self.channels = 1 if mono else self._file_channels
            if self.num_samples == 0:
                raise LincaeError(f"{self.name} holds no audio samples", "give a file with at least one")
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Frees what the reader holds; a file object passed in stays open."""
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
        done, held = 0, np.empty((0, self._file_channels), np.float32)
        for data in self._decoded(block):
            held = np.concatenate([held, data]) if len(held) else data
            while len(held) >= block or (len(held) and done + len(held) >= self.num_samples):
                piece, held = held[: min(block, self.num_samples - done)], held[block:]
                self._check_finite(piece, done)
                done += len(piece)
                if self._mono:
                    piece = piece.mean(axis=1, keepdims=True, dtype=np.float32)
                yield np.ascontiguousarray(piece.T)
                if done == self.num_samples:
                    break
            if done == self.num_samples:
                break
        if self._stat() != self._state:
            raise self._changed()
        if done < self.num_samples:
            raise LincaeError(
                f"{self.name} is damaged: it ends after {done + len(held)} of {self.num_samples} samples",
                "replace it by a whole copy",
            )

    def _decoded(self, block: int) -> Iterator[np.ndarray]:
        """Samples ``[n, C]`` of all parts of the file, at most ``block`` at a time."""
        if self._ffmpeg:
            with self._ffmpeg_stream() as stream:
                if (stream.sample_rate, stream.channels) != (self.sample_rate, self._file_channels):
                    raise self._changed()
                yield from stream.blocks(block)
            return
        done = 0
        for number in range(len(self._survey.parts)):
            try:
                opened = self._open(number)
            except soundfile.LibsndfileError as e:
                raise self._not_audio(e) from e
            with opened as file:
                if (file.samplerate, file.channels) != (self.sample_rate, self._file_channels):
                    raise self._changed() if number == 0 else self._differs(file)
                while len(data := self._read(file, block, done)):
                    done += len(data)
                    yield data

    def _examine(self) -> None:
        """Finds the file's rate, channels, length and tags, and who decodes it."""
        with self._raw() as raw:
            self._survey = survey(raw)
            raw.seek(0)
            head = raw.read(16)
        try:
            with self._open(0) as file:
                self.subtype = str(file.subtype)
                self.sample_rate, self._file_channels = int(file.samplerate), int(file.channels)
                with self._raw() as raw:
                    self.tags = read_tags(file, raw)
                several = len(self._survey.parts) > 1
                self.num_samples = self._count() if several else self._length(file)
        except soundfile.LibsndfileError as e:
            extension = os.path.splitext(self.name)[1].lower()
            if not (has_ffmpeg() and (is_known(head) or extension in FFMPEG_EXTENSIONS)) or not self._size():
                raise self._not_audio(e) from e
            self._ffmpeg = True
            self._examine_by_ffmpeg()
        if self._survey.cut_short and not self._ffmpeg:
            self.warnings = (f"{self.name} was cut short: {self._survey.cut_short}",)

    def _examine_by_ffmpeg(self) -> None:
        self.subtype = "ffmpeg"
        with self._ffmpeg_stream() as stream:
            self.sample_rate, self._file_channels = stream.sample_rate, stream.channels
            self.num_samples = sum(len(block) for block in stream.blocks(_COUNT_BLOCK))
            if said := stream.warning():
                self.warnings = (f"{self.name}: ffmpeg says: {said[:200]}",)
        self.tags = clean(ffmpeg_tags(self._object or cast(str, self._path)))

    def _ffmpeg_stream(self) -> FfmpegStream:
        if self._object is not None and not _has_descriptor(self._object):
            copy = self._temporary()
            self._object.seek(0)
            shutil.copyfileobj(self._object, copy, 1 << 20)
            copy.flush()
            self._object = copy
            self._state = self._stat()
        return FfmpegStream(self._object or cast(str, self._path), self.name)

    def _temporary(self) -> BinaryIO:
        copy = cast(BinaryIO, tempfile.TemporaryFile(prefix="lincae-"))  # noqa: SIM115
        self._stack.callback(copy.close)
        return copy

    def _set_source(self, source: Source) -> None:
        if not isinstance(source, (str, os.PathLike)):
            name = getattr(source, "name", None)
            self.name = "standard input" if name in (None, "<stdin>", 0) else str(name)
            self._object = source if _rewindable(source) else self._spool(source)
            return
        self.name, self._path = printable(source), os.fspath(source)
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
        """Copies a stream to a temporary file, for it is read more than once.

        A stream whose first MiB is not audio is refused at once: the rest might never end.

        Raises:
            LincaeError: not audio, or no room for it.
        """
        try:
            copy = self._temporary()
            while copy.tell() < _HEAD and (piece := source.read(_HEAD - copy.tell())):
                copy.write(piece)
            if copy.tell() >= _HEAD:
                self._check_head(copy)
            shutil.copyfileobj(source, copy, 1 << 20)
            copy.flush()
            return copy
        except OSError as e:
            raise LincaeError(
                f"cannot copy {self.name} to {tempfile.gettempdir()}: {e.strerror or e}",
                "set TMPDIR to a folder with more room",
            ) from e

    def _check_head(self, copy: BinaryIO) -> None:
        copy.flush()
        copy.seek(0)
        head = copy.read(16)
        copy.seek(0)
        try:
            soundfile.SoundFile(copy).close()
        except soundfile.LibsndfileError as e:
            tagged = head[:3] == b"ID3"  # a picture of the album may be longer than the head
            if e.code == _UNRECOGNISED and not tagged and not (is_known(head) and has_ffmpeg()):
                raise self._not_audio(e) from e
        copy.seek(0, os.SEEK_END)

    def _stat(self) -> tuple[int, ...] | None:
        """What tells whether a file was changed; None where that cannot be told."""
        try:
            found = os.stat(self._object.fileno() if self._object is not None else cast(str, self._path))
        except (OSError, AttributeError, ValueError):
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _changed(self) -> LincaeError:
        return LincaeError(f"{self.name} changed while it was being read", "run it again when the file is finished")

    def _differs(self, file: soundfile.SoundFile) -> LincaeError:
        source = shlex.quote(self.name)
        if file.format in ("WAV", "WAVEX"):  # of which ffmpeg would read the first alone
            hint = "join the originals: ffmpeg -i A.wav -i B.wav -filter_complex concat=n=2:v=0:a=1 joined.wav"
        else:
            hint = f"make them one: ffmpeg -i {source} {shlex.quote(os.path.splitext(self.name)[0] + '-one.wav')}"
        return LincaeError(
            f"{self.name} holds joined streams that differ: {self.sample_rate} Hz and {self._file_channels} channels, "
            f"then {file.samplerate} Hz and {file.channels}",
            hint,
        )

    @contextlib.contextmanager
    def _raw(self) -> Iterator[BinaryIO]:
        """The bytes of the file."""
        if self._object is not None:
            yield self._object
            return
        try:
            with open(cast(str, self._path), "rb") as file:
                yield file
        except (OSError, ValueError) as e:
            raise self._os_error(e) from e

    def _open(self, number: int) -> soundfile.SoundFile:
        """A part of the file in libsndfile, whose errors pass through."""
        start, stop = self._survey.parts[number]
        try:
            if len(self._survey.parts) == 1 and not self._survey.patches:
                if self._object is not None:
                    self._object.seek(0)
                    return _ForwardFile(self._object)
                # A descriptor, not the name: soundfile takes names ending in .raw for headerless audio.
                fd = os.open(cast(str, self._path), os.O_RDONLY | getattr(os, "O_BINARY", 0))
                return _ForwardFile(fd, closefd=True)  # closes it when opening fails, too
            if self._object is None:
                self._object = cast(BinaryIO, self._stack.enter_context(open(cast(str, self._path), "rb")))  # noqa: SIM115
            return _ForwardFile(Section(self._object, start, stop, self._survey.patches))
        except (OSError, ValueError) as e:
            raise self._os_error(e) from e

    def _length(self, file: soundfile.SoundFile) -> int:
        frames = int(file.frames)
        if file.format not in ("MP3", "OGG") and file.subtype.startswith(_EXACT) and frames < _IMPLAUSIBLE:
            return max(frames, 0)
        return self._count()

    def _count(self) -> int:
        return sum(len(data) for data in self._decoded(max(1, _COUNT_BLOCK // self._file_channels)))

    def _read(self, file: soundfile.SoundFile, n: int, at: int) -> np.ndarray:
        out, got = np.empty((n, file.channels), np.float32), 0
        step = _FLAC_FRAME if file.format == "FLAC" else n  # libsndfile drops what it read before an error
        try:
            while got < n and (count := len(file.read(out=out[got : got + step]))):
                got += count
        except soundfile.LibsndfileError as e:
            of = f" of {file.frames}" if 0 < file.frames < _IMPLAUSIBLE else ""
            raise LincaeError(
                f"{self.name} is damaged: it can be read up to sample {at + got}{of} ({_reason(e)})",
                "replace it by a whole copy",
            ) from e
        return out[:got]

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
        if self._size() == 0:
            return LincaeError(f"{self.name} is empty (0 bytes)", "give an audio file")
        stem, extension = os.path.splitext(self.name)
        source = shlex.quote(self.name)
        if extension.lower() in FFMPEG_EXTENSIONS:
            target = shlex.quote(f"{stem}.wav")
            return LincaeError(
                f"{self.name}: {extension.lower()} files need ffmpeg, which is not installed"
                if not has_ffmpeg() else f"ffmpeg cannot read {self.name}",
                f"{'' if has_ffmpeg() else 'install it, or '}convert the file: ffmpeg -i {source} {target}",
            )  # fmt: skip
        if self._path is None:
            hint = "pipe in WAV, FLAC, OGG or MP3, for example: ffmpeg -i FILE -f wav - | lincae encode -"
        else:
            hint = f"if it is audio, convert it: ffmpeg -i {source} {shlex.quote(f'{stem}-converted.wav')}"
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


def _has_descriptor(source: BinaryIO) -> bool:
    try:
        return source.fileno() >= 0
    except (AttributeError, OSError):
        return False


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").rstrip(".")
