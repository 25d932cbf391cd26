"""Writing `.lat` files: the same content makes the same bytes, and the file appears whole or not at all."""

import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
from h5py import h5d, h5g, h5p, h5s

from . import hdf5, signal, silence
from . import history as histories
from ._version import __version__
from .atomic import atomic_path
from .errors import DTypeError, LatError, NonFiniteError, OverflowFloat16Error, ShapeError
from .half import all_finite
from .header import FORMAT, FORMAT_VERSION, Header, check_text

WRITER = f"lincae {__version__}"
FLOAT16_MAX = 65504.0

Target = str | os.PathLike[str] | BinaryIO


class LatWriter:
    """A `.lat` file being written. A context manager.

    The file gets its name when the block ends without an exception and all `header.frames` frames were
    appended; otherwise nothing is left. A file object gets the same bytes, and may be a pipe.

    Args:
        target: A path, or a binary file object.
        header: What the file will say; fixes the number of frames.
        dtype: Storage type, `float16` or `float32`.
        history: What was done, oldest first, or what says so once every frame was appended; older parts are elided
            beyond 256 KiB.
        tags: Free text.
        overwrite: Whether an existing file may be replaced.
        writer: What the attribute `writer` says.

    Raises:
        TargetExistsError, LincaeError: the target cannot be written; raised on entering, before any work.
        HeaderError, ShapeError, DTypeError: the arguments are not the format's.
    """

    def __init__(
        self,
        target: Target,
        header: Header,
        *,
        dtype: str = "float16",
        history: Iterable[histories.Entry] | Callable[[], Iterable[histories.Entry]] = (),
        tags: Mapping[str, str] | None = None,
        overwrite: bool = False,
        writer: str = WRITER,
    ) -> None:
        """Checks the arguments; touches no file yet."""
        self.name = hdf5.display_name(target, "<stdout>")
        header.validate(self.name)
        if dtype not in hdf5.STORAGE:
            raise DTypeError(f"{self.name}: dtype is {dtype!r}", "use --dtype float16 or float32")
        check_text(self.name, "writer", writer)
        self.header = header
        self.dtype = dtype
        self._writer = writer
        self._history = history if callable(history) else self._dumped(history)
        self._tags = dict(sorted((tags or {}).items()))
        histories.check_tags(self._tags, self.name)
        self._target = target
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()
        self._appended = 0
        self._pending: list[np.ndarray] = []
        self._pending_frames = 0
        self._written = 0

    def __enter__(self) -> Self:
        """Checks the target and makes the temporary file."""
        with contextlib.ExitStack() as stack:
            if isinstance(self._target, (str, os.PathLike)):
                path = stack.enter_context(atomic_path(self._target, self._overwrite))
            else:
                path = stack.enter_context(_stream_path(self._target, self.name))
            with self._errors():
                self._file = hdf5.create(path)
                stack.push(self._close_file)
                self._dataset = self._create_latents()
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

    def append(self, block: np.ndarray) -> None:
        """Appends frames: finite floats `[channels, latent_dim, n]`.

        Raises:
            ShapeError: another shape, or more frames than the header says.
            NonFiniteError: NaN or infinity.
            OverflowFloat16Error: a value that float16 cannot hold.
        """
        block = np.asarray(block)
        if block.ndim != 3 or block.shape[:2] != self.header.shape[:2]:
            wanted = f"({self.header.channels}, {self.header.latent_dim}, n)"
            raise ShapeError(f"{self.name}: a block has shape {block.shape}, must be {wanted}")
        if block.dtype.kind not in "fiu":
            raise DTypeError(f"{self.name}: a block holds {block.dtype}, must hold floats")
        self._append(block, self._store)

    def append_stored(self, block: np.ndarray) -> None:
        """Appends frames that are in the storage type, finite, and will not change; they are not looked at again."""
        self._append(block, lambda stored: stored)

    def _append(self, block: np.ndarray, store: Callable[[np.ndarray], np.ndarray]) -> None:
        self._appended += block.shape[2]
        if self._appended > self.header.frames:
            raise ShapeError(f"{self.name}: {self._appended} frames, but the header says {self.header.frames}")
        self._pending.append(store(block))
        self._pending_frames += block.shape[2]
        self._flush(self.header.chunk_frames)

    def _dumped(self, history: Iterable[histories.Entry]) -> bytes:
        return histories.dumps(histories.bounded(history), self.name)

    def _store(self, block: np.ndarray) -> np.ndarray:
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
        data = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending, axis=2)
        # One channel's chunks lie in the file in the order of time, however many are written at once.
        step = self._pending_frames - self._pending_frames % unit if data.shape[0] == 1 else unit
        at = 0
        with self._errors():
            while self._pending_frames - at >= unit and at < self._pending_frames:
                self._write_frames(data[:, :, at : at + step])
                at += step
        self._pending, self._pending_frames = [data[:, :, at:]], self._pending_frames - at

    def _write_frames(self, data: np.ndarray) -> None:
        """Writes whole chunks, or the last one."""
        data = silence.marked(data, self.header.chunk_frames)
        space = h5s.create_simple(self.header.shape)
        for channel in range(data.shape[0]):
            part = np.ascontiguousarray(data[channel : channel + 1])
            space.select_hyperslab((channel, 0, self._written), part.shape)
            self._dataset.write(h5s.create_simple(part.shape), space, part)
        self._written += data.shape[2]

    def _finish(self) -> None:
        if self._appended != self.header.frames:
            raise ShapeError(f"{self.name}: got {self._appended} of the {self.header.frames} frames in the header")
        self._flush(max(1, self._pending_frames))
        history = self._history if isinstance(self._history, bytes) else self._dumped(self._history())
        with self._errors():
            self._write_history(history)
            self._write_tags()

    def _create_latents(self) -> h5d.DatasetID:
        header = self.header
        for key, value in (
            ("format", FORMAT),
            ("format_version", FORMAT_VERSION),
            ("sample_rate", header.sample_rate),
            ("num_samples", header.num_samples),
            ("model_sample_rate", header.model_sample_rate),
            ("samples_per_frame", header.samples_per_frame),
            ("model", header.model),
            ("model_fingerprint", header.model_fingerprint),
            ("latent_scale", header.latent_scale),
            ("writer", self._writer),
        ):
            hdf5.write_attribute(self._file, key, value)
        kind, space = hdf5.STORAGE[self.dtype], h5s.create_simple(header.shape)
        make = _chunked((1, header.latent_dim, header.chunk_frames), self.dtype)
        return h5d.create(self._file, b"latents", kind, space, make)

    def _write_history(self, history: bytes) -> None:
        kind = hdf5.text_type(len(history))
        dataset = h5d.create(self._file, b"history", kind, hdf5.scalar(), _plain())
        hdf5.write_attribute(dataset, "sha256", hashlib.sha256(history).hexdigest())
        dataset.write(h5s.ALL, h5s.ALL, np.array(history), mtype=kind)

    def _write_tags(self) -> None:
        if not self._tags:
            return
        make = h5p.create(h5p.GROUP_CREATE)
        make.set_attr_phase_change(64, 0)
        make.set_obj_track_times(False)
        group = h5g.create(self._file, b"tags", gcpl=make)
        for key, value in self._tags.items():
            hdf5.write_attribute(group, key, value)

    def _close_file(self, *_: object) -> bool:
        with self._errors():
            self._file.close()
        return False

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError, ValueError) as e:
            raise LatError(f"cannot write {self.name}: {e}", "is the disk full?") from e


