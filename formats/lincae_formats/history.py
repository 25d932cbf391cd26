"""The history of a file: a JSON list of operations, at most 256 KiB; and its tags."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .errors import HeaderError

MAX_BYTES = 256 * 1024
MAX_ATTRIBUTE = 4096  # bytes of a history that is an attribute; a longer one is a dataset
MAX_DEPTH = 16  # nested histories kept
MAX_TAGS = 64
MAX_TAG_NAME = 64  # bytes
MAX_TAG_VALUE = 1024  # bytes
ELIDED: dict[str, Any] = {"op": "elided"}
_GAIN_TAGS = ("replaygain_", "r128_", "itunnorm")

Entry = dict[str, Any]


def dumps(history: Iterable[Entry], name: str = "history") -> bytes:
    """The canonical JSON of a history: ASCII, sorted keys, no spaces.

    Raises:
        HeaderError: an entry is not a JSON object with a string `op`, or the whole is beyond 256 KiB.
    """
    entries = list(history)
    _check(entries, name)
    try:
        text = json.dumps(entries, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON: {e}") from e
    if len(text) > MAX_BYTES:
        raise HeaderError(f"{name}: the history is {len(text)} bytes, at most {MAX_BYTES} are allowed")
    return text


def loads(data: bytes, name: str) -> tuple[Entry, ...]:
    """Parses a stored history.

    Raises:
        HeaderError: it is too long, not JSON, or not a list of objects with a string `op`.
    """
    if len(data) > MAX_BYTES:
        raise HeaderError(f"{name}: the history is {len(data)} bytes, at most {MAX_BYTES} are allowed")
    try:
        entries = json.loads(data.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as e:
        raise HeaderError(f"{name}: the history is not JSON ({e})") from e
    _check(entries, name)
    return tuple(entries)


def bounded(history: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same history with its oldest parts replaced by `{"op": "elided"}` until it fits.

    Nested histories go first, the deepest before the others; then the oldest entries.
    """
    entries = list(history)
    depth = MAX_DEPTH
    while True:
        pruned = [_prune(entry, depth) for entry in entries]
        if _size(pruned) <= MAX_BYTES or depth == 0:
            break
        depth //= 2
    newest = pruned
    while _size(pruned) > MAX_BYTES:
        newest = newest[(len(newest) + 1) // 2 :]
        pruned = [dict(ELIDED), *newest]
    return tuple(pruned)


def check_tags(tags: dict[str, str], name: str) -> None:
    """Raises HeaderError unless the tags are few, short and text."""
    if len(tags) > MAX_TAGS:
        raise HeaderError(f"{name}: {len(tags)} tags, at most {MAX_TAGS} are allowed")
    for key, value in tags.items():
        try:
            sizes = len(key.encode()), len(value.encode())
        except (AttributeError, UnicodeEncodeError) as e:
            raise HeaderError(f"{name}: tag {key!r} is not text") from e
        if not 1 <= sizes[0] <= MAX_TAG_NAME or not key.isprintable():
            raise HeaderError(f"{name}: tag {key!r} must have a name of 1 to {MAX_TAG_NAME} printable bytes")
        if sizes[1] > MAX_TAG_VALUE or "\0" in value:
            raise HeaderError(f"{name}: tag {key!r} must be at most {MAX_TAG_VALUE} bytes without NUL")


def common_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The tags that all operands of a sum have, with the same value; without those about the level."""
    first, *others = tags
    return without_gain_tags({key: value for key, value in first.items() if all(o.get(key) == value for o in others)})


def without_gain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags without ReplayGain and R128, which are wrong once the level has changed."""
    return {key: value for key, value in tags.items() if not key.lower().startswith(_GAIN_TAGS)}


def _prune(entry: Entry, depth: int) -> Entry:
    """`entry` with the operands' histories cut below `depth` levels."""
    operands = entry.get("operands")
    if not isinstance(operands, list):
        return entry
    return {**entry, "operands": [_prune_operand(operand, depth) for operand in operands]}


def _prune_operand(operand: Any, depth: int) -> Any:
    nested = operand.get("history") if isinstance(operand, dict) else None
    if not isinstance(nested, list) or not (nested or "steps" in operand):
        return operand
    if depth == 0:
        return {**{key: value for key, value in operand.items() if key != "steps"}, "history": [dict(ELIDED)]}
    return {**operand, "history": [_prune(entry, depth - 1) for entry in nested if isinstance(entry, dict)]}


def _size(entries: list[Entry]) -> int:
    return len(json.dumps(entries, separators=(",", ":")))


def _check(entries: object, name: str) -> None:
    if not isinstance(entries, list):
        raise HeaderError(f"{name}: the history is not a JSON list")
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
            raise HeaderError(f"{name}: a history entry is not a JSON object with a string 'op'")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")
