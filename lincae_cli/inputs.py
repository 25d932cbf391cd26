"""From operands to the files that are meant: names, folders, globs, lists of names, or `-` for stdin."""

import glob
import os
import stat
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from .errors import failure, usage_error

STDIO = "-"


@dataclass(frozen=True)
class Found:
    """An input: its path, or `-`, and where its result belongs below an output folder."""

    path: str
    relative: Path


@dataclass
class Inputs:
    """What was found.

    Attributes:
        found: The files, in a stable order, each once.
        many: Whether they are a batch: several operands, a folder, a glob or a list.
        failures: Folders that could not be read; to be reported with the files that fail.
    """

    found: list[Found] = field(default_factory=list)
    many: bool = False
    failures: list[Exception] = field(default_factory=list)


def gather(
    operands: Sequence[str],
    files_from: str | None = None,
    nul: bool = False,
    *,
    suffixes: Collection[str],
    kind: str,
    missing: str,
) -> Inputs:
    """The files named, those of the right kind in the folders and globs named, and those of a list.

    A glob that the shell did not expand (it was quoted) is expanded here, `**` too, and mirrored below the part of it
    that has no wildcards; a file that has the very name wins. A list's names are taken as they are and mirrored whole.

    Args:
        operands: Files, folders, globs or `-`.
        files_from: A file with names, one a line; `-` is stdin.
        nul: Whether NUL ends the names of the list, not a newline.
        suffixes: Lower-case extensions taken from folders and globs.
        kind: What messages call such a file: `audio`, `.lat`.
        missing: The complaint when nothing is named, and what to type: `lincae encode: AUDIO`.

    Raises:
        UsageError: nothing is named, or stdin is read twice.
        LincaeError: a folder or glob has no such file, or the list cannot be read.
    """
    if not operands and files_from is None:
        raise usage_error(f"{missing} is missing", "name files or folders, or add --files-from LIST")
    if nul and files_from is None:
        raise usage_error("-0 is about the names in a list", "add --files-from LIST")
    if [*operands, files_from].count(STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other inputs")
    inputs = Inputs(many=len(operands) > 1 or files_from is not None)
    for operand in operands:
        _add_operand(inputs, operand, suffixes, kind)
    for name in [] if files_from is None else _read_list(files_from, nul):
        _add_listed(inputs, name, suffixes)
    unique: dict[str, Found] = {}
    for f in inputs.found:
        unique.setdefault(f.path if f.path == STDIO else os.path.abspath(f.path), f)
    inputs.found = list(unique.values())
    return inputs


def nearest(path: str) -> str:
    """What to type instead of a path that does not exist."""
    from difflib import get_close_matches

    folder, name = os.path.split(path.rstrip("/"))
    try:
        near = get_close_matches(name, os.listdir(folder or "."), n=1)
    except OSError:
        near = []
    return f"did you mean {os.path.join(folder, near[0])}" if near else f"see: ls {folder or '.'}"


def _add_operand(inputs: Inputs, operand: str, suffixes: Collection[str], kind: str) -> None:
    if operand == STDIO:
        inputs.found.append(Found(operand, Path(operand)))
    elif os.path.isdir(operand):
        inputs.many = True
        inside = list(_walk(inputs, Path(operand), Path(operand), suffixes))
        if not inside and not inputs.failures:
            raise failure(f"{operand} holds no {kind} files", f"name a folder with {_some(suffixes)} files")
        inputs.found += inside
    elif glob.has_magic(operand) and not os.path.lexists(operand):
        inputs.many = True
        inside = list(_expand(inputs, operand, suffixes))
        if not inside:
            fixed, _ = _split_glob(operand)
            hint = f"see: ls {fixed}" if fixed.is_dir() else nearest(str(fixed))
            raise failure(f"{operand} matches no {kind} files", hint)
        inputs.found += inside
    else:
        inputs.found.append(Found(operand, Path(Path(operand).name)))


def _add_listed(inputs: Inputs, name: str, suffixes: Collection[str]) -> None:
    # `/x`, `../x` and `./x` are all mirrored as `x`: nothing lands outside the output folder.
    parts = [part for part in Path(os.path.normpath(name)).parts if part not in ("..", os.sep, "//")]
    path = Path(f"./{name}" if name == STDIO else name)
    if os.path.isdir(path):
        inputs.found += (Found(f.path, Path(*parts) / f.relative) for f in _walk(inputs, path, path, suffixes))
    else:
        inputs.found.append(Found(f"./{name}" if name == STDIO else name, Path(*parts)))


def _walk(inputs: Inputs, folder: Path, base: Path, suffixes: Collection[str]) -> Iterable[Found]:
    """The files of the right kind below `folder`, without hidden ones; links to folders are not followed."""

    def refuse(e: OSError) -> None:
        inputs.failures.append(failure(f"cannot read the folder {e.filename}: {e.strerror}", "check its permissions"))

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(root) / name
            if Path(name).suffix.lower() in suffixes and not name.startswith(".") and not _special(path):
                yield Found(str(path), path.relative_to(base))


def _expand(inputs: Inputs, pattern: str, suffixes: Collection[str]) -> Iterable[Found]:
    fixed, wild = _split_glob(pattern)
    if "**" in wild:
        # glob would follow links to folders, round and round.
        for found in _walk(inputs, fixed, fixed, suffixes):
            below = found.relative.parts
            if any(_matches(below[:n], wild) for n in range(1, len(below) + 1)):
                yield found
        return
    for match in sorted(glob.glob(pattern)):
        path = Path(match)
        if path.is_dir():
            yield from _walk(inputs, path, fixed, suffixes)
        elif path.suffix.lower() in suffixes and not _special(path):
            yield Found(str(path), path.relative_to(fixed))


def _split_glob(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder that a glob begins in, and the parts from its first wildcard on."""
    parts = Path(pattern).parts
    count = next((i for i, part in enumerate(parts[:-1]) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:count]), parts[count:]


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path, part by part, is what a pattern says; `**` is any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[n:], pattern[1:]) for n in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _special(path: Path) -> bool:
    """Whether a file is a pipe, a socket or a device, whose reading might never end."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False  # to be reported when it is read


def _read_list(path: str, nul: bool) -> list[str]:
    try:
        data = sys.stdin.buffer.read() if path == STDIO else Path(path).read_bytes()
    except OSError as e:
        raise failure(f"cannot read the list {path}: {e.strerror}", nearest(path)) from e
    if not nul and b"\0" in data:
        raise failure(f"{path} is no list of names, one a line: it holds NUL", "add -0 if NUL ends each name")
    names = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(name) for name in names if name]


def _some(suffixes: Collection[str]) -> str:
    usual = [s for s in (".lat", ".wav", ".flac", ".ogg", ".mp3") if s in suffixes]
    return ", ".join(usual or sorted(suffixes))
