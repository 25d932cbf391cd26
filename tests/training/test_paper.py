"""Schedules, preconditioning and noise levels beside the numbers of the Lin-CAE authors' package."""

import math

import pytest
import torch
from peers import imported
from torch import Generator

from lincae_core.models.consistency import Preconditioning
from lincae_core.training.loop import ema_decay
from lincae_core.training.method import GRID, draw_index, index_weights, pseudo_huber, step_size

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def diffusion():
    module = imported("linear_cae.components.diffusion", "linear-cae 0.1.4")
    return module.Diffusion(total_iters=800_000, end_exp=2.0)


@pytest.fixture(scope="module")
def sigmas():
    return torch.cat([torch.tensor([0.002, 80.0]), torch.logspace(-2.69, 1.9, 200)])


def test_step_schedule(diffusion):
    for iteration in (0, 1, 40_000, 400_000, 799_999, 800_000):
        ours = step_size(iteration / 800_000, 1, 2)
        assert ours == pytest.approx(diffusion.get_step_schedule(iteration), rel=1e-12)


def test_preconditioning(diffusion, sigmas):
    from linear_cae.components.diffusion import get_c

    p = Preconditioning()
    for ours, theirs in zip((p.c_skip(sigmas), p.c_out(sigmas), p.c_in(sigmas)), get_c(sigmas), strict=True):
        assert torch.allclose(ours, theirs.flatten(), rtol=1e-6, atol=1e-8)


def test_noise_levels(diffusion):
    p, index = Preconditioning(), torch.linspace(0, 1, 500)
    assert torch.allclose(p.sigma(index), diffusion.get_sigma_continuous(index), rtol=1e-6)
    for step in (0.1, 0.03, 0.01):
        lower = p.sigma((index - step).clamp_min(0))
        assert torch.allclose(
            lower, diffusion.get_sigma_continuous(diffusion.get_step_continuous(index, step)), rtol=1e-6
        )


def test_sampling_levels(diffusion):
    p = Preconditioning()
    for steps in (1, 2, 4, 7):
        theirs = [diffusion.get_sigma(steps + 1 - k, steps + 1) for k in range(steps)]
        ours = [p.sigma(torch.tensor(1 - k / steps, dtype=torch.float64)) for k in range(steps)]
        assert [float(s) for s in ours] == pytest.approx(theirs, rel=1e-9)


def test_chance_of_every_noise_level(diffusion):
    ours, theirs = index_weights(Preconditioning(), -1.1, 2.0), diffusion.get_sampling_weights(GRID, device="cpu")
    assert torch.allclose(ours / ours.sum(), theirs.double() / theirs.double().sum(), rtol=1e-4)


def test_loss_weight(diffusion):
    student, teacher = draw_index(1000, Preconditioning(), -1.1, 2.0, 0.05, Generator().manual_seed(0))
    assert torch.equal(1 / (student - teacher), diffusion.get_loss_weight(student, teacher))
    assert torch.isfinite(1 / (student - teacher)).all()


def test_distribution_of_drawn_levels(diffusion):
    """Deciles of our draws and of the package's own."""
    torch.manual_seed(0)
    diffusion.flush_noise_schedule()
    diffusion.precompute_noise_schedule(200, 500)
    theirs = diffusion.sigmas_schedule.flatten().log()
    ours = draw_index(100_000, Preconditioning(), -1.1, 2.0, 0.1, Generator().manual_seed(1))[0].log()
    at = torch.linspace(0.1, 0.9, 9)
    assert torch.allclose(ours.quantile(at), theirs.quantile(at), atol=0.05)


def test_loss_by_hand():
    """Pseudo-Huber, arXiv 2310.14189, eq. 7, of a crop's size, for differences far below, at and far above c."""
    dimensions = 2 * 1024 * 64
    c = 0.00054 * math.sqrt(dimensions)
    for norm in (1e-3 * c, c, 1e3 * c):
        d = torch.full((1, 64, 2048), norm / math.sqrt(dimensions), dtype=torch.float64)
        assert float(pseudo_huber(d)) == pytest.approx(math.sqrt(norm**2 + c**2) - c, rel=1e-6)


def test_ema(diffusion):
    from linear_cae.components.ema import ExponentialMovingAverage

    weight = torch.nn.Parameter(torch.zeros(()))
    theirs = ExponentialMovingAverage([weight], decay=0.9999)
    ours = 0.0
    for step in range(1, 50):
        with torch.no_grad():
            weight.fill_(float(step))
        theirs.update()
        decay = ema_decay(step, 0.9999)
        ours = decay * ours + (1 - decay) * step
    assert ours == pytest.approx(float(theirs.shadow_params[0]), rel=1e-5)
