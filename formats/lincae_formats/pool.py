"""Many files read at once, of which only some are open: an operating system allows a few hundred."""

import os
import stat
from collections import OrderedDict
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from .errors import LatError
from .fingerprint import Fingerprint
from .hdf5 import Source
from .header import Header
from .history import Entry
from .reader import LatReader

_MOST = 100
_FEW = 64  # files of which blocks are held


class Pool:
    """Opens `.lat` files, and closes those that were not read for longest. A context manager.

    Args:
        most: Files open at once; streams and pipes, which cannot be opened again, stay open beyond that.
    """

    def __init__(self, most: int = _MOST) -> None:
        """Opens nothing yet."""
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

    def open(self, source: Source, name: str | None = None) -> "Pooled":
        """A file, opened and checked; the same object for the same file. Its fingerprint grows with what is read.

        Args:
            source: A path, or a binary file object.
            name: What messages and histories call it; by default its path.

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
        tags: Free text.
        name: What messages call it.
        regular: Whether it can be opened again.
        pinned: The reader of what cannot.
    """

    def __init__(self, pool: Pool, source: Source, name: str | None) -> None:
        """Opens the file."""
        self._pool, self._source = pool, source
        self.pinned: LatReader | None = None
        self._identity = _identity(source)
        self.regular = self._identity is not None
        reader = LatReader(source, name)
        self.header: Header = reader.header
        self.dtype: str = reader.dtype
        self.history: tuple[Entry, ...] = reader.history
        self.tags: dict[str, str] = reader.tags
        self.name: str = reader.name
        self._hashed = Fingerprint(self.header)
        reader.follow(self._hashed)
        pool._keep(self, reader)

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`.

        Raises:
            LatError: see LatReader.read; or the file was replaced since it was opened first.
        """
        return self._current().read(start_frame, stop_frame)

    def stored(self, start_frame: int, stop_frame: int) -> np.ndarray:
        """The same frames as they are stored; not to be written to."""
        return self._current().stored(start_frame, stop_frame)

    @property
    def fingerprint(self) -> str:
        """By which histories name the file; reads what was not read yet."""
        return str(self._hashed) if self._hashed.complete else self._current().fingerprint

    def _current(self) -> LatReader:
        return self.pinned or self._pool._reader(self)

    def _reopen(self) -> LatReader:
        if _identity(self._source) != self._identity:
            raise LatError(f"{self.name} was replaced or changed while it was read", "run the command again")
        reader = LatReader(self._source, self.name)
        reader.follow(self._hashed)
        return reader


def _identity(source: Source | BinaryIO) -> tuple[int, ...] | None:
    """What tells a regular file from another of its name; None for streams and pipes."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    try:
        found = os.stat(source)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
