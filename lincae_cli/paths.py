"""From operands to jobs: which files are read, which are written, and everything refused before the work."""

import os
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import failure, usage_error

STDIO = "-"


@dataclass(frozen=True)
class Found:
    """An input: its path, or `-`, and where it lies below the folder that was named."""

    path: str
    relative: Path


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `-` is stdin or stdout."""

    source: str
    target: str


def expand(operands: Sequence[str], suffixes: Collection[str], kind: str) -> list[Found]:
    """The files named, and the files of the right kind in the folders named, in a stable order.

    Args:
        operands: Files, folders or `-`.
        suffixes: Lower-case extensions taken from folders.
        kind: What messages call such a file: `audio`, `.lat`.

    Raises:
        UsageError: `-` is there twice.
        LincaeError: a folder holds no such file.
    """
    if list(operands).count(STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other inputs")
    found: list[Found] = []
    for operand in operands:
        if operand == STDIO or not os.path.isdir(operand):
            found.append(Found(operand, Path(Path(operand).name)))
            continue
        inside = list(_walk(Path(operand), suffixes))
        if not inside:
            raise failure(f"{operand} holds no {kind} files", f"name a folder with {_some(suffixes)} files")
        found.extend(inside)
    unique: dict[str, Found] = {}
    for f in found:
        unique.setdefault(f.path if f.path == STDIO else os.path.abspath(f.path), f)
    return list(unique.values())


def plan(
    operands: Sequence[str],
    output: str | None,
    *,
    suffixes: Collection[str],
    kind: str,
    new_suffix: str,
    force: bool,
) -> list[Job]:
    """Decides what is written where, and refuses what cannot be meant.

    Without `output` a file is written beside its source. With several inputs `output` is a folder, in which
    folders that were named are mirrored.

    Args:
        operands: Files, folders or `-`.
        output: A file, a folder or `-`.
        suffixes: Lower-case extensions taken from folders.
        kind: What messages call the inputs.
        new_suffix: Extension of the files written, with its dot.
        force: Whether existing files may be replaced.

    Raises:
        UsageError: one file would be written twice, or onto an input; `-` does not fit.
        TargetExistsError, LincaeError: a file exists, or cannot be written.
    """
    found = expand(operands, suffixes, kind)
    many = len(operands) > 1 or any(o != STDIO and os.path.isdir(o) for o in operands)
    into_folder = output is not None and output != STDIO and (many or _is_folder(output))
    if into_folder and output is not None and os.path.exists(output) and not os.path.isdir(output):
        raise usage_error(f"-o {output} is a file, and there are several inputs", f"give a folder: -o {output}.d/")
    if output == STDIO and len(found) > 1:
        raise usage_error(f"{len(found)} files cannot all go to stdout", "give a folder: -o FOLDER/")
    jobs = [Job(f.path, _target(f, output, into_folder, new_suffix)) for f in found]
    check_targets([job.target for job in jobs], [job.source for job in jobs], force, make=into_folder)
    return jobs


def check_targets(targets: Sequence[str], sources: Sequence[str], force: bool, *, make: bool = False) -> None:
    """Refuses targets that are written twice, are an input, exist already, or cannot be written.

    Args:
        targets: Files that will be written, or `-`.
        sources: Files that will be read, or `-`. When there are as many, messages name the pairs.
        force: Whether existing files may be replaced.
        make: Whether missing folders will be made.
    """
    from lincae_formats import TargetExistsError, check_target

    inputs = {os.path.realpath(s) for s in sources if s != STDIO}
    seen: dict[str, int] = {}
    exists: list[str] = []
    for i, target in enumerate(targets):
        if target == STDIO:
            continue
        real = os.path.realpath(target)
        if real in seen:
            raise usage_error(
                f"{sources[seen[real]]} and {sources[i]} would both be written to {target}",
                "run them one by one, each with its own -o",
            )
        if real in inputs or any(_same_file(target, s) for s in sources):
            raise usage_error(f"{target} is an input and cannot be the output too", "give another -o")
        seen[real] = i
        if make and not os.path.isdir(Path(target).parent):
            continue
        try:
            check_target(target, force)
        except TargetExistsError:
            exists.append(target)
    if exists:
        more = f" and {len(exists) - 1} more" if len(exists) > 1 else ""
        verb = "exist" if more else "exists"
        raise TargetExistsError(f"{exists[0]}{more} {verb} already", "add --force to overwrite")


def open_source(path: str, kind: str) -> str | BinaryIO:
    """The path, or stdin.

    Raises:
        UsageError: stdin is a terminal.
        LincaeError: there is no such file, or it is a folder.
    """
    if path == STDIO:
        if sys.stdin.isatty():
            raise usage_error(f"stdin (-) is a terminal, not {kind}", "pipe something in, or name a file")
        return sys.stdin.buffer
    if os.path.isdir(path):
        raise failure(f"{path} is a folder", f"name the files in it: {os.path.join(path, '*.lat')}")
    if not os.path.exists(path):
        raise failure(f"{path}: no such file", _nearest(path))
    return path


def open_target(path: str) -> str | BinaryIO:
    """The path, or stdout.

    Raises:
        UsageError: stdout is a terminal.
    """
    if path != STDIO:
        return path
    if sys.stdout.isatty():
        raise usage_error("stdout (-) is a terminal", "add -o FILE, or a pipe: | lincae ...")
    return sys.stdout.buffer


def make_folder(job: Job) -> None:
    """Makes the folder a job writes to."""
    if job.target != STDIO:
        os.makedirs(Path(job.target).parent, exist_ok=True)


def _walk(folder: Path, suffixes: Collection[str]) -> Iterable[Found]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                path = Path(root) / name
                yield Found(str(path), path.relative_to(folder))


def _target(found: Found, output: str | None, into_folder: bool, new_suffix: str) -> str:
    if output is None:
        return STDIO if found.path == STDIO else str(Path(found.path).with_suffix(new_suffix))
    if not into_folder:
        return output
    if found.path == STDIO:
        raise usage_error(
            "stdin (-) has no name to use in a folder", f"give one: -o {Path(output) / 'name'}{new_suffix}"
        )
    return str(Path(output) / found.relative.with_suffix(new_suffix))


def _is_folder(output: str) -> bool:
    return output.endswith(("/", os.sep)) or os.path.isdir(output)


def _same_file(a: str, b: str) -> bool:
    # Hard links, and names that differ only in case on a file system that ignores it.
    try:
        return b != STDIO and os.path.isfile(a) and os.path.samefile(a, b)
    except OSError:
        return False


def _nearest(path: str) -> str:
    from difflib import get_close_matches

    folder, name = os.path.split(path)
    try:
        near = get_close_matches(name, os.listdir(folder or "."), n=1)
    except OSError:
        near = []
    return f"did you mean {os.path.join(folder, near[0])}" if near else f"see: ls {folder or '.'}"


def _some(suffixes: Collection[str]) -> str:
    usual = [s for s in (".lat", ".wav", ".flac", ".ogg", ".mp3") if s in suffixes]
    return ", ".join(usual or sorted(suffixes))
