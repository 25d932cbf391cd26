"""Batches: many files in turn or at once, a report for each, no stop at a bad one, and what is finished is skipped.

What made each file of a batch is in a hidden list in every output folder. `.lincae-batch.jsonl` has one JSON object a
line. Before a target is written, its line says what it will be made from (`by`: command, options, model; `from`: name,
size, times and SHA-256 of every source) and what was there before (`before`: size and mtime, or null). When it is
written, a second line adds `size` and `mtime_ns` of the result. Targets appear by a rename, so a run that was killed
between the two leaves a whole file: it is finished if it is not the one that was there before.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import click

from . import messages
from .messages import FULL, Progress, failure, format_time, usage_error
from .options import BATCH_PARAMETERS, STDIO, BatchOptions, batch_options, is_url, lat_output
from .options import lats as lats_argument
from .paths import Inputs, Job, check_targets, gather, make_folder, open_source, open_target, plan

if TYPE_CHECKING:
    from lincae_formats import LatReader
    from lincae_formats.header import Position

LIST = ".lincae-batch.jsonl"
AUDIO = (".wav", ".flac", ".ogg", ".mp3")
LAT = (".lat",)
_SPARE = 64  # file descriptors left for everything else

Item = TypeVar("Item")
Make = Callable[["LatReader", ExitStack], "tuple[Any, list[str]]"]


# --- from .lat to .lat


def lats_to_lats(function: Callable[..., None] | None = None, *, lists: bool = True, named: bool = True) -> Any:
    """Declares a command's LATs, `--output` and batch options; its function gets `each` in their place.

    `each(make)` writes one `.lat` for each that is named. `make`, called with an open file and an exit stack for others
    that it opens, returns the signal to write and notes for the user, each of which is printed once. `beside` tells
    from the name of a file those of the others that its result is made from.

    Args:
        function: The command's function.
        lists: Whether the command takes names from a list.
        named: Whether its files are the argument LATs; else it passes them to `each` itself.
    """
    if function is None:
        return functools.partial(lats_to_lats, lists=lists, named=named)
    inner = function

    @functools.wraps(inner)
    def bundled(output: str | None, batch: BatchOptions, lats: Sequence[str] = (), **given: Any) -> None:
        inner(each=Each(lats, output, batch), **given)

    declared: Any = lat_output(batch_options(bundled, lists=lists))
    return lats_argument(declared) if named else declared


@dataclass(frozen=True)
class Each:
    """What `lats_to_lats` read: files, output and the options of a batch."""

    lats: Sequence[str]
    output: str | None
    batch: BatchOptions

    def __call__(self, make: Make, beside: Callable[[str], Sequence[str]] = lambda path: ()) -> None:
        """Writes a result for each file."""
        command = str(click.get_current_context().info_name)
        operands, output = split_output(self.lats, self.output)
        inputs = gather_lats(operands, self.batch.files_from, self.batch.null)
        force, shard = self.batch.force, self.batch.shard
        planned = plan(inputs, check_name(output, command), new_suffix=".lat", force=force, shard=shard)
        jobs = [replace(job, beside=tuple(beside(job.source))) for job in planned]

        def do(job: Job, overwrite: bool) -> Report:
            from lincae_formats import LatReader

            began = time.monotonic()
            with ExitStack() as stack, LatReader(open_source(job.source, "a .lat file")) as reader:
                result, notes = make(reader, stack)
                write(result, job.target, overwrite)
                h = result.header
            return Report(h.duration, time.monotonic() - began, h.channels, h.sample_rate, tuple(notes))

        from lincae_formats.files import synced_once

        with synced_once(), Progress([job.source for job in jobs], duration, self.batch.log_json) as progress:
            write_all(jobs, do, self.batch, inputs, kind="a .lat file", progress=progress, processes=True)


def gather_lats(lats: Sequence[str], files_from: str | None = None, nul: bool = False) -> Inputs:
    """The `.lat` files that are named."""
    missing = f"lincae {click.get_current_context().info_name}: LAT"
    return gather(lats, files_from, nul, suffixes={".lat"}, kind=".lat", missing=missing)


def split_output(operands: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """Operands and output, where `IN -` means the same as `IN -o -`: to stdout."""
    if output is None and len(operands) == 2 and operands[1] == STDIO:
        return [operands[0]], STDIO
    return list(operands), output


def check_output(names: Sequence[str], output: str | None, force: bool, command: str) -> str:
    """The target, once everything that can be refused without reading is known to be right.

    Raises:
        UsageError: there is no output, it is not a `.lat` file, or it is an input; stdin is read twice.
        TargetExistsError, LincaeError: it exists, or cannot be written.
    """
    output = check_name(output, command)
    if list(names).count(STDIO) > 1:
        raise usage_error("stdin (-) can be read only once", "name files for the other operands")
    if is_url(output):
        raise usage_error(f"-o {output}: only batches from file to file take URLs", "write a file, and copy it there")
    check_targets([output], names, force)
    open_target(output)
    return output


def check_name(output: str | None, command: str) -> str:
    """An output that is given and not named like audio.

    Raises:
        UsageError: there is none, or its extension is that of audio.
    """
    if output is None:
        raise usage_error(f"lincae {command}: there is no output", "add -o out.lat, or -o - for stdout")
    if output.lower().endswith(AUDIO):
        stem = output.rpartition(".")[0]
        raise usage_error(
            f"-o {output} is not a .lat file", f"write -o {stem}.lat, then: lincae decode {stem}.lat -o {output}"
        )
    return output


@contextlib.contextmanager
def opened(names: Sequence[str]) -> Iterator[list[Any]]:
    """The operands, opened and checked, in their order; a file named twice is one object and read once."""
    from lincae_formats.reader import Pool

    sources = {name: open_source(name, "a .lat file") for name in names}
    with Pool(open_files(len(sources))) as pool:
        files = {name: pool.open(source) for name, source in sources.items()}
        yield [files[name] for name in names]


def write(signal: Any, target: str, force: bool) -> None:
    """Writes a result in constant memory."""
    from lincae_formats import write_lat

    write_lat(signal, open_target(target), overwrite=force)


def note_position(option: str, position: Position) -> None:
    """Prints where a time between two frames was moved to."""
    if not position.exact:
        messages.say("note", rounded(option, position))


def rounded(option: str, position: Position) -> str:
    """`--start 12.5 s lies between two frames; 12.539 s is used`."""
    digits = next((n for n in (3, 4, 5) if f"{position.asked:.{n}f}" != f"{position.seconds:.{n}f}"), 6)
    return f"{option} {position.asked:.6g} s lies between two frames; {position.seconds:.{digits}f} s is used"


def beyond(option: str, header: Any, last: float | None) -> list[str]:
    """A note where an end lies beyond that of the audio."""
    if last is None or last <= header.duration + 0.5 / header.sample_rate:
        return []
    return [f"{option} reaches beyond the end of the audio; {header.duration:.3f} s is used"]


def duration(path: str) -> float:
    """The length of the audio in a `.lat` file, s."""
    from lincae_formats import LatReader

    with LatReader(path) as reader:
        return reader.header.duration


def open_files(files: int) -> int:
    """How many of `files` may be open at once."""
    try:
        import resource
    except ImportError:
        return min(files, 256)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return files if limit == resource.RLIM_INFINITY else max(16, min(files, limit - _SPARE))


# --- batches


@dataclass(frozen=True)
class Report:
    """What was done with a file.

    Attributes:
        seconds: Its length, s.
        elapsed: The time it took, s.
        channels, sample_rate: Of the audio.
        notes, warnings: What the user should know, and what may be wrong with the source.
        clipped, kept: Samples above full scale, and whether the file holds them all the same.
    """

    seconds: float
    elapsed: float
    channels: int
    sample_rate: int
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    clipped: int = 0
    kept: bool = False

    @classmethod
    def of(cls, found: Any, *notes: str) -> Report:
        """From the report of `encode_file` or `decode_file`."""
        facts = found.seconds, found.elapsed, found.channels, found.sample_rate
        return cls(*facts, notes, found.warnings, found.clipped, found.kept)


def run(items: Sequence[Item], work: Callable[[Item], None], inputs: Inputs | None = None) -> None:
    """Does `work` for every item and lists the failures at the end, with those of `inputs`.

    Raises:
        Exception: what the work on a single item raised.
        click.exceptions.Exit: with code 1, when any of several failed.
    """
    inputs = inputs or Inputs()
    found = []
    for item in items:
        try:
            work(item)
        except Exception as e:
            if messages.is_closed_pipe(e) or (len(items) == 1 and not inputs.failures):
                raise
            found.append(e)
    _list_failures(found, len(items), inputs)


def write_all(
    jobs: Sequence[Job], do: Callable[[Job, bool], Report], options: BatchOptions, inputs: Inputs, *, kind: str,
    progress: Progress, processes: bool = False, by: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Writes every job's target. A batch that was interrupted goes on where it stopped.

    Args:
        jobs: What to read and write.
        do: Called with a job and whether an existing target may be replaced.
        options: The options of the batch.
        inputs: What was found; its failures are listed with the others.
        kind: What messages call the sources.
        progress: Where to show what is being done.
        processes: Whether files are worked on in processes, not threads.
        by: What else makes the results, as JSON, in place of the command's options of the same names.

    Raises:
        click.exceptions.Exit: with code 1, when any of several failed.
    """
    if options.shard is not None and not options.log_json:
        part = f"{options.shard.number}/{options.shard.parts}"
        messages.say("note", f"shard {part}: {len(jobs)} of {len(inputs.found)} files")
    outcomes = _Outcomes(
        progress, options.log_json, alone=options.engine == "local" and (len(jobs) == 1 or options.jobs == 1)
    )
    records = Records({**_made_by(), **(by or {})}) if inputs.many else None

    def attempt(job: Job) -> Any:
        try:
            return _attempt(job, do, options, records, kind, progress)
        except Exception as e:
            return e

    results: Iterator[Any] = map(attempt, jobs)
    processes = processes and not any(is_url(name) for job in jobs for name in (job.source, job.target))
    if options.engine == "ray":
        results = _on_ray(jobs, attempt, options, 16 if processes else 1)
    elif len(jobs) > 1:
        from .workers import cores, in_processes, in_threads

        if processes:
            results = in_processes(jobs, attempt, options.jobs or cores(), _remove_leftovers)
        elif (options.jobs or cores()) > 1:
            results = in_threads(jobs, attempt, options.jobs or cores(), progress.stop)
    failed: list[Exception] = []
    try:
        for job, result in zip(jobs, results, strict=True):
            if not isinstance(result, Exception):
                outcomes.add(job, result)
                continue
            if messages.is_closed_pipe(result):
                raise result
            failed.append(result)
            outcomes.failed(job, result)
    finally:
        getattr(results, "close", lambda: None)()  # ends the workers, whatever happens
    single = len(jobs) == len(failed) == 1 and not inputs.failures
    if options.log_json:
        outcomes.summary(failed, inputs.failures)
        if failed or inputs.failures:
            raise click.exceptions.Exit(messages.exit_code(failed[0]) if single else messages.FAILURE)
    elif single:
        raise failed[0]
    else:
        outcomes.note_finished(len(jobs))
        _list_failures(failed, len(jobs), inputs)


