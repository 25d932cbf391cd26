"""Which files an arrangement may read: those in its own folder, unless its user says otherwise."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from .document import Key
from .load import Loaded


def locate(loaded: Loaded, key: Key, text: str, folder: Path, allow_outside: bool) -> Path:
    """The real path of a file that an arrangement names, relative to its folder.

    Links are followed before the question is asked, so neither `..` nor a link nor an absolute path leads outside.

    Args:
        loaded: The arrangement.
        key: Where the file is named.
        text: Its name.
        folder: The arrangement's folder.
        allow_outside: Whether files elsewhere may be read.

    Raises:
        LincaeError: it lies outside, is not there, or is no regular file.
    """
    if "\0" in text:
        raise loaded.error(key, "a name with a NUL in it", "check the name")
    path = Path(os.path.realpath(folder / text))
    if not allow_outside and not path.is_relative_to(os.path.realpath(folder)):
        raise loaded.error(
            key, f"{text!r} lies outside the folder of the arrangement", "add --allow-outside to read it"
        )
    try:
        if path.is_file():
            return path
        there = path.exists()
    except OSError:
        there = False  # a name that no file can have
    if there:
        raise loaded.error(key, f"{text!r} is no regular file", "name a .lat file")
    raise loaded.error(key, f"there is no file {text!r}", _near(path, folder))


def _near(path: Path, folder: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        near = []
    if not near:
        return f"files are looked up from {folder}"
    return f"did you mean {os.path.relpath(path.parent / near[0], os.path.realpath(folder))}"
