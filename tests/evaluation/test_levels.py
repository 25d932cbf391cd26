"""Levels against closed forms."""

import math

import numpy as np
import pytest

from lincae_core.evaluation.levels import rms, snr_db


def test_rms():
    t = np.arange(44100) / 44100
    assert rms(0.5 * np.sin(2 * np.pi * 441 * t)) == pytest.approx(0.5 / math.sqrt(2))
    assert rms(np.full((2, 10), -3.0, np.float32)) == 3
    assert rms(np.zeros(0)) == 0


def test_snr():
    x = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    assert snr_db(0.9 * x, x) == pytest.approx(20, abs=1e-4)
    assert snr_db(np.zeros_like(x), x) == 0
    assert snr_db(x, x) == math.inf
    assert snr_db(x, np.zeros_like(x)) == -math.inf
    assert math.isnan(snr_db(np.zeros(3), np.zeros(3)))
    with pytest.raises(ValueError, match="shape"):
        snr_db(x, x[:, 1:])
