"""YAML that somebody else may have written: plain values, the line of each, and limits on all of it."""

from __future__ import annotations

from typing import Any

import yaml

from lincae_core.yaml_values import WRONG_VALUE
from lincae_formats.errors import LincaeError

MAX_BYTES = 256 * 1024
MAX_VALUES = 20_000  # aliases counted as often as they are used
MAX_DEPTH = 12

Key = tuple[str | int, ...]

_PLAIN = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


class _TooMuch(Exception):
    """Beyond the limits, found while it is parsed: what, and the line."""

    def __init__(self, what: str, line: int) -> None:
        self.what, self.line = what, line
        super().__init__(what)


class _Loader(yaml.SafeLoader):
    """Stops at the limits: PyYAML takes minutes for a file of brackets."""

    depth = 0
    nodes = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.nodes += 1
        line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
        if self.depth > MAX_DEPTH:
            raise _TooMuch("nested too deeply", line)
        if self.nodes > 2 * MAX_VALUES:  # keys are nodes too
            raise _TooMuch(f"more than {MAX_VALUES} values", line)
        node = super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        self.depth -= 1
        return node


class Document:
    """What a YAML file says.

    Attributes:
        values: Mappings with text keys, lists and scalars.
        lines: The line of each key, by its path: `("tracks", "vocals", "gain")`.
    """

    def __init__(self, text: str, name: str) -> None:
        """Parses.

        Args:
            text: YAML, one document.
            name: What messages call the file.

        Raises:
            LincaeError: no YAML, a key twice, or beyond the limits.
        """
        self._name = name
        self._left = MAX_VALUES
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
            raise LincaeError(
                f"{name}: {where}not valid YAML ({problem})", "check the indentation and quotes"
            ) from None
        except _TooMuch as e:
            raise LincaeError(f"{name}: line {e.line}: {e.what}", "write it out, or use buses") from None

    def line(self, path: Key) -> int:
        """The line of a key, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def _value(self, node: yaml.Node, path: Key) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._left -= 1
        if len(path) > MAX_DEPTH:  # an alias of what it is in
            raise _TooMuch("nested too deeply", line)
        if self._left < 0:
            raise _TooMuch(f"more than {MAX_VALUES} values once its aliases are expanded", line)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _PLAIN:
            raise LincaeError(f"{self._name}: line {line}: unknown tag {node.tag}", "leave out what begins with !")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, i)) for i, item in enumerate(node.value)]
        try:
            return self._loader.construct_object(node)  # type: ignore[no-untyped-call]
        except WRONG_VALUE:  # a number of thousands of digits, a date that is none
            raise LincaeError(f"{self._name}: line {line}: a value that cannot be read", "put it in quotes") from None

    def _mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise LincaeError(f"{self._name}: line {line}: a key must be a word", "check the indentation")
            key = key_node.value  # as it is written: `no` and `1` are names too
            if key in found:
                raise LincaeError(f"{self._name}: line {line}: {_dotted((*path, key))} is there twice", "remove one")
            self.lines[(*path, key)] = line
            found[key] = self._value(value_node, (*path, key))
        return found


def _dotted(path: Key) -> str:
    return ".".join(str(part) for part in path)