def _attempt(
    job: Job, do: Callable[[Job, bool], Report], options: BatchOptions, records: Records | None, kind: str, progress:
    Progress,
) -> Report | None:  # fmt: skip
    """The report on a job; None where its target was there already, made from the same sources in the same way."""
    from lincae_formats import TargetExistsError

    if any(map(is_url, (*job.sources, job.target))):
        from .urls import attempt

        by = None if records is None else records.by
        accepted = functools.partial(_accepted, update=options.update)
        made: Report | None = attempt(job, do, options.force, accepted, by, progress.shown_as, _other_options)
        return made
    for name in job.sources:
        open_source(name, kind)
    if records is None or job.target == STDIO or not all(os.path.isfile(source) for source in job.sources):
        # Alone, or from a pipe, which could not be read twice.
        make_folder(job)
        return do(job, options.force)
    overwrite = options.force
    if os.path.lexists(job.target) and not overwrite:
        if _is_finished(job, records, options.update):
            return None
        overwrite = True
    make_folder(job)
    line = records.begin(job.target, job.sources)
    try:
        report = do(job, overwrite)
    except TargetExistsError:
        if not _is_finished(job, records, False):
            raise
        return None  # another run of the same batch was faster
    records.end(job.target, line)
    return report


def _is_finished(job: Job, records: Records, update: bool) -> bool:
    """Whether a target that exists is what would be made; False when it is out of date and may be made again.

    Raises:
        TargetExistsError: it is something else, or out of date and there is no `--update`.
    """
    return _accepted(job.target, records.difference(job.target, job.sources), update)


