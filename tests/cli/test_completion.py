"""Tab completion, by a real bash."""

import os
import shutil
import subprocess
import sys

import pytest
from cli_helpers import environment

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder in which `lincae` is on the PATH."""
    folder = tmp_path_factory.mktemp("home")
    program = folder / "bin" / "lincae"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lincae_cli "$@"\n')
    program.chmod(0o755)
    return folder


def bash(home, script):
    """What bash prints; its stderr must stay empty."""
    env = {**environment(), "HOME": str(home), "PATH": f"{home / 'bin'}:{os.environ['PATH']}"}
    env["LINCAE_MODELS"] = str(home / "models")
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=home, env=env, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# What bash does at a Tab: sets the words and the place of the cursor, calls the function, and reads COMPREPLY.
TAB = """
tab() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); "$function" lincae; echo "${COMPREPLY[*]}"; }
"""


def test_installed_in_bash_it_completes_commands_options_values_and_leaves_files_to_bash(home):
    installed = bash(home, "lincae --install-completion; true")
    assert "bash completion installed in" in installed
    assert str(home / ".bash_completions" / "lincae.sh") in (home / ".bashrc").read_text()
    script = """
    source .bashrc
    rule=($(complete -p lincae))
    echo "${rule[*]}"
    for i in "${!rule[@]}"; do [ "${rule[i]}" = -F ] && function="${rule[i + 1]}"; done
    """
    script += TAB + "tab lincae en; tab lincae models l; tab lincae encode --for; tab lincae encode --dtype ''\n"
    script += "tab lincae decode --model fr; tab lincae encode --log ''\n"
    script += "compopt() { echo files; }; tab lincae encode so"
    rule, *replies = bash(home, script).splitlines()
    assert "-F _lincae_completion" in rule
    assert replies[:4] == ["encode", "list", "--force", "float16 float32"]
    assert "frame" in replies[4].split()
    assert replies[5:] == ["json", "files", ""], "the shell completes file names itself"


def test_the_script_can_be_shown(home):
    script = bash(home, "lincae --show-completion; true")
    assert script.splitlines()[0] == "_lincae_completion() {"
    assert "complete -o nosort -F _lincae_completion lincae" in script


@pytest.mark.parametrize("words", ["lincae dec", "lincae encode --model f"])
def test_completing_imports_nothing_heavy(words, monkeypatch):
    program = """
import sys
from lincae_cli.app import main
main([])
print(*(name for name in sys.modules if "." not in name))
"""
    env = {**environment(), "_LINCAE_COMPLETE": "bash_complete", "COMP_WORDS": words}
    env["COMP_CWORD"] = str(len(words.split()) - 1)
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60)
    *found, loaded = done.stdout.splitlines()
    assert {line.partition(",")[2].split("-")[0] for line in found} in ({"decode"}, {"frame"})
    assert {"torch", "pydantic", "rich", "soundfile", "scipy"}.isdisjoint(loaded.split())
