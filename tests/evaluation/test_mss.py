"""MSS against its definition, written out with auraloss here and with plain numpy."""

import math
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest

from lincae_core.evaluation.mss import mss

RATE = 44100


def music(seconds, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * t) / k for k, hz in enumerate(rng.uniform(80, 4000, 8), 1))
    return (0.1 * tones + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def magnitudes(x, window, fft):
    """Mel magnitudes by numpy alone: reflect padding, the window centred in the FFT."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    hann = np.pad(hann, ((fft - window) // 2, fft - window - (fft - window) // 2))
    padded = np.pad(x.astype(np.float64), fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[:: window // 2]
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    return librosa.filters.mel(sr=RATE, n_fft=fft, n_mels=80) @ np.sqrt(np.maximum(power, 1e-8)).T


def distance(x, y):
    total = 0.0
    for milliseconds, fft in ((10, 512), (25, 2048), (50, 4096)):
        window = int(RATE * milliseconds / 1000)
        a, b = magnitudes(x, window, fft), magnitudes(y, window, fft)
        total += np.linalg.norm(b - a) / np.linalg.norm(b) + np.mean(np.abs(np.log(a) - np.log(b)))
    return total / 3


@pytest.fixture(scope="module")
def pair():
    y = music(12)
    return y + 0.05 * music(12, seed=1), y


def test_agrees_with_the_formula(pair):
    x, y = (v[: 2 * RATE] for v in pair)
    assert mss(x, y, RATE) == pytest.approx(distance(x, y), rel=1e-3)


def test_segments_are_ten_seconds_and_a_short_rest_is_left_out(pair):
    x, y = pair
    first = mss(x[: 10 * RATE], y[: 10 * RATE], RATE)
    assert mss(x, y, RATE) == first
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    parts = [mss(x[s * RATE : (s + 10) * RATE], y[s * RATE : (s + 10) * RATE], RATE) for s in (0, 10)]
    assert mss(x, y, RATE) == pytest.approx(np.mean(parts))
    assert parts[0] != pytest.approx(parts[1], rel=1e-6)


def test_silent_segments_are_skipped(pair):
    x, y = (v[: 10 * RATE] for v in pair)
    silence = np.zeros(10 * RATE, np.float32)
    value = mss(np.concatenate([x, x]), np.concatenate([silence, y]), RATE)
    assert value == mss(x, y, RATE)
    assert math.isnan(mss(x, silence, RATE))


def test_equal_is_zero_and_half_volume_is_not(pair):
    _, y = pair
    assert mss(y, y, RATE) == 0
    # Half the magnitude everywhere: 0.5 of convergence plus log 2.
    assert mss(0.5 * y, y, RATE) == pytest.approx(0.5 + math.log(2), abs=0.01)


def test_channels_are_averaged(pair):
    x, y = (v[:RATE] for v in pair)
    side = music(1, seed=2)
    stereo = mss(np.stack([x + side, x - side]), np.stack([y, y]), RATE)
    assert stereo == pytest.approx(mss(x, y, RATE), rel=1e-4)


@pytest.mark.parametrize("n", [1, 511, 4095])
def test_signals_shorter_than_a_window(n):
    y = music(1)[:n] + 0.1
    assert mss(y, y, RATE) == 0
    assert 0.5 < mss(0.5 * y, y, RATE) < 2


def test_misuse(pair):
    x, y = pair
    with pytest.raises(ValueError, match="shape"):
        mss(x[1:], y, RATE)
    with pytest.raises(ValueError, match="shape"):
        mss(np.zeros(0), np.zeros(0), RATE)
    with pytest.raises(ValueError, match="NaN"):
        mss(np.full(RATE, np.nan), y[:RATE], RATE)


def test_importing_it_imports_nothing_heavy():
    heavy = "{'torch', 'auraloss', 'librosa'}"
    code = f"import sys, lincae_core.evaluation.mss; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "set()\n", done.stderr
