"""`unet` beside the networks of the public packages on the same random weights."""

import numpy as np
import pytest
import torch
from oracles import filled, linear_cae, music2latent, relative

from lincae_core.models.autoencoder import Autoencoder
from lincae_core.models.consistency import sample
from lincae_core.models.frontend import BINS, Frontend
from lincae_core.models.published import convert
from lincae_core.models.unet import UnetConfig, UnetModel, to_frames
from lincae_core.stream import decode_array, encode_array
from lincae_formats.errors import LincaeError

FRAMES = 16  # STFT frames: 2 latent frames, which keeps the full network fast enough for a test
LIMIT = 1e-3


def ours(state, config=None):
    model = UnetModel(config or UnetConfig())
    model.load_state_dict(convert(state, model.config, "oracle"))
    return model.eval()


def lin_cae_network():
    # what generator_kwargs of lin-cae, lin-cae-2 and m2l say; the three differ in their weights alone
    return filled(linear_cae().UNet(hop=512))


def music2latent_network():
    return filled(music2latent().UNet())


NETWORKS = {"lin-cae, lin-cae-2, m2l": lin_cae_network, "music2latent": music2latent_network}


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda name: name.split(",")[0])
def pair(request):
    theirs = NETWORKS[request.param]()
    return ours(theirs.state_dict()), theirs


@pytest.fixture(scope="module")
def image():
    return 0.5 * torch.randn(1, 2, BINS, FRAMES, generator=torch.Generator().manual_seed(1))


def report(capsys, what, value):
    with capsys.disabled():
        print(f"\n  {what}: largest relative difference {value:.1e}", end="")
    assert value < LIMIT


def test_parameter_for_parameter(pair):
    model, theirs = pair
    count = sum(p.numel() for p in model.parameters())
    assert count == sum(p.numel() for p in theirs.parameters())
    assert round(count / 1e6, 2) == 58.19


@torch.inference_mode()
def test_latents(pair, image, capsys):
    model, theirs = pair
    z = model.encoder(to_frames(image.transpose(2, 3)))
    truth = theirs.encoder(image).transpose(1, 2)
    assert float(truth.std()) > 0.01
    report(capsys, "latents", relative(z, truth))


