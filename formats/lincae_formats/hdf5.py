"""The few HDF5 calls the format needs, low-level, so that nothing is read before it is checked."""

import contextlib
import functools
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5i, h5p, h5s, h5t

from .errors import (
    ChecksumError,
    HeaderError,
    LatError,
    LayoutError,
    LincaeError,
    NotHDF5Error,
    TruncatedError,
)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# Where superblocks of version 0 to 3 keep the address of the end of the file.
_END_OF_FILE = {0: 40, 1: 44, 2: 28, 3: 28}
_HEAD = 52
COPY_HINT = "copy or encode it again"
_HDF5_RAISES = (OSError, LookupError, RuntimeError, ValueError, TypeError, MemoryError, ArithmeticError)
STORAGE: dict[str, h5t.TypeID] = {"float16": h5t.IEEE_F16LE, "float32": h5t.IEEE_F32LE}

Source = str | os.PathLike[str] | BinaryIO


def display_name(source: Any, stream: str = "<stdin>") -> str:
    """What messages call a file: its path, or its stream's name."""
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
def open_read(source: Source, name: str) -> Iterator[tuple[h5f.FileID, int]]:
    """Opens a file or a stream for reading, after checking signature and length.

    A stream is copied to a temporary file as far as its header says it goes, so a pipe will do.

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
        stack.callback(_let_go, file)
        yield file, size


def end_of_file(head: bytes, name: str, size: int | None) -> int:
    """The length the superblock declares, bytes; `size` is the real one where known."""
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


def check_length(file: h5f.FileID, size: int, name: str) -> None:
    """Checks that an open file still has all its bytes: HDF5 reads zeros where they are gone, with a right checksum.

    Raises:
        TruncatedError: it was cut short meanwhile.
    """
    left = os.fstat(file.get_vfd_handle()).st_size
    if left < size:
        raise TruncatedError(f"{name}: cut short while it was read: {left} of {size} bytes are there", COPY_HINT)


def _spool(stream: BinaryIO, name: str, stack: contextlib.ExitStack) -> Path:
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


def _let_go(file: h5f.FileID) -> None:
    """Closes a file and all that is open in it; its own `close` also looks at every object of every other open file."""
    with contextlib.suppress(Exception):
        if file.valid:
            h5i.dec_ref(file)


def create(path: Path) -> h5f.FileID:
    """Creates an HDF5 file whose bytes depend on nothing but what is written to it."""
    return h5f.create(os.fsencode(path), h5f.ACC_TRUNC, *_writing())


# Property lists, types and spaces are made once: to make them takes longer than what they are for.


@functools.cache
def _reading() -> h5p.PropFAID:
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fclose_degree(h5f.CLOSE_STRONG)
    access.set_cache(0, 0, 0, 0.75)  # chunks are read whole, and once
    # A file is complete before it has its name: no lock, and a read-only share will do.
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
    access.set_file_locking(False, True)  # the temporary file has a lock of ours
    return make, access


@functools.cache
def scalar() -> h5s.SpaceID:
    """The space of one value."""
    return h5s.create(h5s.SCALAR)


@functools.lru_cache(maxsize=256)
def text_type(size: int, cset: int = h5t.CSET_UTF8) -> h5t.TypeID:
    """A fixed-length, NUL-padded string of `size` bytes, UTF-8 unless told."""
    kind = h5t.C_S1.copy()
    kind.set_size(max(1, size))
    kind.set_cset(cset)  # HDF5 does not convert between ASCII and UTF-8
    kind.set_strpad(h5t.STR_NULLPAD)
    return kind


def write_attribute(place: Any, name: str, value: str | int | float) -> None:
    """Writes a scalar attribute: fixed-length UTF-8, int64 or float64, little-endian."""
    kind: h5t.TypeID
    if isinstance(value, str):
        data = value.encode()
        kind, array = text_type(len(data)), np.array(data, dtype=f"S{max(1, len(data))}")
    elif isinstance(value, int):
        kind, array = h5t.STD_I64LE, np.array(value, dtype="<i8")
    else:
        kind, array = h5t.IEEE_F64LE, np.array(value, dtype="<f8")
    h5a.create(place, name.encode(), kind, scalar()).write(array, mtype=kind)


def read_attribute(place: Any, attribute: str, name: str, kind: type, max_bytes: int = 1024) -> Any:
    """Reads a scalar attribute of exactly one kind (str, int or float), its size checked first.

    Raises:
        HeaderError: it is missing or of another type.
    """
    try:
        opened = h5a.open(place, attribute.encode())
    except KeyError:
        raise HeaderError(f"{name}: the attribute {attribute} is missing", COPY_HINT) from None
    stored, space = opened.get_type(), opened.get_space()
    size = stored.get_size()
    wanted = {str: h5t.STRING, int: h5t.INTEGER, float: h5t.FLOAT}[kind]
    single = space.get_simple_extent_type() == h5s.SCALAR
    if stored.get_class() != wanted or not single or size > max_bytes:
        raise HeaderError(f"{name}: the attribute {attribute} is no scalar {kind.__name__} of the format")
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
    """UTF-8 without the padding."""
    try:
        return data.rstrip(b"\0").decode()
    except UnicodeDecodeError as e:
        raise HeaderError(f"{name}: {what} is not UTF-8") from e


def open_object(file: Any, key: str, kind: type, name: str) -> Any:
    """Opens a child that a hard link points to; None where there is none.

    Raises:
        LayoutError: the link is soft or external (it could lead to another file), or the object is of
            another kind.
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
    """Refuses storage that could read other files or run other code than the filters named.

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


def check_chunks(dataset: h5d.DatasetID, chunk: tuple[int, ...], itemsize: int, name: str, size: int) -> None:
    """Checks that every chunk is there, has its checksum and lies in the file.

    Raises:
        LayoutError: chunks of another shape, missing, or unchecked.
        TruncatedError: a chunk lies beyond the end.
    """
    shape = dataset.shape
    wanted = math.prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
    stored = math.prod(chunk) * itemsize + 4
    count = 0

    def visit(info: Any) -> None:
        nonlocal count
        count += 1
        if info.filter_mask or info.size != stored:
            raise LayoutError(f"{name}: the chunk at {info.chunk_offset} has no checksum or a wrong size")
        if info.byte_offset + info.size > size:
            raise TruncatedError(f"{name}: the chunk at {info.chunk_offset} lies beyond the end", COPY_HINT)

    dataset.chunk_iter(visit)
    if count != wanted:
        raise LayoutError(f"{name}: {count} of {wanted} chunks of latents are there", COPY_HINT)
