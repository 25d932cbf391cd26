"""The files that a command line names: what is read (files, folders, globs, lists, stdin), and what goes where."""

import codecs
import glob
import io
import os
import re
import stat
import sys
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, cast

from .messages import failure, usage_error
from .options import STDIO, Shard, is_url

FFMPEG = "install ffmpeg to read them, or convert them: ffmpeg -i song.m4a song.wav"
_SIGNATURE = b"\x89HDF"
_DESCRIPTOR = re.compile(r"/(?:dev|proc/self)/fd/(\d+)", re.ASCII)


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
        failures: What is to be reported with the files that fail: folders that could not be read, and inputs that
            would be written to the same output.
        unreadable: How many folders could not be read.
        shared: How many inputs were left out as they share an output.
        left_out: Audio and video in folders that is not read here: its extensions, and how many files each has.
        others: Extensions of what is counted there.
    """

    found: list[Found] = field(default_factory=list)
    many: bool = False
    failures: list[Exception] = field(default_factory=list)
    unreadable: int = 0
    shared: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    others: Collection[str] = ()


def gather(
    operands: Sequence[str], files_from: str | None = None, nul: bool = False, *, suffixes: Collection[str], kind: str,
    missing: str, others: Collection[str] = (),
) -> Inputs:  # fmt: skip
    """The files named, those of the right kind in the folders and globs named, and those of a list.

    A glob that the shell did not expand (it was quoted) is expanded here, `**` too, and mirrored below the part of it
    that has no wildcards; a file that has the very name wins. A list's names are taken as they are and mirrored whole.

    Args:
        operands: Files, folders, globs or `-`.
        files_from: A file with names, one a line; `-` is stdin.
        nul: Whether NUL ends the names of the list, not a newline.
        suffixes: Lower-case extensions taken from folders and globs.
        kind: What messages call such a file: `audio`, `.lat`.
        missing: What is missing when nothing is named: `lincae encode: AUDIO`.
        others: Lower-case extensions that are counted when they are left out of folders and globs.

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
    inputs = Inputs(many=len(operands) > 1 or files_from is not None, others=others)
    for operand in operands:
        _add_operand(inputs, operand, suffixes, kind)
    for name in [] if files_from is None else _read_list(files_from, nul):
        _add_listed(inputs, name, suffixes)
    unique: dict[str, Found] = {}
    for f in inputs.found:
        unique.setdefault(f.path if f.path == STDIO else os.path.abspath(f.path), f)
    inputs.found = list(unique.values())
    return inputs


def left_out(inputs: Inputs) -> str:
    """`3 .m4a and 1 .wma files`: what a folder holds and is not read."""
    parts = [f"{count} {suffix}" for suffix, count in sorted(inputs.left_out.items())]
    files = "file" if sum(inputs.left_out.values()) == 1 else "files"
    return f"{' and '.join(parts)} {files}"


def nearest(path: str) -> str:
    """What to type instead of a path that does not exist."""
    from difflib import get_close_matches

    folder, name = os.path.split(path.rstrip("/"))
    try:
        near = get_close_matches(name, os.listdir(folder or "."), n=1)
    except OSError:
        near = []
    return f"did you mean {os.path.join(folder, near[0])}" if near else f"see: ls {folder or '.'}"


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
    if is_url(path):
        raise usage_error(f"{path}: only batches from file to file take URLs", "copy it to this machine first")
    if os.path.isdir(path):
        raise failure(f"{path} is a folder", f"name the files in it: {os.path.join(path, '*.lat')}")
    if not os.path.exists(path):
        raise failure(f"{path}: no such file", nearest(path))
    return path


def is_lat(path: str) -> bool:
    """Whether a file, or stdin, begins as a `.lat` does.

    Raises:
        LincaeError: there is no such file.
    """
    open_source(path, "audio or a .lat file")
    if path == STDIO:
        stdin = cast(io.BufferedReader, sys.stdin.buffer)
        return stdin.peek(len(_SIGNATURE))[: len(_SIGNATURE)] == _SIGNATURE
    if not os.path.isfile(path):
        return path.lower().endswith(".lat")  # a pipe, whose first bytes would be lost
    with open(path, "rb") as file:
        return file.read(len(_SIGNATURE)) == _SIGNATURE


