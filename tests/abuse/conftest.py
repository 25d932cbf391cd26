"""What the abuses need: the helpers of other folders, a small model by name, disks that are full or read-only."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

sys.path += [
    str(Path(__file__).parent),
    str(Path(__file__).parents[1] / "cli"),
    str(Path(__file__).parents[1] / "formats"),
]


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_model):
    """An empty working folder, and a model called `tiny` for encoding and decoding."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    return tmp_path


@pytest.fixture
def record():
    """Writes a short recording."""

    def write(path, samples=3000, seed=0):
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = 0.1 * np.random.default_rng(seed).standard_normal(samples)
        with open(path, "wb") as file:  # soundfile does not take every name that a file can have
            soundfile.write(file, noise, 44100, format="WAV")
        return path

    return write


@pytest.fixture
def lincae(capfd):
    """Runs the command line in this process; returns its exit code, stdout and lines of stderr."""
    from lincae_cli.app import main

    def run(*arguments):
        capfd.readouterr()
        code = main([os.fspath(a) for a in arguments])
        done = capfd.readouterr()
        assert "Traceback" not in done.err
        assert "unexpected" not in done.err
        return code, done.out, done.err.splitlines()

    return run


def mount(folder, *options):
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path):
    """A disk of 128 KiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    folder = tmp_path / "disk"
    folder.mkdir()
    mount(folder, "-t", "tmpfs", "-o", "size=128k", "none")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def full(disk):
    """A disk on which no byte is free."""
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    return disk


@pytest.fixture
def read_only(disk):
    """Makes the small disk read-only, and gives it back."""

    def protect():
        mount(disk, "-o", "remount,ro")
        return disk

    return protect
