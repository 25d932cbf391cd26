"""Encoding and decoding in blocks, in stretches and from the middle give what the whole gives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.models.codec import (
    Autoencoder,
    decode_array,
    decode_range,
    encode_array,
    encode_blocks,
    latent_rms,
    signal_scales,
)
from lincae_core.models.frame64 import FRAME, RATIO, Frame64Config, Frame64Model

SIZE = 4096
FRAMES = 40
WHOLE = {}  # what a whole decode gives, computed once


def noise(channels, n, seed=0):
    envelope = 0.2 * (1.1 + np.sin(np.arange(n) / 3000))
    return (np.random.default_rng(seed).standard_normal((channels, n)) * envelope).astype(np.float32)


def cut(x, sizes):
    """x in blocks of the sizes, taken in turn."""
    at, i = 0, 0
    while at < x.shape[-1]:
        yield x[:, at : at + sizes[i % len(sizes)]]
        at, i = at + sizes[i % len(sizes)], i + 1


def latents(tiny, channels=2, frames=FRAMES):
    z = np.random.default_rng(5).standard_normal((channels, tiny.latent_dim, frames)).astype(np.float32)
    return z * np.array([3.0, 0.2])[:channels, None, None].astype(np.float32)


def close(a, b, scale):
    assert a.shape == b.shape
    return float(np.abs(a - b).max(initial=0)) <= 1e-5 * float(np.abs(scale).max())


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 30 * SIZE),
    st.lists(st.sampled_from([1, 7, 511, 4095, 4096, 4097, 20000, 99999]), min_size=1, max_size=3),
    st.sampled_from([1, 2, 3, 5, 11, 192]),
)
def test_any_blocks_and_stretches_encode_alike(tiny, n, sizes, stretch):
    x = noise(1, n)
    sizes = [s if n < 200 * s else 4096 for s in sizes]
    levels = signal_scales(tiny, cut(x, sizes), 1)
    z = np.concatenate([z for z, _ in encode_blocks(tiny, cut(x, sizes), levels, n, stretch)], 2)
    whole = encode_array(tiny, x)
    assert z.shape == (1, tiny.latent_dim, -(-n // SIZE))
    assert close(z, whole, whole)


@settings(max_examples=20, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 5, 9, 192]))
def test_any_range_and_stretch_decodes_alike(tiny, data, stretch):
    n = FRAMES * SIZE - 1234
    start = data.draw(st.integers(0, n - 1))
    stop = data.draw(st.integers(start + 1, min(n, start + 12 * SIZE)))
    z = latents(tiny)
    if not WHOLE:
        WHOLE["audio"] = decode_array(tiny, z, n)
    asked = []

    def read(first, last):
        asked.append((first, last))
        return z[:, :, first:last]

    levels = latent_rms(tiny, [z], len(z))
    part = np.concatenate(list(decode_range(tiny, read, FRAMES, levels, start, stop, stretch=stretch)), 1)
    for c in range(2):
        assert close(part[c], WHOLE["audio"][c, start:stop], WHOLE["audio"][c])
    reach = tiny.model.decoder_context + 1
    assert min(a for a, _ in asked) >= max(0, start // SIZE - reach)
    assert max(b for _, b in asked) <= -(-stop // SIZE) + reach


def test_more_steps_decode_alike_too(tiny):
    z, n = latents(tiny, 1, 20), 20 * SIZE
    whole = decode_array(tiny, z, n, steps=3, seed=9)
    parts = decode_range(
        tiny, lambda a, b: z[:, :, a:b], 20, latent_rms(tiny, [z], len(z)), 5000, n, steps=3, seed=9, stretch=4
    )
    assert close(np.concatenate(list(parts), 1), whole[:, 5000:], whole)
    assert not close(decode_array(tiny, z, n, steps=3, seed=8), whole, whole)
    assert not close(decode_array(tiny, z, n, steps=1, seed=9), whole, whole)


def test_equal_channels_decode_to_equal_channels(tiny):
    """Dual mono stays dual mono: the noise is the same in every channel."""
    z = np.repeat(latents(tiny, 1, 4), 2, 0)
    left, right = decode_array(tiny, z, 4 * SIZE)
    assert left.any()
    assert np.array_equal(left, right)


def test_encoding_reaches_as_far_as_its_context(tiny):
    x, reach = noise(1, FRAMES * SIZE), tiny.model.encoder_context
    k = 20
    low, high = (k - reach) * SIZE - 768, (k + 1 + reach) * SIZE + 768
    levels = signal_scales(tiny, [x], 1)
    ((before, _),) = encode_blocks(tiny, [x], levels, x.shape[1])
    y = x.copy()
    y[:, :low] = noise(1, low, 1)
    y[:, high:] = 0
    ((after, _),) = encode_blocks(tiny, [y], levels, x.shape[1])
    assert close(after[:, :, k], before[:, :, k], before)
    assert not close(after, before, before)


def test_decoding_reaches_as_far_as_its_context(tiny):
    z, reach, k = latents(tiny, 1), tiny.model.decoder_context + 1, 20
    levels, n = latent_rms(tiny, [z], len(z)), FRAMES * SIZE
    y = z.copy()
    y[:, :, : k - reach] = 0
    y[:, :, k + 1 + reach :] *= -2
    before, after = (
        np.concatenate(list(decode_range(tiny, lambda a, b, v=v: v[:, :, a:b], FRAMES, levels, 0, n)), 1)
        for v in (z, y)
    )
    middle = slice(k * SIZE, (k + 1) * SIZE)
    assert close(after[:, middle], before[:, middle], before)
    assert not close(after, before, before)


@pytest.mark.parametrize("gain", [1e-4, 0.01, 0.25, 0.5, 2.0, 3.7, 1000.0])
def test_gain_passes_through_both_ways(tiny, gain):
    x = noise(2, 9 * SIZE + 17)
    z = encode_array(tiny, x)
    assert close(encode_array(tiny, np.float32(gain) * x), gain * z, gain * z)
    audio = decode_array(tiny, z, x.shape[1])
    assert close(decode_array(tiny, np.float32(gain) * z, x.shape[1]), gain * audio, gain * audio)


def test_level_is_the_whole_channels(tiny):
    x = np.concatenate([noise(1, 5 * SIZE), noise(1, 5 * SIZE) * 3], 0)
    levels = signal_scales(tiny, cut(x, [1000]), 2)
    assert levels == pytest.approx(np.sqrt(np.mean(x.astype(np.float64) ** 2, 1)) / 0.1)
    z = latents(tiny)
    assert latent_rms(tiny, cut_latents(z, 7), 2) == pytest.approx(np.sqrt(np.mean(z.astype(np.float64) ** 2, (1, 2))))


def cut_latents(z, size):
    return [z[:, :, i : i + size] for i in range(0, z.shape[2], size)]


@pytest.mark.parametrize("n", [1, SIZE, 10 * SIZE + 1])
def test_silence_stays_silence(tiny, n):
    z = encode_array(tiny, np.zeros((2, n), np.float32))
    assert z.shape == (2, tiny.latent_dim, -(-n // SIZE))
    assert not z.any()
    audio = decode_array(tiny, z, n)
    assert audio.shape == (2, n)
    assert not audio.any()


def test_a_silent_channel_beside_a_loud_one(tiny):
    x = noise(2, 6 * SIZE)
    x[1] = 0
    z = encode_array(tiny, x)
    assert z[0].any()
    assert not z[1].any()
    audio = decode_array(tiny, z, 6 * SIZE)
    assert audio[0].any()
    assert not audio[1].any()


def test_decoding_reads_all_that_overlapping_frames_depend_on():
    torch.manual_seed(0)
    config = Frame64Config(width=16, latent_width=16, latent_dim=4, expand=1, decoder_latent_blocks=1)
    model = Frame64Model(config).eval()
    tiny = Autoencoder(model, {"name": "a", "version": "0", "fingerprint": ""}, torch.device("cpu"))
    asked, k = [], 20

    def read(first, last):
        asked.append((first, last))
        return np.ones((1, 4, last - first), np.float32)

    list(decode_range(tiny, read, FRAMES, np.ones(1), k * SIZE, (k + 1) * SIZE))
    z = torch.randn(1, FRAMES, 4).requires_grad_()
    out = model.denoise(torch.randn(1, FRAMES * RATIO, FRAME), torch.tensor([20.0]), model.decoder(z))
    # two STFT frames before and after a latent frame overlap its samples
    (gradient,) = torch.autograd.grad(out[:, k * RATIO - 2 : (k + 1) * RATIO + 2].square().sum(), z)
    needed = gradient[0].abs().sum(1).nonzero().flatten().tolist()
    assert asked[0][0] <= needed[0]
    assert asked[0][1] > needed[-1]
