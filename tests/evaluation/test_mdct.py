"""The MDCT against its formula, and as an orthonormal basis."""

import numpy as np
import pytest

from lincae_core.evaluation.references import imdct, mdct


def noise(n):
    return np.random.default_rng(0).standard_normal(n).astype(np.float32)


def test_agrees_with_the_formula():
    hop, x = 8, noise(30)
    padded = np.zeros(6 * hop)
    padded[hop : hop + len(x)] = x
    n, k = np.arange(2 * hop), np.arange(hop)[:, None]
    kernel = np.cos(np.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5)) * np.sin(np.pi * (n + 0.5) / (2 * hop))
    wanted = np.stack([np.sqrt(2 / hop) * kernel @ padded[f * hop : (f + 2) * hop] for f in range(5)])
    assert mdct(x, hop) == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("n", [1, 127, 128, 1000])
def test_inverts_and_keeps_the_energy(n):
    x = noise(n)
    coefficients = mdct(x, 64)
    assert coefficients.shape == (-(-n // 64) + 1, 64)
    assert imdct(coefficients, n) == pytest.approx(x, abs=1e-5)
    assert np.sum(coefficients**2) == pytest.approx(np.sum(x**2), rel=1e-5)
