"""Reads an arrangement from YAML. Every error names the file, the line and the key.

The YAML may come from someone else: its size, depth and number of values are limited, tags and repeated keys are
refused, and files outside its folder are read only when the user allows it.
"""

from __future__ import annotations

import difflib
import os
import types
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from lincae_formats.errors import LincaeError

from .schema import MASTER, MAX_NESTED, Arrangement, ConflictError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000  # counting aliases as often as they are used
MAX_DEPTH = 12

Key = tuple[str | int, ...]

_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
# PyYAML raises these beside its own errors, for `!!timestamp x`, `!!int ''`, 2001-99-99 and the like.
_SCALAR_ERRORS = (ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError)
_SEE_HELP = "see: lincae render --help"
# What other programs call some of the keys.
_SYNONYMS = {"volume": "gain", "level": "gain", "at": "offset", "delay": "offset", "balance": "pan", "path": "file"}
_MAPPING = "must be a mapping, one `key: value` a line"
_MESSAGES = {  # pydantic words these for Python programmers
    "missing": "is missing", "bool_type": "must be true or false", "string_type": "must be text",
    "int_type": "must be a whole number", "dict_type": _MAPPING, "model_type": _MAPPING, "list_type": "must be a list",
    "too_short": "must not be empty", "literal_error": "must be {expected}", "string_too_short": "must not be empty",
    "string_too_long": "must be at most {max_length} characters",
    "string_pattern_mismatch": "must be made of letters, digits, spaces and . _ -",
    "greater_than": "must be more than {gt:g}", "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less", "too_long": "has more than {max_length} entries",
}  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """An arrangement and the lines of its keys."""

    song: Arrangement
    document: Document  # the parsed YAML
    name: str  # the file's name in messages

    def error(self, path: Key, message: str, hint: str | None = None) -> LincaeError:
        """Makes an error that names the file, the line and the key."""
        return self.document.error(path, message, hint)

    def locate(self, key: Key, text: str, folder: Path, allow_outside: bool) -> Path:
        """Finds the real path of a file that the arrangement names.

        Symbolic links are resolved first, so neither `..` nor a link nor an absolute path leads outside `folder`, which
        `text` is relative to, unless `allow_outside`. `key` is whose value it is.

        Raises:
            LincaeError: the file lies outside `folder`, does not exist, or is not a regular file.
        """
        if "\0" in text:
            raise self.error(key, "the name contains a NUL character", "check the name")
        path = Path(os.path.realpath(folder / text))
        if not allow_outside and not path.is_relative_to(os.path.realpath(folder)):
            message = f"{text!r} lies outside the folder of the arrangement"
            raise self.error(key, message, "add --allow-outside to read it")
        try:
            if path.is_file():
                return path
            exists = path.exists()
        except OSError:
            exists = False  # not a possible file name
        if exists:
            raise self.error(key, f"{text!r} is not a regular file", "name a .lat file")
        raise self.error(key, f"there is no file {text!r}", _similar_file(path, folder))


def load(source: str | Path, name: str | None = None) -> Loaded:
    """Reads and checks an arrangement: a path; or YAML text, with a name for messages. Opens no file that it names.

    Raises:
        LincaeError: it cannot be read, is not YAML, or a key or value is wrong.
    """
    text, name = (_read(Path(source)), str(source)) if name is None else (str(source), name)
    document = Document(text, name)
    if not isinstance(document.values, dict):
        raise LincaeError(f"{name}: an arrangement is a mapping with `tracks`", _SEE_HELP)
    try:
        loaded = Loaded(Arrangement.model_validate(document.values), document, name)
    except ValidationError as e:
        raise _first_error(document, e) from None
    _check_names(loaded)
    _check_cycles(loaded)
    return loaded


def suggest(word: str, known: Collection[str]) -> str:
    """Suggests a known name for an unknown one, or lists the known ones."""
    if word.lower() in _SYNONYMS and _SYNONYMS[word.lower()] in known:
        return f"did you mean {_SYNONYMS[word.lower()]}"
    near = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f"did you mean {near[0]}" if near else f"known here: {', '.join(sorted(known)) or 'none'}"


