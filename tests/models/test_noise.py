"""Noise that a decode starts from: a pure function of seed, step and frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.models.consistency import frame_noise

PINNED = [
    ((0, 0, 0), [2.3479033, -0.9097567, -0.5877872, -1.8466322, 0.8233145]),
    ((9223372036854775813, 0, 8589934592), [-0.020494, 0.29084, -0.0165612, 0.1782081, -1.2297927]),
]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**64), st.integers(0, 9), st.integers(0, 2**40), st.integers(1, 6))
def test_any_cut_gives_the_same_numbers(seed, step, start, count):
    whole = frame_noise(seed, step, start, start + count, 64)
    assert whole.shape == (count, 64)
    assert whole.dtype == np.float32
    assert np.isfinite(whole).all()
    for i in range(count):
        assert np.array_equal(frame_noise(seed, step, start + i, start + i + 1, 64)[0], whole[i])


def test_every_argument_matters():
    base = frame_noise(1, 3, 4, 5, 4096)
    for other in ((2, 3, 4), (1, 4, 4), (1, 3, 5), (3, 1, 4)):
        correlation = np.corrcoef(base[0], frame_noise(*other, other[2] + 1, 4096)[0])[0, 1]
        assert abs(correlation) < 0.08  # 5 standard deviations


def test_is_unit_gaussian():
    x = frame_noise(0, 0, 0, 40, 16384).astype(np.float64)
    n = x.size
    assert abs(x.mean()) < 5 / np.sqrt(n)
    assert abs(x.var() - 1) < 5 * np.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * np.sqrt(96 / n)
    assert 4 < np.abs(x).max() < 6.5
    assert abs(np.corrcoef(x[:, :8192].ravel(), x[:, 8192:].ravel())[0, 1]) < 5 / np.sqrt(n / 2)
    assert abs(np.corrcoef(x[:-1].ravel(), x[1:].ravel())[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize(("where", "numbers"), PINNED)
def test_numbers_never_change(where, numbers):
    # to float32 rounding: processors differ in the last bit of log and cos
    seed, step, frame = where
    got = frame_noise(seed, step, frame, frame + 1, 16384)[0]
    assert got[[0, 1, 8191, 8192, 16383]] == pytest.approx(numbers, abs=2e-6)
