"""Inputs and outputs as URLs (s3://, gs://, hf://, memory://, file://), through fsspec; imported where one is named.

A source is copied to a temporary folder, a target made there is then uploaded: whole or not at all. What made a target
is in a JSON object beside it, `.lincae-batch/NAME.json`, with the keys that `batch` has in its lists: `by`, `from`,
`before`, and, when the target was uploaded, `stamp`.
"""

import contextlib
import glob
import json
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lincae_formats.errors import LincaeError

from .messages import failure
from .options import is_url

# Whose uploads appear when they are complete; elsewhere files are renamed when they are.
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "oss", "oci", "hf", "memory"}
_STAMPS = ("ETag", "etag", "mtime", "LastModified", "updated", "last_modified", "created")
_WHERE = "check the name, and what you may do there"
_FOLDER = ".lincae-batch"


def listing(url: str) -> list[tuple[str, Path]] | None:
    """The files below a folder, or those that a glob matches, without hidden ones; None if the URL is a file.

    Returns:
        Their URLs, and their names relative to the folder, or to the part of the glob without wildcards; sorted.

    Raises:
        LincaeError: there is no such thing, or it cannot be listed.
    """
    with _reported(f"cannot read {url}"):
        fs, path = _system(url)
        base = url.rstrip("/")
        if glob.has_magic(url) and not fs.exists(path):
            base, path = (re.split(r"[*?[]", name, maxsplit=1)[0].rpartition("/")[0] for name in (url, path))
            found = [name for name in fs.glob(fs._strip_protocol(url)) if fs.isfile(name)]
        elif fs.info(path)["type"] != "directory":
            return None
        else:
            found = fs.find(path)
    below = (name.removeprefix(path).lstrip("/") for name in sorted(found))
    return [(f"{base}/{name}", Path(name)) for name in below if not re.search(r"(^|/)\.", name)]


def check_output(url: str) -> None:
    """Refuses a target whose bucket does not exist, or whose protocol cannot be used, before any work is done.

    Raises:
        LincaeError: it is so.
    """
    fs, path = _system(url)
    bucket = path.partition("/")[0]
    if bucket and "memory" not in _protocols(fs):
        with contextlib.suppress(PermissionError), _reported(f"cannot write {url}"):
            fs.info(bucket)


def attempt(
    job: Any, do: Callable[[Any, bool], Any], force: bool, accepted: Callable[[str, str | None], bool],
    by: Mapping[str, Any] | None, shown_as: dict[str, str],
    other_options: Callable[[Any, Mapping[str, Any]], str | None],
) -> Any:  # fmt: skip
    """What `do` reports of a job, or None where its target was there already, made from the same sources as now.

    Args:
        job: A `paths.Job`: what to read and write; some of it URLs.
        do: Works on files of this machine.
        force: Whether the target may be replaced.
        accepted: Whether a target that is there stays, given how it differs; raises where it may not be replaced.
        by: What makes the target besides its sources; None if nothing is recorded.
        shown_as: Gets the URLs for the names of temporary files.
        other_options: Tells how a recorded `by` differs.

    Raises:
        LincaeError: what the work raises, with URLs for names; a file cannot be read or written.
    """
    from lincae_formats import TargetExistsError

    facts = [_facts(source) for source in job.sources]
    before = _stamp(job.target)
    record = {"by": by, "from": facts, "before": before}
    if before is not None and not force:
        if by is None:
            raise TargetExistsError(f"{job.target} exists already", "add --force to overwrite it")
        if accepted(job.target, _difference(job.target, before, record, other_options)):
            return None
    with tempfile.TemporaryDirectory(prefix="lincae-") as folder:
        names: dict[str, str] = {}
        sources = [_fetch(source, os.path.join(folder, str(i)), names) for i, source in enumerate(job.sources)]
        os.mkdir(out := os.path.join(folder, "out"))
        made = os.path.join(out, posixpath.basename(job.target))
        shown_as[sources[0]] = job.source
        names[f"{out}/"] = f"{posixpath.dirname(job.target)}/"
        try:
            report = do(replace(job, source=sources[0], target=made, beside=tuple(sources[1:])), True)
        except LincaeError as e:
            raise type(e)(_named(e.message, names), _named(e.hint, names) if e.hint else None) from e
        if by is not None:
            _write_record(job.target, record)
        _upload(made, job.target)
        if by is not None:
            _write_record(job.target, record | {"stamp": _stamp(job.target)})
    notes, warnings = (tuple(_named(text, names) for text in texts) for texts in (report.notes, report.warnings))
    return replace(report, notes=notes, warnings=warnings)