class Document:
    """A YAML document: `values` are mappings with text keys, lists and scalars; `lines` tells the line of each key.

    Keys are paths such as `("tracks", "vocals", "gain")`. `name` is the file's name in messages.

    Raises:
        LincaeError: it is not YAML, repeats a key, or is beyond the limits.
    """

    def __init__(self, text: str, name: str) -> None:
        self._name, self._left = name, MAX_VALUES
        self.lines: dict[Key, int] = {}
        if len(text.encode(errors="surrogatepass")) > MAX_BYTES:
            raise LincaeError(f"{name}: an arrangement of more than {MAX_BYTES // 1024} KiB", "split it into several")
        try:
            self._loader = _Loader(text)
            try:
                node = self._loader.get_single_node()
                self.values = None if node is None else self._value(node, ())
            finally:
                self._loader.dispose()
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            problem = getattr(e, "problem", None) or " ".join(str(e).split())[:200]
            where = f"line {mark.line + 1}: " if mark else ""
            hint = "check the indentation and quotes"
            raise LincaeError(f"{name}: {where}not valid YAML ({problem})", hint) from None
        except _LimitError as e:
            raise LincaeError(f"{name}: line {e.line}: {e.what}", "write it out, or use buses") from None

    def error(self, path: Key, message: str, hint: str | None = None) -> LincaeError:
        """Makes an error that names the file, the line of a key (or of the nearest that contains it) and the key."""
        near = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in self.lines), ())
        return self._error(self.lines.get(near, 1), f"{_dotted(path)}: {message}" if path else message, hint)

    def _error(self, line: int, message: str, hint: str | None) -> LincaeError:
        return LincaeError(f"{self._name}: line {line}: {message}", hint)

    def _value(self, node: yaml.Node, path: Key) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._left -= 1
        if len(path) > MAX_DEPTH:  # an alias may contain itself
            raise _LimitError("nested too deeply", line)
        if self._left < 0:
            raise _LimitError(f"more than {MAX_VALUES} values once its aliases are expanded", line)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN_TAGS:
            raise self._error(line, f"unknown tag {node.tag}", "remove the word that begins with !")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except _SCALAR_ERRORS:  # a number of thousands of digits, an impossible date
            raise self._error(line, "a value that cannot be read", "put it in quotes") from None

    def _mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, "a key must be a word", "check the indentation")
            key = key_node.value  # the text as written: `no` and `1` are names too
            if key in found:
                raise self._error(line, f"{_dotted((*path, key))} is defined twice", "remove one")
            self.lines[(*path, key)] = line
            found[key] = self._value(value_node, (*path, key))
        return found


class _LimitError(Exception):
    """The document is beyond the limits: what exceeds them, and the line."""

    def __init__(self, what: str, line: int) -> None:
        self.what, self.line = what, line
        super().__init__(what)


class _Loader(yaml.SafeLoader):
    """Stops at the limits while parsing: PyYAML takes minutes for a file of brackets."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.depth > MAX_DEPTH:
            raise _LimitError("nested too deeply", line)
        if self.nodes > 2 * MAX_VALUES:  # keys are nodes too
            raise _LimitError(f"more than {MAX_VALUES} values", line)
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node


def _read(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():
            raise LincaeError(f"{path} is not a file", "name a YAML file")
        with open(path, "rb") as f:
            data = f.read(MAX_BYTES + 1)
        return data.decode("utf-8-sig")
    except OSError as e:
        raise LincaeError(f"{path}: {e.strerror or e}", "check the path") from None
    except ValueError as e:
        raise LincaeError(f"{path}: not text in UTF-8 ({e})", "save it as UTF-8") from None


def _dotted(path: Key) -> str:
    return ".".join(str(part) for part in path)


def _first_error(document: Document, error: ValidationError) -> LincaeError:
    # Unknown keys first: a misspelt key is often why another one is missing.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    path, kind = tuple(first["loc"]), first["type"]
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if path and path[-1] == "[key]":
        path, more = path[:-1], f", not {str(path[-2])!r}{more}"
    reason = first.get("ctx", {}).get("error")
    if isinstance(reason, ConflictError):
        path = (*path, reason.key)
    if kind == "extra_forbidden":
        known = _section(path[:-1]).model_fields
        return document.error(path, f"unknown key{more}", suggest(str(path[-1]), known))
    template = _MESSAGES.get(kind)
    message = template.format(**first.get("ctx", {})) if template else first["msg"].removeprefix("Value error, ")
    words, _, hint = message.partition("; ")
    return document.error(path, words + more, hint or _SEE_HELP)


def _section(path: Key) -> type[BaseModel]:
    """The schema class that a path leads to."""
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


def _similar_file(path: Path, folder: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        near = []
    if not near:
        return f"files are looked up from {folder}"
    return f"did you mean {os.path.relpath(path.parent / near[0], os.path.realpath(folder))}"


def _check_names(loaded: Loaded) -> None:
    song = loaded.song
    for bus in song.buses:
        if bus == MASTER or bus in song.tracks:
            what = "this name stands for the whole mix" if bus == MASTER else "a track has the same name"
            raise loaded.error(("buses", bus), what, "rename the bus")
    if MASTER in song.tracks:
        raise loaded.error(("tracks", MASTER), "this name stands for the whole mix", "rename the track")
    for kind, members in (("tracks", song.tracks), ("buses", song.buses)):
        for name, member in members.items():
            target = member.bus
            if target not in (None, MASTER) and target not in song.buses:
                hint = suggest(str(target), [*song.buses, MASTER])
                raise loaded.error((kind, name, "bus"), f"there is no bus {target!r}", hint)
    known = {*song.tracks, *song.buses}
    for name, variant in song.variants.items():
        lists = {"mute": variant.mute, "unmute": variant.unmute, "solo": variant.solo, "gain": list(variant.gain)}
        for key, names in lists.items():
            allowed = known | {MASTER} if key == "gain" else known
            for wrong in (n for n in names if n not in allowed):
                path = ("variants", name, key, wrong) if key == "gain" else ("variants", name, key)
                raise loaded.error(path, f"there is no track or bus {wrong!r}", suggest(wrong, allowed))


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
                break  # a cycle without this bus; another iteration reports it
