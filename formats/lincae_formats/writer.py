"""Writing `.lat` files: the same content makes the same bytes, and a file appears whole or not at all."""

import contextlib
import functools
import io
import os
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5g, h5i, h5o, h5p, h5s, h5t

from . import __version__
from . import header as headers
from .errors import DTypeError, LatError, NonFiniteError, ShapeError
from .files import atomic_path
from .header import Entry, Header
from .reader import TYPES, Chunks, LatReader, display_name, fletcher32, row_chunk, text_type
from .signal import (
    DTYPES,
    SCALE_MAX,
    Block,
    Lazy,
    Signal,
    as_stored,
    differences,
    joined,
    signed,
    spans,
    unknown_levels,
)

WRITER = f"lincae {__version__}"
_SAMPLE = 4096  # bytes of a chunk that tell how it is deflated
_SCALAR = h5s.create(h5s.SCALAR)

Item = TypeVar("Item")
Target = str | os.PathLike[str] | BinaryIO


class LatWriter:
    """A `.lat` file being written. A context manager.

    The file gets its name when the block ends without an exception and all `header.frames` frames were appended;
    otherwise nothing is left. A file object, which may be a pipe, gets the same bytes.

    Args:
        target: A path, or a binary file object.
        header: Header of the file; fixes the number of frames.
        dtype: Storage type: `int8` (needs groups), `float16` or `float32`; by default `int8` where the header has
            groups.
        history: What was done, oldest first, or a function that tells once every frame was appended; the oldest parts
            are elided beyond 256 KiB.
        tags: Tags.
        overwrite: Whether an existing file may be replaced.
        writer: Value of the attribute `writer`.

    Raises:
        TargetExistsError, LincaeError: the target cannot be written; raised on entering, before any work.
        HeaderError, ShapeError, DTypeError: the arguments do not fit the format.
    """

    def __init__(
        self,
        target: Target,
        header: Header,
        *,
        dtype: str | None = None,
        history: Iterable[Entry] | Callable[[], Iterable[Entry]] = (),
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        writer: str = WRITER,
    ) -> None:
        self.name = display_name(target, "<stdout>")
        header.validate(self.name)
        self.header = header
        self.dtype = header.default_dtype if dtype is None else dtype
        check_dtype(self.dtype, header, self.name)
        headers.check_text(self.name, "writer", writer)
        self._history = history if callable(history) else self._dumped(history)
        self._tags = dict(sorted((tags or {}).items()))
        headers.check_tags(self._tags, self.name)
        self._path = os.fspath(target) if isinstance(target, (str, os.PathLike)) else None
        self._target, self._overwrite, self._writer = target, overwrite, writer
        self._pending: list[Block] = []
        self._appended = self._written = 0
        self._levels_known = True
        self._rows: dict[str, _Rows] = {}
        self._datasets: dict[str, h5d.DatasetID] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            path = None if self._path is None else stack.enter_context(atomic_path(self._path, self._overwrite))
            self._disk = stack.enter_context(_Disk(path or _nameless(self.name), "r+"))
            with self._errors():
                make, access = _creating()
                access = access.copy()
                access.set_fileobj_driver(h5fd.fileobj_driver, self._disk)
                self._file = h5f.create(b"lat", h5f.ACC_TRUNC, make, access)
                stack.callback(self._close)
                self._create_datasets()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is not None:
            self._stack.__exit__(*error)
            return
        with self._stack:
            self._finish()

    def append(self, block: np.ndarray, levels: np.ndarray | None = None) -> None:
        """Appends frames.

        Args:
            block: Finite floats `[channels, latent_dim, n]`.
            levels: Levels of the groups that have one, `[channels, GL, n]`: 0 or more; negative where uncertain, NaN
                where unknown; None where all are unknown.

        Raises:
            ShapeError: another shape, or more frames than the header says.
            NonFiniteError: NaN or infinity.
            OverflowFloat16Error: a number that float16 cannot hold.
        """
        block, (channels, dims, _) = np.asarray(block), self.header.shape
        if block.ndim != 3 or block.shape[:2] != (channels, dims):
            raise ShapeError(f"{self.name}: a block has shape {block.shape}, must be ({channels}, {dims}, n)")
        if block.dtype.kind not in "fiu":
            raise DTypeError(f"{self.name}: a block holds {block.dtype}, must hold floats")
        shape = channels, self.header.level_count, block.shape[2]
        levels = unknown_levels(*shape) if levels is None else np.asarray(levels)
        if levels.shape != shape:
            raise ShapeError(f"{self.name}: levels have shape {levels.shape}, must be {shape}")
        if np.isinf(levels).any():
            raise NonFiniteError(f"{self.name}: a level is infinite")
        self.append_block(Block(block, levels=signed(levels)))

    def append_block(self, block: Block) -> None:
        """Appends frames of the header's shape that will not change: stored ones as they are, others rounded.

        Raises:
            ShapeError, NonFiniteError, OverflowFloat16Error: see `append`.
        """
        self._appended += block.frames
        if self._appended > self.header.frames:
            raise ShapeError(f"{self.name}: {self._appended} frames, but the header says {self.header.frames}")
        self._pending.append(as_stored(block, self.dtype, self.header.groups, self.name))
        self._flush(self.header.chunk_frames)

    def copy(self, reader: LatReader, scale: Callable[[int, int], np.ndarray] | None = None) -> None:
        """Writes all of another file's frames without inflating its chunks; only the scale may differ.

        Args:
            reader: A file with the same shape and groups.
            scale: The scale of the frames `[start, stop)`, float32 `[channels, n]`; by default the file's.

        Raises:
            ChecksumError, TruncatedError: a chunk is damaged.
        """
        assert (reader.header.shape, reader.dtype, self._appended) == (self.header.shape, self.dtype, 0)
        frames, chunk = self.header.frames, self.header.chunk_frames
        for at in range(0, frames, chunk):
            stop = min(at + chunk, frames)
            with self._errors():
                for channel in range(self.header.channels):
                    raw = reader.chunks["latents"].raw(channel, 0, at // chunk)
                    self._latents.write_direct_chunk((channel, 0, at), raw)
                for key, rows in self._rows.items():
                    if key == "scale":
                        self._put_scale((scale or reader.scale)(at, stop))
                    elif key in reader.chunks:
                        rows.copy(reader.chunks[key], stop)
                    else:
                        rows.put(unknown_levels(self.header.channels, self.header.level_count, stop - at))
        self._levels_known = reader.levels_known
        self._appended = self._written = frames

    def _dumped(self, history: Iterable[Entry]) -> bytes:
        return headers.dump_history(headers.bounded(history), self.name)

    def _flush(self, unit: int) -> None:
        """Writes as many whole chunks as are pending, in the order of the file."""
        pending = self._appended - self._written
        if pending < unit:
            return
        block = joined(self._pending)
        for at in range(0, pending - unit + 1, unit):
            self._write_frames(block.cut(at, at + unit))
        self._pending = [block.cut(pending - pending % unit, pending)] if pending % unit else []

    def _write_frames(self, block: Block) -> None:
        """Writes one chunk of every channel."""
        with self._errors():
            for channel in range(self.header.channels):
                data = np.zeros((1, self.header.latent_dim, self.header.chunk_frames), block.data.dtype)
                data[0, :, : block.frames] = block.data[channel]
                _write_chunk(self._latents, (channel, 0, self._written), data, self._cuts)
            if block.steps is not None and block.scale is not None:
                self._rows["steps"].put(block.steps)
                self._put_scale(block.scale)
            elif "levels" in self._rows:
                assert block.levels is not None
                self._rows["levels"].put(block.levels)
        self._levels_known = self._levels_known and block.known
        self._written += block.frames

    def _put_scale(self, scale: np.ndarray) -> None:
        if not (np.abs(scale) <= SCALE_MAX).all():  # false for NaN, too
            raise NonFiniteError(f"{self.name}: the result is beyond float32", "use smaller gains")
        self._rows["scale"].put(scale)

    def _finish(self) -> None:
        if self._appended != self.header.frames:
            raise ShapeError(f"{self.name}: got {self._appended} of the {self.header.frames} frames in the header")
        self._flush(max(1, self._appended - self._written))
        history = self._history if isinstance(self._history, bytes) else self._dumped(self._history())
        with self._errors():
            self._write_attributes(history)
            self._close()
        with self._errors():
            if not isinstance(self._target, (str, os.PathLike)):
                self._disk.seek(0)
                shutil.copyfileobj(self._disk, self._target, 1 << 20)
                self._target.flush()

    def _create_datasets(self) -> None:
        """Creates the datasets that every file has. They are linked, and the attributes written, at the end.

        So all of the root group's messages lie together, which saves 200 bytes.
        """
        header = self.header
        channels, _, frames = header.shape
        self._latents = self.dataset("latents", header.shape, (1, header.latent_dim, header.chunk_frames), self.dtype)
        self._cuts: list[int] = []
        if header.groups:
            # Every dataset's header has some space for attributes that would be empty otherwise.
            _write_attribute(self._latents, "groups", headers.groups_text(header.groups))
        if self.dtype == "int8":
            self._cuts = np.cumsum([run.count * run.size for run in header.groups])[:-1].tolist()
            self._rows["steps"] = _Rows(self, "steps", (channels, header.group_count, frames), "uint8")
            self._rows["scale"] = _Rows(self, "scale", (channels, frames), "float32", skip=1.0)
        elif header.level_count:
            self._rows["levels"] = _Rows(self, "levels", (channels, header.level_count, frames), "float32", skip=np.nan)

    def dataset(self, key: str, shape: tuple[int, ...], chunk: tuple[int, ...] | None, dtype: str) -> h5d.DatasetID:
        """Creates a dataset, which gets its name at the end; in chunks, or None: plain."""
        space, kind = h5s.create_simple(shape), TYPES[dtype]
        self._datasets[key] = h5d.create(self._file, None, kind, space, _storage(chunk))
        return self._datasets[key]

    def _write_attributes(self, history: bytes) -> None:
        header = self.header
        attributes: dict[str, Any] = {"format": headers.FORMAT, "format_version": headers.FORMAT_VERSION}
        given = {key: (getattr(header, key), default) for key, (_, default, *_) in headers.ATTRIBUTES.items()}
        attributes |= {key: value for key, (value, default) in given.items() if default is None}
        attributes["writer"] = self._writer
        attributes |= {key: value for key, (value, default) in given.items() if default not in (None, value)}
        if self.dtype == "int8" and header.level_count and not self._levels_known:
            attributes["levels_known"] = 0
        if len(history) <= headers.MAX_HISTORY_ATTRIBUTE:
            attributes["history"] = history.decode()
        else:
            packed = np.frombuffer(zlib.compress(history, 9), np.uint8)
            self.dataset("history", packed.shape, None, "uint8").write(h5s.ALL, h5s.ALL, packed)
        for key, value in attributes.items():
            _write_attribute(self._file, key, value)
        for key, dataset in self._datasets.items():
            h5o.link(dataset, self._file, key.encode())
        if self._tags:
            make = h5p.create(h5p.GROUP_CREATE)
            make.set_attr_phase_change(64, 0)
            make.set_obj_track_times(False)
            group = h5g.create(self._file, b"tags", gcpl=make)
            for key, value in self._tags.items():
                _write_attribute(group, key, value)

    def _close(self) -> None:
        """Closes the HDF5 file, if it is open."""
        self._datasets.clear()
        if self._file.valid:
            h5i.dec_ref(self._file)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Names the file in what goes wrong while it is written."""
        try:
            yield
            if self._disk.error is not None:
                raise self._disk.error
        except BrokenPipeError:
            raise
        except (OSError, RuntimeError, ValueError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise LatError(f"cannot write {self.name}: {reason}", "is the disk full?") from e


class _Rows:
    """A dataset of few numbers a frame, `[..., frames]`, written chunk by chunk as frames come.

    If every number is `skip`, the dataset is not created.
    """

    def __init__(
        self, file: LatWriter, key: str, shape: tuple[int, ...], dtype: str, skip: float | None = None
    ) -> None:
        self._skip, self._groups = skip, file.header.groups if key == "steps" else None
        self._dtype = np.dtype(dtype).newbyteorder("<")
        self._chunk, self._total = row_chunk(shape, self._dtype.itemsize), shape[-1]
        self._make = functools.partial(file.dataset, key, shape, self._chunk, dtype)
        self._dataset = self._make() if skip is None else None
        self._pending: list[np.ndarray] = []
        self._frames = self._written = 0

    def put(self, part: np.ndarray) -> None:
        """Appends frames `[..., n]`."""
        self._pending.append(part)
        self._frames += part.shape[-1]
        while self._written < self._frames and self._frames >= min(self._written + self._chunk[-1], self._total):
            self._write(min(self._chunk[-1], self._total - self._written))

    def copy(self, chunks: Chunks, stop: int) -> None:
        """Copies those chunks of another file's dataset that end with frame `stop` or before."""
        self._dataset = self._dataset or self._make()
        *lead, size = (*(0,) * (len(self._chunk) - 1), self._chunk[-1])
        while self._written < self._total and min(self._written + size, self._total) <= stop:
            self._dataset.write_direct_chunk((*lead, self._written), chunks.raw(*lead, self._written // size))
            self._written = self._frames = min(self._written + size, self._total)

    def _write(self, count: int) -> None:
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending, axis=-1)
        self._pending = [rows[..., count:]]
        rows = rows[..., :count]
        if self._dataset is None:
            if np.array_equal(rows, np.full_like(rows, self._skip), equal_nan=True):
                self._written += count
                return
            self._dataset, until, self._written = self._make(), self._written, 0
            while self._written < until:
                self._write_chunk(np.full(self._chunk, self._skip))
        self._write_chunk(rows)

    def _write_chunk(self, rows: np.ndarray) -> None:
        data = np.zeros(self._chunk, self._dtype)
        data[..., : rows.shape[-1]] = rows if self._groups is None else differences(rows, self._groups)
        _write_chunk(self._dataset, (*(0,) * (len(self._chunk) - 1), self._written), data)
        self._written += rows.shape[-1]


class _Disk(io.FileIO):
    """The temporary file that HDF5 writes to. Its first error is kept in `error`; what comes after that is dropped.

    Nothing is raised into HDF5, whose 2.0 crashes at exit after a failed close.
    """

    error: Exception | None = None

    def write(self, data: Any) -> int:
        """Writes all of it."""
        left = view = memoryview(data).cast("B")
        try:
            while left and self.error is None:
                left = left[super().write(left) :]
        except (OSError, ValueError) as e:
            self.error = e
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Sets the length."""
        try:
            if self.error is None:
                return super().truncate(size)
        except (OSError, ValueError) as e:
            self.error = e
        return size or 0


def check_dtype(dtype: str, header: Header, name: str) -> None:
    """Checks a storage type.

    Raises:
        DTypeError: it is unknown, or `int8` and the header has no groups.
    """
    if dtype not in DTYPES:
        raise DTypeError(f"{name}: dtype is {dtype!r}", "use --dtype int8, float16 or float32")
    if dtype == "int8" and not header.groups:
        raise DTypeError(f"{name}: the model {header.model} has no groups for integers", "use --dtype float16")


def write_lat(source: Signal, target: Target, *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes latents, an open file or a lazy result in constant memory; the one rounding to the storage type is here.

    Raises:
        LincaeError: see LatWriter.
    """
    write_lats([(source, target)], overwrite=overwrite, writer=writer)


def write_lats(pairs: Sequence[tuple[Signal, Target]], *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes several results side by side, so that operands they share are read once. An error leaves none of them.

    Raises:
        LincaeError: see LatWriter.
    """
    sources = [source for source, _ in pairs]
    with contextlib.ExitStack() as stack:
        outs = []
        for source, target in pairs:
            history = functools.partial(getattr, source, "history")
            facts: dict[str, Any] = {"dtype": source.dtype, "history": history, "tags": source.tags}
            out = LatWriter(target, source.header, **facts, overwrite=overwrite, writer=writer)
            outs.append(stack.enter_context(out))
        first = sources[0]
        file, scale = (first.copies, first.scale) if isinstance(first, Lazy) else (first, None)
        if len(pairs) == 1 and isinstance(file, LatReader):
            outs[0].copy(file, scale)
            return

        def read(span: tuple[int, int]) -> list[Block | None]:
            start, end = span
            stops = [min(end, source.header.frames) for source in sources]
            return [s.block(start, stop) if start < stop else None for s, stop in zip(sources, stops, strict=True)]

        for found in _ahead(map(read, spans(sources))):
            for block, out in zip(found, outs, strict=True):
                if block is not None:
                    out.append_block(block)


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each computed in a thread while the caller uses the one before it."""
    from concurrent.futures import ThreadPoolExecutor

    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


# --- HDF5. Property lists and spaces are made once: making them takes longer than using them.


@functools.cache
def _creating() -> tuple[h5p.PropFCID, h5p.PropFAID]:
    """How files are created: their bytes depend on nothing but what is written to them."""
    make = h5p.create(h5p.FILE_CREATE)
    make.set_attr_phase_change(64, 0)  # attributes in the checksummed object header, no heap
    make.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)  # superblock 3: metadata has checksums
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_meta_block_size(0)  # no gaps between metadata
    return make, access


@functools.lru_cache(maxsize=64)
def _storage(chunk: tuple[int, ...] | None) -> h5p.PropDCID:
    """How datasets are created: in chunks with deflate and Fletcher-32, or None, plain."""
    make = h5p.create(h5p.DATASET_CREATE)
    if chunk is not None:
        make.set_chunk(chunk)
        make.set_deflate(9)
        make.set_fletcher32()
    make.set_fill_time(h5d.FILL_TIME_NEVER)
    make.set_obj_track_times(False)
    return make


def _write_attribute(place: Any, name: str, value: str | int | float) -> None:
    """Writes a scalar attribute: a fixed-length UTF-8 string, an int32 or int64, or a float64, little-endian."""
    kind: h5t.TypeID
    if isinstance(value, str):
        data = value.encode()
        kind, array = text_type(len(data)), np.array(data, dtype=f"S{max(1, len(data))}")
    elif isinstance(value, int):
        small = -(2**31) <= value < 2**31
        kind = h5t.STD_I32LE if small else h5t.STD_I64LE
        array = np.array(value, dtype="<i4" if small else "<i8")
    else:
        kind, array = h5t.IEEE_F64LE, np.array(value, dtype="<f8")
    h5a.create(place, name.encode(), kind, _SCALAR).write(array, mtype=kind)


def _write_chunk(dataset: h5d.DatasetID, offset: tuple[int, ...], data: np.ndarray, cuts: Sequence[int] = ()) -> None:
    """Deflates a whole chunk and writes it as bytes; other numbers begin at the rows `cuts` of its second axis."""
    parts = np.split(data[0], cuts) if cuts else [data]
    packed = _deflated([part.reshape(-1).view(np.uint8).data for part in parts])
    dataset.write_direct_chunk(offset, packed + fletcher32(packed))


def _deflated(parts: Sequence[memoryview]) -> bytes:
    """One zlib stream (RFC 1950) of some parts, each in the shortest of a few ways: for noise, runs and repetition.

    Rounded latents are noise, for which Huffman codes alone are 12 to 16 % smaller than matches of level 9.
    """
    packed, check = [b"\x78\xda"], 1
    for i, part in enumerate(parts):
        check = zlib.adler32(part, check)
        end = zlib.Z_FINISH if i == len(parts) - 1 else zlib.Z_FULL_FLUSH  # a flush ends at a byte
        packed.append(_shortest(part, end))
    return b"".join([*packed, check.to_bytes(4, "big")])


def _shortest(data: memoryview, end: int) -> bytes:
    def deflated(strategy: int) -> bytes:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
        return packer.compress(data) + packer.flush(end)

    best = deflated(zlib.Z_HUFFMAN_ONLY)
    # Fast matches in a sample tell whether runs and the matches of level 9, which take long to find, pay.
    short = data.nbytes <= _SAMPLE
    sample = data if short else b"".join(data[at : at + _SAMPLE // 8] for at in range(0, data.nbytes, data.nbytes // 8))
    packer = zlib.compressobj(1, zlib.DEFLATED, -12, 8)
    matches = len(packer.compress(sample) + packer.flush()) / len(sample) * data.nbytes / len(best)
    if matches < 1.3 and len(best) * 3 < data.nbytes:
        best = min(best, deflated(zlib.Z_RLE), key=len)
    if matches < (1.05 if short else 0.97):
        best = min(best, deflated(zlib.Z_DEFAULT_STRATEGY), key=len)
    return best


def _nameless(name: str) -> int:
    """A temporary file without a name, for targets that HDF5 cannot seek in."""
    import tempfile

    try:
        with tempfile.TemporaryFile(prefix="lincae-") as file:
            return os.dup(file.fileno())
    except OSError as e:
        raise LatError(f"cannot write {name}: {e.strerror} in {tempfile.gettempdir()}", "set TMPDIR") from e
