"""The paper's two tricks and everything else a step draws, as pure functions; and the step itself."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator

from lincae_core.models.consistency import Preconditioning
from lincae_core.training.loop import ema_decay, learning_rate
from lincae_core.training.method import (
    LinCaeStep,
    consistency_loss,
    draw_gains,
    draw_sigma,
    draw_weights,
    gain_range,
    mix,
    pseudo_huber,
    step_size,
)

SEEDS = st.integers(0, 2**31)


def seeded(seed):
    return Generator().manual_seed(seed)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(1, 200))
def test_mixing_weights_in_range(seed, batch):
    w = draw_weights(batch, seeded(seed))
    assert w.shape == (batch,)
    assert w.min() >= 0.5
    assert w.max() <= 1


def test_mixing_weights_are_uniform():
    w = draw_weights(20000, seeded(0))
    assert float(w.mean()) == pytest.approx(0.75, abs=0.005)
    assert float(w.std()) == pytest.approx(0.5 / math.sqrt(12), abs=0.005)


def test_mixing_by_hand():
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]])
    w = torch.tensor([0.5, 0.75, 1.0])
    truth = torch.tensor([[50.5, 101.0], [7.75, 15.5], [100.0, 200.0]])
    assert torch.allclose(mix(x, w), truth)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 8), st.integers(1, 5), st.integers(1, 6))
def test_mixing_commutes_with_any_linear_encoder(seed, batch, frames, dim):
    g = seeded(seed)
    x = torch.randn(batch, frames * 10, generator=g, dtype=torch.float64)
    matrix = torch.randn(10, dim, generator=g, dtype=torch.float64)
    w = draw_weights(batch, g)

    def encode(audio):
        return audio.view(batch, frames, 10) @ matrix

    assert torch.allclose(encode(mix(x, w)), mix(encode(x), w))


def test_mixing_keeps_the_dtype():
    assert mix(torch.ones(4, 2, dtype=torch.bfloat16), torch.rand(4)).dtype == torch.bfloat16


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
        lambda g: draw_weights(9, g),
        lambda g: draw_gains(torch.ones(9) * 0.1, (0, 3), 0.8, g),
        lambda g: torch.stack(draw_sigma(9, Preconditioning(), -1.1, 2.0, 0.1, g)),
    ):
        assert torch.equal(draw(seeded(3)), draw(seeded(3)))
        assert not torch.equal(draw(seeded(3)), draw(seeded(4)))


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.floats(0.001, 0.3), st.floats(-3, 1), st.sampled_from([(0.5, 80.0), (0.25, 20.0)]))
def test_teacher_stands_one_step_below(seed, step, mean, shape):
    p = Preconditioning(shape[0], 0.002, shape[1])
    student, teacher = draw_sigma(200, p, mean, 2.0, step, seeded(seed))
    free = p.index(student) > step
    assert torch.allclose((p.index(student) - p.index(teacher))[free], torch.tensor(step), atol=2e-5)
    assert torch.allclose(teacher[~free], torch.tensor(p.sigma_min), rtol=2e-3)
    assert (teacher < student).all()
    assert teacher.min() >= p.sigma_min
    assert student.max() <= p.sigma_max * (1 + 1e-4)


def test_student_is_log_normal():
    student, _ = draw_sigma(40000, Preconditioning(), -1.1, 2.0, 1e-3, seeded(0))
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
    student, teacher = draw_sigma(64, model.preconditioning, 0.0, 2.0, 1.0, seeded(0))
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


# The step as a whole, on a model that shows what it is given.


class Probe:
    """A model whose encoder is linear, and whose networks note what they see."""

    preconditioning = Preconditioning()

    def __init__(self):
        self.frontend = self
        self.heard, self.latents, self.targets = [], [], []

    def analyse(self, audio):
        return audio.unflatten(1, (-1, 2))[:, :, :]

    def encoder(self, frames):
        self.heard.append(frames)
        return 3.0 * frames

    def decoder(self, z):
        self.latents.append(z)
        return z

    def denoise(self, x, sigma, features):
        self.targets.append((x, sigma))
        return x


def step(mixtures, gains, **more):
    from types import SimpleNamespace

    from lincae_core.training.recipe import ConsistencySection, LinearitySection

    recipe = SimpleNamespace(
        linearity=LinearitySection(mixtures=mixtures, gains=gains, **more), consistency=ConsistencySection(),
        data=SimpleNamespace(crop_frames=8), seed=0,
    )  # fmt: skip
    return LinCaeStep(recipe)


def seen(mixtures, gains, **more):
    """What a step shows to the networks: encoder's frames, latents, clean target; and crops, weights, gains."""
    model, how = Probe(), step(mixtures, gains, **more)
    x = 0.2 * torch.randn(4, 8, generator=seeded(1))
    draws = how.draw(model, x, 0.0, seeded(2))
    draws["noise"] = torch.zeros(len(draws["gains"]), 4, 2)
    loss, _ = how.loss(model, x, draws)
    assert torch.isfinite(loss)
    return model.heard[0].flatten(1), model.latents[0].flatten(1), model.targets[0][0].flatten(1), x, draws