def _accepted(target: str, difference: str | None, update: bool) -> bool:
    """`_is_finished` for a target that differs so from what would be made: see `Records.difference`."""
    from lincae_formats import TargetExistsError

    if difference == "":
        what, hint = ", and nothing tells what made it", "add --force to overwrite it, or move it away"
        raise TargetExistsError(f"{target} exists already{what}", hint)
    if difference is not None and not update:
        hint = "add --update to make again what is out of date"
        raise TargetExistsError(f"{target} exists already and {difference}", hint)
    return difference is None


def _on_ray(jobs: Sequence[Job], attempt: Callable[[Job], Any], options: BatchOptions, together: int) -> Iterator[Any]:
    if any(name == STDIO or name.startswith("/dev/") for job in jobs for name in (*job.sources, job.target)):
        raise usage_error("--engine ray works on files, not on stdin and stdout", "leave out --engine ray")
    try:
        from .ray_engine import in_actors
    except ImportError:
        raise failure("--engine ray needs ray", "pip install 'lincae[scale]'") from None
    return in_actors(
        jobs, attempt, address=options.address, workers=options.jobs, gpu_jobs=options.gpu_jobs, together=together,
        lost=_remove_leftovers, quiet=options.log_json,
    )  # fmt: skip


def _remove_leftovers(jobs: Sequence[Job]) -> None:
    from lincae_formats import remove_leftovers

    remove_leftovers(job.target for job in jobs)


