"""Reading `.lat` files: every promise of the format is checked before memory is asked for."""

import contextlib
import hashlib
import math
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import numpy as np
from h5py import h5a, h5d, h5g, h5s, h5t

from . import hdf5, signal, silence
from . import history as histories
from .errors import (
    ChecksumError,
    DTypeError,
    HeaderError,
    LatError,
    LayoutError,
    NonFiniteError,
    ShapeError,
    UnsupportedVersionError,
    WrongFormatError,
)
from .fingerprint import Fingerprint
from .half import all_finite, widen
from .hdf5 import named_errors
from .header import FORMAT, MAJOR, MAX_CHANNELS, MAX_LATENT_DIM, Header, check_text
from .latents import Latents

_FLETCHER32 = 3


class LatReader:
    """An open `.lat` file. A context manager.

    Args:
        source: A path, or a binary file object (a pipe will do).
        name: What messages and histories call it; by default its path.

    Attributes:
        header: Header.
        dtype: Storage type, `float16` or `float32`.
        history: What was done, oldest first.
        tags: Free text.
        writer: The program that wrote the file.
        name: What messages call it.
        hold_blocks: Whether what was read last is held whole, for those who read the same frames again; where many
            files are open, only what is left of a chunk is.

    Raises:
        LatError: one of the named errors, in the order of SPEC.md.
    """

    header: Header
    dtype: str
    history: tuple[histories.Entry, ...]
    tags: dict[str, str]
    writer: str

    def __init__(self, source: hdf5.Source, name: str | None = None) -> None:
        """Opens the file and checks everything but the data."""
        self.name = name or hdf5.display_name(source)
        self._hashed: Fingerprint | None = None
        self._held: tuple[int, np.ndarray] | None = None
        self.hold_blocks = True
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            file, size = stack.enter_context(hdf5.open_read(source, self.name))
            with named_errors(self.name):
                self._read_all(file, size)
            self._file, self._size = file, size
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

        Chunks are read whole, and the last ones are held: whoever reads in order reads every chunk once.

        Raises:
            ChecksumError: the stored bytes are damaged, or became zeros.
            NonFiniteError: NaN or infinity among them.
            LatError: the range is not inside the file.
        """
        stop = self.header.frames if stop_frame is None else stop_frame
        return widen(self.stored(start_frame, stop))

    def stored(self, start_frame: int, stop_frame: int) -> np.ndarray:
        """The same frames as they are stored, little-endian float16 or float32; not to be written to."""
        frames = self.header.frames
        if not 0 <= start_frame <= stop_frame <= frames:
            raise LatError(f"{self.name}: frames {start_frame} to {stop_frame} are not within 0 to {frames}")
        if start_frame == stop_frame:
            return np.empty((*self.header.shape[:2], 0), "<f2" if self.dtype == "float16" else "<f4")
        first, held = self._hold(start_frame, stop_frame)
        return held[:, :, start_frame - first : stop_frame - first]

    def blocks(self, frames: int | None = None) -> Iterator[np.ndarray]:
        """Yields all frames in order, float32 `[channels, latent_dim, <= frames]`, in constant memory."""
        return signal.blocks(self, frames)

    def follow(self, hashed: Fingerprint) -> None:
        """Lets a fingerprint grow with what is read; without that, `fingerprint` reads the file again."""
        self._hashed = hashed

    @property
    def fingerprint(self) -> str:
        """By which histories name the file; see `Fingerprint`. Reads what was not hashed yet.

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

    def _hold(self, start: int, stop: int) -> tuple[int, np.ndarray]:
        """The stored frames from some frame at or before `start` to some at or after `stop`."""
        chunk = self.header.chunk_frames
        first, last = start - start % chunk, min(stop + -stop % chunk, self.header.frames)
        if self._held is not None:
            begin, held = self._held
            end = begin + held.shape[2]
            if begin <= start and stop <= end:
                return self._held
            if begin <= start < end:
                # The rest of what is held, and the chunks that follow it.
                return self._keep(
                    first, np.concatenate([held[:, :, first - begin :], self._load(end, last)], axis=2), stop
                )
        return self._keep(first, self._load(first, last), stop)

    def _keep(self, first: int, loaded: np.ndarray, stop: int) -> tuple[int, np.ndarray]:
        """Holds what was loaded, or of it only the last chunk if more of that is to come."""
        last = first + loaded.shape[2]
        if self.hold_blocks:
            self._held = first, loaded
        elif stop < last:
            tail = last - (loaded.shape[2] - 1) % self.header.chunk_frames - 1
            self._held = tail, loaded[:, :, tail - first :].copy()
        else:
            self._held = None
        return first, loaded

    def _load(self, start: int, stop: int) -> np.ndarray:
        """Stored frames of whole chunks, checked."""
        count = (*self.header.shape[:2], stop - start)
        stored = np.empty(count, dtype="<f2" if self.dtype == "float16" else "<f4")
        with named_errors(self.name):
            there = h5s.create_simple(self.header.shape)
            there.select_hyperslab((0, 0, start), count)
            self._latents.read(h5s.create_simple(count), there, stored)
            hdf5.check_length(self._file, self._size, self.name)
        if not all_finite(stored):
            raise NonFiniteError(f"{self.name}: NaN or infinity among the latents", hdf5.COPY_HINT)
        if silence.unmark(stored, self.header.chunk_frames) and self._marked:
            raise ChecksumError(f"{self.name}: a hole: zeros where latents were: the file is damaged", hdf5.COPY_HINT)
        if self._hashed is not None:
            self._hashed.feed(start, stored)
        return stored

    def _read_all(self, file: object, size: int) -> None:
        root = h5g.open(file, b"/")
        self._check_version(root)
        facts = self._read_facts(root)
        self._latents, self.dtype, channels, latent_dim = self._open_latents(root)
        self.header = Header(channels=channels, latent_dim=latent_dim, **facts)
        self.header.validate(self.name)
        self._check_latents(size)
        self.history = self._read_history(root)
        self.tags = self._read_tags(root)

    def _check_version(self, root: h5g.GroupID) -> None:
        try:
            found = hdf5.read_attribute(root, "format", self.name, str)
        except HeaderError:
            found = None
        if found != FORMAT:
            what = "has no format attribute" if found is None else f"says its format is {found!r}"
            raise WrongFormatError(f"{self.name}: an HDF5 file, but {what}, not {FORMAT!r}")
        version = hdf5.read_attribute(root, "format_version", self.name, str)
        parts = version.split(".")
        if len(parts) != 2 or not all(p.isascii() and p.isdigit() and len(p) <= 6 for p in parts):
            raise HeaderError(f"{self.name}: format_version is {version!r}, must be MAJOR.MINOR")
        if int(parts[0]) != MAJOR:
            raise UnsupportedVersionError(
                f"{self.name}: .lat version {version}, this program reads {MAJOR}.x",
                "pip install --upgrade lincae",
            )
        self._marked = int(parts[1]) >= 1  # silence is told from a hole

    def _read_facts(self, root: h5g.GroupID) -> dict[str, Any]:
        kinds = {
            "sample_rate": int,
            "num_samples": int,
            "model_sample_rate": int,
            "samples_per_frame": int,
            "model": str,
            "model_fingerprint": str,
            "latent_scale": float,
        }
        facts = {key: hdf5.read_attribute(root, key, self.name, kind) for key, kind in kinds.items()}
        self.writer = hdf5.read_attribute(root, "writer", self.name, str)
        check_text(self.name, "writer", self.writer)
        Header(**facts).validate(self.name)
        return facts

    def _open_latents(self, root: h5g.GroupID) -> tuple[h5d.DatasetID, str, int, int]:
        dataset = hdf5.open_object(root, "latents", h5d.DatasetID, self.name)
        if dataset is None:
            raise HeaderError(f"{self.name}: there is no dataset /latents", hdf5.COPY_HINT)
        stored = dataset.get_type()
        dtype = next((key for key, kind in hdf5.STORAGE.items() if stored.equal(kind)), None)
        if dtype is None:
            raise DTypeError(f"{self.name}: /latents must be little-endian float16 or float32")
        space = dataset.get_space()
        simple = space.get_simple_extent_type() == h5s.SIMPLE
        shape: tuple[int, ...] = space.get_simple_extent_dims() if simple else ()
        if len(shape) != 3:
            raise ShapeError(f"{self.name}: /latents has {len(shape)} dimensions, must have 3")
        if not (1 <= shape[0] <= MAX_CHANNELS and 1 <= shape[1] <= MAX_LATENT_DIM):
            raise ShapeError(
                f"{self.name}: /latents has shape {shape}, channels must be 1 to {MAX_CHANNELS} "
                f"and the latent dimension 1 to {MAX_LATENT_DIM}"
            )
        if space.get_simple_extent_dims(True) != shape:
            raise ShapeError(f"{self.name}: /latents must not be resizable")
        return dataset, dtype, int(shape[0]), int(shape[1])

    def _check_latents(self, size: int) -> None:
        found, wanted = tuple(self._latents.shape), self.header.shape
        if found != wanted:
            raise ShapeError(
                f"{self.name}: /latents has {found[2]} frames, but {self.header.num_samples} samples at "
                f"{self.header.sample_rate} Hz make {wanted[2]}"
            )
        itemsize = 2 if self.dtype == "float16" else 4
        claimed = math.prod(wanted) * itemsize
        hdf5.check_plain(self._latents, "latents", self.name, [_FLETCHER32])
        if claimed > size:
            raise ShapeError(f"{self.name}: claims {claimed} bytes of latents, but the file has {size}")
        chunk = (1, self.header.latent_dim, self.header.chunk_frames)
        found_chunk = self._latents.get_create_plist().get_chunk()
        if tuple(found_chunk) != chunk:
            raise LayoutError(f"{self.name}: /latents has chunks of {tuple(found_chunk)}, must be {chunk}")
        hdf5.check_chunks(self._latents, chunk, itemsize, self.name, size)

    def _read_history(self, root: h5g.GroupID) -> tuple[histories.Entry, ...]:
        dataset = hdf5.open_object(root, "history", h5d.DatasetID, self.name)
        if dataset is None:
            raise HeaderError(f"{self.name}: there is no dataset /history", hdf5.COPY_HINT)
        hdf5.check_plain(dataset, "history", self.name, [])
        kind = dataset.get_type()
        scalar = dataset.get_space().get_simple_extent_type() == h5s.SCALAR
        if kind.get_class() != h5t.STRING or kind.is_variable_str() or not scalar:
            raise HeaderError(f"{self.name}: /history must be one string of fixed length")
        if kind.get_size() > histories.MAX_BYTES:
            limit = histories.MAX_BYTES
            raise HeaderError(f"{self.name}: the history is {kind.get_size()} bytes, at most {limit} are allowed")
        array = np.zeros((), dtype=f"S{kind.get_size()}")
        dataset.read(h5s.ALL, h5s.ALL, array, mtype=hdf5.text_type(kind.get_size(), kind.get_cset()))
        text = bytes(array[()])
        if hdf5.read_attribute(dataset, "sha256", self.name, str) != hashlib.sha256(text).hexdigest():
            raise ChecksumError(f"{self.name}: the history does not match its SHA-256", hdf5.COPY_HINT)
        return histories.loads(text, self.name)

    def _read_tags(self, root: h5g.GroupID) -> dict[str, str]:
        group = hdf5.open_object(root, "tags", h5g.GroupID, self.name)
        if group is None:
            return {}
        count = h5a.get_num_attrs(group)
        if count > histories.MAX_TAGS:
            raise HeaderError(f"{self.name}: {count} tags, at most {histories.MAX_TAGS} are allowed")
        names = [_text(h5a.open(group, index=i).name, self.name) for i in range(count)]
        tags = {key: hdf5.read_attribute(group, key, self.name, str, histories.MAX_TAG_VALUE) for key in names}
        histories.check_tags(tags, self.name)
        return dict(sorted(tags.items()))


def read_lat(source: hdf5.Source) -> Latents:
    """Reads a whole file into memory.

    Raises:
        LatError: see LatReader.
    """
    with LatReader(source) as reader:
        return Latents(
            data=reader.read(),
            header=reader.header,
            history=reader.history,
            tags=reader.tags,
            dtype=reader.dtype,
            name=reader.name,
        )


def verify(source: hdf5.Source) -> None:
    """Reads every chunk, block by block, in constant memory.

    Raises:
        LatError: the first thing that is wrong.
    """
    with LatReader(source) as reader:
        for _ in reader.blocks():
            pass  # reading is the check


def _text(tag: str | bytes, name: str) -> str:
    return hdf5.decode_text(tag, "a tag's name", name) if isinstance(tag, bytes) else tag
