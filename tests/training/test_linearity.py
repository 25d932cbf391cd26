"""The paper's two tricks as pure functions, and everything else a step draws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from lincae_core.models.consistency import Preconditioning
from lincae_core.training.consistency import consistency_loss, draw_levels, pseudo_huber
from lincae_core.training.linearity import (
    draw_gains,
    draw_mixing_weights,
    gain_range,
    mix_neighbours,
    without_neighbours,
)
from lincae_core.training.schedules import ema_decay, learning_rate, step_size

SEEDS = st.integers(0, 2**31)


def seeded(seed):
    return Generator().manual_seed(seed)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 200))
def test_mixing_weights_in_range(seed, batch):
    w = draw_mixing_weights(batch, seeded(seed))
    assert w.shape == (batch, 2)
    assert w[:, 0].min() >= 0.5
    assert w.max() <= 1
    assert torch.allclose(w.sum(1), torch.ones(batch))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 6))
def test_mixtures_of_more_sources(seed, sources):
    w = draw_mixing_weights(500, seeded(seed), sources)
    assert w.shape == (500, sources)
    assert w.min() >= 0
    assert torch.allclose(w.sum(1), torch.ones(500))
    counts = (w > 0).sum(1)
    assert set(counts.tolist()) == set(range(2, sources + 1))
    assert bool((w[:, 0] >= 1 / counts - 1e-6).all())


def test_mixing_weights_are_uniform():
    w = draw_mixing_weights(20000, seeded(0))[:, 0]
    assert float(w.mean()) == pytest.approx(0.75, abs=0.005)
    assert float(w.std()) == pytest.approx(0.5 / math.sqrt(12), abs=0.005)


def test_mix_neighbours_by_hand():
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    w = torch.tensor([[0.5, 0.5], [0.75, 0.25], [1.0, 0.0]])
    truth = torch.tensor([[50.5, 101.0], [7.75, 15.5], [100.0, 200.0]])
    assert torch.allclose(mix_neighbours(x, w), truth)
    three = torch.tensor([[0.5, 0.25, 0.25]] * 3)
    assert torch.allclose(mix_neighbours(x, three)[2], 0.5 * x[2] + 0.25 * x[1] + 0.25 * x[0])


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(3, 8), st.integers(2, 4))
def test_a_mixture_without_its_other_sources_is_the_first(seed, batch, sources):
    g = seeded(seed)
    x = torch.randn(batch, 7, generator=g, dtype=torch.float64)
    w = draw_mixing_weights(batch, g, sources).double()
    left = without_neighbours(mix_neighbours(x, w)[:2], x, w)
    assert torch.allclose(left, w[:2, :1] * x[:2])


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(1, 5), st.integers(1, 6))
def test_mixing_commutes_with_any_linear_encoder(seed, batch, frames, dim):
    g = seeded(seed)
    x = torch.randn(batch, frames * 10, generator=g, dtype=torch.float64)
    matrix = torch.randn(10, dim, generator=g, dtype=torch.float64)
    w = draw_mixing_weights(batch, g, 3)

    def encode(audio):
        return audio.view(batch, frames, 10) @ matrix

    assert torch.allclose(encode(mix_neighbours(x, w)), mix_neighbours(encode(x), w))


def test_mixing_keeps_the_dtype():
    assert mix_neighbours(torch.ones(4, 2, dtype=torch.bfloat16), torch.rand(4, 2)).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("progress", "keep"),
    [(0, 1), (0.2, 1), (0.375, 0.5 * (1 + math.cos(math.pi / 4))), (0.55, 0.5), (0.9, 0), (1, 0)],
)
def test_gain_range(progress, keep):
    assert gain_range(progress, 0.0, 3.0, False) == (0.0, 3.0)
    assert gain_range(progress, 0.0, 3.0, True) == pytest.approx((1 - keep, 1 + 2 * keep), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 100), st.floats(0, 1), st.floats(1, 5), st.floats(0, 1))
def test_gains_are_capped_and_small_ones_vanish(seed, batch, low, high, probability):
    peaks = 2 * torch.rand(batch, generator=seeded(seed + 1))
    a = draw_gains(peaks, (low, high), probability, seeded(seed))
    assert a.shape == (batch,)
    assert (a * peaks <= 1 + 1e-6).all()
    assert ((a >= 0) & (a <= high + 1e-6)).all()
    assert ((a == 0) | (a >= min(0.05, 1 / 2)) | (a >= 1 / peaks - 1e-6)).all()


def test_gains_are_drawn_as_published():
    n = 40000
    a = draw_gains(torch.full((n,), 0.01), (0.0, 3.0), 0.8, seeded(0))
    assert float((a == 1).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float((a == 0).float().mean()) == pytest.approx(0.8 * 0.05 / 3, abs=0.003)
    drawn = a[a != 1]
    assert float(drawn.mean()) == pytest.approx(1.5, abs=0.02)
    assert float(drawn.max()) == pytest.approx(3, abs=0.01)


def test_gains_at_the_edges():
    quiet = torch.full((500,), 0.1)
    assert (draw_gains(quiet, (0.0, 3.0), 0.0, seeded(0)) == 1).all()
    assert (draw_gains(quiet, (0.0, 0.049), 1.0, seeded(0)) == 0).all()
    assert (draw_gains(quiet, (0.05, 0.06), 1.0, seeded(0)) > 0).all()
    assert torch.allclose(draw_gains(torch.full((9,), 4.0), (1.0, 3.0), 1.0, seeded(0)), torch.tensor(0.25))
    silent = draw_gains(torch.zeros(500), (0.0, 3.0), 1.0, seeded(0))
    assert torch.isfinite(silent).all()
    assert silent.max() <= 3


def test_draws_repeat_by_seed():
    for draw in (
        lambda g: draw_mixing_weights(9, g),
        lambda g: draw_gains(torch.ones(9) * 0.1, (0, 3), 0.8, g),
        lambda g: torch.stack(draw_levels(9, Preconditioning(), -1.1, 2.0, 0.1, g)),
    ):
        assert torch.equal(draw(seeded(3)), draw(seeded(3)))
        assert not torch.equal(draw(seeded(3)), draw(seeded(4)))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.001, 0.3), st.floats(-3, 1), st.sampled_from([(0.5, 80.0), (0.25, 20.0)]))
def test_teacher_stands_one_step_below(seed, step, mean, shape):
    p = Preconditioning(shape[0], 0.002, shape[1])
    student, teacher = draw_levels(200, p, mean, 2.0, step, seeded(seed))
    free = p.index(student) > step
    assert torch.allclose((p.index(student) - p.index(teacher))[free], torch.tensor(step), atol=2e-5)
    assert torch.allclose(teacher[~free], torch.tensor(p.sigma_min), rtol=2e-3)
    assert (teacher < student).all()
    assert teacher.min() >= p.sigma_min
    assert student.max() <= p.sigma_max * (1 + 1e-4)


def test_student_is_log_normal():
    student, _ = draw_levels(40000, Preconditioning(), -1.1, 2.0, 1e-3, seeded(0))
    assert float(student.log().median()) == pytest.approx(-1.1, abs=0.05)
    inner = student.log().sort().values
    assert float(inner[33640] - inner[6360]) == pytest.approx(4.0, abs=0.1)  # one deviation to both sides


@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 7), (1, 64, 2048)])
def test_pseudo_huber(shape):
    d = torch.randn(shape, generator=seeded(0))
    count = math.prod(shape[1:])
    c = 0.00054 * math.sqrt(count)
    for got, item in zip(pseudo_huber(d), d.flatten(1).double(), strict=True):
        assert float(got) == pytest.approx(math.sqrt(float(item @ item) + c * c) - c, rel=1e-4)
    assert pseudo_huber(torch.zeros(shape)).abs().max() < 1e-6


def test_teacher_gives_no_gradient_and_weights_divide():
    from lincae_core.models.frame64 import FRAME, Frame64Config, Frame64Model

    torch.manual_seed(0)
    model = Frame64Model(Frame64Config(width=8, latent_width=8, latent_dim=4, denoiser_blocks=1))
    target, noise = torch.randn(2, 8, FRAME), torch.randn(2, 8, FRAME)
    features = torch.randn(2, 8, 8, requires_grad=True)
    high, low = torch.tensor([1.0, 5.0]), torch.tensor([0.9, 2.0])
    seen = []
    denoise = model.denoise

    def spy(x, sigma, f):
        out = denoise(x, sigma, f)
        seen.append((x.detach(), sigma, out))
        return out

    model.denoise = spy
    loss = consistency_loss(model, target, features, noise, high, low, "step").detach()
    by_level = {tuple(s.tolist()): (x, out) for x, s, out in seen}
    (teacher_in, teacher), (student_in, student) = (
        by_level[tuple(low.tolist())],
        by_level[tuple(high.tolist())],
    )
    assert not teacher.requires_grad
    assert student.requires_grad
    assert torch.allclose(student_in - target, high[:, None, None] * noise, atol=1e-5)
    assert torch.allclose(teacher_in - target, low[:, None, None] * noise, atol=1e-5)
    distance = pseudo_huber(student - teacher).detach()
    assert float(loss) == pytest.approx(float((distance / (high - low)).mean()), rel=1e-5)
    other = consistency_loss(model, target, features, noise, high, low, "relative").detach()
    weights = high / (high - low) / model.preconditioning.c_out(high)
    assert float(other) == pytest.approx(float((weights * distance).mean()), rel=1e-5)


def test_a_step_of_one_is_regression_to_the_clean_frames():
    from lincae_core.models.frame64 import FRAME, Frame64Config, Frame64Model

    torch.manual_seed(0)
    model = Frame64Model(Frame64Config(width=8, latent_width=8, latent_dim=4, denoiser_blocks=1))
    student, teacher = draw_levels(64, model.preconditioning, 0.0, 2.0, 1.0, seeded(0))
    assert torch.allclose(teacher, torch.tensor(model.config.sigma_min), rtol=1e-4)
    clean, noise = torch.randn(64, 8, FRAME), torch.randn(64, 8, FRAME)
    aim = model.denoise(clean + teacher[:, None, None] * noise, teacher, torch.zeros(64, 8, 8))
    assert (aim - clean).abs().max() < 0.02  # the noise at sigma_min
    assert student.min() > 2 * model.config.sigma_min


@pytest.mark.parametrize(("progress", "size"), [(0, 0.1), (0.5, 0.1**1.5), (1, 0.01)])
def test_step_size(progress, size):
    assert step_size(progress, 1, 2) == pytest.approx(size)


def test_learning_rate():
    rate = [learning_rate(i / 100, 1e-3, 1e-6, 0.1) for i in range(101)]
    assert 0 < rate[0] < 1e-5
    assert rate[5] == pytest.approx(5e-4)
    assert rate[10] == pytest.approx(1e-3)
    assert rate[55] == pytest.approx((1e-3 + 1e-6) / 2)
    assert rate[100] == pytest.approx(1e-6)
    assert rate[:11] == sorted(rate[:11])
    assert rate[10:] == sorted(rate[10:], reverse=True)
    assert learning_rate(0.0, 1e-3, 1e-6, 0.0) == pytest.approx(1e-3)


def test_average_starts_fast():
    assert ema_decay(0, 0.999) == pytest.approx(0.1)
    assert ema_decay(90, 0.999) == pytest.approx(0.91)
    assert ema_decay(10**6, 0.999) == 0.999
