"""SDR and SI-SDR against closed forms; the segments that every measure is taken by."""

import math

import numpy as np
import pytest
from eval_helpers import RATE, music

from lincae_core.evaluation.sdr import LIMIT_DB, by_segments, sdr, si_sdr
from lincae_core.evaluation.segments import is_silent, spans


@pytest.fixture(scope="module")
def signal():
    return music(1)


@pytest.fixture(scope="module")
def orthogonal(signal):
    """Noise of the signal's energy, orthogonal to it."""
    x = signal.astype(np.float64)
    noise = np.random.default_rng(3).standard_normal(len(x))
    noise -= (noise @ x) / (x @ x) * x
    return noise * math.sqrt((x @ x) / (noise @ noise))


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0])
def test_only_sdr_sees_the_volume(signal, factor):
    assert sdr(factor * signal, signal) == pytest.approx(-20 * math.log10(abs(1 - factor)), abs=1e-3)
    assert si_sdr(factor * signal, signal) == LIMIT_DB


@pytest.mark.parametrize("db", [-10, 0, 20])
def test_noise_of_a_known_level(signal, orthogonal, db):
    estimate = signal + 10 ** (-db / 20) * orthogonal
    assert sdr(estimate, signal) == pytest.approx(db)
    assert si_sdr(3 * estimate, signal) == pytest.approx(db)


def test_ends_of_the_scale(signal, orthogonal):
    assert sdr(signal, signal) == si_sdr(signal, signal) == LIMIT_DB
    assert si_sdr(orthogonal, signal) == -LIMIT_DB
    assert si_sdr(-signal, signal) == LIMIT_DB  # as published: the sign is a scale, too
    assert sdr(np.zeros_like(signal), signal) == 0
    assert si_sdr(np.zeros_like(signal), signal) == -LIMIT_DB


def test_shapes_must_agree(signal):
    for measure in (sdr, si_sdr):
        with pytest.raises(ValueError, match="shape"):
            measure(signal[1:], signal)


@pytest.mark.parametrize(("seconds", "count"), [(0.01, 1), (9, 1), (14, 1), (15, 1), (15.1, 2), (20, 2), (30, 3)])
def test_segments(seconds, count):
    found = spans(round(seconds * RATE), RATE)
    assert [s.start for s in found] == [10 * RATE * i for i in range(count)]


def test_silent_segments_have_no_figure(signal):
    target = np.concatenate([np.tile(signal, 10), np.zeros(10 * RATE, np.float32), np.tile(signal, 10)])
    values = by_segments(sdr, 0.9 * target, target, RATE)
    assert np.isnan(values).tolist() == [False, True, False]
    assert values[0] == pytest.approx(20, abs=1e-3)
    assert is_silent(np.full(10, 9e-4))
    assert not is_silent(np.full(10, -2e-3))
