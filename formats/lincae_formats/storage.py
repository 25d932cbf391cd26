"""The HDF5 side of `.lat` files: low-level calls, and chunks read and written as bytes, checked first."""

import contextlib
import functools
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5i, h5p, h5s, h5t

from .errors import ChecksumError, HeaderError, LatError, LayoutError, LincaeError, NotHDF5Error, TruncatedError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where superblocks of version 0 to 3 keep the address of the end of the file.
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}
_HEAD = 52
COPY_HINT = "copy or encode it again"
MOST_DEFLATED = 1032  # deflate cannot shrink anything further
_SAMPLE = 4096  # bytes
_CHUNK_OVERHEAD = 64  # bytes by which a stored chunk may exceed deflate's own bound
_HDF5_RAISES = (OSError, LookupError, RuntimeError, ValueError, TypeError, MemoryError, ArithmeticError)

DEFLATE, FLETCHER32 = 1, 3  # HDF5's numbers of the filters
TYPES: dict[str, h5t.TypeID] = {
    "int8": h5t.STD_I8LE,
    "float16": h5t.IEEE_F16LE,
    "float32": h5t.IEEE_F32LE,
    "uint8": h5t.STD_U8LE,
}

Source = str | os.PathLike[str] | BinaryIO


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


# --- opening


