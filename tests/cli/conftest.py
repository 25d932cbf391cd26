"""Makes the helpers importable whatever the import mode, and runs the command without a process of its own."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


class Inline:
    """`lincae` in this process, in an empty folder: what it prints, and the one line with which it refuses."""

    def __init__(self, folder, capsys):
        self.folder, self._capsys = folder, capsys

    def run(self, *arguments):
        """Exit code, stdout and stderr."""
        from lincae_cli.app import main

        self._capsys.readouterr()
        code = main([str(a) for a in arguments])
        return (code, *self._capsys.readouterr())

    def ok(self, *arguments):
        """What a command that must work, and have nothing to say on stderr, prints."""
        code, out, err = self.run(*arguments)
        assert (code, err) == (0, "")
        return out

    def noted(self, *arguments):
        """The notes of a command that must work."""
        code, _, err = self.run(*arguments)
        lines = err.splitlines()
        assert code == 0, err
        assert all(line.startswith("lincae: note: ") for line in lines), err
        return [line.removeprefix("lincae: note: ") for line in lines]

    def refused(self, code, *arguments):
        """The one line with which a command ends that must fail with `code`."""
        found, out, err = self.run(*arguments)
        assert (found, out) == (code, ""), err
        (line,) = err.splitlines()
        assert line.startswith("lincae: error: ")
        assert "; " in line, "what to type next is missing"
        return line


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Runs the command in this process; the working folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LINCAE_DEBUG", raising=False)
    return Inline(tmp_path, capsys)
