"""How many modules one has to open to follow a command, which docs/architecture.md tells."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "tests" / "opened_modules.py"

# Runs a training; what is opened is noted from the second step on, and by steps alone.
TRAINING = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
from pathlib import Path
from opened_modules import Opened
from lincae_core.training import loop

opened, step = Opened(), loop.Trainer.step
def traced(self):
    opened.install()
    try:
        return step(self)
    finally:
        sys.setprofile(None)
loop.Trainer.step = traced
overrides = {{"data.folders.0.path": "audio", "data.held_out": "0", "budget.steps": "2"}}
loop.train(Path({str(ROOT / "recipes" / "smoke.yaml")!r}), Path("run"), overrides=overrides, device="cpu")
print(*opened.modules(), file=sys.stderr)
"""


def opened(*arguments, cwd):
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1].split()


def write_wav(path, seconds):
    soundfile = pytest.importorskip("soundfile")
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).standard_normal((44100 * seconds, 2)) * 0.1, 44100)


def test_gain(tmp_path):
    from lincae_formats import Header, Latents, write_lat

    header = Header(44100, 44100, "m", "sha256:" + "0" * 64, latent_dim=8)
    write_lat(Latents(np.ones(header.shape, np.float32), header), tmp_path / "a.lat")
    found = opened(SCRIPT, "gain", "a.lat", "--db", "-6", "-o", "b.lat", cwd=tmp_path)
    assert "lincae_formats.algebra" in found
    assert len(found) <= 12, found


@pytest.mark.slow
def test_encode(tmp_path):
    pytest.importorskip("torch")
    write_wav(tmp_path / "a.wav", 1)
    found = opened(SCRIPT, "encode", "a.wav", "-o", "a.lat", cwd=tmp_path)
    assert {"lincae_core.models.filterbank", "lincae_formats.writer"} <= set(found)
    assert len(found) <= 18, found


@pytest.mark.slow
def test_a_training_step(tmp_path):
    pytest.importorskip("torch")
    write_wav(tmp_path / "audio" / "a.wav", 30)
    found = opened("-c", TRAINING, cwd=tmp_path)
    assert "lincae_core.training.method" in found
    assert len(found) <= 6, found
