"""Writing `.lat` files: the same content makes the same bytes, and a file appears whole or not at all."""

import contextlib
import functools
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import numpy as np
from h5py import h5d, h5g, h5i, h5o, h5p, h5s

from . import history as histories
from . import signal, storage
from ._version import __version__
from .errors import DTypeError, LatError, NonFiniteError, OverflowFloat16Error, ShapeError
from .files import atomic_path
from .header import FORMAT, FORMAT_VERSION, MODEL_SAMPLE_RATE, Header, check_text, groups_text
from .reader import LatReader, Pooled, row_chunk
from .stored import DTYPES, SCALE_MAX, Stored, all_finite, differences, joined, quantised, signed, unknown, unsigned

WRITER = f"lincae {__version__}"
FLOAT16_MAX = 65504.0

T = TypeVar("T")
Target = str | os.PathLike[str] | BinaryIO


class _Disk:
    """The file object that HDF5 writes to: a temporary file, whose first error is kept and raised by `check`.

    Nothing is raised into HDF5, whose 2.0 crashes at exit after a failed close. What comes after an error is dropped.

    Args:
        descriptor: Of the file; closed by `close`.
    """

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._at = self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raises the first error.

        Raises:
            OSError: the disk is full, or failed otherwise.
        """
        if self._error is not None:
            raise self._error

    def blocks(self) -> Iterator[bytes]:
        """Everything, in order."""
        for at in range(0, self._end, 1 << 20):
            yield os.pread(self._fd, min(1 << 20, self._end - at), at)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._fd)
        self._error = OSError("closed")

    # What HDF5 calls

    def write(self, data: Any) -> int:
        """Writes at the position."""
        left = view = memoryview(data).cast("B")
        at, self._at = self._at, self._at + len(view)
        self._end = max(self._end, self._at)
        try:
            while left and self._error is None:
                count = os.pwrite(self._fd, left, at)
                left, at = left[count:], at + count
        except OSError as e:
            self._error = e
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Reads at the position; zeros after an error."""
        view = memoryview(buffer).cast("B")
        data = b"" if self._error is not None else os.pread(self._fd, len(view), self._at)
        view[:] = data.ljust(len(view), b"\0")
        self._at += len(view)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position."""
        self._at = offset + (self._end if whence == os.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        """The position."""
        return self._at

    def truncate(self, size: int) -> int:
        """Sets the length."""
        self._end = size
        try:
            if self._error is None:
                os.ftruncate(self._fd, size)
        except OSError as e:
            self._error = e
        return size

    def flush(self) -> None:
        """Nothing is buffered."""


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
        history: Iterable[histories.Entry] | Callable[[], Iterable[histories.Entry]] = (),
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        writer: str = WRITER,
    ) -> None:
        """Checks the arguments; touches no file yet."""
        self.name = storage.display_name(target, "<stdout>")
        header.validate(self.name)
        self.header = header
        self.dtype = header.default_dtype if dtype is None else dtype
        check_dtype(self.dtype, header, self.name)
        check_text(self.name, "writer", writer)
        self._writer = writer
        self._history = history if callable(history) else self._dumped(history)
        self._tags = dict(sorted((tags or {}).items()))
        histories.check_tags(self._tags, self.name)
        self._target = target
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()
        self._appended = 0
        self._pending: list[Stored] = []
        self._pending_frames = 0
        self._written = 0
        self._levels_known = True
        self._rows: dict[str, _Rows] = {}
        self._datasets: dict[str, h5d.DatasetID] = {}

    def __enter__(self) -> Self:
        """Checks the target and makes the temporary file."""
        with contextlib.ExitStack() as stack:
            if isinstance(self._target, (str, os.PathLike)):
                self._disk = _Disk(os.open(stack.enter_context(atomic_path(self._target, self._overwrite)), os.O_RDWR))
            else:
                self._disk = _Disk(_nameless(self.name))
            stack.callback(self._disk.close)
            with self._errors():
                self._file = storage.create(self._disk)
                stack.callback(self._close)
                self._create()
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
        block = np.asarray(block)
        if block.ndim != 3 or block.shape[:2] != self.header.shape[:2]:
            wanted = f"({self.header.channels}, {self.header.latent_dim}, n)"
            raise ShapeError(f"{self.name}: a block has shape {block.shape}, must be {wanted}")
        if block.dtype.kind not in "fiu":
            raise DTypeError(f"{self.name}: a block holds {block.dtype}, must hold floats")
        shape = (self.header.channels, self.header.level_count, block.shape[2])
        bands = unknown(shape) if levels is None else np.asarray(levels)
        if bands.shape != shape:
            raise ShapeError(f"{self.name}: levels have shape {bands.shape}, must be {shape}")
        if np.isinf(bands).any():
            raise NonFiniteError(f"{self.name}: a level is infinite")
        self.append_signed(block, signed(bands))

    def append_signed(self, block: np.ndarray, levels: np.ndarray) -> None:
        """Appends frames of the header's shape, with levels as `stored.signed` gives them."""
        self.append_stored(Stored(self._store(block), bands=levels if self.dtype == "int8" else unsigned(levels)))

    def copy(self, reader: LatReader, scale: signal.Read | None = None) -> None:
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
            for channel in range(self.header.channels):
                raw = reader.chunks["latents"].raw(channel, 0, at // chunk)
                with self._errors():
                    storage.write_raw(self._latents, (channel, 0, at), raw)
            for key, rows in self._rows.items():
                if key == "scale":
                    with self._errors():
                        rows.put(self._checked(reader.scale(at, stop) if scale is None else scale(at, stop)))
                elif key in reader.chunks:
                    rows.copy(reader.chunks[key], stop)
                else:
                    with self._errors():
                        rows.put(unknown((*rows.shape[:-1], stop - at)))
        self._levels_known = reader.levels_known
        self._appended = self._written = frames

    def append_stored(self, block: Stored) -> None:
        """Appends frames in the storage type, finite, that will not change; they are not rounded again."""
        self._appended += block.frames
        if self._appended > self.header.frames:
            raise ShapeError(f"{self.name}: {self._appended} frames, but the header says {self.header.frames}")
        self._pending.append(block)
        self._pending_frames += block.frames
        self._flush(self.header.chunk_frames)

    def _dumped(self, history: Iterable[histories.Entry]) -> bytes:
        return histories.dumps(histories.bounded(history), self.name)

    def _store(self, block: np.ndarray) -> np.ndarray:
        """Floats in the storage type; those to be rounded to integers, in float32."""
        with np.errstate(over="ignore"):
            stored = block.astype("<f2" if self.dtype == "float16" else "<f4")
        if not all_finite(stored):
            if not np.isfinite(block).all():
                raise NonFiniteError(f"{self.name}: NaN or infinity among the latents to write")
            peak = float(np.abs(block.astype(np.float64)).max())
            if self.dtype == "float16":
                raise OverflowFloat16Error(
                    f"{self.name}: a latent of {peak:.6g} is beyond float16 ({FLOAT16_MAX:.0f})",
                    "lower the gain, or encode with --dtype float32",
                )
            raise NonFiniteError(f"{self.name}: a latent of {peak:.6g} is beyond float32")
        return stored

    def _flush(self, unit: int) -> None:
        """Writes as many whole chunks as are pending, in the order of the file."""
        if not self._pending or self._pending_frames < unit:
            return
        block = joined(self._pending)
        at = 0
        while self._pending_frames - at >= unit and at < self._pending_frames:
            self._write_frames(block.cut(at, at + unit))
            at += unit
        rest = block.cut(at, block.frames)
        self._pending, self._pending_frames = [rest] if rest.frames else [], rest.frames

    def _write_frames(self, block: Stored) -> None:
        """Writes one chunk of every channel."""
        if self.dtype == "int8" and block.steps is None:
            block = quantised(block.data, block.bands, self.header.groups)
        chunk = (1, self.header.latent_dim, self.header.chunk_frames)
        with self._errors():
            for channel in range(self.header.channels):
                data = np.zeros(chunk, block.data.dtype)
                data[0, :, : block.frames] = block.data[channel]
                storage.write_chunk(self._latents, (channel, 0, self._written), data, self._cuts)
            if self.dtype == "int8":
                assert block.steps is not None
                assert block.scale is not None
                self._rows["steps"].put(block.steps)
                self._rows["scale"].put(self._checked(block.scale))
                self._levels_known = self._levels_known and block.known
            elif "levels" in self._rows:
                self._rows["levels"].put(
                    unknown((*self._rows["levels"].shape[:-1], block.frames)) if block.bands is None else block.bands
                )
        self._written += block.frames

    def _checked(self, scale: np.ndarray) -> np.ndarray:
        if not (np.abs(scale) <= SCALE_MAX).all():  # false for NaN, too
            raise NonFiniteError(f"{self.name}: the result is beyond float32", "use smaller gains")
        return scale

    def _finish(self) -> None:
        if self._appended != self.header.frames:
            raise ShapeError(f"{self.name}: got {self._appended} of the {self.header.frames} frames in the header")
        self._flush(max(1, self._pending_frames))
        history = self._history if isinstance(self._history, bytes) else self._dumped(self._history())
        with self._errors():
            self._write_attributes(history)
            self._write_tags()
            self._close()
        with self._errors():
            if not isinstance(self._target, (str, os.PathLike)):
                for data in self._disk.blocks():
                    self._target.write(data)
                self._target.flush()

    def _create(self) -> None:
        """Creates the datasets that every file has. They are linked, and the attributes written, at the end.

        So all of the root group's messages lie together, which saves 200 bytes.
        """
        header = self.header
        channels, _, frames = header.shape
        chunk = (1, header.latent_dim, header.chunk_frames)
        self._latents = self._dataset("latents", header.shape, chunk, self.dtype)
        runs = [run.count * run.size for run in header.groups]
        self._cuts = np.cumsum(runs)[:-1].tolist() if self.dtype == "int8" else []
        if header.groups:
            # Every dataset's header has some space for attributes that would be empty otherwise.
            storage.write_attribute(self._latents, "groups", groups_text(header.groups))
        if self.dtype == "int8":
            self._rows["steps"] = self._row_dataset("steps", (channels, header.group_count, frames), "uint8")
            self._rows["scale"] = self._row_dataset("scale", (channels, frames), "float32", skip=1.0)
        elif header.level_count:
            shape = (channels, header.level_count, frames)
            self._rows["levels"] = self._row_dataset("levels", shape, "float32", skip=np.nan)

    def _write_attributes(self, history: bytes) -> None:
        header = self.header
        attributes: dict[str, str | int | float] = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "sample_rate": header.sample_rate,
            "num_samples": header.num_samples,
            "samples_per_frame": header.samples_per_frame,
            "model": header.model,
            "model_fingerprint": header.model_fingerprint,
            "writer": self._writer,
        }
        if header.model_sample_rate != MODEL_SAMPLE_RATE:
            attributes["model_sample_rate"] = header.model_sample_rate
        if header.latent_scale != 1.0:
            attributes["latent_scale"] = header.latent_scale
        if self.dtype == "int8" and header.level_count and not self._levels_known:
            attributes["levels_known"] = 0
        if len(history) <= histories.MAX_ATTRIBUTE:
            attributes["history"] = history.decode()
        else:
            packed = np.frombuffer(zlib.compress(history, 9), np.uint8)
            space = h5s.create_simple(packed.shape)
            dataset = h5d.create(self._file, None, storage.TYPES["uint8"], space, _plain())
            dataset.write(h5s.ALL, h5s.ALL, packed)
            self._datasets["history"] = dataset
        for key, value in attributes.items():
            storage.write_attribute(self._file, key, value)
        for key, dataset in self._datasets.items():
            h5o.link(dataset, self._file, key.encode())

    def _dataset(self, key: str, shape: tuple[int, ...], chunk: tuple[int, ...], dtype: str) -> h5d.DatasetID:
        space, kind = h5s.create_simple(shape), storage.TYPES[dtype]
        self._datasets[key] = h5d.create(self._file, None, kind, space, storage.chunked(chunk))
        return self._datasets[key]

    def _row_dataset(self, key: str, shape: tuple[int, ...], dtype: str, skip: float | None = None) -> "_Rows":
        chunk = row_chunk(shape, np.dtype(dtype).itemsize)
        make = functools.partial(self._dataset, key, shape, chunk, dtype)
        change = (lambda codes: differences(codes, self.header.groups)) if key == "steps" else np.asarray
        return _Rows(make, shape, chunk, np.dtype(dtype).newbyteorder("<"), skip, change)

    def _write_tags(self) -> None:
        if not self._tags:
            return
        make = h5p.create(h5p.GROUP_CREATE)
        make.set_attr_phase_change(64, 0)
        make.set_obj_track_times(False)
        group = h5g.create(self._file, b"tags", gcpl=make)
        for key, value in self._tags.items():
            storage.write_attribute(group, key, value)

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
            self._disk.check()
        except BrokenPipeError:
            raise
        except (OSError, RuntimeError, ValueError) as e:
            reason = getattr(e, "strerror", None) or str(e)
            raise LatError(f"cannot write {self.name}: {reason}", "is the disk full?") from e