@functools.lru_cache(maxsize=64)
def _chunked(chunk: tuple[int, int, int], dtype: str) -> h5p.PropDCID:
    make = h5p.create(h5p.DATASET_CREATE)
    make.set_chunk(chunk)
    make.set_fletcher32()
    make.set_fill_value(np.zeros((), dtype="<f2" if dtype == "float16" else "<f4"))
    make.set_obj_track_times(False)
    return make


@functools.cache
def _plain() -> h5p.PropDCID:
    make = h5p.create(h5p.DATASET_CREATE)
    make.set_obj_track_times(False)
    return make


@contextlib.contextmanager
def _stream_path(stream: BinaryIO, name: str) -> Iterator[Path]:
    """A temporary file whose bytes are copied to `stream` on success: HDF5 needs to seek, a pipe cannot."""
    with tempfile.TemporaryDirectory(prefix="lincae-") as folder:
        path = Path(folder) / "stream.lat"
        yield path
        try:
            with open(path, "rb") as f:
                shutil.copyfileobj(f, stream, 1 << 20)
            stream.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise LatError(f"cannot write {name}: {e.strerror or e}") from e


def write_lat(source: signal.Signal, target: Target, *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes latents, an open file or a lazy result, in constant memory: the one rounding to the storage type is here.

    Raises:
        LincaeError: see LatWriter.
    """
    write_lats([(source, target)], overwrite=overwrite, writer=writer)


def write_lats(pairs: Sequence[tuple[signal.Signal, Target]], *, overwrite: bool = False, writer: str = WRITER) -> None:
    """Writes several results in step: what they are made of alike is read once. An error on the way leaves none.

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
        for start, end in signal.spans([source for source, _ in pairs]):
            for (source, _), out in zip(pairs, outs, strict=True):
                stop, plain = min(end, source.header.frames), signal.stored(source)
                if start < stop and plain is not None:
                    out.append_stored(plain(start, stop))
                elif start < stop:
                    out.append(source.read(start, stop))