@contextlib.contextmanager
def open_read(source: Source, name: str) -> Iterator[tuple[h5f.FileID, int]]:
    """Opens a file or a stream for reading, after checking its signature and length.

    A stream is copied to a temporary file, as far as its header says it goes; so a pipe works too.

    Yields:
        The open file and its size, bytes.

    Raises:
        NotHDF5Error, TruncatedError, ChecksumError, HeaderError, LatError (cannot be opened).
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            try:
                if not path.is_file() and path.exists() and not path.is_dir():
                    path = _spool(stack.enter_context(open(path, "rb")), name, stack)
                with open(path, "rb") as f:
                    head = f.read(_HEAD)
                    size = os.fstat(f.fileno()).st_size
            except (OSError, ValueError) as e:
                reason = getattr(e, "strerror", None) or str(e)
                raise LatError(f"cannot read {name}: {reason}", "check the path") from e
            end_of_file(head, name, size)
        else:
            path = _spool(source, name, stack)
            size = path.stat().st_size
        with named_errors(name):
            file = h5f.open(os.fsencode(path), h5f.ACC_RDONLY, _reading())
        stack.callback(_release, file)
        yield file, size


def end_of_file(head: bytes, name: str, size: int | None) -> int:
    """The length that the superblock declares, bytes; `size` is the real one where it is known."""
    if not head:
        raise TruncatedError(f"{name}: the file is empty", COPY_HINT)
    if head[:8] != SIGNATURE[: len(head)]:
        make = f"make one: lincae encode {'- -' if name.startswith('<') else name}"
        raise NotHDF5Error(
            f"{name}: not a .lat file (no HDF5 signature)", COPY_HINT if name.lower().endswith(".lat") else make
        )
    if len(head) < _HEAD:
        raise TruncatedError(f"{name}: the file is cut short after {len(head)} bytes", COPY_HINT)
    at = _END_OF_FILE.get(head[8])
    widths = head[9:11] if head[8] >= 2 else head[13:15]
    if at is None or widths[0] != 8:
        raise HeaderError(f"{name}: unknown HDF5 superblock", COPY_HINT)
    declared = int.from_bytes(head[at : at + 8], "little")
    if size is not None and size < declared:
        raise TruncatedError(f"{name}: cut short: {size} of {declared} bytes are there", COPY_HINT)
    return declared


def _spool(stream: BinaryIO, name: str, stack: contextlib.ExitStack) -> Path:
    import tempfile  # costs more than all else that a header needs

    head = _read(stream, _HEAD, name)
    left = end_of_file(head, name, None) - len(head)
    try:
        temp = tempfile.NamedTemporaryFile(prefix="lincae-", suffix=".lat")  # noqa: SIM115
        stack.callback(_close, temp)  # on a full disk closing fails again
        temp.write(head)
        while left > 0 and (block := _read(stream, min(left, 1 << 20), name)):
            temp.write(block)
            left -= len(block)
        temp.flush()
    except OSError as e:
        folder = tempfile.gettempdir()
        hint = "set TMPDIR to a folder with more room"
        raise LatError(f"cannot copy {name} to {folder}: {e.strerror or e}", hint) from e
    if left > 0:
        raise TruncatedError(f"{name}: the stream ends {left} bytes early", COPY_HINT)
    return Path(temp.name)


def _read(stream: BinaryIO, count: int, name: str) -> bytes:
    data = b""
    try:
        while len(data) < count and (block := stream.read(count - len(data))):
            data += block
    except OSError as e:
        raise LatError(f"cannot read {name}: {e.strerror or e}", "check the path") from e
    return data


def _close(file: Any) -> None:
    with contextlib.suppress(Exception):
        file.close()


def _release(file: h5f.FileID) -> None:
    """Closes a file and all that is open in it. `file.close()` also visits every object of every other open file."""
    with contextlib.suppress(Exception):
        if file.valid:
            h5i.dec_ref(file)


def create(sink: Any) -> h5f.FileID:
    """Creates an HDF5 file in a Python file object; its bytes depend on nothing but what is written to it.

    HDF5 never touches the disk: a full disk is an exception of `sink`, not a failed close, after which HDF5 2.0 crashes
    at exit.
    """
    make, access = _writing()
    access = access.copy()
    access.set_fileobj_driver(h5fd.fileobj_driver, sink)
    return h5f.create(b"lat", h5f.ACC_TRUNC, make, access)


# Property lists, types and spaces are made once: making them takes longer than using them.


@functools.cache
def _reading() -> h5p.PropFAID:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_cache(0, 0, 0, 0.75)  # chunks are not read through HDF5
    # A file is complete before it has its name: no lock is needed, and a read-only share works.
    if hasattr(access, "set_file_locking"):
        access.set_file_locking(False, True)
    return access


@functools.cache
def _writing() -> tuple[h5p.PropFCID, h5p.PropFAID]:
    make = h5p.create(h5p.FILE_CREATE)
    make.set_attr_phase_change(64, 0)  # attributes in the checksummed object header, no heap
    make.set_obj_track_times(False)
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_libver_bounds(h5f.LIBVER_V110, h5f.LIBVER_V110)  # superblock 3: metadata has checksums
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_meta_block_size(0)  # no gaps between metadata
    return make, access


@functools.lru_cache(maxsize=64)
def chunked(chunk: tuple[int, ...]) -> h5p.PropDCID:
    """How datasets are created: in chunks, deflate and Fletcher-32."""
    make = h5p.create(h5p.DATASET_CREATE)
    make.set_chunk(chunk)
    make.set_deflate(9)
    make.set_fletcher32()
    make.set_fill_time(h5d.FILL_TIME_NEVER)
    make.set_obj_track_times(False)
    return make


# --- attributes


@functools.cache
def scalar() -> h5s.SpaceID:
    """The space of one value."""
    return h5s.create(h5s.SCALAR)


@functools.lru_cache(maxsize=256)
def text_type(size: int, cset: int = h5t.CSET_UTF8) -> h5t.TypeID:
    """A fixed-length, NUL-padded string of `size` bytes, UTF-8 by default."""
    kind = h5t.C_S1.copy()
    kind.set_size(max(1, size))
    kind.set_cset(cset)  # HDF5 does not convert between ASCII and UTF-8
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


def write_attribute(place: Any, name: str, value: str | int | float) -> None:
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
    h5a.create(place, name.encode(), kind, scalar()).write(array, mtype=kind)


def read_attribute(
    place: Any, attribute: str, name: str, kind: type, max_bytes: int = 1024, default: Any = None
) -> Any:
    """Reads a scalar attribute of exactly one kind (str, int or float); its size is checked first.

    Raises:
        HeaderError: it is missing and has no default, or is of another type.
    """
    raw = attribute.encode()
    if default is not None and not h5a.exists(place, raw):
        return default
    try:
        opened = h5a.open(place, raw)
    except KeyError:
        raise HeaderError(f"{name}: the attribute {attribute} is missing", COPY_HINT) from None
    stored, space = opened.get_type(), opened.get_space()
    size = stored.get_size()
    wanted = {str: h5t.STRING, int: h5t.INTEGER, float: h5t.FLOAT}[kind]
    single = space.get_simple_extent_type() == h5s.SCALAR
    if stored.get_class() != wanted or not single or size > max_bytes:
        raise HeaderError(f"{name}: the attribute {attribute} is not a scalar {kind.__name__} of the format")
    if kind is not str:
        memory = h5t.STD_I64LE if kind is int else h5t.IEEE_F64LE
        array = np.empty((), dtype="<i8" if kind is int else "<f8")
        opened.read(array, mtype=memory)
        return kind(array[()])
    if stored.is_variable_str():
        raise HeaderError(f"{name}: the attribute {attribute} must be a string of fixed length")
    array = np.empty((), dtype=f"S{size}")
    opened.read(array, mtype=text_type(size, stored.get_cset()))
    return decode_text(bytes(array[()]), attribute, name)


def decode_text(data: bytes, what: str, name: str) -> str:
    """UTF-8 text without its padding."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError as e:
        raise HeaderError(f"{name}: {what} is not UTF-8") from e


