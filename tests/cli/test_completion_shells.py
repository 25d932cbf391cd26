"""Tab completion in zsh and fish: by the shells themselves where they are installed, and what they would run."""

import os
import re
import select
import shutil
import subprocess
import sys
import time

import pytest
from cli_helpers import environment

SCRIPTS = {
    "zsh": ["#compdef lincae", "_LINCAE_COMPLETE=zsh_complete lincae", "compdef _lincae_completion lincae"],
    "fish": ["complete --no-files --command lincae", "_LINCAE_COMPLETE=fish_complete"],
}


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"there is no {shell}")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder in which `lincae` is on the PATH, with a file to complete."""
    folder = tmp_path_factory.mktemp("home")
    program = folder / "bin" / "lincae"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lincae_cli "$@"\n')
    program.chmod(0o755)
    (folder / "song.wav").touch()
    return folder


def variables(home, **more):
    env = {**environment(), "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}", "TERM": "dumb", **more}
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ZDOTDIR"):
        env.pop(name, None)
    return {**env, "LINCAE_MODELS": str(home / "models")}


def run(home, *command, **more):
    """What a command prints; its stderr must stay empty."""
    done = subprocess.run(
        command, cwd=home, env=variables(home, **more), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("shell", SCRIPTS)
def test_there_is_a_script_for_it(home, shell):
    script = run(home, "lincae", _LINCAE_COMPLETE=f"{shell}_source")
    for line in SCRIPTS[shell]:
        assert line in script


@pytest.mark.parametrize("shell", SCRIPTS)
def test_what_the_script_asks_for_is_answered(home, shell):
    def ask(words, incomplete):
        # zsh names the place of the cursor, fish the word at it.
        place = str(len(words.split())) if shell == "zsh" else incomplete
        return run(
            home, "lincae", _LINCAE_COMPLETE=f"{shell}_complete", COMP_WORDS=f"{words} {incomplete}", COMP_CWORD=place
        )

    answer = ask("lincae", "en")
    assert "encode" in answer
    assert "decode" not in answer
    assert re.findall(r"float\d+", ask("lincae encode --dtype", "")) == ["float16", "float32"]


@needs("fish")
def test_installed_in_fish_it_completes_commands_options_values_and_leaves_files_to_fish(home):
    said = run(home, "fish", "-c", "lincae --install-completion; true")
    assert "fish completion installed in" in said
    assert (home / ".config" / "fish" / "completions" / "lincae.fish").is_file()
    lines = ["lincae en", "lincae models l", "lincae encode --for", "lincae encode --dtype ", "lincae encode so"]
    found = run(home, "fish", "-c", "".join(f'complete -C "{line}"; echo ==; ' for line in lines))
    replies = [[row.split("\t")[0] for row in reply.splitlines() if row] for reply in found.split("==\n")[:-1]]
    assert replies == [["encode"], ["list"], ["--force"], ["float16", "float32"], ["song.wav"]]


@pytest.mark.slow
@needs("zsh")
def test_installed_in_zsh_it_completes_commands_options_values_and_leaves_files_to_zsh(home):
    said = run(home, "zsh", "-fc", "lincae --install-completion; true")
    assert "zsh completion installed in" in said
    assert "compinit" in (home / ".zshrc").read_text()
    with Terminal(home) as zsh:
        zsh.send("source ~/.zshrc; PS1='ready> '\r", "ready> ")
        zsh.send("lincae enc\t")  # the first Tab loads the script
        for typed, completed in {
            "lincae enc": "encode ",
            "lincae models li": "list ",
            "lincae encode --forc": "--force ",
            "lincae encode --dtype float1": "float16 ",
            "lincae encode so": "song.wav ",
        }.items():
            zsh.send("\x15")  # an empty line
            zsh.send(f"{typed}\t", completed)


class Terminal:
    """An interactive zsh in a terminal of its own."""

    def __init__(self, home):
        import pty

        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(home)
            os.execvpe("zsh", ["zsh", "-f", "-i"], variables(home))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self._fd)  # hangs up
        os.waitpid(self._pid, 0)

    def send(self, text, wanted=None):
        """Types, and waits for what is wanted; without that, until nothing more is written for 3 s."""
        os.write(self._fd, text.encode())
        seen, ends = "", time.monotonic() + (60 if wanted else 3)
        while time.monotonic() < ends:
            if select.select([self._fd], [], [], 0.1)[0]:
                seen += os.read(self._fd, 65536).decode(errors="replace")
                if wanted and wanted in seen:
                    return
        assert wanted is None, f"{text!r} gave {seen!r}"
