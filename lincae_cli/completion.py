"""Tab completion: prints or installs click's script for the shell that lincae was started from."""

import os
from pathlib import Path
from typing import Any

import click

from .messages import failure

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_LINCAE_COMPLETE"


def option(name: str, help: str, finish: Any) -> Any:
    """An eager option of `lincae` that ends the program by `finish(shell, script)`, which returns what to print."""

    def callback(context: click.Context, _param: click.Parameter, value: bool) -> None:
        if value and not context.resilient_parsing:
            from click.shell_completion import get_completion_class

            shell = current_shell()
            completer = get_completion_class(shell)
            assert completer is not None, "click knows all of SHELLS"
            click.echo(finish(shell, completer(context.command, {}, "lincae", VARIABLE).source()))
            context.exit()

    return click.option(name, is_flag=True, expose_value=False, is_eager=True, callback=callback, help=help)


def shown(shell: str, script: str) -> str:
    """The script itself."""
    return script.rstrip()


def installed(shell: str, script: str) -> str:
    """Writes the script where the shell finds it, and tells where."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        path = _write(config / "fish" / "completions" / "lincae.fish", script)
    elif shell == "zsh":
        # click's end of the script misses the second Tab when it is loaded by fpath.
        function = script.partition("\nif [[ $zsh_eval_context")[0]
        path = _write(home / ".zfunc" / "_lincae", f'{function}\n_lincae_completion "$@"\n')
        _append(home / ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit")
    else:
        path = _write(home / ".bash_completions" / "lincae.sh", script)
        _append(home / ".bashrc", f"source '{path}'")
    return f"{shell} completion installed in {path}; it works in the next shell"


def current_shell() -> str:
    """The shell that started this process, else the user's login shell.

    Raises:
        LincaeError: it is not one that completion is for.
    """
    try:
        parent = Path(f"/proc/{os.getppid()}/comm").read_text().strip().lstrip("-")
    except OSError:
        parent = ""
    login = os.path.basename(os.environ.get("SHELL", ""))
    for name in (parent, login):
        if name in SHELLS:
            return name
    raise failure(f"no completion for the shell {login or parent or '?'}", f"start it from {', '.join(SHELLS)}")


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _append(path: Path, line: str) -> None:
    before = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    if line not in before.splitlines():
        with open(path, "a", encoding="utf-8") as file:
            file.write(("" if before.endswith("\n") or not before else "\n") + line + "\n")