class _Rows:
    """A dataset of few numbers a frame, written chunk by chunk as frames come.

    Args:
        make: Creates the dataset.
        shape: Its shape; the last axis are frames.
        chunk: Shape of its chunks.
        dtype: numpy's type.
        skip: If every number is this one, the dataset is not created.
        change: What is done to a chunk before it is stored.
    """

    def __init__(
        self,
        make: Callable[[], h5d.DatasetID],
        shape: tuple[int, ...],
        chunk: tuple[int, ...],
        dtype: np.dtype[Any],
        skip: float | None,
        change: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        self.shape, self._change = shape, change
        self._make, self._chunk, self._dtype, self._skip = make, chunk, dtype, skip
        self._dataset = make() if skip is None else None
        self._pending: list[np.ndarray] = []
        self._frames = self._written = 0

    def put(self, part: np.ndarray) -> None:
        """Appends frames `[..., n]`."""
        self._pending.append(part)
        self._frames += part.shape[-1]
        total, size = self.shape[-1], self._chunk[-1]
        while self._written < self._frames and self._frames >= min(self._written + size, total):
            self._write(min(size, total - self._written))

    def copy(self, chunks: storage.Chunks, stop: int) -> None:
        """Copies those chunks of another file's dataset that end with frame `stop` or before."""
        self._dataset = self._dataset or self._make()
        size, frames = self._chunk[-1], self.shape[-1]
        while self._written < frames and min(self._written + size, frames) <= stop:
            lead = (0,) * (len(self.shape) - 1)
            raw = chunks.raw(*lead, self._written // size)
            storage.write_raw(self._dataset, (*lead, self._written), raw)
            self._written = self._frames = min(self._written + size, frames)

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
                self._write_chunk(np.full((*self.shape[:-1], self._chunk[-1]), self._skip))
        self._write_chunk(rows)

    def _write_chunk(self, rows: np.ndarray) -> None:
        data = np.zeros(self._chunk, self._dtype)
        data[..., : rows.shape[-1]] = self._change(rows)
        storage.write_chunk(self._dataset, (*(0,) * (len(self.shape) - 1), self._written), data)
        self._written += rows.shape[-1]


def check_dtype(dtype: str, header: Header, name: str) -> None:
    """Checks a storage type.

    Raises:
        DTypeError: it is unknown, or `int8` and the header has no groups.
    """
    if dtype not in DTYPES:
        raise DTypeError(f"{name}: dtype is {dtype!r}", "use --dtype int8, float16 or float32")
    if dtype == "int8" and not header.groups:
        raise DTypeError(f"{name}: the model {header.model} has no groups for integers", "use --dtype float16")


def _nameless(name: str) -> int:
    """A temporary file without a name, for targets that HDF5 cannot seek in."""
    import tempfile

    try:
        descriptor, path = tempfile.mkstemp(prefix="lincae-")
    except OSError as e:
        raise LatError(f"cannot write {name}: {e.strerror} in {tempfile.gettempdir()}", "set TMPDIR") from e
    with contextlib.suppress(OSError):
        os.unlink(path)
    return descriptor


@functools.cache
def _plain() -> h5p.PropDCID:
    make = h5p.create(h5p.DATASET_CREATE)
    make.set_fill_time(h5d.FILL_TIME_NEVER)
    make.set_obj_track_times(False)
    return make


def write_lat(source: signal.Signal, target: Target, *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes latents, an open file or a lazy result in constant memory; the one rounding to the storage type is here.

    Raises:
        LincaeError: see LatWriter.
    """
    write_lats([(source, target)], overwrite=overwrite, writer=writer)


def write_lats(pairs: Sequence[tuple[signal.Signal, Target]], *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes several results side by side, so that operands they share are read once. An error leaves none of them.

    Raises:
        LincaeError: see LatWriter.
    """
    with contextlib.ExitStack() as stack:
        outs = [
            stack.enter_context(
                LatWriter(
                    target,
                    source.header,
                    dtype=source.dtype,
                    history=functools.partial(getattr, source, "history"),
                    tags=source.tags,
                    overwrite=overwrite,
                    writer=writer,
                )
            )
            for source, target in pairs
        ]
        if len(pairs) == 1 and (found := _copyable(pairs[0][0])) is not None:
            outs[0].copy(*found)
            return
        sources = [source for source, _ in pairs]
        for blocks in _ahead([_read(source, start, end) for source in sources] for start, end in signal.spans(sources)):
            for block, out in zip(blocks, outs, strict=True):
                if isinstance(block, Stored):
                    out.append_stored(block)
                elif block is not None:
                    out.append_signed(*block)


def _read(source: signal.Signal, start: int, end: int) -> Stored | tuple[np.ndarray, np.ndarray] | None:
    """Frames of a signal as they are stored, or the numbers and their levels; None after its end."""
    stop, plain = min(end, source.header.frames), signal.stored(source)
    if start >= stop:
        return None
    if plain is not None:
        return plain(start, stop)
    return source.read(start, stop), signal.signed_levels(source, start, stop)


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each computed in a thread while the caller uses the one before it."""
    from concurrent.futures import ThreadPoolExecutor

    end = object()
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, items, end)
            yield item  # type: ignore[misc]


def _copyable(source: signal.Signal) -> tuple[LatReader, signal.Read | None] | None:
    """The open file whose chunks can be copied as they are, and the scale to write with them."""
    file, scale = (source.copies, source.scale) if isinstance(source, signal.Lazy) else (source, None)
    if isinstance(file, Pooled):
        file = file.reader
    return (file, scale) if isinstance(file, LatReader) else None