@contextlib.contextmanager
def _reported(what: str) -> Iterator[None]:
    """Turns what the libraries raise into errors of one line."""
    try:
        yield
    except LincaeError:
        raise
    except FileNotFoundError as e:
        reason = "the bucket does not exist" if "bucket" in str(e).lower() else "there is no such file or folder"
        raise failure(f"{what}: {reason}", _WHERE) from e
    except PermissionError as e:
        raise failure(f"{what}: access is denied", _WHERE) from e
    except Exception as e:
        reason = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise failure(f"{what}: {reason.rstrip('.')}", _WHERE) from e


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and its path there. A local name is one, too.

    Raises:
        LincaeError: a package is missing, or the protocol is unknown.
    """
    try:
        import fsspec
        from fsspec.registry import known_implementations
    except ImportError:
        raise failure(f"{url}: URLs need fsspec", "pip install 'lincae[scale]'") from None
    protocol = url.partition("://")[0] if is_url(url) else "file"
    try:
        fs, path = fsspec.core.url_to_fs(url)
    except ImportError as e:
        told = re.search(r"[Ii]nstall \"?([\w-]+)", str(known_implementations.get(protocol, {}).get("err", "")))
        package = told[1] if told else "lincae[scale]"
        raise failure(f"{url}: {protocol}:// needs a package ({e})".replace("\n", " "), f"pip install {package}") from e
    except ValueError as e:
        known = "s3://, gs://, hf://, file://"
        raise failure(f"{url}: the protocol {protocol}:// is unknown", f"use one of {known}") from e
    return fs, path


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _stamp(url: str) -> list[Any] | None:
    """Size, and hash or time, of a file; None where there is none."""
    with _reported(f"cannot read {url}"):
        fs, path = _system(url)
        try:
            info = fs.info(path)
        except FileNotFoundError:
            return None
    return [info.get("size"), str(next((info[key] for key in _STAMPS if info.get(key)), ""))]


def _facts(source: str) -> dict[str, Any]:
    stamp = _stamp(source)
    if stamp is None:
        raise failure(f"{source}: no such file", _WHERE)
    return {"name": posixpath.basename(source), "stamp": stamp}


def _fetch(source: str, folder: str, names: dict[str, str]) -> str:
    """The name of a copy on this machine; of the file itself if it is there already."""
    if not is_url(source):
        return source
    os.mkdir(folder)
    copy = os.path.join(folder, posixpath.basename(source))
    names[f"{folder}/"] = f"{posixpath.dirname(source)}/"
    with _reported(f"cannot read {source}"):
        fs, path = _system(source)
        fs.get_file(path, copy)
    return copy


def _upload(made: str, target: str) -> None:
    with _reported(f"cannot write {target}"):
        fs, path = _system(target)
        parent = posixpath.dirname(path)
        if _protocols(fs) & _WHOLE:
            fs.put_file(made, path)
            return
        fs.makedirs(parent, exist_ok=True)
        temp = f"{parent}/.{posixpath.basename(path)}.{os.urandom(6).hex()}.tmp"
        try:
            fs.put_file(made, temp)
            fs.mv(temp, path)
        except BaseException:
            with contextlib.suppress(Exception):
                fs.rm_file(temp)
            raise


def _record_path(path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{_FOLDER}/{name}.json"


def _write_record(target: str, record: Mapping[str, Any]) -> None:
    with _reported(f"cannot write {target}"):
        fs, path = _system(target)
        if not _protocols(fs) & _WHOLE:
            fs.makedirs(posixpath.dirname(_record_path(path)), exist_ok=True)
        fs.pipe_file(_record_path(path), json.dumps(record).encode())


def _difference(
    target: str, now: list[Any], wanted: Mapping[str, Any],
    other_options: Callable[[Any, Mapping[str, Any]], str | None],
) -> str | None:  # fmt: skip
    """How a target differs from what is wanted; None if it does not, and "" if nothing is known of it."""
    with _reported(f"cannot read {target}"):
        fs, path = _system(target)
        try:
            record = json.loads(fs.cat_file(_record_path(path)))
        except (FileNotFoundError, ValueError):
            return ""
    if not isinstance(record, dict):
        return ""
    if "stamp" not in record and record.get("before") == now:
        return "is older than a run that should have replaced it and did not end"
    if record.get("stamp", now) != now:
        return "was changed after it was made"
    if other := other_options(record.get("by"), wanted["by"]):
        return other
    made = [facts for facts in record.get("from") or [] if isinstance(facts, dict)]
    changed = [facts["name"] for facts in wanted["from"] if facts not in made]
    return f"was made before {changed[0]} changed" if changed else None


def _named(text: str, names: Mapping[str, str]) -> str:
    for copy, url in names.items():
        text = text.replace(copy, url)
    return text
