"""Reading `.lat` files: everything the format promises is checked before memory is allocated."""

import contextlib
import functools
import math
import os
import re
import stat
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO, Self

import numpy as np
from h5py import h5a, h5d, h5f, h5g, h5i, h5l, h5o, h5p, h5s, h5t

from . import header as headers
from .errors import (
    ChecksumError,
    DTypeError,
    HeaderError,
    LatError,
    LayoutError,
    LincaeError,
    NonFiniteError,
    NotHDF5Error,
    ShapeError,
    TruncatedError,
    UnsupportedVersionError,
    WrongFormatError,
)
from .header import Entry, Group, Header
from .signal import DTYPES, SCALE_MAX, Block, Fingerprint, Signal, accumulated, joined, spans, unknown_levels

COPY_HINT = "copy or encode it again"
DEFLATE, FLETCHER32 = 1, 3  # HDF5's numbers of the filters
TYPES: dict[str, h5t.TypeID] = {
    "int8": h5t.STD_I8LE,
    "float16": h5t.IEEE_F16LE,
    "float32": h5t.IEEE_F32LE,
    "uint8": h5t.STD_U8LE,
}
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}  # where superblocks of each version keep the address of the file's end
_HEAD = 52
_MOST_DEFLATED = 1032  # deflate cannot shrink anything further
_CHUNK_OVERHEAD = 64  # bytes by which a stored chunk may exceed deflate's own bound
_HDF5_RAISES = (OSError, LookupError, RuntimeError, ValueError, TypeError, MemoryError, ArithmeticError)
_ROW_BYTES = 1 << 17  # in a chunk of /steps, /scale or /levels, at most
_MOST_OPEN = 100
_FEW = 64  # files of which whole blocks are kept in memory

Source = str | os.PathLike[str] | BinaryIO


