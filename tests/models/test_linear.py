"""The linear path: additive, homogeneous, and a model around it that is so from end to end."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.models.autoencoder import Autoencoder
from lincae_core.models.frame import FRAME, RATIO, FrameConfig, FrameModel
from lincae_core.models.frontend import HOP, LEAD, Frontend
from lincae_core.models.linear import REACH, LinearAnalysis, LinearSynthesis, magnitude_power
from lincae_core.stream import decode_array, decode_range, encode_array, latent_levels

SMALL = {
    "width": 16, "latent_width": 16, "latent_dim": 8, "expand": 1, "decoder_latent_blocks": 1, "denoiser_blocks": 1,
    "linear_path": True, "encoder_network": False,
}  # fmt: skip


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def linear():
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**SMALL)).eval()
    return Autoencoder(model, {"name": "a", "version": "0", "fingerprint": ""}, torch.device("cpu"))


def test_powers_undo_each_other_and_keep_the_phase():
    frames = rand(2, 5, FRAME)
    assert relative(magnitude_power(magnitude_power(frames, 0.65), 1 / 0.65), frames) < 1e-5
    real, imag = magnitude_power(frames, 0.65).chunk(2, -1)
    before, after = torch.complex(*frames.chunk(2, -1)), torch.complex(real, imag)
    assert torch.allclose(after.angle(), before.angle(), atol=1e-4)
    assert torch.allclose(after.abs(), before.abs() ** 0.65, atol=1e-4)


def test_gradients_are_finite_at_silence():
    analysis, synthesis = LinearAnalysis(4, 0.65, 0.34), LinearSynthesis(4, 0.65, 0.34)
    frames, z = torch.zeros(1, 16, FRAME).requires_grad_(), torch.zeros(1, 2, 4).requires_grad_()
    (analysis(frames).sum() + synthesis(z).sum()).backward()
    for tensor in (frames, z, analysis.weight, synthesis.weight):
        assert torch.isfinite(tensor.grad).all()


def test_a_latent_frame_reaches_one_to_each_side():
    analysis, synthesis = LinearAnalysis(4, 0.65, 0.34), LinearSynthesis(4, 0.65, 0.34)
    frames = rand(1, 9 * RATIO, FRAME).requires_grad_()
    (seen,) = torch.autograd.grad(analysis(frames)[:, 4].square().sum(), frames)
    touched = {int(f) // RATIO for f in seen.abs().sum((0, 2)).nonzero()}
    assert touched == set(range(4 - REACH, 4 + REACH + 1))
    z = rand(1, 9, 4).requires_grad_()
    (seen,) = torch.autograd.grad(synthesis(z)[:, 4 * RATIO : 5 * RATIO].square().sum(), z)
    assert set(seen.abs().sum((0, 2)).nonzero().flatten().tolist()) == set(range(4 - REACH, 4 + REACH + 1))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.floats(-4, 4), st.floats(-4, 4))
def test_analysis_of_a_sum_is_the_sum(seed, a, b):
    frontend, analysis = Frontend(), LinearAnalysis(6, 0.65, 0.34)
    n = 16 * HOP + 2 * LEAD
    x, y = rand(1, n, seed=seed), rand(1, n, seed=seed + 50)

    def encode(audio):
        return analysis(frontend.analyse(audio))

    with torch.no_grad():
        scale = abs(a) * encode(x).norm() + abs(b) * encode(y).norm() + 1e-6
        assert (encode(a * x + b * y) - a * encode(x) - b * encode(y)).norm() < 1e-4 * scale


def test_latents_of_files_add_up_and_scale(linear):
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((1, 30_000)).astype(np.float32) * s for s in (0.2, 0.02))
    both = encode_array(linear, x + y)
    apart = encode_array(linear, x) + encode_array(linear, y)
    assert np.linalg.norm(both - apart) < 1e-4 * np.linalg.norm(both)
    assert np.allclose(encode_array(linear, -0.25 * x), -0.25 * encode_array(linear, x), atol=1e-5)
    z = encode_array(linear, x)
    decoded = decode_array(linear, z, 30_000)
    assert np.allclose(decode_array(linear, 3 * z, 30_000), 3 * decoded, atol=1e-4 * np.abs(decoded).max())


def test_a_network_begins_as_nothing():
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**{**SMALL, "encoder_network": True}))
    frames = rand(1, 3 * RATIO, FRAME)
    assert torch.equal(model.encoder(frames), model.encoder.linear(frames))
    with torch.no_grad():
        model.encoder.network.output.bias += 1
    assert not torch.equal(model.encoder(frames), model.encoder.linear(frames))


def test_an_encoder_of_nothing_is_refused():
    with pytest.raises(ValueError, match="linear path or a network"):
        FrameConfig(linear_path=False, encoder_network=False)


def test_the_estimate_goes_through_where_decoding_starts():
    """With the networks' read-outs at 0 a decode is the linear synthesis."""
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**SMALL))
    for layer in (model.denoiser.output, model.denoiser.gain):
        torch.nn.init.zeros_(layer.weight)
    z = rand(1, 4, 8)
    with torch.no_grad():
        features = model.decoder(z)
        out = model.denoise(torch.zeros(1, 4 * RATIO, FRAME), torch.tensor([model.config.sigma_max]), features)
    assert relative(out, features[1]) < 1e-2


@pytest.mark.parametrize("stretch", [1, 5])
@pytest.mark.parametrize("shape", [{}, {"power_spans": (3, 9), "decoder_latent_blocks": 3, "decoder_frame_blocks": 2}])
def test_a_stretch_sees_all_it_depends_on_and_computes_no_more(shape, stretch):
    """Blocks at the frame rate run over a stretch and what they reach, not over the whole of the context."""
    torch.manual_seed(0)
    model = FrameModel(FrameConfig(**{**SMALL, **shape})).eval()
    codec = Autoencoder(model, {"name": "a", "version": "0", "fingerprint": ""}, torch.device("cpu"))
    z, frames = rand(1, 8, 40).numpy(), []
    whole = decode_array(codec, z, 40 * 4096)
    plain = model.denoiser.forward
    model.denoiser.forward = lambda x, *more: frames.append(x.shape[1]) or plain(x, *more)
    blocks = decode_range(
        codec, lambda a, b: z[:, :, a:b], 40, latent_levels([z]), 12 * 4096, 22 * 4096, stretch=stretch
    )
    part = np.concatenate(list(blocks), 1)
    scale = float(np.abs(whole).max())
    assert np.abs(part - whole[:, 12 * 4096 : 22 * 4096]).max() < 1e-5 * scale
    assert set(frames) == {RATIO * (stretch + 2 + 2 * model.frame_context)}
