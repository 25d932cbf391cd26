"""From inputs to jobs: what is written where, and everything refused before the work."""

import os
import stat
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .errors import failure, usage_error
from .inputs import STDIO, Found, Inputs, gather, nearest


@dataclass(frozen=True)
class Job:
    """One file to read and one to write; `-` is stdin or stdout."""

    source: str
    target: str


def expand(operands: Sequence[str], suffixes: Collection[str], kind: str) -> list[Found]:
    """The files named, and the files of the right kind in the folders and globs named; see `inputs.gather`."""
    return gather(operands, suffixes=suffixes, kind=kind, missing=kind).found


def plan(
    inputs: Inputs, output: str | None, *, new_suffix: str, force: bool, suffixes: Collection[str] = ()
) -> list[Job]:
    """Decides what is written where, and refuses what cannot be meant.

    Without `output` a file is written beside its source. With several inputs `output` is a folder, in which
    folders, globs and lists that were named are mirrored.

    Args:
        inputs: What to read. In a batch, targets that exist are left to be skipped or refused one by one.
        output: A file, a folder or `-`.
        new_suffix: Extension of the files written, with its dot.
        force: Whether existing files may be replaced.
        suffixes: Other extensions that tell a file from a folder that is still to be made.

    Raises:
        UsageError: one file would be written twice, or onto an input; `-`, or the name of a file, does not fit.
        TargetExistsError, LincaeError: a file exists, or cannot be written.
    """
    many = inputs.many
    into_folder = output is not None and output != STDIO and (many or _is_folder(output))
    if into_folder and output is not None and os.path.exists(output) and not os.path.isdir(output):
        raise usage_error(f"-o {output} is a file, and there are several inputs", f"give a folder: -o {output}.d/")
    if many and output is not None and not _is_folder(output):
        name, suffix = os.path.splitext(output)
        if suffix.lower() in (new_suffix, *suffixes):
            raise usage_error(f"-o {output} is one file, and there are several inputs", f"give a folder: -o {name}/")
    if output == STDIO and len(inputs.found) > 1:
        raise usage_error(f"{len(inputs.found)} files cannot all go to stdout", "give a folder: -o FOLDER/")
    jobs = [Job(f.path, _target(f, output, into_folder, new_suffix)) for f in inputs.found]
    check_targets([job.target for job in jobs], [job.source for job in jobs], force or many, make=into_folder)
    return jobs


def check_targets(targets: Sequence[str], sources: Sequence[str], force: bool, *, make: bool = False) -> None:
    """Refuses targets that are written twice, are an input, exist already, or cannot be written.

    Args:
        targets: Files that will be written, or `-`.
        sources: Files that will be read, or `-`. When there are as many, messages name the pairs.
        force: Whether existing files may be replaced.
        make: Whether missing folders will be made.
    """
    from lincae_formats import TargetExistsError, check_target, remove_leftovers

    inputs = {os.path.realpath(s) for s in sources if s != STDIO}
    identities = {found for s in sources if (found := _identity(s)) is not None}
    folders: set[Path] = set()
    seen: dict[str, int] = {}
    exists: list[str] = []
    for i, target in enumerate(targets):
        if target == STDIO:
            continue
        real = os.path.realpath(target)
        if real in seen:
            raise usage_error(
                f"{sources[seen[real]]} and {sources[i]} would both be written to {target}",
                "name the folder they lie in, to mirror it, or run them one by one, each with its own -o",
            )
        if real in inputs or (_identity(target) or ()) in identities:
            raise usage_error(f"{target} is an input and cannot be the output too", "give another -o")
        seen[real] = i
        folder = Path(target).parent
        if make and folder not in folders and not os.path.isdir(folder):
            _check_makeable(folder)
            folders.add(folder)
        if folder in folders:
            continue
        try:
            check_target(target, force)
        except TargetExistsError:
            exists.append(target)
    if exists:
        more = f" and {len(exists) - 1} more" if len(exists) > 1 else ""
        verb = "exist" if more else "exists"
        raise TargetExistsError(f"{exists[0]}{more} {verb} already", "add --force to overwrite")
    remove_leftovers(target for target in targets if target != STDIO)


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
        raise failure(f"{path}: no such file", nearest(path))
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


def _identity(path: str) -> tuple[int, int] | None:
    """What a regular file is told by: hard links, and names in another case where that is the same, agree in it."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if path != STDIO and stat.S_ISREG(found.st_mode) else None


def _check_makeable(folder: Path) -> None:
    there = next(p for p in (folder, *folder.parents) if os.path.exists(p))
    if not os.path.isdir(there):
        raise failure(f"cannot make the folder {folder}: {there} is a file", "choose another -o")
    if not os.access(there, os.W_OK | os.X_OK):
        raise failure(f"cannot make the folder {folder}: {there} is not writable", "choose another -o")
