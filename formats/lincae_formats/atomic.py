"""Files that appear whole or not at all: a temporary file beside the target, then a rename."""

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import LincaeError, TargetExistsError


def check_target(target: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Refuses a target that cannot be written, before any work is done.

    Raises:
        TargetExistsError: a file is there and `overwrite` is false.
        LincaeError: the target is a folder, or its folder is missing or not writable.
    """
    path = Path(target)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None
    except (OSError, ValueError) as e:
        raise _os_error(path, e) from e
    if mode is not None:
        if stat.S_ISDIR(mode):
            raise LincaeError(f"{path} is a folder", "name a file inside it")
        if not stat.S_ISREG(mode):
            return  # a device or a pipe: nothing to overwrite
        if not overwrite:
            raise TargetExistsError(f"{path} exists", "add --force to overwrite it")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise LincaeError(f"cannot write {path}: there is no folder {folder}", f"make it: mkdir -p {folder}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise LincaeError(f"cannot write {path}: the folder {folder} is not writable", "choose another -o")


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str], overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty temporary file beside `target`; renames it to `target` on success.

    On any exception, KeyboardInterrupt too, the temporary file is removed and the target is left as it was.
    Permissions follow the umask. A symbolic link stays: the file it points to is replaced. A device or a pipe
    (`/dev/stdout`) is written to, never replaced.

    Raises:
        TargetExistsError: the target exists, or appeared meanwhile, and `overwrite` is false.
        LincaeError: the target cannot be written.
    """
    path = Path(target)
    check_target(path, overwrite)
    special = path.exists() and not path.is_file()
    final = Path(tempfile.gettempdir()) / path.name if special else Path(os.path.realpath(path))
    temp = _create_beside(final, path, private=special)
    try:
        yield temp
        try:
            if special:
                with open(temp, "rb") as source, open(path, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
            else:
                _sync(temp)
                _commit(temp, final, path, overwrite)
        except OSError as e:
            raise _os_error(path, e) from e
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temp)


def _create_beside(final: Path, shown: Path, private: bool) -> Path:
    # 0o666 lets the umask decide; tempfile.mkstemp would leave 0600 on the final file.
    stem = os.fsencode(final.name)[:200].decode(errors="ignore")
    temp = final.with_name(f".{stem}.{secrets.token_hex(6)}.tmp")
    try:
        os.close(os.open(temp, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if private else 0o666))
    except OSError as e:
        raise _os_error(shown, e) from e
    return temp


def _commit(temp: Path, final: Path, shown: Path, overwrite: bool) -> None:
    if overwrite:
        os.replace(temp, final)
    else:
        try:
            os.link(temp, final)  # unlike rename, refuses a target that appeared meanwhile
        except FileExistsError as e:
            raise TargetExistsError(f"{shown} exists", "add --force to overwrite it") from e
        except OSError:  # a file system without hard links
            if final.exists():
                raise TargetExistsError(f"{shown} exists", "add --force to overwrite it") from None
            os.replace(temp, final)
    with contextlib.suppress(OSError):
        _sync(final.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _os_error(path: Path, error: Exception) -> LincaeError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return LincaeError(f"cannot write {path}: {reason}", "choose another -o")
