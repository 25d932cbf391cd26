"""Reading `.lat` files: everything the format promises is checked before memory is allocated."""

import contextlib
import math
import os
import stat
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5s

from . import history as histories
from . import signal, storage
from .errors import (
    ChecksumError,
    DTypeError,
    HeaderError,
    LatError,
    NonFiniteError,
    ShapeError,
    UnsupportedVersionError,
    WrongFormatError,
)
from .header import (
    FORMAT,
    MAJOR,
    MAX_CHANNELS,
    MAX_GROUPS_TEXT,
    MAX_LATENT_DIM,
    MODEL_SAMPLE_RATE,
    Group,
    Header,
    check_text,
    even_split,
    parse_groups,
)
from .storage import COPY_HINT, Chunks, named_errors
from .stored import DTYPES, SCALE_MAX, Fingerprint, Stored, accumulated, all_finite, joined, silence, unknown, unsigned

ROW_BYTES = 1 << 17  # in a chunk of /steps, /scale or /levels, at most
_MOST_OPEN = 100
_FEW = 64  # files of which whole blocks are kept in memory


def row_chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Shape of the chunks of /steps, /scale or /levels: everything in as many frames as fit into 2^17 bytes."""
    return *shape[:-1], even_split(shape[-1], max(1, ROW_BYTES // (math.prod(shape[:-1]) * itemsize)))


class LatReader:
    """An open `.lat` file, a signal. A context manager.

    Args:
        source: A path, or a binary file object, which may be a pipe.
        name: What error messages and histories call it; by default its path.

    Attributes:
        header: Header.
        dtype: Storage type: `int8`, `float16` or `float32`.
        levels_known: Whether the levels of an int8 file are known; they are uncertain otherwise.
        history: What was done, oldest first.
        tags: Tags.
        writer: The program that wrote the file.
        name: What error messages call it.
        hold_blocks: Whether the whole block that was read last is kept, for callers that read the same frames again;
            where many files are open, only the rest of a chunk is.

    Raises:
        LatError: one of the named errors, in the order of SPEC.md.
    """

    header: Header
    dtype: str
    levels_known: bool
    history: tuple[histories.Entry, ...]
    tags: dict[str, str]
    writer: str

    def __init__(self, source: storage.Source, name: str | None = None) -> None:
        """Opens the file and checks everything but the data."""
        self.name = name or storage.display_name(source)
        self._hashed: Fingerprint | None = None
        self._held: tuple[int, Stored] | None = None
        self._rows: dict[str, tuple[int, np.ndarray]] = {}  # the last chunk of each of /steps, /scale and /levels
        self.chunks: dict[str, Chunks] = {}
        self.hold_blocks = True
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            file, size = stack.enter_context(storage.open_read(source, self.name))
            with named_errors(self.name):
                self._read_all(file, size)
            self._file = file
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        """The open reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file."""
        self.close()

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._stack.close()

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Reads frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`.

        Chunks are read whole, and the last one is kept: reading in order reads every chunk once.

        Raises:
            ChecksumError: the stored bytes are damaged.
            NonFiniteError: NaN or infinity among the numbers.
            LatError: the range is not within the file.
        """
        stop = self.header.frames if stop_frame is None else stop_frame
        return self.stored(start_frame, stop).values(self.header.groups)

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Levels of frames `[start_frame, stop_frame)`, float32 `[channels, GL, n]`; see `Signal.levels`."""
        return unsigned(self.signed_levels(start_frame, self.header.frames if stop_frame is None else stop_frame))

    def signed_levels(self, start: int, stop: int) -> np.ndarray:
        """Levels for arithmetic, complex64, see `stored.signed`."""
        return self.stored(start, stop).signed_levels(self.header.groups)

    def stored(self, start_frame: int, stop_frame: int) -> Stored:
        """The same frames as they are stored; not to be written to."""
        frames = self.header.frames
        if not 0 <= start_frame <= stop_frame <= frames:
            raise LatError(f"{self.name}: frames {start_frame} to {stop_frame} are not within 0 to {frames}")
        if start_frame == stop_frame:
            return silence(self.header, self.dtype, 0, self.levels_known)
        first, held = self._hold(start_frame, stop_frame)
        return held.cut(start_frame - first, stop_frame - first)

    def blocks(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames in order, float32 `[channels, latent_dim, <= frames]`, in constant memory."""
        return signal.blocks(self, frames)

    def follow(self, hashed: Fingerprint) -> None:
        """Lets a fingerprint grow with what is read; without that, `fingerprint` reads the file again."""
        self._hashed = hashed

    @property
    def fingerprint(self) -> str:
        """The hash by which histories name the file, see `Fingerprint`. Reads what was not hashed yet.

        Raises:
            ChecksumError, NonFiniteError: the latents are damaged.
        """
        if self._hashed is None:
            self._hashed = Fingerprint(self.header)
        step = max(signal.block_frames(self), self.header.chunk_frames)
        while not self._hashed.complete:
            at = self._hashed.frames
            self._load(at, min(at + step, self.header.frames))
        return str(self._hashed)

    def _hold(self, start: int, stop: int) -> tuple[int, Stored]:
        """Stored frames from some frame at or before `start` to some frame at or after `stop`."""
        chunk = self.header.chunk_frames
        first, last = start - start % chunk, min(stop + -stop % chunk, self.header.frames)
        if self._held is not None:
            begin, held = self._held
            end = begin + held.frames
            if begin <= start and stop <= end:
                return self._held
            if begin <= start < end:
                # The rest of what is held, and the chunks that follow it.
                rest = held.cut(max(0, first - begin), held.frames)
                return self._keep(max(first, begin), joined([rest, self._load(end, last)]), stop)
        return self._keep(first, self._load(first, last), stop)

    def _keep(self, first: int, loaded: Stored, stop: int) -> tuple[int, Stored]:
        """Holds what was loaded, or only its last chunk if more of that is to come."""
        last = first + loaded.frames
        if self.hold_blocks:
            self._held = first, loaded
        elif stop < last:
            tail = max(first, (last - 1) // self.header.chunk_frames * self.header.chunk_frames)
            self._held = tail, joined([loaded.cut(tail - first, loaded.frames), loaded.cut(0, 0)])
        else:
            self._held = None
        return first, loaded

    def _load(self, start: int, stop: int) -> Stored:
        """Stored frames of whole chunks, checked."""
        latents, chunk = self.chunks["latents"], self.header.chunk_frames
        channels, dims, _ = self.header.shape
        data = np.empty((channels, dims, stop - start), DTYPES[self.dtype])
        with named_errors(self.name):
            for at in range(start, stop, chunk):
                count = min(chunk, stop - at)
                for channel in range(channels):
                    part = latents.read(channel, 0, at // chunk)
                    data[channel, :, at - start : at - start + count] = part[0, :, :count]
            block = Stored(
                data,
                self._row("steps", start, stop),
                self.scale(start, stop) if self.dtype == "int8" else None,
                self._bands(start, stop),
                self.levels_known,
            )
        if not all_finite(data):
            raise NonFiniteError(f"{self.name}: NaN or infinity among the latents", COPY_HINT)
        if self._hashed is not None:
            self._hashed.feed(start, block)
        return block

    def scale(self, start: int, stop: int) -> np.ndarray:
        """The scale of frames `[start, stop)` of an int8 file, float32 `[channels, n]`."""
        found = self._row("scale", start, stop)
        if found is None:
            return np.ones((self.header.channels, stop - start), np.float32)
        if not (np.abs(found) <= SCALE_MAX).all():  # false for NaN, too
            raise NonFiniteError(f"{self.name}: NaN or a number beyond 2^100 in /scale", COPY_HINT)
        return found

    def _bands(self, start: int, stop: int) -> np.ndarray | None:
        """Levels beside floats."""
        if self.dtype == "int8" or not self.header.level_count:
            return None
        found = self._row("levels", start, stop)
        return unknown((self.header.channels, self.header.level_count, stop - start)) if found is None else found

    def _row(self, key: str, start: int, stop: int) -> np.ndarray | None:
        """Frames of /steps, /scale or /levels; None where the file has no such dataset."""
        chunks = self.chunks.get(key)
        if chunks is None:
            return None
        size = chunks.chunk[-1]
        parts = []
        for number in range(start // size, -(-stop // size)):
            if key not in self._rows or self._rows[key][0] != number:
                rows = chunks.read(*[0] * (len(chunks.chunk) - 1), number)
                self._rows[key] = number, accumulated(rows, self.header.groups) if key == "steps" else rows
            begin = number * size
            parts.append(self._rows[key][1][..., max(0, start - begin) : min(size, stop - begin)])
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if key == "levels" and np.isinf(found).any():
            raise NonFiniteError(f"{self.name}: infinity in /levels", COPY_HINT)
        return found

    # --- opening

    def _read_all(self, file: h5f.FileID, size: int) -> None:
        root = h5g.open(file, b"/")
        self._check_version(root)
        facts = self._read_attributes(root)
        latents, self.dtype, channels, latent_dim = self._open_latents(root)
        groups = self._read_groups(latents)
        self.header = Header(channels=channels, latent_dim=latent_dim, groups=groups, **facts)
        self.header.validate(self.name)
        self._check_latents(latents, file, size)
        self._check_rows(root, file, size)
        self.history = self._read_history(root)
        self.tags = self._read_tags(root)

    def _check_version(self, root: h5g.GroupID) -> None:
        try:
            found = storage.read_attribute(root, "format", self.name, str)
        except HeaderError:
            found = None
        if found != FORMAT:
            what = "has no format attribute" if found is None else f"says its format is {found!r}"
            raise WrongFormatError(f"{self.name}: an HDF5 file, but {what}, not {FORMAT!r}")
        version = storage.read_attribute(root, "format_version", self.name, str)
        parts = version.split(".")
        if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) <= 6 for p in parts):
            raise HeaderError(f"{self.name}: format_version is {version!r}, must be MAJOR.MINOR")
        if int(parts[0]) != MAJOR:
            raise UnsupportedVersionError(
                f"{self.name}: .lat version {version}, this program reads {MAJOR}.x",
                "pip install --upgrade lincae",
            )

    def _read_attributes(self, root: h5g.GroupID) -> dict[str, Any]:
        kinds: dict[str, tuple[type, Any]] = {
            "sample_rate": (int, None),
            "num_samples": (int, None),
            "model_sample_rate": (int, MODEL_SAMPLE_RATE),
            "samples_per_frame": (int, None),
            "model": (str, None),
            "model_fingerprint": (str, None),
            "latent_scale": (float, 1.0),
        }
        facts = {
            key: storage.read_attribute(root, key, self.name, kind, default=default)
            for key, (kind, default) in kinds.items()
        }
        self.writer = storage.read_attribute(root, "writer", self.name, str)
        check_text(self.name, "writer", self.writer)
        Header(**facts).validate(self.name)
        known = storage.read_attribute(root, "levels_known", self.name, int, default=1)
        if known not in (0, 1):
            raise HeaderError(f"{self.name}: levels_known is {known}, must be 0 or 1")
        self.levels_known = bool(known)
        return facts

    def _open_latents(self, root: h5g.GroupID) -> tuple[h5d.DatasetID, str, int, int]:
        dataset = storage.open_object(root, "latents", h5d.DatasetID, self.name)
        if dataset is None:
            raise HeaderError(f"{self.name}: there is no dataset /latents", COPY_HINT)
        kind = dataset.get_type()
        dtype = next((key for key in DTYPES if kind.equal(storage.TYPES[key])), None)
        if dtype is None:
            raise DTypeError(f"{self.name}: /latents must be int8, or little-endian float16 or float32")
        shape = self._shape(dataset, "latents")
        if len(shape) != 3:
            raise ShapeError(f"{self.name}: /latents has {len(shape)} dimensions, must have 3")
        if not (1 <= shape[0] <= MAX_CHANNELS and 1 <= shape[1] <= MAX_LATENT_DIM):
            raise ShapeError(
                f"{self.name}: /latents has shape {shape}, channels must be 1 to {MAX_CHANNELS} "
                f"and the latent dimension 1 to {MAX_LATENT_DIM}"
            )
        return dataset, dtype, shape[0], shape[1]

    def _read_groups(self, latents: h5d.DatasetID) -> tuple[Group, ...]:
        text = storage.read_attribute(latents, "groups", self.name, str, MAX_GROUPS_TEXT, default="")
        return parse_groups(text, self.name) if text else ()

    def _shape(self, dataset: h5d.DatasetID, key: str) -> tuple[int, ...]:
        space = dataset.get_space()
        simple = space.get_simple_extent_type() == h5s.SIMPLE
        shape: tuple[int, ...] = space.get_simple_extent_dims() if simple else ()
        if simple and space.get_simple_extent_dims(True) != shape:
            raise ShapeError(f"{self.name}: /{key} must not be resizable")
        return tuple(int(n) for n in shape)

    def _check_latents(self, dataset: h5d.DatasetID, file: h5f.FileID, size: int) -> None:
        header = self.header
        found = tuple(dataset.shape)
        if found != header.shape:
            raise ShapeError(
                f"{self.name}: /latents has {found[2]} frames, but {header.num_samples} samples at "
                f"{header.sample_rate} Hz make {header.frames}"
            )
        if self.dtype == "int8" and not header.groups:
            raise HeaderError(f"{self.name}: /latents is int8, but the attribute groups is missing", COPY_HINT)
        self._add_chunks(
            "latents", dataset, (1, header.latent_dim, header.chunk_frames), DTYPES[self.dtype], file, size
        )

    def _check_rows(self, root: h5g.GroupID, file: h5f.FileID, size: int) -> None:
        """Opens /steps, /scale and /levels, where the storage type has them."""
        channels, _, frames = self.header.shape
        integers = self.dtype == "int8"
        bands = (channels, self.header.level_count, frames)
        wanted = {
            "steps": ("uint8", (channels, self.header.group_count, frames), integers, True),
            "scale": ("float32", (channels, frames), integers, False),
            "levels": ("float32", bands, not integers and bands[1] > 0, False),
        }
        for key, (dtype, shape, used, required) in wanted.items():
            dataset = storage.open_object(root, key, h5d.DatasetID, self.name) if used else None
            if dataset is None:
                if used and required:
                    raise HeaderError(f"{self.name}: there is no dataset /{key}", COPY_HINT)
                continue
            if not dataset.get_type().equal(storage.TYPES[dtype]):
                raise DTypeError(f"{self.name}: /{key} must be little-endian {dtype}")
            found = self._shape(dataset, key)
            if found != shape:
                raise ShapeError(f"{self.name}: /{key} has shape {found}, must be {shape}")
            kind = np.dtype(dtype)
            self._add_chunks(key, dataset, row_chunk(shape, kind.itemsize), kind.str, file, size)

    def _add_chunks(
        self, key: str, dataset: h5d.DatasetID, chunk: tuple[int, ...], dtype: str, file: h5f.FileID, size: int
    ) -> None:
        claimed = int(np.prod(dataset.shape, dtype=object)) * np.dtype(dtype).itemsize
        if claimed > size * storage.MOST_DEFLATED:
            raise ShapeError(f"{self.name}: /{key} claims {claimed} bytes, more than a file of {size} bytes can hold")
        self.chunks[key] = Chunks(dataset, key, chunk, dtype, file, self.name, size)

    def _read_history(self, root: h5g.GroupID) -> tuple[histories.Entry, ...]:
        """The attribute `history`, or the dataset of that name for long ones."""
        text = storage.read_attribute(root, "history", self.name, str, histories.MAX_ATTRIBUTE, default="")
        if text:
            return histories.loads(text.encode(), self.name)
        dataset = storage.open_object(root, "history", h5d.DatasetID, self.name)
        if dataset is None:
            raise HeaderError(f"{self.name}: there is neither an attribute nor a dataset history", COPY_HINT)
        storage.check_plain(dataset, "history", self.name, [])
        shape = self._shape(dataset, "history")
        if len(shape) != 1 or not dataset.get_type().equal(storage.TYPES["uint8"]):
            raise HeaderError(f"{self.name}: /history must be a one-dimensional array of uint8")
        if shape[0] > histories.MAX_BYTES:
            raise HeaderError(
                f"{self.name}: the history is {shape[0]} bytes, at most {histories.MAX_BYTES} are allowed"
            )
        packed = np.zeros(shape, np.uint8)
        dataset.read(h5s.ALL, h5s.ALL, packed)
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(packed.tobytes(), histories.MAX_BYTES + 1)
        except zlib.error as e:
            raise ChecksumError(f"{self.name}: the history is damaged ({e})", COPY_HINT) from e
        if not inflater.eof and len(data) <= histories.MAX_BYTES:
            raise ChecksumError(f"{self.name}: the history is damaged", COPY_HINT)
        return histories.loads(data, self.name)

    def _read_tags(self, root: h5g.GroupID) -> dict[str, str]:
        group = storage.open_object(root, "tags", h5g.GroupID, self.name)
        if group is None:
            return {}
        count = h5a.get_num_attrs(group)
        if count > histories.MAX_TAGS:
            raise HeaderError(f"{self.name}: {count} tags, at most {histories.MAX_TAGS} are allowed")
        names = [_text(h5a.open(group, index=i).name, self.name) for i in range(count)]
        tags = {key: storage.read_attribute(group, key, self.name, str, histories.MAX_TAG_VALUE) for key in names}
        histories.check_tags(tags, self.name)
        return dict(sorted(tags.items()))


def verify(source: storage.Source) -> None:
    """Reads and checks every chunk, block by block, in constant memory.

    Raises:
        LatError: the first thing that is wrong.
    """
    with LatReader(source) as reader:
        for _ in reader.blocks():
            pass  # reading is the check


def _text(tag: str | bytes, name: str) -> str:
    return storage.decode_text(tag, "a tag's name", name) if isinstance(tag, bytes) else tag


class Pool:
    """Opens many `.lat` files and keeps only the most recently read ones open. A context manager.

    An operating system allows a few hundred open files.

    Args:
        most: Files open at once; streams and pipes, which cannot be opened again, stay open beyond that.
    """

    def __init__(self, most: int = _MOST_OPEN) -> None:
        self._most = max(1, most)
        self._open: OrderedDict[int, LatReader] = OrderedDict()
        self._pinned: list[LatReader] = []
        self._files: dict[str, Pooled] = {}

    def __enter__(self) -> Self:
        """The pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes everything."""
        for reader in (*self._open.values(), *self._pinned):
            reader.close()

    def open(self, source: storage.Source, name: str | None = None) -> "Pooled":
        """A file, opened and checked; the same object for the same file. Its fingerprint grows with what is read.

        Args:
            source: A path, or a binary file object.
            name: What error messages and histories call it; by default its path.

        Raises:
            LatError: one of the named errors, see LatReader.
        """
        if not isinstance(source, (str, os.PathLike)):
            return Pooled(self, source, name)
        key = os.path.realpath(source)
        if key not in self._files:
            self._files[key] = Pooled(self, source, name)
        return self._files[key]

    def _reader(self, file: "Pooled") -> LatReader:
        reader = self._open.get(id(file))
        if reader is not None:
            self._open.move_to_end(id(file))
            return reader
        return self._keep(file, file._reopen())

    def _keep(self, file: "Pooled", reader: LatReader) -> LatReader:
        if not file.regular:
            self._pinned.append(reader)
            file.pinned = reader
            return reader
        reader.hold_blocks = len(self._files) <= _FEW
        while len(self._open) >= self._most:
            self._open.popitem(last=False)[1].close()
        self._open[id(file)] = reader
        return reader


class Pooled:
    """A file of a pool: a signal.

    Attributes:
        header: Header.
        dtype: Storage type.
        history: What was done, oldest first.
        tags: Tags.
        name: What error messages call it.
        regular: Whether it can be opened again.
        pinned: The reader of a file that cannot.
    """

    def __init__(self, pool: Pool, source: storage.Source, name: str | None) -> None:
        """Opens the file."""
        self._pool, self._source = pool, source
        self.pinned: LatReader | None = None
        self._identity = _identity(source)
        self.regular = self._identity is not None
        reader = LatReader(source, name)
        self.header: Header = reader.header
        self.dtype: str = reader.dtype
        self.history: tuple[histories.Entry, ...] = reader.history
        self.tags: dict[str, str] = reader.tags
        self.name: str = reader.name
        self._hashed = Fingerprint(self.header)
        reader.follow(self._hashed)
        pool._keep(self, reader)

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`.

        Raises:
            LatError: see LatReader.read; or the file was replaced since it was first opened.
        """
        return self._current().read(start_frame, stop_frame)

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Levels of the same frames, float32 `[channels, GL, n]`; see `Signal.levels`."""
        return self._current().levels(start_frame, stop_frame)

    def signed_levels(self, start: int, stop: int) -> np.ndarray:
        """Levels for arithmetic, complex64, see `stored.signed`."""
        return self._current().signed_levels(start, stop)

    def stored(self, start_frame: int, stop_frame: int) -> Stored:
        """The same frames as they are stored; not to be written to."""
        return self._current().stored(start_frame, stop_frame)

    @property
    def fingerprint(self) -> str:
        """The hash by which histories name the file; reads what was not read yet."""
        return str(self._hashed) if self._hashed.complete else self._current().fingerprint

    def scale(self, start: int, stop: int) -> np.ndarray:
        """The scale of frames `[start, stop)` of an int8 file, float32 `[channels, n]`."""
        return self._current().scale(start, stop)

    @property
    def reader(self) -> LatReader:
        """The open file."""
        return self._current()

    def _current(self) -> LatReader:
        return self.pinned or self._pool._reader(self)

    def _reopen(self) -> LatReader:
        if _identity(self._source) != self._identity:
            raise LatError(f"{self.name} was replaced or changed while it was read", "run the command again")
        reader = LatReader(self._source, self.name)
        reader.follow(self._hashed)
        return reader


def _identity(source: storage.Source | BinaryIO) -> tuple[int, ...] | None:
    """What tells a regular file from another of the same name; None for streams and pipes."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