# --- datasets


def open_object(file: Any, key: str, kind: type, name: str) -> Any:
    """Opens a child that a hard link points to; None where there is none.

    Raises:
        LayoutError: the link is soft or external (it could lead to another file), or the object is of another kind.
    """
    raw = key.encode()
    if not file.links.exists(raw):
        return None
    if file.links.get_info(raw).type != h5py.h5l.TYPE_HARD:
        raise LayoutError(f"{name}: /{key} is a link to another place, which the format forbids")
    child = h5py.h5o.open(file, raw)
    if not isinstance(child, kind):
        raise LayoutError(f"{name}: /{key} is of the wrong kind")
    return child


def check_plain(dataset: h5d.DatasetID, key: str, name: str, filters: list[int]) -> None:
    """Refuses storage that could read other files or run other code than the given filters.

    Raises:
        LayoutError: external or virtual storage, or filters other than `filters`.
    """
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

    Attributes:
        shape: Shape of the dataset.
        chunk: Shape of a chunk.

    Args:
        dataset: The dataset.
        key: Its name.
        chunk: The shape that its chunks must have.
        dtype: Its type, as numpy calls it.
        file: The open file.
        name: What error messages call the file.
        size: Bytes in the file.

    Raises:
        LayoutError: other filters, chunks of another shape, missing, or without checksum.
        ShapeError: never; the caller checks the shape first.
        TruncatedError: a chunk lies beyond the end.
    """

    def __init__(
        self,
        dataset: h5d.DatasetID,
        key: str,
        chunk: tuple[int, ...],
        dtype: str,
        file: h5f.FileID,
        name: str,
        size: int,
    ) -> None:
        self.shape, self.chunk = tuple(int(n) for n in dataset.shape), chunk
        self._key, self._dtype, self._name = key, np.dtype(dtype), name
        self._file = file
        check_plain(dataset, key, name, [DEFLATE, FLETCHER32])
        found = tuple(dataset.get_create_plist().get_chunk())
        if found != chunk:
            raise LayoutError(f"{name}: /{key} has chunks of {found}, must be {chunk}")
        self._bytes = math.prod(chunk) * self._dtype.itemsize
        counts = tuple(-(-n // c) for n, c in zip(self.shape, chunk, strict=True))
        # Every chunk takes at least this much of the file, so that an absurd shape is refused before the table is made.
        if math.prod(counts) * 12 > size:
            raise LayoutError(f"{name}: /{key} has {math.prod(counts)} chunks, more than the file can hold")
        self._places = np.zeros((*counts, 2), np.int64)  # offset and size in the file, bytes
        most = self._bytes + self._bytes // 1000 + _CHUNK_OVERHEAD

        def visit(info: Any) -> None:
            if info.filter_mask or not 12 <= info.size <= most:
                raise LayoutError(f"{name}: the chunk of /{key} at {info.chunk_offset} has no checksum or a wrong size")
            if info.byte_offset + info.size > size:
                raise TruncatedError(
                    f"{name}: the chunk of /{key} at {info.chunk_offset} lies beyond the end", COPY_HINT
                )
            place = tuple(int(at) // c for at, c in zip(info.chunk_offset, chunk, strict=True))
            self._places[place] = info.byte_offset, info.size

        dataset.chunk_iter(visit)
        missing = int((self._places[..., 1] == 0).sum())
        if missing:
            raise LayoutError(f"{name}: {missing} of the {math.prod(counts)} chunks of /{key} are missing", COPY_HINT)

    def raw(self, *place: int) -> bytes:
        """A chunk as it lies in the file, its Fletcher-32 checked.

        Raises:
            TruncatedError: the file was cut short meanwhile.
            ChecksumError: the chunk is damaged.
        """
        offset, size = (int(n) for n in self._places[place])
        try:
            data = os.pread(self._file.get_vfd_handle(), size, offset)
        except OSError as e:
            raise LatError(f"cannot read {self._name}: {e.strerror or e}", "check the disk") from e
        if len(data) < size:
            raise TruncatedError(f"{self._name}: cut short while it was read", COPY_HINT)
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
        return np.frombuffer(data, self._dtype).reshape(self.chunk)

    def _damaged(self) -> ChecksumError:
        return ChecksumError(f"{self._name}: a checksum of /{self._key} does not match: the file is damaged", COPY_HINT)


def write_chunk(dataset: h5d.DatasetID, offset: tuple[int, ...], data: np.ndarray, cuts: Sequence[int] = ()) -> None:
    """Deflates a whole chunk and writes it as bytes; other numbers begin at the rows `cuts` of its second axis."""
    if len(data) == 1 and cuts:
        parts = [part.reshape(-1).view(np.uint8).data for part in np.split(data[0], cuts)]
    else:
        parts = [data.reshape(-1).view(np.uint8).data]
    packed = deflated(parts)
    write_raw(dataset, offset, packed + fletcher32(packed))


def write_raw(dataset: h5d.DatasetID, offset: tuple[int, ...], raw: bytes) -> None:
    """Writes a chunk that is deflated and has its Fletcher-32."""
    dataset.write_direct_chunk(offset, raw)


def deflated(parts: Sequence[memoryview]) -> bytes:
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
    best = _deflated(data, zlib.Z_HUFFMAN_ONLY, end)
    # Fast matches in a sample tell whether runs and the matches of level 9, which take long to find, pay.
    short = data.nbytes <= _SAMPLE
    sample = data if short else b"".join(data[at : at + _SAMPLE // 8] for at in range(0, data.nbytes, data.nbytes // 8))
    packer = zlib.compressobj(1, zlib.DEFLATED, -12, 8)
    matches = len(packer.compress(sample) + packer.flush()) / len(sample) * data.nbytes / len(best)
    if matches < 1.3 and len(best) * 3 < data.nbytes:
        best = min(best, _deflated(data, zlib.Z_RLE, end), key=len)
    if matches < (1.05 if short else 0.97):
        best = min(best, _deflated(data, zlib.Z_DEFAULT_STRATEGY, end), key=len)
    return best


def _deflated(data: memoryview, strategy: int, end: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(data) + packer.flush(end)


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


_ROW = 256
_WEIGHTS = np.stack([np.ones(_ROW), np.arange(_ROW)], axis=1)
