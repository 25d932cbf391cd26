"""Files that appear whole or not at all: a temporary file beside the target, then a rename."""

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .errors import LincaeError, TargetExistsError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMP = re.compile(r"\.(.*)\.[0-9a-f]{12}\.tmp", re.DOTALL)
_DESCRIPTOR = re.compile(r"/dev/(?:stdout|stderr|fd/\d+)|/proc/(?:self|\d+)/fd/\d+")  # an open file, not a name
_batches = 0  # blocks of `synced_once` that are being run, in any thread
OVERWRITE = "pass overwrite=True to replace it"  # what the command line calls --force


def check_target(target: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuses a target that cannot be written, before any work is done.

    Raises:
        TargetExistsError: a file is there and `overwrite` is false.
        LincaeError: the target is a folder, or its folder is missing or not writable.
    """
    _resolve(os.fspath(target), overwrite)


def _resolve(path: str, overwrite: bool) -> tuple[str | None, int | None]:
    """The real path of a target that may be written, and the permissions of the file that is there, if any.

    The path is None for a device, a pipe or an open descriptor.
    """
    if _DESCRIPTOR.fullmatch(path) and os.path.exists(path):
        return None, None
    mode = None
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as e:
        raise _os_error(path, e) from e
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise LincaeError(f"{path} is a folder", "name a file inside it")
        if not stat.S_ISREG(mode):
            return None, None  # nothing to overwrite
        if not overwrite:
            raise TargetExistsError(f"{path} exists", OVERWRITE)
    final = os.path.realpath(path)
    folder = os.path.dirname(final)
    if not os.path.isdir(folder):
        raise LincaeError(f"cannot write {path}: there is no folder {folder}", f"make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LincaeError(f"cannot write {path}: the folder {folder} is not writable", "write elsewhere")
    return final, None if mode is None else stat.S_IMODE(mode)


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty temporary file beside `target`; renames it to `target` on success.

    On any exception, KeyboardInterrupt and SystemExit too, the temporary file is removed and the target is left as it
    was. A replaced file keeps its permissions; a new one follows the umask. A symbolic link stays: the file it points
    to is replaced. A device, a pipe or an open descriptor (`/dev/stdout`) is written to, not replaced or truncated.

    Raises:
        TargetExistsError: the target exists, or appeared meanwhile, and `overwrite` is false.
        LincaeError: the target cannot be written.
    """
    path = os.fspath(target)
    final, mode = _resolve(path, overwrite)
    beside = final
    if beside is None:
        import tempfile

        beside = os.path.join(tempfile.gettempdir(), os.path.basename(path))
    temp, lock = _create_beside(beside, path, private=final is None or mode is not None)
    try:
        yield Path(temp)
        try:
            if final is None:
                import shutil

                with open(temp, "rb") as source, open(_open_special(path), "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
            else:
                if mode is not None:
                    with contextlib.suppress(OSError):  # a file system without permissions
                        os.chmod(temp, mode)
                if not _batches:
                    _sync(temp, lock)
                _commit(temp, final, path, overwrite)
                if not _batches:
                    with contextlib.suppress(OSError):
                        _sync(os.path.dirname(final))
        except OSError as e:
            raise _os_error(path, e) from e
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        if lock is not None:
            os.close(lock)


@contextlib.contextmanager
def synced_once() -> Iterator[None]:
    """Within it, files get their names without waiting for the disk; the disk is synchronised once, at its end.

    For batches of many small files. A killed process leaves whole files or none, as ever. A power failure before the
    end can leave files cut short, which readers refuse.
    """
    global _batches
    _batches += 1
    try:
        yield
    finally:
        _batches -= 1
        if hasattr(os, "sync"):
            os.sync()


def remove_leftovers(targets: Iterable[str | os.PathLike[str]]) -> None:
    """Removes temporary files that killed writers of these targets left; files that are being written stay."""
    if fcntl is None:
        return
    stems: dict[str, set[str]] = {}
    for target in targets:
        final = os.path.realpath(target)
        stems.setdefault(os.path.dirname(final), set()).add(_stem(final))
    for folder, wanted in stems.items():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                match = _TEMP.fullmatch(entry.name)
                if match and match[1] in wanted and entry.is_file(follow_symlinks=False):
                    _remove_unlocked(entry.path)


def _remove_unlocked(temp: str) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(temp, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(temp)
        finally:
            os.close(fd)


def _stem(final: str) -> str:
    return os.fsencode(os.path.basename(final))[:200].decode(errors="ignore")


def _open_special(path: str) -> int:
    """A descriptor to write to a device, a pipe or an open file with, from where it stands."""
    own = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", path)
    number = int(own[1]) if own else {"/dev/stdout": 1, "/dev/stderr": 2}.get(path)
    return os.open(path, os.O_WRONLY | os.O_APPEND) if number is None else os.dup(number)


def stamp(path: str | os.PathLike[str]) -> list[int] | None:
    """Size and time of change, ns, which tell a version of a file from others; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def append_line(path: str | os.PathLike[str], line: str, create: bool = False) -> None:
    """Appends a line to a file that several processes may write, and that a killed one may have left without its end.

    In one write, so that lines do not mix; the line break in front ends a line that was left open.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | (os.O_CREAT if create else 0), 0o666)
    try:
        os.write(descriptor, f"\n{line}\n".encode())
    finally:
        os.close(descriptor)


def json_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Offset and content of every JSON object in a file of `append_line`, without blank and unfinished lines."""
    at = 0
    with open(path, "rb") as file:
        for text in file:
            with contextlib.suppress(ValueError):
                line = json.loads(text)
                if isinstance(line, dict):
                    yield at, line
            at += len(text)


def _create_beside(final: str, shown: str, private: bool) -> tuple[str, int | None]:
    """An empty file, and the descriptor whose lock says that it is in use; a killed process loses the lock."""
    while True:
        temp = os.path.join(os.path.dirname(final), f".{_stem(final)}.{os.urandom(6).hex()}.tmp")
        try:
            # 0o666 lets the umask decide; tempfile.mkstemp would leave 0600 on the final file.
            fd = os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666)
        except OSError as e:
            raise _os_error(shown, e) from e
        try:
            if fcntl is None:
                os.close(fd)  # an open file cannot be renamed
                return temp, None
            with contextlib.suppress(OSError):  # no locks on this file system, or just taken for a leftover
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                return temp, fd
        except BaseException:  # that of a signal
            with contextlib.suppress(OSError):
                os.unlink(temp)
            raise
        os.close(fd)


def _commit(temp: str, final: str, shown: str, overwrite: bool) -> None:
    """Gives the temporary file its name."""
    if not overwrite:
        try:
            os.link(temp, final)  # unlike rename, refuses a target that appeared meanwhile
            return
        except OSError as e:
            if os.path.lexists(final):
                raise TargetExistsError(f"{shown} exists", OVERWRITE) from e
    os.replace(temp, final)  # also on a file system without hard links


def _sync(path: str, descriptor: int | None = None) -> None:
    fd = os.open(path, os.O_RDONLY) if descriptor is None else os.dup(descriptor)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _os_error(path: str, error: Exception) -> LincaeError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    hint = "free some space, or write elsewhere" if full else "write elsewhere"
    return LincaeError(f"cannot write {path}: {reason}", hint)
