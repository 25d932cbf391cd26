"""Losses on what one step gives, and the filters that crops get."""

import pytest
import torch

from lincae_core.evaluation.mss import mss
from lincae_core.training.augment import equalise
from lincae_core.training.consistency import Select
from lincae_core.training.spectral import SpectralDistance, frame_distance

RATE = 44100


def noise(batch, n, seed=0, level=0.1):
    return level * torch.randn(batch, n, generator=torch.Generator().manual_seed(seed))


def test_spectral_distance_is_the_measure_that_judges():
    x, y = noise(1, RATE), noise(1, RATE, 1)
    ours = float(SpectralDistance()(x, y))
    # the measure pads both ends by half a window, the loss has none to spare
    assert ours == pytest.approx(mss(x[0].numpy(), y[0].numpy(), RATE), rel=0.02)


def test_spectral_distance_is_zero_for_equals_and_grows():
    distance, x = SpectralDistance(), noise(2, RATE // 2)
    assert torch.equal(distance(x, x), torch.zeros(2))
    near, far = distance(x + noise(2, RATE // 2, 1, 0.01), x), distance(x + noise(2, RATE // 2, 1, 0.1), x)
    assert (far > near).all()


def test_silent_items_weigh_no_more_than_others():
    distance = SpectralDistance()
    x = torch.cat([noise(3, RATE // 2), torch.zeros(1, RATE // 2)])
    estimate = (x + noise(4, RATE // 2, 1, 0.01)).requires_grad_()
    values = distance(estimate, x)
    values.mean().backward()
    assert torch.isfinite(estimate.grad).all()
    assert float(values[3].detach()) < 50


def test_frame_distance():
    x = noise(3, 2048 * 8, level=1.0).view(3, 8, 2048)
    assert float(frame_distance(x, x).max()) < 1e-2
    assert frame_distance(torch.zeros_like(x), x).tolist() == pytest.approx([1] * 3, rel=1e-3)
    assert frame_distance(-x, x).tolist() == pytest.approx([2] * 3, rel=1e-3)


def test_equalising_keeps_the_level_and_scales_with_it():
    x = noise(6, 30_000)
    y = equalise(x, 3.0, 0.5, torch.Generator().manual_seed(0))
    assert torch.allclose(y.square().mean(1), x.square().mean(1), rtol=1e-3)
    assert not torch.allclose(y, x, atol=1e-3)
    assert torch.allclose(equalise(-0.5 * x, 3.0, 0.5, torch.Generator().manual_seed(0)), -0.5 * y, atol=1e-5)
    assert equalise(x, 0.0, 0.0, torch.Generator()) is x


def test_a_low_pass_takes_the_highs_of_some():
    x = noise(40, 30_000)
    y = equalise(x, 0.0, 0.5, torch.Generator().manual_seed(0))

    def highs(v):
        power = torch.fft.rfft(v).abs().square()
        return power[:, int(30_000 * 18_000 / RATE) :].sum(1) / power.sum(1)

    taken = highs(y) < 0.5 * highs(x)
    assert 8 <= int(taken.sum()) <= 32


def test_silence_stays_silent():
    out = equalise(torch.zeros(2, 5000), 3.0, 1.0, torch.Generator().manual_seed(0))
    assert not out.any()


def test_items_are_selected_from_any_structure():
    x, both = torch.arange(12).view(4, 3), (torch.arange(4), torch.arange(8).view(4, 2))
    some = Select(torch.tensor([2, 0]), 4)
    assert some(x).tolist() == [[6, 7, 8], [0, 1, 2]]
    assert [v.tolist() for v in some(both)] == [[2, 0], [[4, 5], [0, 1]]]
    assert isinstance(some(list(both)), list)
    assert Select(torch.arange(4), 4)(x) is x


def test_crops_and_their_spectra_are_finite_in_half_precision():
    x = noise(2, RATE // 2)
    assert torch.isfinite(SpectralDistance()(x.bfloat16().float(), x)).all()
