"""One training a folder: a second one would write its checkpoints over those of the first."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lincae_formats.errors import LincaeError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]


@contextmanager
def only_training_in(out: Path) -> Iterator[None]:
    """Holds a folder for one training, by a lock on the folder itself: it ends with the process, however that ends.

    Raises:
        LincaeError: another training holds it.
    """
    if fcntl is None:
        yield
        return
    folder = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(folder)
        hint = "wait for it to end, or choose another --out"
        raise LincaeError(f"{out}: another training writes there", hint) from None
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(folder)
