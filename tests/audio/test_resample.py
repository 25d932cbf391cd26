"""StreamResampler against the analytic signal, against soxr on the whole, and in excerpts."""

import math
from fractions import Fraction

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.audio import StreamResampler, resample_context, resampled_length
from lincae_formats.errors import LincaeError

RATES = [8000, 22050, 48000, 96000]
PAIRS = [(r, 44100) for r in RATES] + [(44100, r) for r in RATES]


def noise(n, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, n)).astype(np.float32)


def resample(x, in_rate, out_rate, cuts=()):
    stream = StreamResampler(in_rate, out_rate, len(x))
    blocks = np.split(x, list(cuts), axis=1)
    last = len(blocks) - 1
    return np.concatenate([stream.process(b, last=k == last) for k, b in enumerate(blocks)], axis=1)


@given(st.integers(0, 10**9), st.integers(1, 400_000), st.integers(1, 400_000))
def test_length_is_the_exact_ceiling(n, in_rate, out_rate):
    assert resampled_length(n, in_rate, out_rate) == math.ceil(Fraction(n) * out_rate / in_rate)


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (44101, 44100), (192000, 44100), (44100, 44100)])
@pytest.mark.parametrize("n", [1, 2, 511, 4097])
def test_total_length_is_exact(in_rate, out_rate, n):
    y = resample(noise(n, 2), in_rate, out_rate, cuts=[n // 2])
    assert y.shape == (2, resampled_length(n, in_rate, out_rate))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_a_sine_stays_in_time_and_level(in_rate, out_rate):
    n, hz = in_rate // 2, 1000
    x = np.sin(2 * np.pi * hz * np.arange(n) / in_rate)[None].astype(np.float32)
    y = resample(x, in_rate, out_rate, cuts=range(1000, n, 1000))[0]
    truth = np.sin(2 * np.pi * hz * np.arange(len(y)) / out_rate)
    edge = out_rate // 20
    assert np.abs(y - truth)[edge:-edge].max() < 1e-5


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_agrees_with_soxr_on_the_whole(in_rate, out_rate):
    x = noise(20_001, 2)
    y = resample(x, in_rate, out_rate, cuts=[1, 2, 5000])
    whole = soxr.resample(x.T, in_rate, out_rate, quality="VHQ").T
    assert 0 <= y.shape[1] - whole.shape[1] <= 1
    assert np.abs(y[:, : whole.shape[1]] - whole).max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    n=st.integers(1, 20_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
)
def test_the_cuts_do_not_matter(pair, n, cuts):
    x = noise(n)
    whole = resample(x, *pair)
    assert np.abs(resample(x, *pair, cuts=sorted(min(c, n) for c in cuts)) - whole).max() < 1e-6


def test_the_last_sample_is_resampled_not_padded():
    # 44100 -> 8000: soxr alone gives one sample less than the ceiling here.
    x = np.ones((1, 44100 + 6), np.float32)
    y = resample(x, 44100, 8000)[0]
    assert len(y) == 8002
    assert y[-1] > 0.3


def test_equal_rates_hand_the_blocks_through():
    x = noise(100)
    assert StreamResampler(44100, 44100, 1).process(x) is x


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (44100, 44101), (384000, 44100), (44100, 1000)])
@pytest.mark.parametrize("start", [0, 700, 20_001])
def test_an_excerpt_with_context_equals_the_whole(in_rate, out_rate, start):
    x = noise(100_000)
    whole = resample(x, in_rate, out_rate)
    start = min(start, whole.shape[1] // 2)
    stop = start + min(2000, whole.shape[1] // 4)
    context = resample_context(in_rate, out_rate)
    in_start, in_stop, skip = context.span(start, stop)
    assert in_start % context.in_grid == 0
    assert context.in_grid == in_rate // math.gcd(in_rate, out_rate)
    excerpt = resample(x[:, in_start:in_stop], in_rate, out_rate)
    assert np.abs(excerpt[:, skip : skip + stop - start] - whole[:, start:stop]).max() < 1e-5


def test_less_context_would_not_do():
    x = noise(100_000)
    whole = resample(x, 96000, 44100)
    start = 147 * 200
    excerpt = resample(x[:, 320 * 200 :], 96000, 44100)
    assert np.abs(excerpt[:, :50] - whole[:, start : start + 50]).max() > 1e-3


def test_misuse():
    with pytest.raises(LincaeError, match="at least 1 Hz"):
        StreamResampler(0, 44100, 1)
    stream = StreamResampler(48000, 44100, 2)
    with pytest.raises(ValueError, match="shape"):
        stream.process(noise(10, 1))
    stream.process(noise(10, 2), last=True)
    with pytest.raises(ValueError, match="after the last"):
        stream.process(noise(10, 2))