@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 4])
def test_decoded_representation_from_the_same_noise(pair, image, steps, capsys):
    model, theirs = pair
    g = torch.Generator().manual_seed(steps)
    noise = [torch.randn(image.shape, generator=g) for _ in range(steps)]
    z = torch.tanh(torch.randn(1, 64, FRAMES // 8, generator=g))
    p = model.preconditioning
    x = p.sigma_max * noise[0]
    call = theirs if "music2latent" in type(theirs).__module__ else theirs.forward_generator
    truth = call(z, x, sigma=p.sigma_max)
    for step in range(1, steps):
        sigma = float(p.sigma(torch.tensor(1 - step / steps, dtype=torch.float64)))
        x = truth + (sigma**2 - p.sigma_min**2) ** 0.5 * noise[step]
        truth = call(z, x, sigma=sigma)
    features = model.decoder(z.transpose(1, 2))
    frames = sample(
        lambda noisy, sigma: model.denoise(noisy, sigma, features),
        lambda step: to_frames(noise[step].transpose(2, 3)),
        p,
        steps,
    )
    report(capsys, f"representation, {steps} steps", relative(frames, to_frames(truth.transpose(2, 3))))


def test_waveform(capsys):
    """Both ways through the frontend; theirs begins its first frame at sample 0, ours 768 samples before."""
    frontends = pytest.importorskip("linear_cae.components.frontends", reason="linear-cae 0.1.4 is not installed")
    theirs = frontends.ScaledComplexSTFT(hop_size=512, n_fft_factor=4, alpha_rescale=0.65, beta_rescale=0.34)
    mine = Frontend()
    audio = 0.1 * torch.randn(1, 512 * 64 + 1536, generator=torch.Generator().manual_seed(2))
    frames = mine.analyse(audio)
    truth = theirs.to_representation(audio)
    report(capsys, "frames", relative(frames, to_frames(truth.transpose(2, 3))))
    decoded = mine.synthesise(frames)[0] / mine.overlap(64)
    back = theirs.to_waveform(truth)[0]
    inside = slice(1536, -1536)  # where all four windows overlap
    report(capsys, "waveform", relative(decoded[inside], back[inside]))


TINY = {
    "base_channels": 8, "multipliers": (1, 1, 2, 2, 2), "bottleneck_channels": 16, "bottleneck_blocks": 1,
    "condition_channels": 16,
}  # fmt: skip


def tiny_oracle():
    return filled(
        linear_cae().UNet(
            hop=512, base_channels=8, multipliers_list=[1, 1, 2, 2, 2], bottleneck_base_channels=16,
            num_bottleneck_layers=1, cond_channels=16,
        )
    )  # fmt: skip


def test_another_configuration(image):
    theirs = tiny_oracle()
    model = ours(theirs.state_dict(), UnetConfig(**TINY))
    with torch.inference_mode():
        truth = theirs.encoder(image).transpose(1, 2)
        assert relative(model.encoder(to_frames(image.transpose(2, 3))), truth) < LIMIT


def test_names_of_the_published_file():
    """`generator.` before every name, and the frontend's window beside them."""
    state = {f"generator.{k}": v for k, v in tiny_oracle().state_dict().items()}
    state["frontend.window"] = torch.hann_window(2048)
    assert convert(state, UnetConfig(**TINY), "x").keys() == UnetModel(UnetConfig(**TINY)).state_dict().keys()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv_inp.bias"), ["lacks conv_inp.bias"]),
        (lambda s: s.update(extra=torch.zeros(1)), ["has extra"]),
        (lambda s: s.update({"conv_inp.bias": torch.zeros(9)}), ["conv_inp.bias", "[9]", "[8]"]),
        (lambda s: s.update({"conv_inp.bias": torch.full((8,), torch.nan)}), ["not finite"]),
        (lambda s: s.update({"conv_inp.bias": "no tensor"}), ["no tensor"]),
    ],
)
def test_weights_that_are_no_such_network(change, words):
    state = tiny_oracle().state_dict()
    change(state)
    with pytest.raises(LincaeError) as caught:
        convert(state, UnetConfig(**TINY), "file.pt")
    assert all(word in str(caught.value) for word in ["file.pt", *words])


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    model = filled(UnetModel(UnetConfig(**TINY)))
    info = {"name": "tiny", "version": "1", "fingerprint": "sha256:0"}
    return Autoencoder(model, info, torch.device("cpu"))


def test_encoding_in_stretches_is_encoding_whole(tiny):
    from lincae_core.stream import encode_blocks

    x = np.random.default_rng(0).normal(0, 0.1, (1, 4096 * 27 + 100)).astype(np.float32)
    whole = encode_array(tiny, x)
    assert whole.shape == (1, 64, 28)
    blocks = [x[:, i : i + 10_001] for i in range(0, x.shape[1], 10_001)]
    pieces = np.concatenate(list(encode_blocks(tiny, blocks, np.ones(1), x.shape[1], stretch=7)), 2)
    assert np.abs(pieces - whole).max() < 1e-4 * np.abs(whole).max()


def test_decoding_from_the_middle_is_decoding_whole(tiny):
    from lincae_core.stream import decode_range, latent_levels

    z = np.random.default_rng(1).uniform(-1, 1, (1, 64, 26)).astype(np.float32)
    n = 26 * 4096 - 17
    whole = decode_array(tiny, z, n, steps=2)
    assert np.isfinite(whole).all()
    for start, stop in ((0, n), (50_000, 50_001), (5 * 4096, 18 * 4096 + 5), (n - 1, n)):
        parts = decode_range(tiny, lambda a, b: z[:, :, a:b], 26, latent_levels([z]), start, stop, steps=2, stretch=6)
        part = np.concatenate(list(parts), 1)
        assert part.shape == (1, stop - start)
        assert np.abs(part - whole[:, start:stop]).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("samples", [1, 511, 4096, 4097, 30_000])
def test_any_length(tiny, samples):
    x = np.random.default_rng(0).normal(0, 0.1, (2, samples)).astype(np.float32)
    z = encode_array(tiny, x)
    assert z.shape == (2, 64, -(-samples // 4096))
    assert decode_array(tiny, z, samples).shape == (2, samples)