def test_lin_cae_the_encoder_hears_the_crops_alone_and_both_tricks_act_on_the_latents():
    heard, z, target, x, d = seen("latent", "latent")
    w, a = d["weights"][:, None], d["gains"][:, None]
    assert torch.equal(heard, x), "neither mixtures nor gains"
    latents = torch.cat([3 * x, w * 3 * x + (1 - w) * (3 * x).roll(1, 0)])
    assert torch.allclose(z, a * latents)
    assert torch.allclose(target, a * torch.cat([x, w * x + (1 - w) * x.roll(1, 0)]))
    assert len(set(a.flatten().tolist())) > 4, "gains differ from item to item"


def test_the_baseline_hears_what_it_has_to_give_back():
    heard, z, target, x, d = seen("audio", "audio")
    w, a = d["weights"][:, None], d["gains"][:, None]
    assert torch.allclose(target, a * torch.cat([x, w * x + (1 - w) * x.roll(1, 0)]))
    assert torch.allclose(heard, target)
    assert torch.allclose(z, 3 * target), "nothing is done to its latents"
    tricks = seen("latent", "latent")
    assert torch.allclose(target, tricks[2]), "and it learns from the same audio as Lin-CAE"


def test_the_first_trick_alone_mixes_latents_of_scaled_crops():
    heard, z, target, x, d = seen("latent", "audio")
    w, a = d["weights"][:, None], d["gains"][:4, None]
    assert torch.allclose(heard, a * x)
    scaled = a * x
    assert torch.allclose(target, torch.cat([scaled, w * scaled + (1 - w) * scaled.roll(1, 0)]))
    assert torch.allclose(z, 3 * target), "the latents belong to the target"


def test_the_second_trick_alone_scales_latents_of_encoded_mixtures():
    heard, z, target, x, d = seen("audio", "latent")
    w, a = d["weights"][:, None], d["gains"][:, None]
    assert torch.allclose(heard, torch.cat([x, w * x + (1 - w) * x.roll(1, 0)]))
    assert torch.allclose(z, a * 3 * heard)
    assert torch.allclose(target, a * heard)


def test_without_tricks_there_are_crops_alone():
    heard, z, target, x, _ = seen("none", "none")
    assert torch.equal(heard, x)
    assert torch.equal(target, x)
    assert torch.equal(z, 3 * x)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_the_papers_baseline_replaces_crops_by_mixtures(probability):
    heard, _, target, x, d = seen("replace", "audio", mixture_probability=probability)
    w, a = d["weights"][:, None], d["gains"][:, None]
    mixed = w * x + (1 - w) * x.roll(1, 0)
    assert len(target) == len(x)
    assert torch.allclose(target, a * torch.where(d["replaced"][:, None], mixed, x))
    assert torch.equal(heard, target)
    if probability != 0.5:
        assert bool((d["replaced"] == (probability == 1)).all())


@pytest.mark.parametrize("mixtures", ["latent", "audio", "replace", "none"])
def test_scaled_audio_never_clips(mixtures):
    how = step(mixtures, "latent", gain_low=1, gain_high=3, gain_probability=1)
    x = 0.9 * torch.sign(torch.randn(16, 8, generator=seeded(0)))
    draws = how.draw(Probe(), x, 0.0, seeded(1))
    model = Probe()
    draws["noise"] = torch.zeros(len(draws["gains"]), 4, 2)
    how.loss(model, x, draws)
    assert float(model.targets[0][0].abs().max()) <= 1 + 1e-6
