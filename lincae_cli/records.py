"""What made each file of a batch: a hidden list in every output folder, by which finished work is recognised.

`.lincae-batch.jsonl` has one JSON object a line. Before a target is written, its line says what it will be made from
(`by`: command, options, model; `from`: name, size, times and SHA-256 of every source) and what was there before
(`before`: size and mtime, or null). When it is written, a second line adds `size` and `mtime_ns` of the result. Targets
appear by a rename, so a run that was killed between the two leaves a whole file: it is finished if it is not the one
that was there before.
"""

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from .messages import FULL, failure

LIST = ".lincae-batch.jsonl"

_Stamp = list[int] | None  # size and mtime, ns


class Records:
    """The lists of all folders that a batch writes to.

    Args:
        by: What makes every target besides its sources, as JSON: the command, its options, the model.
    """

    def __init__(self, by: Mapping[str, Any]) -> None:
        """Reads nothing yet."""
        self._by = json.loads(json.dumps(by))
        self._lists: dict[str, tuple[int, dict[str, list[dict[str, Any]]]]] = {}

    def begin(self, target: str, sources: tuple[str, ...]) -> dict[str, Any]:
        """Notes that a target is about to be written; returns the line, for `end`."""
        line = {
            "file": os.path.basename(target),
            "by": self._by,
            "from": [_facts(source) for source in sources],
            "before": _stamp(target),
        }
        _append(target, line)
        return line

    def end(self, target: str, line: dict[str, Any]) -> None:
        """Notes that a target was written."""
        stamp = _stamp(target)
        if stamp is not None:
            with contextlib.suppress(Exception):  # the line that `begin` wrote is enough
                _append(target, {**line, "size": stamp[0], "mtime_ns": stamp[1]})

    def difference(self, target: str, sources: tuple[str, ...]) -> str | None:
        """Why a target that exists is not what would be made now: what follows its name in a message.

        Returns:
            None when it is finished; "" when nothing is known of it.
        """
        stamp = _stamp(target)
        lines = self._lines(target)
        written = [line for line in lines if [line.get("size"), line.get("mtime_ns")] == stamp]
        begun = [line for line in lines if "size" not in line and line.get("before") != stamp]
        if not written and any("size" in line for line in lines) and not _begun_last(lines):
            return "was changed after it was made"
        if not (written or begun):
            return ""
        line = (written or begun)[-1]
        return _other_options(line.get("by"), self._by) or _other_sources(line.get("from"), sources)

    def _lines(self, target: str) -> list[dict[str, Any]]:
        path = _list_of(target)
        try:
            size = os.stat(path).st_size
        except OSError:
            return []
        known, lines = self._lists.get(path, (-1, {}))
        if size != known:
            lines = {}
            for line in _read(path):
                lines.setdefault(str(line.get("file")), []).append(line)
            self._lists[path] = size, lines
        return lines.get(os.path.basename(target), [])


def _begun_last(lines: list[dict[str, Any]]) -> bool:
    return "size" not in lines[-1]


def _list_of(target: str) -> str:
    return os.path.join(os.path.dirname(target), LIST)


def _read(path: str) -> list[dict[str, Any]]:
    lines = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # blank, or the end of a run that was killed
            if isinstance(line, dict):
                lines.append(line)
    return lines


def _append(target: str, line: dict[str, Any]) -> None:
    # In one write, so that runs that share a folder do not mix their lines; the line break in front ends a line that
    # a killed run left open.
    try:
        descriptor = os.open(_list_of(target), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"\n{json.dumps(line, separators=(',', ':'))}\n".encode())
        finally:
            os.close(descriptor)
    except OSError as e:
        raise failure(f"cannot write {target}: {e.strerror}", FULL) from e


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _facts(source: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": os.path.basename(source)}
    with contextlib.suppress(OSError):  # which the work itself will meet, and report
        found = os.stat(source)
        facts |= {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
        facts["sha256"] = _hash(source)
    return facts


def _hash(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _other_sources(recorded: Any, sources: tuple[str, ...]) -> str | None:
    if not isinstance(recorded, list) or len(recorded) != len(sources):
        return "was made from other files"
    for facts, source in zip(recorded, sources, strict=True):
        if not isinstance(facts, dict) or facts.get("name") != os.path.basename(source):
            return f"was not made from {source}"
        found = os.stat(source)
        times = {"size": found.st_size, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
        if any(facts.get(key) != value for key, value in times.items()) and (
            facts.get("size") != found.st_size or facts.get("sha256") != _hash(source)
        ):
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