def _made_by() -> dict[str, Any]:
    """The command and the options that change its results."""
    context = click.get_current_context()
    arguments = {param.name for param in context.command.params if isinstance(param, click.Argument)}
    plumbing = {*BATCH_PARAMETERS, *arguments, "output", "device", "keep_extension"}
    options = {name: value for name, value in context.params.items() if name not in plumbing}
    return {"command": context.info_name, **{name: _plain(value) for name, value in options.items()}}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


class _Outcomes:
    """Reports each file: a line on a terminal, JSON with `--log json`, else only what went wrong."""

    def __init__(self, progress: Progress, as_json: bool, alone: bool) -> None:
        self._progress, self._json = progress, as_json
        self._alone = alone  # whether files are done in turn, so that what a library says is about the last one
        self._began, self._seconds = time.monotonic(), 0.0
        self._counts = {"done": 0, "finished": 0, "failed": 0}
        self._said: set[str] = set()

    def add(self, job: Job, result: Report | None) -> None:
        """A target was written, or was there already."""
        if result is None:
            self._end(job, "finished")
            return
        self._seconds += result.seconds
        speed = result.seconds / max(result.elapsed, 1e-9)
        said = messages.library_says() if self._alone else ""
        warnings = (*result.warnings, *([f"{job.source}: its decoder reports: {said}"] if said else []))
        facts = {"seconds": result.seconds, "elapsed": round(result.elapsed, 4), "speed": round(speed, 2)}
        facts |= {"channels": result.channels, "sample_rate": result.sample_rate, "clipped": result.clipped}
        self._end(job, "done", **facts, notes=[*result.notes, *warnings])
        took = f"{format_time(round(result.seconds, 3))} of audio in {result.elapsed:.1f} s, {speed:.0f}x real time"
        self._progress.note(f"{job.source} -> {job.target}  {took}")
        if self._json:
            return
        for kind, texts in (("note", result.notes), ("warning", warnings)):
            for text in texts:
                if text not in self._said:
                    messages.say(kind, text)
                self._said.add(text)
        if result.clipped:
            messages.say_clipped(job.target, result, "lincae gain")

    def failed(self, job: Job, error: Exception) -> None:
        """A target could not be written."""
        self._end(job, "failed", error=messages.describe(error))

    def note_finished(self, files: int) -> None:
        """Says how many files were there already."""
        if count := self._counts["finished"]:
            messages.say("note", f"{count} of {files} files were finished already; --force makes them again")

    def summary(self, failed: Sequence[Exception], failures: Sequence[Exception]) -> None:
        """The last line of the JSON log."""
        for error in failures:
            _print_json({"file": None, "output": None, "status": "failed", "error": messages.describe(error)})
        messages.library_says()  # is no JSON
        counts = {**self._counts, "failed": len(failed) + len(failures)}
        elapsed = round(time.monotonic() - self._began, 4)
        _print_json({"status": "summary", **counts, "seconds": self._seconds, "elapsed": elapsed})

    def _end(self, job: Job, status: str, **facts: Any) -> None:
        self._counts[status] += 1
        self._progress.end(job.source, status == "done", facts.get("seconds", 0.0))
        if self._json:
            _print_json({"file": job.source, "output": job.target, "status": status, **facts})


def _print_json(line: Mapping[str, Any]) -> None:
    print(json.dumps(line), file=sys.stderr, flush=True)


def _list_failures(found: Sequence[Exception], files: int, inputs: Inputs) -> None:
    """Prints every failure and how many there are.

    Raises:
        click.exceptions.Exit: with code 1, when there are any.
    """
    if not found and not inputs.failures:
        return
    for error in (*inputs.failures, *found):
        messages.show(error)
    failed, total, folders = len(found) + inputs.shared, files + inputs.shared, inputs.unreadable
    parts = [f"{folders} folder{'s' if folders > 1 else ''} could not be read"] if folders else []
    parts += [f"{failed} of {total} files failed"] if failed else []
    rest = "" if failed == total else "; the others are done"
    messages.say("error", f"{' and '.join(parts)}{rest}")
    raise click.exceptions.Exit(messages.FAILURE)