def open_audio(path: str, models: "ModelCache", model: str | None, stack: ExitStack) -> Any:
    """An audio file, or a `.lat` as the audio it decodes to."""
    source = open_source(path, "audio or a .lat file")
    if is_lat(path):
        from lincae_formats import LatReader

        return decoded(stack.enter_context(LatReader(source)), models, model)
    from lincae_core.audio import AudioReader

    return stack.enter_context(AudioReader(source))


def decoded(reader: Any, models: "ModelCache", model: str | None) -> Any:
    """The audio that an open `.lat` decodes to.

    Raises:
        LincaeError: its model is not installed.
    """
    loaded = models.load(models.matching(reader.header, reader.name, model))

    from lincae_core.models.codec import DecodedAudio, decoded_span

    return DecodedAudio(loaded, reader, decoded_span(reader.header, reader.name))


class ModelCache:
    """The models of one run, each loaded once, when the first file needs it.

    Args:
        device: auto, cpu, cuda or cuda:N.
    """

    def __init__(self, device: str) -> None:
        """Loads nothing yet."""
        self._device = device
        self._loaded: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return ModelCache, (self._device,)  # another process loads its own

    def info(self, name: str | None) -> Any:
        """The facts of the model of that name or path; of the default without one."""
        from lincae_core.models.store import DEFAULT_MODEL, resolve

        return resolve(name or DEFAULT_MODEL)

    def matching(self, header: Any, file: str, name: str | None) -> Any:
        """The facts of the model that encoded a file: an installed one, or the one named.

        Raises:
            LincaeError: it is not installed, or the one named did not encode the file.
        """
        from lincae_core.models.store import find_fingerprint

        if name is None:
            return find_fingerprint(header.model_fingerprint, header.model, file)
        info = self.info(name)
        if info.fingerprint != header.model_fingerprint:
            raise failure(
                f"{file} was encoded by another model ({header.model}) than {name}",
                "leave out --model, or give the model's file",
            )
        return info

    def load(self, info: Any, to_encode: bool = False) -> Any:
        """The model itself; `to_encode` that part of it which encoding needs, and which may need no torch."""
        from lincae_core.models.codec import batched
        from lincae_core.models.store import load, load_encoder, remember

        with self._lock:
            key = f"{to_encode} {info.path}"
            if key not in self._loaded:
                self._loaded[key] = batched((load_encoder if to_encode else load)(info, self._device))
                remember(info)
            return self._loaded[key]


def _add_operand(inputs: Inputs, operand: str, suffixes: Collection[str], kind: str) -> None:
    if operand == STDIO:
        inputs.found.append(Found(operand, Path(operand)))
    elif is_url(operand):
        _add_url(inputs, operand, suffixes, kind)
    elif os.path.isdir(operand):
        inputs.many = True
        inside = list(_walk(inputs, Path(operand), Path(operand), suffixes))
        if not inside and not inputs.failures:
            hint = f"name a folder with {_some(suffixes)} files"
            if inputs.left_out:
                hint = f"it holds {left_out(inputs)}; {FFMPEG}"
            raise failure(f"{operand} holds no {kind} files", hint)
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


def _add_url(inputs: Inputs, operand: str, suffixes: Collection[str], kind: str) -> None:
    from .urls import listing

    listed = listing(operand)
    if listed is None:
        inputs.found.append(Found(operand, Path(operand.rpartition("/")[2])))
        return
    inputs.many = True
    inside = [Found(url, relative) for url, relative in listed if relative.suffix.lower() in suffixes]
    inputs.left_out.update(found for _, relative in listed if (found := relative.suffix.lower()) in inputs.others)
    if not inside:
        hint = f"it holds {left_out(inputs)}; {FFMPEG}" if inputs.left_out else f"name one with {_some(suffixes)} files"
        raise failure(f"{operand} holds no {kind} files", hint)
    inputs.found += inside


