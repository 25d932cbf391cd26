"""docs/cli.md says what the commands' own help says, and every help ends with an example."""

import importlib.util
from pathlib import Path

import pytest

from lincae_cli.app import root

GENERATE = Path(__file__).parents[2] / "docs" / "generate.py"
spec = importlib.util.spec_from_file_location("generate", GENERATE)
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)
COMMANDS = dict(generate.commands(root))


def test_the_page_is_that_of_the_live_help(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    page = (GENERATE.parent / "cli.md").read_text(encoding="utf-8")
    assert page == generate.document(), "run: make docs"


def test_the_check_notices_a_drift(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(generate, "TARGET", tmp_path / "cli.md")
    monkeypatch.setattr("sys.argv", ["generate.py", "--check"])
    assert generate.main() == 1
    (tmp_path / "cli.md").write_text(generate.document())
    assert generate.main() == 0
    (tmp_path / "cli.md").write_text(generate.document().replace("--force", "--farce"))
    assert generate.main() == 1


def test_every_command_is_there():
    assert {"lincae", "lincae encode", "lincae models list"} <= set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_ends_with_an_example_that_begins_with_the_command(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    end = generate.help_of(path).split("Example:\n")
    assert len(end) == 2, "no example"
    assert end[1].strip().startswith(path)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_and_argument_is_explained(path):
    for param in COMMANDS[path].params:
        assert getattr(param, "description", None) or getattr(param, "help", None), f"{path}: {param.name} has no help"
