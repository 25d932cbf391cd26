"""YAML files that users write, checked against pydantic classes. Every error names the file, the line and the key.

A file may come from someone else: its size, depth and number of values are limited, tags and repeated keys are refused.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError

from lincae_formats.errors import LincaeError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000  # counting aliases as often as they are used
MAX_DEPTH = 12

Key = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

_PLAIN_TAGS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
# PyYAML raises these beside its own errors, for `!!timestamp x`, `!!int ''`, 2001-99-99 and the like.
_SCALAR_ERRORS = (ValueError, OverflowError, AttributeError, KeyError, IndexError, TypeError)
# What other programs call some of the keys.
_SYNONYMS = {"volume": "gain", "level": "gain", "at": "offset", "delay": "offset", "balance": "pan", "path": "file"}
_MESSAGES = {  # pydantic words these for Python programmers
    "missing": "is missing", "greater_than": "must be more than {gt:g}", "too_short": "must not be empty",
    "greater_than_equal": "must be {ge:g} or more", "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less", "multiple_of": "must be a multiple of {multiple_of:g}",
    "literal_error": "must be {expected}", "too_long": "has more than {max_length} entries",
    "string_too_short": "must not be empty", "string_too_long": "must be at most {max_length} characters",
}  # fmt: skip
_KINDS = {  # how the kinds of its other errors begin
    "int": "a whole number", "float": "a number", "finite": "a finite number", "bool": "true or false",
    "string": "text", "path": "a path", "list": "a list", "tuple": "a list",
    **dict.fromkeys(("model", "dataclass", "dict"), "a mapping, one `key: value` a line"),
}  # fmt: skip


class ConflictError(ValueError):
    """A value that contradicts another one of the same section; `key` names it, relative to the section."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def made_of(pattern: str, words: str) -> AfterValidator:
    """A check that a text matches a pattern, which the words describe."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must be made of {words}, not {text!r}")
        return text

    return AfterValidator(check)


def read(path: Path) -> bytes:
    """A file's bytes, of one that is too large only so many that `Document` refuses it.

    Raises:
        LincaeError: it cannot be read.
    """
    try:
        if not path.is_file() and path.exists():
            raise LincaeError(f"{path} is not a file", "name a YAML file")
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as e:
        raise LincaeError(f"{path}: {e.strerror or e}", "check the path") from None


def suggest(word: str, known: Collection[str], elsewhere: Sequence[str] = ()) -> str:
    """Suggests a known name for an unknown one, or the first of those elsewhere; or lists the known ones."""
    near = [_SYNONYMS.get(word.lower(), "")] if _SYNONYMS.get(word.lower()) in known else []
    near = near or difflib.get_close_matches(word, list(known), 1) or list(elsewhere)
    return f"did you mean {near[0]}" if near else f"known here: {', '.join(sorted(known)) or 'none'}"


class Document:
    """A YAML document: `values` are mappings with text keys, lists and scalars; `lines` tells the line of each key.

    Keys are paths such as `("tracks", "vocals", "gain")`.

    Args:
        data: YAML.
        name: of the file, in messages.
        hint: what to do about errors that say nothing better.

    Raises:
        LincaeError: it is not YAML, repeats a key, or is beyond the limits.
    """

    def __init__(self, data: str | bytes, name: str, hint: str) -> None:
        self.name, self.hint, self._left = name, hint, MAX_VALUES
        self.lines: dict[Key, int] = {}
        if len(data if isinstance(data, bytes) else data.encode(errors="surrogatepass")) > MAX_BYTES:
            raise LincaeError(f"{name}: more than {MAX_BYTES // 1024} KiB", hint)
        try:
            self._loader = _Loader(data if isinstance(data, str) else data.decode("utf-8-sig"))
            try:
                node = self._loader.get_single_node()
                self.values = None if node is None else self._value(node, ())
            finally:
                self._loader.dispose()
        except UnicodeDecodeError as e:
            raise LincaeError(f"{name}: not text in UTF-8 ({e})", "save it as UTF-8") from None
        except yaml.YAMLError as e:
            mark = getattr(e, "problem_mark", None)
            problem = getattr(e, "problem", None) or " ".join(str(e).split())[:200]
            where = f"line {mark.line + 1}: " if mark else ""
            hint = "check the indentation and quotes"
            raise LincaeError(f"{name}: {where}not valid YAML ({problem})", hint) from None
        except _LimitError as e:
            raise LincaeError(f"{name}: line {e.line}: {e.what}", "write it out, or split it") from None

    def error(self, path: Key, message: str, hint: str | None = None) -> LincaeError:
        """Makes an error that names the file, the line of a key (or of the nearest that contains it) and the key."""
        line = next((self.lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self.lines), 1)
        return self._error(line, f"{_dotted(path)}: {message}" if path else message, hint)

    def replaced(self, path: Key) -> None:
        """Notes that a value does not come from the file: errors name no line for it."""
        kept = {key: line for key, line in self.lines.items() if key[: len(path)] != path}
        self.lines = {path[: n + 1]: 0 for n in range(len(path))} | kept

    def validate(self, schema: type[Model]) -> Model:
        """The values as an instance of a class.

        Raises:
            LincaeError: a key or value is wrong. The first one is told, an unknown key with the nearest known one.
        """
        try:
            return schema.model_validate(self.values)
        except ValidationError as e:
            raise self._explained(schema, e) from None

    def _explained(self, schema: type[BaseModel], error: ValidationError) -> LincaeError:
        # Unknown keys first: a misspelt key is often why another one is missing.
        unknown = ("extra_forbidden", "unexpected_keyword_argument")
        first = min(error.errors(), key=lambda e: e["type"] not in unknown)
        kind, context, value = first["type"], first.get("ctx", {}), first["input"]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        path, section = _place(schema, first["loc"])
        if kind in unknown:
            key = str(path[-1])
            known = [name for member in _members(_place(schema, first["loc"][:-1])[1]) for name in _fields(member)]
            elsewhere = [dotted for dotted in _all_keys(schema) if dotted.rpartition(".")[2] == key]
            return self.error(path, f"unknown key{more}", suggest(key, known, elsewhere))
        if kind.startswith("union_tag"):
            families = ", ".join(member.family for member in _members(section))
            return self.error((*path, "family"), f"is missing or unknown; it must be one of {families}{more}")
        if kind in ("value_error", "assertion_error"):
            reason = context["error"]
            words, _, hint = str(reason).partition("; ")
            return self.error((*path, reason.key) if isinstance(reason, ConflictError) else path, words + more, hint)
        words = _MESSAGES[kind].format(**context) if kind in _MESSAGES else _KINDS.get(kind.partition("_")[0], "")
        words = words if kind in _MESSAGES else f"must be {words}" if words else first["msg"]
        shown = "" if kind in ("missing", "too_short", "too_long") else f", not {_shown(value)}"
        return self.error(path, words + shown + more, self.hint)

    def _error(self, line: int, message: str, hint: str | None) -> LincaeError:
        return LincaeError(f"{self.name}: {f'line {line}: ' if line else ''}{message}", hint or self.hint)

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


def _dotted(path: Key) -> str:
    return ".".join(str(part) for part in path)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = "empty" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _members(annotation: Any) -> list[Any]:
    """The classes of an annotation: of a union each but None."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for part in get_args(annotation) if part is not types.NoneType for m in _members(part)]
    return [annotation]


