"""The networks' parts: convolution, preconditioning, noise levels, and how far each output sees."""

import math

import pytest
import torch
from torch.nn import functional as F

from lincae_core.models.blocks import Block, NoiseLevel, TimeConv
from lincae_core.models.consistency import Preconditioning, sample
from lincae_core.models.frame import FRAME, RATIO, FrameConfig, FrameModel

SMALL = {"width": 16, "latent_width": 16, "latent_dim": 4, "expand": 2}


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_time_convolution_is_conv1d(kernel, length):
    conv, x = TimeConv(12, kernel), rand(3, length, 12)
    with torch.no_grad():
        conv.bias.copy_(rand(12, seed=1))
    truth = F.conv1d(x.mT, conv.weight[:, :, 0], conv.bias, padding=kernel // 2, groups=12).mT
    assert torch.allclose(conv(x), truth, atol=1e-5)


def test_block_norm_has_no_statistics_over_time():
    block, x = Block(8, 3, 2), rand(1, 20, 8)
    loud = x.clone()
    loud[:, 15:] *= 100
    assert torch.equal(block(x)[:, :14], block(loud)[:, :14])
    assert not torch.allclose(block(x)[:, 15:], block(loud)[:, 15:])


def test_noise_levels_differ_in_their_embedding():
    embed = NoiseLevel(8)(torch.tensor([0.002, 0.02, 1.0, 20.0]))
    assert embed.shape == (4, 1, 8)
    assert torch.isfinite(embed).all()
    assert torch.cdist(embed[:, 0], embed[:, 0])[~torch.eye(4, dtype=torch.bool)].min() > 1e-4


@pytest.mark.parametrize("limits", [(0.5, 0.002, 80.0), (0.25, 0.002, 20.0)])
def test_preconditioning_formulas(limits):
    data, low, high = limits
    p = Preconditioning(*limits)
    for s in (low, 0.01, 0.3, 1.0, high):
        sigma = torch.tensor(s, dtype=torch.float64)
        assert math.isclose(p.c_skip(sigma), data**2 / ((s - low) ** 2 + data**2))
        assert math.isclose(p.c_out(sigma), data * (s - low) / math.sqrt(data**2 + s**2), abs_tol=1e-12)
        assert math.isclose(p.c_in(sigma), 1 / math.sqrt(s**2 + data**2))


def test_noise_levels_are_the_published_ones():
    # EDM's schedule of 18 steps (arXiv 2206.00364, eq. 5) from 80 down to 0.002
    published = [80.0, 57.586, 40.786, 28.375, 19.352, 12.910, 8.4009, 5.3151, 3.2567, 1.9233]
    p = Preconditioning(0.5, 0.002, 80.0)
    index = 1 - torch.arange(10, dtype=torch.float64) / 17
    assert p.sigma(index).tolist() == pytest.approx(published, rel=1e-4)
    assert float(p.sigma(torch.tensor(0.0, dtype=torch.float64))) == pytest.approx(0.002)


def test_index_inverts_sigma():
    for p in (Preconditioning(0.5, 0.002, 80.0), Preconditioning(0.25, 0.002, 20.0)):
        i = torch.linspace(0, 1, 101)
        assert torch.allclose(p.index(p.sigma(i)), i, atol=1e-5)
        assert (p.sigma(i).diff() > 0).all()


def test_smallest_noise_level_is_the_identity():
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**SMALL)).eval()
    x, features = rand(2, 16, FRAME), (rand(2, 16, 16, seed=1),)
    low = torch.full((2,), model.config.sigma_min)
    with torch.no_grad():
        assert torch.equal(model.denoise(x, low, features), x)
        assert not torch.allclose(model.denoise(x, low * 100, features), x, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_sampling_evaluates_at_falling_noise_levels(steps):
    p, seen, drawn = Preconditioning(), [], []

    def denoise(x, sigma):
        seen.append(float(sigma[0]))
        return torch.zeros_like(x)

    def noise(step):
        drawn.append(step)
        return rand(1, 8, FRAME, seed=step)

    out = sample(denoise, noise, p, steps)
    assert not out.any()
    assert seen == pytest.approx([float(p.sigma(torch.tensor(1 - i / steps))) for i in range(steps)], rel=1e-5)
    assert drawn == list(range(steps))


def frames_seen(output, source):
    """Places along time of `source` that `output` depends on at all."""
    (gradient,) = torch.autograd.grad(output.double().square().sum(), source)
    return gradient.abs().sum((0, 2)).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"kernel": 3, "encoder_frame_blocks": 0, "encoder_latent_blocks": 1, "denoiser_blocks": 1},
        {"kernel": 9, "encoder_frame_blocks": 3, "decoder_latent_blocks": 0, "decoder_frame_blocks": 2},
        {"linear_path": True, "encoder_network": False},
        {"linear_path": True, "decoder_latent_blocks": 0, "encoder_latent_blocks": 0, "denoiser_blocks": 6},
    ],
)
def test_context_is_enough_and_not_one_frame_too_much(shape):
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**{**SMALL, **shape})).eval()
    count, k = 48, 24
    frames = rand(1, count * RATIO, FRAME).requires_grad_()
    seen = {f // RATIO for f in frames_seen(model.encoder(frames)[:, k], frames)}
    assert seen == set(range(k - model.encoder_context, k + model.encoder_context + 1))

    z = rand(1, count, 4, seed=1).requires_grad_()
    noise = rand(1, count * RATIO, FRAME, seed=2).requires_grad_()
    out = model.denoise(noise, torch.tensor([20.0]), model.decoder(z))[:, k * RATIO : (k + 1) * RATIO]
    reach = model.decoder_context
    (by_z, by_noise) = torch.autograd.grad(out.square().sum(), (z, noise))
    seen = by_z.abs().sum((0, 2)).nonzero().flatten().tolist()
    assert seen[0] >= k - reach
    assert seen[-1] <= k + reach
    assert seen[0] <= k - reach + 1, "a context this wide is waste"
    heard = by_noise.abs().sum((0, 2)).nonzero().flatten() // RATIO
    assert int(heard.min()) >= k - reach
    assert int(heard.max()) <= k + reach
