"""Trees drawn with lines: histories, and what an arrangement consists of."""

from collections.abc import Iterator
from typing import Protocol, Self


class Branch(Protocol):
    """A line and what hangs from it."""

    @property
    def label(self) -> str:
        """The line."""

    @property
    def children(self) -> list[Self]:
        """What hangs from it."""


def draw(root: Branch) -> str:
    """The tree, a line for each branch; control characters are escaped."""
    from lincae_formats.errors import one_line

    return "\n".join(one_line(line) for line in (root.label, *_below(root, "")))


def _below(branch: Branch, indent: str) -> Iterator[str]:
    for i, child in enumerate(branch.children):
        last = i == len(branch.children) - 1
        yield f"{indent}{'└── ' if last else '├── '}{child.label}"
        yield from _below(child, indent + ("    " if last else "│   "))