def _fields(section: Any) -> dict[str, Any]:
    """Names and annotations of the keys of a section: a pydantic model or, for configs of models, a dataclass."""
    if dataclasses.is_dataclass(section):
        return {field.name: field.type for field in dataclasses.fields(section)}
    return {name: field.annotation for name, field in getattr(section, "model_fields", {}).items()}


def _place(schema: Any, location: Sequence[str | int]) -> tuple[Key, Any]:
    """The path of keys that pydantic's location stands for, and the annotation of what is there."""
    path: list[str | int] = []
    for part in location:
        members = _members(schema)
        if tagged := [m for m in members if len(members) > 1 and getattr(m, "family", None) == part]:
            schema = tagged[0]  # pydantic names the member of a union
        elif part != "[key]":
            path.append(part)
            nested = get_origin(members[0]) in (list, dict, tuple)
            schema = get_args(members[0])[-1] if nested else _fields(members[0]).get(str(part))
    return tuple(path), schema


def _all_keys(schema: Any, at: str = "") -> Iterator[str]:
    """Every dotted key of a schema."""
    for member in _members(schema):
        if get_origin(member) in (list, dict):
            yield from _all_keys(get_args(member)[-1], f"{at}NAME.")
        for name, annotation in _fields(member).items():
            yield at + name
            yield from _all_keys(annotation, f"{at}{name}.")
