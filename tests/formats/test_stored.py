"""The fast cast from float16 gives numpy's bits."""

import numpy as np
import pytest

from lincae_formats.signal import all_finite, widen

HALVES = np.arange(1 << 16, dtype="<u2").view("<f2")
FINITE = HALVES[np.isfinite(HALVES)]


def test_every_finite_half_is_numpys_to_the_bit():
    assert widen(FINITE).view("<u4").tolist() == FINITE.astype("<f4").view("<u4").tolist()


def test_more_than_one_block_and_any_shape():
    many = np.random.default_rng(0).choice(FINITE, (2, 8, 9000))
    np.testing.assert_array_equal(widen(many), many.astype(np.float32))
    np.testing.assert_array_equal(widen(many[:, ::2, 5:700]), many[:, ::2, 5:700].astype(np.float32))
    assert widen(many[:, :, :0]).shape == (2, 8, 0)


def test_float32_stays_as_it_is():
    data = np.ones((1, 2, 3), "<f4")
    assert widen(data) is data


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_what_is_not_finite_is_found(bad, dtype):
    data = np.ones((1, 64, 100), dtype)
    assert all_finite(data)
    data[0, 63, 99] = bad
    assert not all_finite(data)
    assert all_finite(data[:, :, :99])
