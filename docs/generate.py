"""Writes docs/cli.md from the live help: `make docs`, or `python docs/generate.py`.

With `--check` it writes nothing and exits with 1 when the file differs.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# The command line

Written from the commands' own help by `make docs`; a test fails when the two differ.

`-` is stdin or stdout, and `encode IN -` or `decode IN -` is short for `-o -`. Folders are walked without hidden
files, and mirrored below `-o`; links to folders are not followed. A glob in quotes (`'in/**/*.wav'`) is expanded, and
mirrored below its part without wildcards. Names from `--files-from` are taken as they are and mirrored whole. Times are
seconds, `1:23.5` or `90s`; gains are factors or `-6dB`.

A batch (a folder, a glob, a list or several files) goes on where it stopped: a target that is there is left if it is
whole and what the same command would write (its checksums, its model, and the source's length, rate, channels and age
are checked), and is refused by name if it is not; `--force` makes everything anew. Failures are listed at the end, and
everything else is done. Exit codes: 0, 1 for failure, 2 for wrong usage, 130 after Ctrl-C, 141 when a pipe's reader
left.

Tab completion: `lincae --install-completion`.
"""


def commands(command: Any, path: str = "lincae") -> Iterator[tuple[str, Any]]:
    """Every command with the words that name it, groups before what is in them."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def help_of(path: str) -> str:
    """What `PATH --help` prints on a terminal 80 characters wide."""
    from lincae_cli.app import main as lincae

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        lincae([*path.split()[1:], "--help"])
    return printed.getvalue().rstrip()


def document() -> str:
    """The whole page."""
    from lincae_cli.app import root_command

    os.environ["COLUMNS"] = "80"
    parts = [HEAD]
    parts += [f"## {path}\n\n```text\n{help_of(path)}\n```\n" for path, _ in commands(root_command())]
    return "\n".join(parts)


def main() -> int:
    """Writes or checks the page."""
    text = document()
    if "--check" in sys.argv[1:]:
        return int(not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
