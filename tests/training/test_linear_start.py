"""What a linear path begins as: a linear codec that works before any training."""

import numpy as np
import pytest
import torch

from lincae_core.models.frame import FrameConfig, FrameModel
from lincae_core.models.frontend import HOP, LEAD
from lincae_core.training.data import load_clips
from lincae_core.training.linear_start import LENGTH, begin_linear, principal_functions, probe_functions
from lincae_core.training.recipe import LinearStartSection

PROBES, LATENTS = 4, 16
START = LinearStartSection(probes=PROBES)


@pytest.fixture(scope="module")
def clips(audio):
    return load_clips([(audio, 1.0)], 0.1, 34304, 0)[0]


@pytest.fixture(scope="module")
def model(clips):
    torch.manual_seed(0)
    small = {"width": 16, "latent_width": 16, "expand": 1, "decoder_latent_blocks": 1, "denoiser_blocks": 1}
    made = FrameModel(FrameConfig(latent_dim=LATENTS, linear_path=True, encoder_network=False, **small))
    begin_linear(made, clips, START, 0)
    return made


def test_principal_functions_are_orthonormal_and_sorted(clips):
    functions, variances = principal_functions(clips, 12, 0)
    assert functions.shape == (12, LENGTH)
    assert torch.allclose(functions @ functions.T, torch.eye(12), atol=1e-4)
    assert (variances.diff() <= 1e-6).all()
    # as laid out one latent frame further they are orthogonal, too: the transform is lapped
    later = torch.nn.functional.pad(functions, (4096, 0))[:, :LENGTH]
    assert float((functions @ later.T).abs().max()) < 0.3


def test_probes_stay_in_their_bands():
    probes = probe_functions(LinearStartSection(probes=6), 0)
    assert torch.allclose(probes.norm(dim=1), torch.ones(6), atol=1e-5)
    power = torch.fft.rfft(probes).abs().square()
    hertz = torch.fft.rfftfreq(LENGTH, 1 / 44100)
    centres = (power * hertz).sum(1) / power.sum(1)
    assert (centres.diff() > 0).all()
    assert float(centres[0]) > 500
    assert float(centres[-1]) < 17000
    assert float((power[:, (hertz < 400) | (hertz > 17500)].sum(1) / power.sum(1)).max()) < 1e-2


def test_short_probes_take_turns_over_a_latent_frame():
    probes = probe_functions(LinearStartSection(probes=8, length=2048, places=4), 0)
    time = torch.arange(LENGTH)
    centres = ((probes.square() * time).sum(1) - LENGTH / 2).round()
    assert centres.tolist() == pytest.approx(2 * [-1536, -512, 512, 1536], abs=300)
    for probe, centre in zip(probes, [-1536, -512, 512, 1536] * 2, strict=True):
        assert not probe[(time - LENGTH / 2 - centre).abs() > 1030].any()


def test_latents_are_of_one_size_and_tell_of_tones(model, clips):
    x = clips.crops(32, 64 * HOP + 2 * LEAD, torch.Generator().manual_seed(1))
    with torch.no_grad():
        z = model.encoder(model.frontend.analyse(x))
    assert 0.3 < float(z[..., :-PROBES].square().mean().sqrt()) < 3
    assert 0.1 < float(z[..., -PROBES:].square().mean().sqrt()) < 3


def test_it_codes_what_it_was_fitted_on(model, clips):
    """The tones of the training audio come back better than by chance, without a step of training."""
    x = clips.crops(16, 64 * HOP + 2 * LEAD, torch.Generator().manual_seed(2))
    with torch.no_grad():
        frames = model.frontend.analyse(x)
        y = model.frontend.synthesise(model.decoder.linear(model.encoder(frames)))
    y = y / model.frontend.overlap(64).clamp_min(1e-3)
    inside = slice(8192, -8192)
    error = (x - y)[:, inside].square().sum() / x[:, inside].square().sum()
    assert float(error) < 0.5


def test_a_probe_is_as_large_as_its_band_is_loud(model):
    t = np.arange(64 * HOP + 2 * LEAD) / 44100
    band = np.random.default_rng(0).standard_normal(len(t))
    spectrum = np.fft.rfft(band)
    hertz = np.fft.rfftfreq(len(t), 1 / 44100)
    highest = np.fft.irfft(spectrum * ((hertz > 9000) & (hertz < 16000)), n=len(t))
    x = torch.from_numpy(np.stack([highest, 0.1 * highest]).astype(np.float32))
    with torch.no_grad():
        z = model.encoder(model.frontend.analyse(x))[:, 2:-2]
    loud, quiet = z[0, :, -1].square().mean().sqrt(), z[1, :, -1].square().mean().sqrt()
    assert float(loud / quiet) == pytest.approx(10, rel=1e-2)
    assert loud > 3 * z[0, :, -PROBES].square().mean().sqrt()


def test_it_is_the_same_every_time(model, clips):
    again = FrameModel(model.config)
    begin_linear(again, clips, START, 0)
    assert torch.equal(again.encoder.linear.weight, model.encoder.linear.weight)
    assert torch.equal(again.decoder.linear.weight, model.decoder.linear.weight)