def _add_listed(inputs: Inputs, name: str, suffixes: Collection[str]) -> None:
    if is_url(name):
        parts = [part for part in name.partition("://")[2].split("/") if part not in ("", ".", "..")]
        inputs.found.append(Found(name, Path(*parts)))
        return
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
        inputs.unreadable += 1
        inputs.failures.append(failure(f"cannot read the folder {e.filename}: {e.strerror}", "check its permissions"))

    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path, suffix = Path(root) / name, Path(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in suffixes and not _special(path):
                yield Found(str(path), path.relative_to(base))
            elif suffix in inputs.others:
                inputs.left_out[suffix] += 1


def _expand(inputs: Inputs, pattern: str, suffixes: Collection[str]) -> Iterable[Found]:
    fixed, wild = _split_glob(pattern)
    if "**" in wild:
        # glob would follow links to folders, round and round.
        for found in _walk(inputs, fixed, fixed, suffixes):
            below = found.relative.parts
            if any(_matches(below[:n], wild) for n in range(1, len(below) + 1)):
                yield found
        return
    for match in sorted(glob.glob(os.path.join(glob.escape(str(fixed)), *wild))):
        path = Path(match)
        if path.is_dir():
            yield from _walk(inputs, path, fixed, suffixes)
        elif path.suffix.lower() in suffixes and not _special(path):
            yield Found(str(path), path.relative_to(fixed))


def _split_glob(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """The folder that a glob begins in, and the parts from its first wildcard on.

    A leading part that is the very name of a folder has no wildcards: `album [2020]/*.wav`.
    """
    parts = Path(pattern).parts
    count = 0
    while count < len(parts) - 1 and (not glob.has_magic(parts[count]) or os.path.isdir(Path(*parts[: count + 1]))):
        count += 1
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
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise failure(f"the list {path} is in UTF-16", "save it as UTF-8")
    if nul:
        return [os.fsdecode(name) for name in data.split(b"\0") if name]
    if b"\0" in data:
        raise failure(f"{path} is not a list of names, one a line: it holds NUL", "add -0 if NUL ends each name")
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    return [name for line in lines if (name := _listed_name(os.fsdecode(line.removesuffix(b"\r"))))]


def _listed_name(line: str) -> str:
    """The name on a line, without blanks at its end; empty for a comment. A file of that very name wins."""
    if os.path.lexists(line):
        return line
    return "" if line.lstrip().startswith("#") else line.rstrip()


def _some(suffixes: Collection[str]) -> str:
    usual = [s for s in (".lat", ".wav", ".flac", ".ogg", ".mp3") if s in suffixes]
    return ", ".join(usual or sorted(suffixes))


# --- what is written


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
    inputs: Inputs, output: str | None, *, new_suffix: str, force: bool, suffixes: Collection[str] = (), keep_extension:
    bool = False, shard: Shard | None = None,
) -> list[Job]:  # fmt: skip
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
        shard: The part of a batch to keep.

    Raises:
        UsageError: an output is an input, or all inputs map to one output; `-`, or the name of a file, does not fit.
        TargetExistsError, LincaeError: a file exists, or cannot be written.
    """
    many = inputs.many
    if shard is not None and not many:
        raise usage_error("--shard splits batches, and there is one file", "name a folder, or several files")
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
    if shard is not None:
        kept = {f.path for f in inputs.found if shard.holds(f.relative.as_posix())}
        jobs = [job for job in jobs if job.source in kept]
    local = [job.target for job in jobs if not is_url(job.target)]
    check_targets(local, [job.source for job in jobs], force or many, make=into_folder)
    if remote := {job.target for job in jobs if is_url(job.target)}:
        from .urls import check_output

        check_output(min(remote))
        if same := remote & {job.source for job in jobs}:
            raise usage_error(f"{min(same)} is an input and cannot be the output too", "give another -o")
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

    if output is None and is_url(found.path):
        folder, _, name = found.path.rpartition("/")
        return f"{folder}/{renamed(Path(name))}"
    if output is None:
        return STDIO if found.path == STDIO else str(renamed(Path(found.path)))
    if not into_folder:
        return output
    if found.path == STDIO:
        raise usage_error(
            "stdin (-) has no name to use in a folder", f"give one: -o {Path(output) / 'name'}{new_suffix}"
        )
    if is_url(output):
        return f"{output.rstrip('/')}/{renamed(found.relative).as_posix()}"
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
