"""Killing `encode` and `decode` at any moment leaves no half-written file under a final name."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf

from lincae_formats import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Four minutes of noise."""
    path = tmp_path_factory.mktemp("long") / "noise.wav"
    rng = np.random.default_rng(0)
    sf.write(path, 0.1 * rng.standard_normal(44100 * 240).astype(np.float32), 44100)
    return path


def start(*arguments):
    command = [sys.executable, "-m", "lincae_cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for_work(folder, process):
    """Until the command has made its temporary file (or ended)."""
    for _ in range(600):
        if any(folder.glob(".*.tmp")) or process.poll() is not None:
            return
        time.sleep(0.02)


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_encode(tiny_model, recording, tmp_path, delay, number):
    target = tmp_path / "out.lat"
    process = start("encode", recording, "-o", target, "--model", tiny_model)
    wait_for_work(tmp_path, process)
    time.sleep(delay)
    process.send_signal(number)
    _, complaint = process.communicate(timeout=60)
    if target.exists():  # it was done before the signal came
        verify(target)
    elif number != signal.SIGKILL:
        assert list(tmp_path.iterdir()) == [], "temporary files are cleaned up"
        assert "Traceback" not in complaint


def test_decode(tiny_model, recording, tmp_path):
    lat, target = tmp_path / "in.lat", tmp_path / "out" / "y.wav"
    target.parent.mkdir()
    assert start("encode", recording, "-o", lat, "--model", tiny_model).wait(120) == 0
    process = start("decode", lat, "-o", target, "--model", tiny_model)
    wait_for_work(target.parent, process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    if target.exists():
        assert sf.info(target).frames == 44100 * 240
    else:
        assert process.returncode == 130
        assert list(target.parent.iterdir()) == []
