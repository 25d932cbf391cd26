"""What is written where, and everything about outputs that can be refused before the work."""

import os
import re
import stat
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .inputs import Found, Inputs
from .messages import failure, usage_error
from .types import STDIO

_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)", re.ASCII)


@dataclass(frozen=True)
class Job:
    """One file to read and one to write.

    Attributes:
        source: A path, or `-` for stdin.
        target: A path, or `-` for stdout.
        beside: Other files that the result is made from.
    """

    source: str
    target: str
    beside: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """All files that the result is made from."""
        return (self.source, *self.beside)


def plan(
    inputs: Inputs,
    output: str | None,
    *,
    new_suffix: str,
    force: bool,
    suffixes: Collection[str] = (),
    keep_extension: bool = False,
) -> list[Job]:
    """Decides what is written where, and refuses what cannot be meant.

    Without `output` a file is written beside its source. With several inputs `output` is a folder, in which
    folders, globs and lists that were named are mirrored. Inputs that map to the same output are left out, and
    reported in `inputs.failures`.

    Args:
        inputs: What to read. In a batch, targets that exist are left to be skipped or refused one by one.
        output: A file, a folder or `-`.
        new_suffix: Extension of the files written, with its dot.
        force: Whether existing files may be replaced.
        suffixes: Other extensions that tell a file from a folder that does not exist yet.
        keep_extension: Whether `song.wav` becomes `song.wav.lat`, not `song.lat`.

    Raises:
        UsageError: an output is an input, or all inputs map to one output; `-`, or the name of a file, does not fit.
        TargetExistsError, LincaeError: a file exists, or cannot be written.
    """
    many = inputs.many
    into_folder = output is not None and output != STDIO and (many or is_folder(output))
    if into_folder and output is not None and os.path.exists(output) and not os.path.isdir(output):
        raise usage_error(f"-o {output} is a file, and there are several inputs", f"give a folder: -o {output}.d/")
    if many and output is not None and not is_folder(output):
        name, suffix = os.path.splitext(output)
        if suffix.lower() in (new_suffix, *suffixes):
            raise usage_error(f"-o {output} is one file, and there are several inputs", f"give a folder: -o {name}/")
    if output == STDIO and len(inputs.found) > 1:
        raise usage_error(f"{len(inputs.found)} files cannot all go to stdout", "give a folder: -o FOLDER/")
    jobs = [Job(f.path, _target(f, output, into_folder, new_suffix, keep_extension)) for f in inputs.found]
    hint = "give each its own -o" if keep_extension else "add --keep-extension (song.wav.lat), or give each its own -o"
    jobs = _without_shared_outputs(jobs, inputs, hint)
    check_targets([job.target for job in jobs], [job.source for job in jobs], force or many, make=into_folder)
    return jobs


def _without_shared_outputs(jobs: list[Job], inputs: Inputs, hint: str) -> list[Job]:
    """The jobs that have their output for themselves; the others are reported in `inputs.shared`."""
    by_target: dict[str, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(job.target if job.target == STDIO else os.path.realpath(job.target), []).append(job)
    kept = [group[0] for group in by_target.values() if len(group) == 1]
    for group in by_target.values():
        if len(group) > 1:
            names = [job.source for job in group]
            message = f"{', '.join(names[:-1])} and {names[-1]} would all be written to {group[0].target}"
            error = usage_error(message.replace("all", "both") if len(names) == 2 else message, hint)
            if not kept and not inputs.failures:
                raise error
            inputs.failures.append(error)
            inputs.shared += len(group)
    return kept


def check_targets(targets: Sequence[str], sources: Sequence[str], force: bool, *, make: bool = False) -> None:
    """Refuses targets that are written twice, are an input, exist already, or cannot be written.

    Args:
        targets: Files that will be written, or `-`.
        sources: Files that will be read, or `-`.
        force: Whether existing files may be replaced.
        make: Whether missing folders will be made.
    """
    from lincae_formats import TargetExistsError, check_target, remove_leftovers

    inputs = {os.path.realpath(s) for s in sources if s != STDIO}
    identities = {found for s in sources if (found := _identity(s)) is not None}
    folders: set[Path] = set()
    seen: set[str] = set()
    exists: list[str] = []
    for target in targets:
        if target == STDIO or _DESCRIPTOR.fullmatch(target):
            continue
        real = os.path.realpath(target)
        if real in seen:
            raise usage_error(f"{target} would be written twice", "give every output a name of its own")
        if real in inputs or (_identity(target) or ()) in identities:
            raise usage_error(f"{target} is an input and cannot be the output too", "give another -o")
        seen.add(real)
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


def open_target(path: str) -> str | BinaryIO:
    """The path, or a stream for `-` and for `/dev/fd/N`, which are never truncated.

    Raises:
        UsageError: stdout is a terminal.
        LincaeError: stdout, or descriptor N, is closed.
    """
    match = _DESCRIPTOR.fullmatch(path)
    if path != STDIO and match is None:
        return path
    if match is None and sys.stdout.isatty():
        raise usage_error("stdout (-) is a terminal", "add -o FILE, or a pipe: | lincae ...")
    number = int(match[1]) if match else 1
    if not _writable(number):
        raise failure(f"{path if match else 'stdout (-)'} is closed", "redirect it to a file, or give another -o")
    return sys.stdout.buffer if match is None else open(number, "wb", closefd=False)


def make_folder(job: Job) -> None:
    """Makes the folder a job writes to."""
    if job.target != STDIO:
        os.makedirs(Path(job.target).parent, exist_ok=True)


def is_folder(output: str) -> bool:
    """Whether an output is a folder: it is there, or its name ends in a slash."""
    return output != STDIO and (output.endswith(("/", os.sep)) or os.path.isdir(output))


def _writable(descriptor: int) -> bool:
    """Whether a descriptor is open for writing; app opens a closed stdout for reading."""
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    except ImportError:
        return True
    except OSError:
        return False


def _target(found: Found, output: str | None, into_folder: bool, new_suffix: str, keep_extension: bool) -> str:
    def renamed(path: Path) -> Path:
        return path.with_name(path.name + new_suffix) if keep_extension else path.with_suffix(new_suffix)

    if output is None:
        return STDIO if found.path == STDIO else str(renamed(Path(found.path)))
    if not into_folder:
        return output
    if found.path == STDIO:
        raise usage_error(
            "stdin (-) has no name to use in a folder", f"give one: -o {Path(output) / 'name'}{new_suffix}"
        )
    return str(Path(output) / renamed(found.relative))


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