# --- what made each file


class Records:
    """The lists of all folders that a batch writes to.

    Args:
        by: What makes every target besides its sources, as JSON: the command, its options, the model.
    """

    def __init__(self, by: Mapping[str, Any]) -> None:
        """Reads nothing yet."""
        self.by = json.loads(json.dumps(by))
        self._lists: dict[str, tuple[int, dict[str, list[dict[str, Any]]]]] = {}

    def begin(self, target: str, sources: tuple[str, ...]) -> dict[str, Any]:
        """Notes that a target is about to be written; returns the line, for `end`."""
        from lincae_formats.files import stamp

        made_from = [_facts(source) for source in sources]
        line = {"file": os.path.basename(target), "by": self.by, "from": made_from, "before": stamp(target)}
        _append(target, line)
        return line

    def end(self, target: str, line: dict[str, Any]) -> None:
        """Notes that a target was written."""
        from lincae_formats.files import stamp

        if made := stamp(target):
            with contextlib.suppress(Exception):  # the line that `begin` wrote is enough
                _append(target, {**line, "size": made[0], "mtime_ns": made[1]})

    def difference(self, target: str, sources: tuple[str, ...]) -> str | None:
        """Why a target that exists is not what would be made now: what follows its name in a message.

        Returns:
            None when it is finished; "" when nothing is known of it.
        """
        from lincae_formats.files import stamp

        now, lines = stamp(target), self._lines(target)
        written = [line for line in lines if [line.get("size"), line.get("mtime_ns")] == now]
        begun = [line for line in lines if "size" not in line and line.get("before") != now]
        if not written and any("size" in line for line in lines) and "size" in lines[-1]:
            return "was changed after it was made"
        if not (written or begun):
            return ""
        line = (written or begun)[-1]
        return _other_options(line.get("by"), self.by) or _other_sources(line.get("from"), sources)

    def _lines(self, target: str) -> list[dict[str, Any]]:
        from lincae_formats.files import json_lines

        path = os.path.join(os.path.dirname(target), LIST)
        try:
            size = os.stat(path).st_size
        except OSError:
            return []
        known, lines = self._lists.get(path, (-1, {}))
        if size != known:
            lines = {}
            with contextlib.suppress(OSError):
                for _, line in json_lines(path):
                    lines.setdefault(str(line.get("file")), []).append(line)
            self._lists[path] = size, lines
        return lines.get(os.path.basename(target), [])


def _append(target: str, line: dict[str, Any]) -> None:
    from lincae_formats.files import append_line

    text = json.dumps(line, separators=(",", ":"))
    try:
        append_line(os.path.join(os.path.dirname(target), LIST), text, create=True)
    except OSError as e:
        raise failure(f"cannot write {target}: {e.strerror}", FULL) from e


def _facts(source: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": os.path.basename(source)}
    with contextlib.suppress(OSError):  # which the work itself will meet, and report
        facts |= {**_times(source), "sha256": _hash(source)}
    return facts


def _times(path: str) -> dict[str, int]:
    found = os.stat(path)
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}


def _hash(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other_sources(recorded: Any, sources: tuple[str, ...]) -> str | None:
    if not isinstance(recorded, list) or len(recorded) != len(sources):
        return "was made from other files"
    for facts, source in zip(recorded, sources, strict=True):
        if not isinstance(facts, dict) or facts.get("name") != os.path.basename(source):
            return f"was not made from {source}"
        times = _times(source)
        same_size = facts.get("size") == times["size"]
        if facts | times != facts and not (same_size and facts.get("sha256") == _hash(source)):
            return f"was made before {source} changed"
    return None


def _other_options(recorded: Any, wanted: Mapping[str, Any]) -> str | None:
    if not isinstance(recorded, dict):
        return "was made in another way"
    if recorded.get("command") != wanted.get("command"):
        return f"was made by lincae {recorded.get('command')}"
    for key in sorted({*recorded, *wanted}):
        before, now = recorded.get(key), wanted.get(key)
        if before != now:
            option = f"--{key.replace('_', '-')}"
            return f"was made with {_spelled(option, before)}, not {_spelled(option, now)}"
    return None


def _spelled(option: str, value: Any) -> str:
    if value is None or value is False:
        return f"no {option}"
    if option == "--db":  # recorded as the factor
        value = f"{20 * math.log10(value):.6g}" if value > 0 else "-inf"
    return option if value is True else f"{option} {value if isinstance(value, str) else json.dumps(value)}"