class LatReader(Signal):
    """An open `.lat` file, a signal. A context manager.

    Args:
        source: A path, or a binary file object, which may be a pipe.
        name: What error messages and histories call it; by default its path.

    Attributes:
        levels_known: Whether the levels of an int8 file are known; they are uncertain otherwise.
        writer: The program that wrote the file.
        hold_blocks: Whether all chunks that were read last are kept, for callers that read the same frames again;
            where many files are open, only one whose rest is still to come is.

    Raises:
        LatError: one of the named errors, in the order of SPEC.md.
    """

    history: tuple[Entry, ...]
    tags: dict[str, str]
    levels_known: bool
    writer: str

    def __init__(self, source: Source, name: str | None = None) -> None:
        self.name = name or display_name(source)
        self.chunks: dict[str, Chunks] = {}
        self.hold_blocks = True
        self.pool: Pool | None = None
        self._path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
        self._hashed: Fingerprint | None = None
        self._descriptor: int | None = None
        self._held: dict[int, Block] = {}  # chunks, by their numbers
        self._rows: dict[str, tuple[int, np.ndarray]] = {}  # the last chunk of each of /steps, /scale and /levels
        with _open_hdf5(source, self.name) as (file, size):
            self._size = size
            with named_errors(self.name):
                self._read_all(h5g.open(file, b"/"))
            # What is read from now on are bytes of chunks, for which HDF5 is not needed.
            self._descriptor = os.dup(file.get_vfd_handle())
        self._identity = _identity(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._held, self._rows = {}, {}
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def block(self, start_frame: int, stop_frame: int) -> Block:
        """Frames `[start_frame, stop_frame)` as they are stored; not to be written to.

        Chunks are read whole, and the last ones are kept: reading in order reads every chunk once.

        Raises:
            ChecksumError: the stored bytes are damaged.
            NonFiniteError: NaN or infinity among the numbers.
            LatError: the range is not within the file.
        """
        size, frames = self.header.chunk_frames, self.header.frames
        if not 0 <= start_frame <= stop_frame <= frames:
            raise LatError(f"{self.name}: frames {start_frame} to {stop_frame} are not within 0 to {frames}")
        if start_frame == stop_frame:
            return self._empty()
        numbers = range(start_frame // size, -(-stop_frame // size))
        held = self._held = {n: self._held.get(n) or self._load(n) for n in numbers}
        if not self.hold_blocks:
            self._held = {n: chunk for n, chunk in held.items() if stop_frame < n * size + chunk.frames}
        return joined(
            [c.cut(max(start_frame - n * size, 0), min(stop_frame - n * size, c.frames)) for n, c in held.items()]
        )

    def scale(self, start: int, stop: int) -> np.ndarray:
        """The scale of frames `[start, stop)` of an int8 file, float32 `[channels, n]`."""
        found = self._row("scale", start, stop)
        if found is None:
            return np.ones((self.header.channels, stop - start), np.float32)
        if not (np.abs(found) <= SCALE_MAX).all():  # false for NaN, too
            raise NonFiniteError(f"{self.name}: NaN or a number beyond 2^100 in /scale", COPY_HINT)
        return found

    def follow(self) -> None:
        """Lets the fingerprint grow with what is read; without that, asking for it reads the file again."""
        self._hashed = Fingerprint()

    @property
    def fingerprint(self) -> str:  # type: ignore[override]
        """The hash by which histories name the file, see `Fingerprint`. Reads what was not hashed yet."""
        if self._hashed is None:
            self.follow()
        assert self._hashed is not None
        while self._hashed.frames < self.header.frames:
            self._load(self._hashed.frames // self.header.chunk_frames)
        return str(self._hashed)

    def pread(self, size: int, offset: int) -> bytes:
        """Bytes of the file, which a pool may have closed.

        Raises:
            LatError: the file was closed, or replaced since it was first opened; or the disk fails.
            TruncatedError: the file was cut short meanwhile.
        """
        if self.pool is not None:
            self.pool.use(self)
            if self._descriptor is None:
                self._reopen()
        if self._descriptor is None:
            raise LatError(f"cannot read {self.name}: it was closed", "open it again")
        try:
            data = os.pread(self._descriptor, size, offset)
        except OSError as e:
            raise LatError(f"cannot read {self.name}: {e.strerror or e}", "check the disk") from e
        if len(data) < size:
            raise TruncatedError(f"{self.name}: cut short while it was read", COPY_HINT)
        return data

    def _reopen(self) -> None:
        with contextlib.suppress(OSError):
            self._descriptor = os.open(str(self._path), os.O_RDONLY)
        if self._descriptor is None or _identity(self._descriptor) != self._identity:
            self.close()
            raise LatError(f"{self.name} was replaced or changed while it was read", "run the command again")

    def _empty(self) -> Block:
        """No frames."""
        channels, dims, _ = self.header.shape
        data = np.zeros((channels, dims, 0), DTYPES[self.dtype])
        if self.dtype != "int8":
            return Block(data, levels=unknown_levels(channels, self.header.level_count, 0))
        steps = np.zeros((channels, self.header.group_count, 0), np.uint8)
        return Block(data, steps, np.ones((channels, 0), np.float32), known=self.levels_known)

    def _load(self, number: int) -> Block:
        """The frames of a chunk of latents, checked."""
        channels, _, frames = self.header.shape
        start = number * self.header.chunk_frames
        stop = min(start + self.header.chunk_frames, frames)
        parts = [self.chunks["latents"].read(channel, 0, number) for channel in range(channels)]
        data = np.concatenate(parts)[..., : stop - start]
        if self.dtype == "int8":
            block = Block(data, self._row("steps", start, stop), self.scale(start, stop), known=self.levels_known)
        else:
            if not np.isfinite(data).all():
                raise NonFiniteError(f"{self.name}: NaN or infinity among the latents", COPY_HINT)
            levels = self._row("levels", start, stop)
            if levels is None:
                levels = unknown_levels(channels, self.header.level_count, stop - start)
            block = Block(data, levels=levels)
        if self._hashed is not None:
            self._hashed.feed(start, block)
        return block

    def _row(self, key: str, start: int, stop: int) -> np.ndarray | None:
        """Frames of /steps, /scale or /levels; None where the file has no such dataset."""
        chunks = self.chunks.get(key)
        if chunks is None:
            return None
        size, parts = chunks.shape[-1], []
        for number in range(start // size, -(-stop // size)):
            if key not in self._rows or self._rows[key][0] != number:
                rows = chunks.read(*[0] * (len(chunks.shape) - 1), number)
                self._rows[key] = number, accumulated(rows, self.header.groups) if key == "steps" else rows
            begin = number * size
            parts.append(self._rows[key][1][..., max(0, start - begin) : min(size, stop - begin)])
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        if key == "levels" and np.isinf(found).any():
            raise NonFiniteError(f"{self.name}: infinity in /levels", COPY_HINT)
        return found

    # --- opening, in the order of SPEC.md

    def _read_all(self, root: h5g.GroupID) -> None:
        self._check_version(root)
        facts = {key: _read_attribute(root, key, self.name, *kind[:2]) for key, kind in headers.ATTRIBUTES.items()}
        self.writer = _read_attribute(root, "writer", self.name, str)
        headers.check_text(self.name, "writer", self.writer)
        Header(**facts).validate(self.name)
        known = _read_attribute(root, "levels_known", self.name, int, 1)
        headers.check_integer(self.name, "levels_known", known, 0, 1)
        self.levels_known = bool(known)
        latents, self.dtype, shape = self._dataset(root, "latents", tuple(DTYPES), required=True)
        if len(shape) != 3:
            raise ShapeError(f"{self.name}: /latents has {len(shape)} dimensions, must have 3")
        text = _read_attribute(latents, "groups", self.name, str, "", headers.MAX_GROUPS_TEXT)
        groups: tuple[Group, ...] = headers.parse_groups(text, self.name) if text else ()
        self.header = header = Header(channels=shape[0], latent_dim=shape[1], groups=groups, **facts)
        header.validate(self.name)
        if shape != header.shape:
            samples = f"{header.num_samples} samples at {header.sample_rate} Hz make {header.frames}"
            raise ShapeError(f"{self.name}: /latents has {shape[2]} frames, but {samples}")
        if self.dtype == "int8" and not groups:
            raise HeaderError(f"{self.name}: /latents is int8, but the attribute groups is missing", COPY_HINT)
        chunk = 1, header.latent_dim, header.chunk_frames
        self.chunks["latents"] = Chunks(latents, "latents", chunk, DTYPES[self.dtype], self, self._size)
        channels, _, frames = header.shape
        if self.dtype == "int8":
            self._open_rows(root, "steps", "uint8", (channels, header.group_count, frames))
            self._open_rows(root, "scale", "float32", (channels, frames))
        elif header.level_count:
            self._open_rows(root, "levels", "float32", (channels, header.level_count, frames))
        self.history = self._read_history(root)
        self.tags = self._read_tags(root)

    def _check_version(self, root: h5g.GroupID) -> None:
        found = None
        with contextlib.suppress(HeaderError):
            found = _read_attribute(root, "format", self.name, str)
        if found != headers.FORMAT:
            what = "has no format attribute" if found is None else f"says its format is {found!r}"
            raise WrongFormatError(f"{self.name}: an HDF5 file, but {what}, not {headers.FORMAT!r}")
        version = _read_attribute(root, "format_version", self.name, str)
        match = re.fullmatch(r"(\d{1,6})\.\d{1,6}", version, re.ASCII)
        if match is None:
            raise HeaderError(f"{self.name}: format_version is {version!r}, must be MAJOR.MINOR")
        if int(match[1]) != headers.MAJOR:
            what = f".lat version {version}, this program reads {headers.MAJOR}.x"
            raise UnsupportedVersionError(f"{self.name}: {what}", "pip install --upgrade lincae")

    def _dataset(
        self, root: h5g.GroupID, key: str, types: tuple[str, ...], required: bool
    ) -> tuple[Any, str, tuple[int, ...]]:
        """A dataset, which of the types it has, and its shape; None, "" and () where there is none."""
        dataset = _open_object(root, key, h5d.DatasetID, self.name)
        if dataset is None:
            if required:
                raise HeaderError(f"{self.name}: there is no dataset /{key}", COPY_HINT)
            return None, "", ()
        found = next((name for name in types if dataset.get_type().equal(TYPES[name])), None)
        if found is None:
            raise DTypeError(f"{self.name}: /{key} must be little-endian {' or '.join(types)}")
        space = dataset.get_space()
        simple = space.get_simple_extent_type() == h5s.SIMPLE
        shape = space.get_simple_extent_dims() if simple else ()
        if simple and space.get_simple_extent_dims(True) != shape:
            raise ShapeError(f"{self.name}: /{key} must not be resizable")
        return dataset, found, tuple(int(n) for n in shape)

    def _open_rows(self, root: h5g.GroupID, key: str, dtype: str, shape: tuple[int, ...]) -> None:
        """Opens /steps, /scale or /levels; the last two may be missing."""
        dataset, _, found = self._dataset(root, key, (dtype,), required=key == "steps")
        if dataset is not None:
            if found != shape:
                raise ShapeError(f"{self.name}: /{key} has shape {found}, must be {shape}")
            kind = np.dtype(dtype)
            self.chunks[key] = Chunks(dataset, key, row_chunk(shape, kind.itemsize), kind.str, self, self._size)

    def _read_history(self, root: h5g.GroupID) -> tuple[Entry, ...]:
        """The attribute `history`, or the dataset of that name for long ones."""
        text = _read_attribute(root, "history", self.name, str, "", headers.MAX_HISTORY_ATTRIBUTE)
        if text:
            return headers.load_history(text.encode(), self.name)
        dataset = _open_object(root, "history", h5d.DatasetID, self.name)
        if dataset is None:
            raise HeaderError(f"{self.name}: there is neither an attribute nor a dataset history", COPY_HINT)
        _check_plain(dataset, "history", self.name, [])
        if len(dataset.shape) != 1 or not dataset.get_type().equal(TYPES["uint8"]):
            raise HeaderError(f"{self.name}: /history must be a one-dimensional array of uint8")
        headers.check_integer(self.name, "the size of the history", int(dataset.shape[0]), 0, headers.MAX_HISTORY)
        packed = np.zeros(dataset.shape, np.uint8)
        dataset.read(h5s.ALL, h5s.ALL, packed)
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(packed.tobytes(), headers.MAX_HISTORY + 1)
        except zlib.error as e:
            raise ChecksumError(f"{self.name}: the history is damaged ({e})", COPY_HINT) from e
        if not inflater.eof and len(data) <= headers.MAX_HISTORY:
            raise ChecksumError(f"{self.name}: the history is damaged", COPY_HINT)
        return headers.load_history(data, self.name)

    def _read_tags(self, root: h5g.GroupID) -> dict[str, str]:
        group = _open_object(root, "tags", h5g.GroupID, self.name)
        if group is None:
            return {}
        count = h5a.get_num_attrs(group)
        headers.check_integer(self.name, "the number of tags", count, 0, headers.MAX_TAGS)
        names = [h5a.open(group, index=i).name for i in range(count)]
        names = [_decoded(n, "a tag's name", self.name) if isinstance(n, bytes) else n for n in names]
        tags = {key: _read_attribute(group, key, self.name, str, None, headers.MAX_TAG_VALUE) for key in names}
        headers.check_tags(tags, self.name)
        return dict(sorted(tags.items()))


def verify(source: Source) -> None:
    """Reads and checks every chunk, block by block, in constant memory.

    Raises:
        LatError: the first thing that is wrong.
    """
    with LatReader(source) as reader:
        for start, stop in spans([reader]):
            reader.block(start, stop)  # reading is the check


class Pool:
    """Opens many `.lat` files and keeps only the most recently read ones open. A context manager.

    An operating system allows a few hundred open files.

    Args:
        most: Files open at once; streams and pipes, which cannot be opened again, stay open beyond that.
    """

    def __init__(self, most: int = _MOST_OPEN) -> None:
        self._most = max(1, most)
        self._files: dict[str | int, LatReader] = {}
        self._open: OrderedDict[LatReader, None] = OrderedDict()  # that can be closed, the one read last at the end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for reader in self._files.values():
            reader.pool = None
            reader.close()

    def open(self, source: Source, name: str | None = None) -> LatReader:
        """A file, opened and checked; the same object for the same file. Its fingerprint grows with what is read.

        Raises:
            LatError: one of the named errors, see LatReader; on reading: also where the file was replaced since.
        """
        key = os.path.realpath(source) if isinstance(source, (str, os.PathLike)) else id(source)
        if key not in self._files:
            reader = self._files[key] = LatReader(source, name)
            reader.follow()
            if isinstance(key, str) and os.path.isfile(key):
                reader.pool = self
                self.use(reader)
        return self._files[key]

    def use(self, reader: LatReader) -> None:
        """Called before a file is read: closes the one that was read least recently if too many are open."""
        reader.hold_blocks = len(self._files) <= _FEW
        self._open[reader] = None
        self._open.move_to_end(reader)
        while len(self._open) > self._most:
            self._open.popitem(last=False)[0].close()


# --- files and streams


def display_name(source: Any, stream: str = "<stdin>") -> str:
    """What error messages call a file: its path, or the name of its stream."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    name = getattr(source, "name", None)
    return name if isinstance(name, str) and name else stream


@contextlib.contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turns whatever h5py raises into a LatError that names the file."""
    try:
        yield
    except LincaeError:
        raise
    except _HDF5_RAISES as e:
        text = str(e).lower()
        if "checksum" in text or "fletcher" in text or "filter returned failure" in text:
            raise ChecksumError(f"{name}: a checksum does not match: the file is damaged", COPY_HINT) from e
        if "truncated" in text or "addr overflow" in text or "eof" in text:
            raise TruncatedError(f"{name}: the file is cut short", COPY_HINT) from e
        raise HeaderError(f"{name}: damaged HDF5 structure ({e})", COPY_HINT) from e


@contextlib.contextmanager
def _open_hdf5(source: Source, name: str) -> Iterator[tuple[h5f.FileID, int]]:
    """Opens a file or a stream for reading, after checking its signature and length.

    A stream is copied to a temporary file, as far as its header says it goes; so a pipe works too. Yields the open file
    and its size, bytes.
    """
    with contextlib.ExitStack() as stack:
        path, size, stream = "", 0, source
        if isinstance(stream, (str, os.PathLike)):
            path = os.fspath(stream)
            try:
                stream = stack.enter_context(open(path, "rb"))
            except (OSError, ValueError) as e:
                raise _unreadable(name, e) from e
            found = os.fstat(stream.fileno())
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        head = _read(stream, _HEAD, name)
        declared = _end_of_file(head, name)
        if not size:
            path, size = _copied(stream, head, declared, name, stack), declared
        if size < declared:
            raise TruncatedError(f"{name}: cut short: {size} of {declared} bytes are there", COPY_HINT)
        with named_errors(name):
            file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _reading())
        # `file.close()` also visits every object of every other open file.
        stack.callback(_quietly, h5i.dec_ref, file)
        yield file, size


def _end_of_file(head: bytes, name: str) -> int:
    """The length that the superblock declares, bytes."""
    if not head:
        raise TruncatedError(f"{name}: the file is empty", COPY_HINT)
    if head[:8] != _SIGNATURE[: len(head)]:
        make = f"make one: lincae encode {'- -' if name.startswith('<') else name}"
        hint = COPY_HINT if name.lower().endswith(".lat") else make
        raise NotHDF5Error(f"{name}: not a .lat file (no HDF5 signature)", hint)
    if len(head) < _HEAD:
        raise TruncatedError(f"{name}: the file is cut short after {len(head)} bytes", COPY_HINT)
    at = _END_OF_FILE.get(head[8])
    if at is None or head[9 if head[8] >= 2 else 13] != 8:
        raise HeaderError(f"{name}: unknown HDF5 superblock", COPY_HINT)
    return int.from_bytes(head[at : at + 8], "little")


def _copied(stream: BinaryIO, head: bytes, size: int, name: str, stack: contextlib.ExitStack) -> str:
    """A temporary file with `head` and what follows it in a stream, `size` bytes in all."""
    import tempfile  # costs more than all else that a header needs

    left = size - len(head)
    try:
        temp = tempfile.NamedTemporaryFile(prefix="lincae-", suffix=".lat")  # noqa: SIM115
        stack.callback(_quietly, temp.close)  # on a full disk closing fails again
        temp.write(head)
        while left > 0 and (block := _read(stream, min(left, 1 << 20), name)):
            temp.write(block)
            left -= len(block)
        temp.flush()
    except OSError as e:
        hint = "set TMPDIR to a folder with more room"
        raise LatError(f"cannot copy {name} to {tempfile.gettempdir()}: {e.strerror or e}", hint) from e
    if left > 0:
        raise TruncatedError(f"{name}: the stream ends {left} bytes early", COPY_HINT)
    return temp.name


def _read(stream: BinaryIO, count: int, name: str) -> bytes:
    """As many bytes, or fewer at the end."""
    data = b""
    try:
        while len(data) < count and (block := stream.read(count - len(data))):
            data += block
    except OSError as e:
        raise _unreadable(name, e) from e
    return data


def _unreadable(name: str, error: Exception) -> LatError:
    return LatError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}", "check the path")


def _quietly(function: Any, *arguments: Any) -> None:
    with contextlib.suppress(Exception):
        function(*arguments)


def _identity(descriptor: int) -> tuple[int, ...]:
    """What tells a file from another, or a later one, of the same name."""
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


# --- HDF5


@functools.cache
def _reading() -> h5p.PropFAID:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_cache(0, 0, 0, 0.75)  # chunks are not read through HDF5
    # A file is complete before it has its name: no lock is needed, and a read-only share works.
    if hasattr(access, "set_file_locking"):
        access.set_file_locking(False, True)
    return access


def row_chunk(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Shape of the chunks of /steps, /scale or /levels: everything in as many frames as fit into 2^17 bytes."""
    most = max(1, _ROW_BYTES // (math.prod(shape[:-1]) * itemsize))
    return *shape[:-1], headers.even_split(shape[-1], most)


@functools.lru_cache(maxsize=256)
def text_type(size: int, cset: int = h5t.CSET_UTF8) -> h5t.TypeID:
    """A fixed-length, NUL-padded string of `size` bytes, UTF-8 by default."""
    kind = h5t.C_S1.copy()
    kind.set_size(max(1, size))
    kind.set_cset(cset)  # HDF5 does not convert between ASCII and UTF-8
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


def _read_attribute(
    place: Any, attribute: str, name: str, kind: type, default: Any = None, max_bytes: int = 1024
) -> Any:
    """Reads a scalar attribute of exactly one kind (str, int or float); its size is checked first."""
    raw = attribute.encode()
    if not h5a.exists(place, raw):
        if default is None:
            raise HeaderError(f"{name}: the attribute {attribute} is missing", COPY_HINT)
        return default
    opened = h5a.open(place, raw)
    stored, size = opened.get_type(), opened.get_type().get_size()
    wanted, memory, numpys = {
        str: (h5t.STRING, None, f"S{size}"),
        int: (h5t.INTEGER, h5t.STD_I64LE, "<i8"),
        float: (h5t.FLOAT, h5t.IEEE_F64LE, "<f8"),
    }[kind]
    single = opened.get_space().get_simple_extent_type() == h5s.SCALAR
    if stored.get_class() != wanted or not single or size > max_bytes:
        raise HeaderError(f"{name}: the attribute {attribute} is not a scalar {kind.__name__} of the format")
    if kind is str and stored.is_variable_str():
        raise HeaderError(f"{name}: the attribute {attribute} must be a string of fixed length")
    array = np.empty((), numpys)
    opened.read(array, mtype=memory or text_type(size, stored.get_cset()))
    return _decoded(bytes(array[()]), attribute, name) if kind is str else kind(array[()])


def _decoded(data: bytes, what: str, name: str) -> str:
    """UTF-8 text without its padding."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError as e:
        raise HeaderError(f"{name}: {what} is not UTF-8") from e


def _open_object(root: h5g.GroupID, key: str, kind: type, name: str) -> Any:
    """Opens a child; None where there is none. Soft and external links could lead to another file."""
    raw = key.encode()
    if not root.links.exists(raw):
        return None
    if root.links.get_info(raw).type != h5l.TYPE_HARD:
        raise LayoutError(f"{name}: /{key} is a link to another place, which the format forbids")
    child = h5o.open(root, raw)
    if not isinstance(child, kind):
        raise LayoutError(f"{name}: /{key} is of the wrong kind")
    return child


def _check_plain(dataset: h5d.DatasetID, key: str, name: str, filters: list[int]) -> None:
    """Refuses storage that could read other files or run other code than the given filters."""
    plist = dataset.get_create_plist()
    if plist.get_layout() not in (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED):
        raise LayoutError(f"{name}: /{key} is virtual: its data would come from other files")
    if plist.get_external_count():
        raise LayoutError(f"{name}: /{key} keeps its data in another file, which the format forbids")
    found = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if found != filters:
        raise LayoutError(f"{name}: /{key} has the HDF5 filters {found}, must have {filters}")


class Chunks:
    """Where the chunks of a dataset lie in the file, each of which is checked and inflated as a whole.

    All but their bytes is checked when this is made: filters, `shape`, and whether each lies in the file.
    """

    def __init__(
        self, dataset: h5d.DatasetID, key: str, shape: tuple[int, ...], dtype: str, reader: LatReader, size: int
    ) -> None:
        self.shape, self._key, self._dtype, self._reader = shape, key, np.dtype(dtype), reader
        name = reader.name
        claimed = math.prod(map(int, dataset.shape)) * self._dtype.itemsize
        if claimed > size * _MOST_DEFLATED:
            raise ShapeError(f"{name}: /{key} claims {claimed} bytes, more than a file of {size} bytes can hold")
        _check_plain(dataset, key, name, [DEFLATE, FLETCHER32])
        found = tuple(dataset.get_create_plist().get_chunk())
        if found != shape:
            raise LayoutError(f"{name}: /{key} has chunks of {found}, must be {shape}")
        self._bytes = math.prod(shape) * self._dtype.itemsize
        counts = tuple(-(-int(n) // c) for n, c in zip(dataset.shape, shape, strict=True))
        # Every chunk takes at least this much of the file, so that an absurd shape is refused before the table is made.
        if math.prod(counts) * 12 > size:
            raise LayoutError(f"{name}: /{key} has {math.prod(counts)} chunks, more than the file can hold")
        self._places = np.zeros((*counts, 2), np.int64)  # offset and size in the file, bytes
        most = self._bytes + self._bytes // 1000 + _CHUNK_OVERHEAD

        def visit(info: Any) -> None:
            what = f"{name}: the chunk of /{key} at {info.chunk_offset}"
            if info.filter_mask or not 12 <= info.size <= most:
                raise LayoutError(f"{what} has no checksum or a wrong size")
            if info.byte_offset + info.size > size:
                raise TruncatedError(f"{what} lies beyond the end", COPY_HINT)
            place = tuple(int(at) // c for at, c in zip(info.chunk_offset, shape, strict=True))
            self._places[place] = info.byte_offset, info.size

        dataset.chunk_iter(visit)
        missing = int((self._places[..., 1] == 0).sum())
        if missing:
            raise LayoutError(f"{name}: {missing} of the {math.prod(counts)} chunks of /{key} are missing", COPY_HINT)

    def raw(self, *place: int) -> bytes:
        """A chunk as it lies in the file, its Fletcher-32 checked.

        Raises:
            TruncatedError, ChecksumError: the file was cut short meanwhile, or the chunk is damaged.
        """
        offset, size = self._places[place].tolist()
        data = self._reader.pread(size, offset)
        # The Fletcher-32 of zeros is zero, but no deflate stream begins with a zero byte.
        if data[-4:] != fletcher32(data[:-4]) or data[0] & 15 != 8:
            raise self._damaged()
        return data

    def read(self, *place: int) -> np.ndarray:
        """A chunk, inflated to exactly the chunk's shape."""
        inflater = zlib.decompressobj()
        try:
            data = inflater.decompress(self.raw(*place)[:-4], self._bytes + 1)
        except zlib.error as e:
            raise self._damaged() from e
        if len(data) != self._bytes or not inflater.eof:
            raise self._damaged()
        return np.frombuffer(data, self._dtype).reshape(self.shape)

    def _damaged(self) -> ChecksumError:
        what = f"a checksum of /{self._key} does not match: the file is damaged"
        return ChecksumError(f"{self._reader.name}: {what}", COPY_HINT)


_ROW = 256
_WEIGHTS = np.stack([np.ones(_ROW), np.arange(_ROW)], axis=1)


def fletcher32(data: bytes) -> bytes:
    """HDF5's Fletcher-32 of some bytes, as it is stored behind them.

    With 16-bit words w_0 to w_(n-1): the sums of w_i and of (n - i) w_i, modulo 65535. Rows of 256 words are summed by
    matrix products, exact in float64.
    """
    words = np.frombuffer(data + b"\0" * (-len(data) % (2 * _ROW)), ">u2").astype(np.float64).reshape(-1, _ROW)
    count, sums = -(-len(data) // 2), words @ _WEIGHTS
    rows, inside = sums[:, 0].astype(np.int64), int(sums[:, 1].sum())  # sums of w_j and of j w_j in each row
    first = int(rows.sum())
    second = int(np.dot(count - _ROW * np.arange(len(rows), dtype=np.int64), rows)) - inside
    # HDF5 folds the carries back in, so that a multiple of 65535 is 65535 and only zeros give 0.
    low, high = ((total % 65535) or (65535 if total else 0) for total in (first, second))
    return (high << 16 | low).to_bytes(4, "little")
