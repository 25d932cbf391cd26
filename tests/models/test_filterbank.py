"""The filterbank of `frame` in NumPy, which encodes on a CPU, against the one in torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.models.filterbank import FRAME, LATENT_DIM, MARGIN, Filterbank
from lincae_core.models.frame import FrameConfig, FrameModel

BANK = Filterbank()


@pytest.fixture(scope="module")
def model():
    return FrameModel(FrameConfig(width=8, blocks=1)).eval()


def noise(frames, channels=2, seed=0):
    shape = (channels, frames * FRAME + 2 * MARGIN)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("frames", [1, 2, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_both_encode_alike(model, frames, channels):
    x = noise(frames, channels)
    z, levels = BANK.encode(x, "medium")
    with torch.inference_mode():
        wanted, wanted_levels = model.encode(torch.from_numpy(x), "medium")
    assert z.shape == (channels, LATENT_DIM, frames)
    assert z.dtype == levels.dtype == np.float32
    assert np.abs(z - wanted.numpy()).max() < 2e-5
    assert np.allclose(levels, wanted_levels.numpy(), rtol=1e-4, atol=1e-6)


def test_exact_has_no_levels():
    x = noise(3)
    z, levels = BANK.encode(x, "exact")
    assert levels is None
    assert np.array_equal(z, BANK.encode(x, "low")[0])


@settings(max_examples=20, deadline=None)
@given(st.floats(-4, 4), st.floats(-4, 4), st.integers(1, 4))
def test_it_is_linear(a, b, frames):
    x, y = noise(frames, 1, 1), noise(frames, 1, 2)
    apart = a * BANK.encode(x, "exact")[0] + b * BANK.encode(y, "exact")[0]
    assert np.allclose(BANK.encode(np.float32(a) * x + np.float32(b) * y, "exact")[0], apart, atol=2e-4)


def test_silence_is_zero():
    z, levels = BANK.encode(np.zeros((1, FRAME + 2 * MARGIN), np.float32), "medium")
    assert not z.any()
    assert not levels.any()
