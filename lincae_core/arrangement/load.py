"""An arrangement from YAML, or one line that names the file, the line and the key that is wrong."""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from lincae_formats.errors import LincaeError

from .document import MAX_BYTES, Document, Key
from .schema import MASTER, MAX_NESTED, Arrangement, NotTogether

_EXAMPLE = "see: lincae render --help"
# pydantic's words for these are about Python.
_SAYS = {
    "missing": "is missing",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "dict_type": "must be a mapping, one `key: value` a line",
    "model_type": "must be a mapping, one `key: value` a line",
    "list_type": "must be a list",
    "too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "string_pattern_mismatch": "must be made of letters, digits, spaces and . _ -",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less",
    "too_long": "has more than {max_length} entries",
}


@dataclass(frozen=True)
class Loaded:
    """An arrangement and where it was written.

    Attributes:
        song: The arrangement.
        document: The lines of its keys.
        name: What messages call the file.
    """

    song: Arrangement
    document: Document
    name: str

    def error(self, path: Key, message: str, hint: str | None = None) -> LincaeError:
        """An error to raise that names the file, the line and the key."""
        return _error(self.name, self.document, path, message, hint)


def load(source: str | Path, name: str | None = None) -> Loaded:
    """Reads and checks an arrangement; opens none of the files it names.

    Args:
        source: A path; or the text itself, with its `name`.
        name: What messages call the text.

    Raises:
        LincaeError: it cannot be read, is no YAML, or a key or value is wrong.
    """
    if name is None:
        name = str(source)
        source = _read(Path(source))
    document = Document(str(source), name)
    if not isinstance(document.values, dict):
        raise LincaeError(f"{name}: an arrangement is a mapping with `tracks`", _EXAMPLE)
    try:
        song = Arrangement.model_validate(document.values)
    except ValidationError as e:
        raise _first(name, document, e) from None
    loaded = Loaded(song, document, name)
    _check_names(loaded)
    _check_cycles(loaded)
    return loaded


def nearest(word: str, known: Collection[str]) -> str:
    """The hint to a name that is none."""
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"did you mean {near[0]}" if near else f"known here: {', '.join(sorted(known)[:12]) or 'none'}"


def _read(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise LincaeError(f"{path} is no file", "name a YAML file")
        with open(path, "rb") as f:
            data = f.read(MAX_BYTES + 1)
        return data.decode("utf-8-sig")
    except OSError as e:
        raise LincaeError(f"{path}: {e.strerror or e}", "check the path") from None
    except ValueError as e:
        raise LincaeError(f"{path}: not text in UTF-8 ({e})", "save it as UTF-8") from None


def _error(name: str, document: Document, path: Key, message: str, hint: str | None = None) -> LincaeError:
    dotted = ".".join(str(part) for part in path)
    return LincaeError(f"{name}: line {document.line(path)}: {dotted + ': ' if dotted else ''}{message}", hint)


def _first(name: str, document: Document, error: ValidationError) -> LincaeError:
    # A misspelt key is the reason why another one is missing.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path, kind = tuple(first["loc"]), first["type"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if path and path[-1] == "[key]":
        path, more = path[:-1], f", not {str(path[-2])!r}{more}"
    reason = first.get("ctx", {}).get("error")
    if isinstance(reason, NotTogether):
        path = (*path, reason.key)
    if kind == "extra_forbidden":
        known = _section(path[:-1]).model_fields
        return _error(name, document, path, f"unknown key{more}", nearest(str(path[-1]), known))
    says = _SAYS.get(kind)
    message = says.format(**first.get("ctx", {})) if says else first["msg"].removeprefix("Value error, ")
    words, _, hint = message.partition("; ")
    return _error(name, document, path, words + more, hint or _EXAMPLE)


def _section(path: Key) -> type[BaseModel]:
    """The part of the schema that a path leads to."""
    found: Any = Arrangement
    for part in path:
        if isinstance(found, type) and issubclass(found, BaseModel):
            found = found.model_fields[str(part)].annotation
        else:
            found = get_args(found)[-1]
        while get_origin(found) in (Annotated, Union, types.UnionType):
            found = get_args(found)[0]
    assert isinstance(found, type)
    assert issubclass(found, BaseModel)
    return found


def _check_names(loaded: Loaded) -> None:
    song = loaded.song
    for bus in song.buses:
        if bus == MASTER or bus in song.tracks:
            what = "is the name of the whole" if bus == MASTER else "is the name of a track too"
            raise loaded.error(("buses", bus), what, "call the bus something else")
    if MASTER in song.tracks:
        raise loaded.error(("tracks", MASTER), "is the name of the whole", "call the track something else")
    for kind, members in (("tracks", song.tracks), ("buses", song.buses)):
        for name, member in members.items():
            target = member.bus
            if target not in (None, MASTER) and target not in song.buses:
                hint = nearest(str(target), [*song.buses, MASTER])
                raise loaded.error((kind, name, "bus"), f"there is no bus {target!r}", hint)
    known = {*song.tracks, *song.buses}
    for name, variant in song.variants.items():
        lists = {"mute": variant.mute, "unmute": variant.unmute, "solo": variant.solo, "gain": list(variant.gain)}
        for key, names in lists.items():
            allowed = known | {MASTER} if key == "gain" else known
            for wrong in (n for n in names if n not in allowed):
                path = ("variants", name, key, wrong) if key == "gain" else ("variants", name, key)
                raise loaded.error(path, f"there is no track or bus {wrong!r}", nearest(wrong, allowed))


def _check_cycles(loaded: Loaded) -> None:
    buses = loaded.song.buses
    for name in buses:
        seen = [name]
        while (after := buses[seen[-1]].bus) not in (None, MASTER):
            seen.append(str(after))
            if len(seen) > MAX_NESTED and len(set(seen)) == len(seen):
                raise loaded.error(("buses", name, "bus"), f"more than {MAX_NESTED} buses deep", "feed some to master")
            if after == name:
                raise loaded.error(("buses", name, "bus"), f"feeds itself: {' -> '.join(seen)}", "cut one of these")
            if seen.count(str(after)) > 1:
                break  # a cycle that this bus is not part of: another turn of the loop names it
