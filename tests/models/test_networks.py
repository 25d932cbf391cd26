"""The networks' parts: convolutions, preconditioning, noise levels, and how far each output sees."""

import json
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lincae_core.models.consistency import Preconditioning, sample
from lincae_core.models.cpu_layout import FEW_POINTS, added, convolved, laid_out, mixed, planar, quadrupled, scaled
from lincae_core.models.frame64 import FRAME, RATIO, Block, Frame64Config, Frame64Model, NoiseLevel, TimeConv

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


@pytest.fixture(params=[torch.inference_mode, nullcontext], ids=["inference", "training"])
def way(request):
    """Inference and training keep images differently and convolve them by different methods."""
    with request.param():
        yield


@pytest.mark.parametrize("bins", [7, 64, 301], ids=["below the limit", "at it", "odd"])
@pytest.mark.parametrize("inputs", [2, 24])
def test_convolutions_of_images(way, inputs, bins):
    times = 16
    assert (times * bins >= FEW_POINTS) == (bins > 7)
    conv, x, shift = nn.Conv2d(inputs, 40, 3, padding=1), laid_out(rand(3, inputs, times, bins)), rand(3, 40, seed=1)
    truth = F.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1).float()
    assert torch.allclose(convolved(conv, x), truth, atol=1e-4)
    assert torch.allclose(convolved(conv, x, shift), truth + shift[:, :, None, None], atol=1e-4)
    point = nn.Conv2d(inputs, 9, 1)
    truth = torch.einsum("oc,bctf->botf", point.weight[:, :, 0, 0], x) + point.bias[:, None, None]
    assert torch.allclose(mixed(point, x), truth, atol=1e-5)


def test_four_frequencies_for_one(way):
    conv, x = nn.Conv2d(6, 5, (1, 5), padding=(0, 2)), laid_out(rand(2, 6, 4, 33))
    truth = conv(x.repeat_interleave(4, -1))
    assert torch.allclose(quadrupled(conv, x), truth, atol=1e-5)


def test_weights_learn_through_folded_neighbours():
    conv, x, goal = nn.Conv2d(6, 5, (1, 5), padding=(0, 2)), rand(2, 6, 4, 33), rand(2, 5, 4, 132, seed=1)
    gradients = [
        torch.autograd.grad((y * goal).sum(), tuple(conv.parameters()))
        for y in (conv(x.repeat_interleave(4, -1)), quadrupled(conv, x))
    ]
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-4) for a, b in zip(*gradients, strict=True))


def test_only_inference_in_float32_overwrites_and_keeps_planes():
    x = rand(1, 3, 4, 5)
    assert not planar(x)
    with torch.inference_mode():
        assert planar(x) == torch._nnpack_available()
        assert not planar(x.half())
        with torch.autocast("cpu", torch.bfloat16):
            assert not planar(x)
    y = rand(1, 3, 4, 5, seed=1)
    kept = x.clone()
    assert torch.equal(added(x, y), kept + y)
    assert torch.equal(scaled(x, 2.0), 2 * kept)
    assert torch.equal(x, kept)
    with torch.no_grad():
        assert added(x.bfloat16(), y).dtype == torch.float32, "what cannot hold the sum is not overwritten"
        assert added(x, y) is x
    assert torch.equal(x, kept + y)


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
    model = Frame64Model(Frame64Config(**SMALL)).eval()
    x, features = rand(2, 16, FRAME), rand(2, 16, 16, seed=1)
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


def test_a_config_goes_through_json():
    config = Frame64Config(width=16, sigma_max=10.0)
    assert Frame64Config(**json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="kernel must be odd"):
        Frame64Config(kernel=4)
    with pytest.raises(ValueError, match="sigma_min must be below"):
        Frame64Config(sigma_min=30.0)


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
        {"decoder_latent_blocks": 0, "encoder_latent_blocks": 0, "denoiser_blocks": 6},
    ],
)
def test_context_is_enough_and_not_one_frame_too_much(shape):
    torch.manual_seed(0)
    model = Frame64Model(Frame64Config(**{**SMALL, **shape})).eval()
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
