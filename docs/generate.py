"""Writes docs/cli.md from the live help: `make docs`, or `python docs/generate.py`.

With `--check` it writes nothing and exits with 1 when the file differs.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

TARGET = Path(__file__).parent / "cli.md"
HEAD = """# The command line

Written from the commands' own help by `make docs`; a test fails when the two differ.

**Names.** `-` is stdin or stdout, and `encode IN -` or `decode IN -` is short for `-o -`. Folders are walked without
hidden files, and mirrored below `-o`; links to folders are not followed. A glob in quotes (`'in/**/*.wav'`) is
expanded, and mirrored below its part without wildcards; a leading folder of that very name (`'album [2020]/*.wav'`) is
taken literally. Names from `--files-from` are mirrored whole; blank lines and `#` comments are skipped. Two inputs
that would be written to the same file are named, and the others are done; `encode --keep-extension` writes
`song.wav.lat` and `song.flac.lat`.

**Values.** Times are seconds, `1:23.5` or `90s`; where a part of a file is chosen, negative times count from its end
(`--start -10`). Gains are factors or `-6dB`.

**Batches.** A batch is a folder, a glob, a list or several files. It keeps a hidden list, `.lincae-batch.jsonl`, in
every folder it writes to, with what made each file: the command and its options, the model, and the name, size, times
and SHA-256 of its sources. The same command again skips what is finished, so it goes on where it was interrupted. A
file whose source, model or options changed is named and left as it is, and the others are done; `--update` makes such
files again, and only those. A file that no batch made is never replaced but by `--force`, which makes everything
again. The lists may be deleted: then nothing counts as finished. Failures are reported at the end, one line each, and
do not stop the others.

**Scripts.** Results go to stdout, everything else to stderr. `--log json` writes a JSON object a line to stderr and
nothing else: for each file `file`, `output`, `status` (`done`, `finished` or `failed`) and facts or the error; the
last line has the `status` `summary` and the counts. Exit codes: 0, 1 for failure, 2 for wrong usage, 130 after Ctrl-C,
141 when the reader of a pipe ended.

Tab completion for bash, zsh and fish: `lincae --install-completion`.
"""


def commands(command: click.Command, path: str = "lincae") -> Iterator[tuple[str, click.Command]]:
    """Every command with the words that name it, groups before what is in them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
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
    from lincae_cli.app import root

    os.environ["COLUMNS"] = "80"
    parts = [HEAD]
    parts += [f"## {path}\n\n```text\n{help_of(path)}\n```\n" for path, _ in commands(root)]
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
