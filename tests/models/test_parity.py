"""`unet` beside the public packages, configuration by configuration, on the same random weights and noise."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from oracles import filled, linear_cae, music2latent, relative
from torch import Tensor, nn

from lincae_core.models.codec import Autoencoder, decode_array, encode_array
from lincae_core.models.consistency import BINS, sample
from lincae_core.models.convert import convert
from lincae_core.models.store import PUBLISHED as TABLE
from lincae_core.models.unet import UnetConfig, UnetModel, to_frames
from lincae_formats.errors import LincaeError

FRAMES = 16  # STFT frames: 2 latent frames, which keeps the full network fast enough for a test
LIMIT = 1e-3


@dataclass(frozen=True)
class Theirs:
    """What a public package does, by its own code."""

    network: nn.Module
    encode: Callable[[Tensor], Tensor]  # audio [1, n] to latents [1, 64, K] as published, scaled
    sample: Callable[[Tensor, Tensor, int], Tensor]  # noise at sigma_max, latents and steps to an image
    waveform: Callable[[Tensor], Tensor]  # an image to audio [1, n]
    clipped: bool = False  # whether that audio is held within full scale


@cache
def lin_cae_network():
    """The network of all three of the paper's models, which differ in their weights alone."""
    return filled(linear_cae().UNet(hop=512))


def lin_cae(name):
    network = lin_cae_network()
    from linear_cae import Autoencoder as Peer

    peer = Peer({"hop_size": 512, "n_fft_factor": 4, "alpha_rescale": 0.65, "beta_rescale": 0.34}, PEER_TINY, {},
                name=name).eval()  # fmt: skip
    peer.generator = network

    def draw(x, z, steps):
        return peer.diffusion.reverse_diffusion(network, x, steps, latents=z / peer.scale_factor)

    return Theirs(network, peer.encode, draw, peer.frontend.to_waveform)


def music2latent_public(name):
    network = filled(music2latent().UNet(), seed=1)
    from music2latent import audio, hparams_inference, inference, utils

    scale = hparams_inference.sigma_rescale

    def encode(x):
        return inference.encode_audio_inference(x, SimpleNamespace(gen=network), x.shape[1], 1, device="cpu")

    def draw(x, z, steps):
        return utils.reverse_diffusion(network, x, steps, latents=z * scale)

    return Theirs(network, encode, draw, audio.to_waveform, clipped=True)


PUBLISHED = {"lin-cae": lin_cae, "lin-cae-2": lin_cae, "m2l": lin_cae, "music2latent": music2latent_public}


PEER_TINY = {
    "hop": 512, "base_channels": 8, "multipliers_list": [1, 1, 2, 2, 2], "bottleneck_base_channels": 16,
    "num_bottleneck_layers": 1, "cond_channels": 16,
}  # fmt: skip


def ours(state, config):
    model = UnetModel(config)
    model.load_state_dict(convert(state, config, "oracle"))
    return model.eval()


@lru_cache(1)
def our_network(theirs):
    """`unet` with the weights of a public network."""
    return ours(theirs.state_dict(), UnetConfig())


@pytest.fixture(scope="module", autouse=True)
def networks_are_let_go():
    yield
    lin_cae_network.cache_clear()
    our_network.cache_clear()


@pytest.fixture(scope="module", params=PUBLISHED)
def pair(request):
    name = request.param
    theirs = PUBLISHED[name](name)
    return our_network(theirs.network), theirs, name


@pytest.fixture
def compare(differs):
    def check(what, ours, theirs):
        value = relative(ours, theirs)
        differs(what, value)
        assert value < LIMIT

    return check


def test_all_that_can_be_pulled_is_compared():
    assert PUBLISHED.keys() == {name for name, entry in TABLE.items() if entry.scale}


def test_parameter_for_parameter(pair):
    model, theirs, _ = pair
    count = sum(p.numel() for p in model.parameters())
    assert count == sum(p.numel() for p in theirs.network.parameters())
    assert round(count / 1e6, 2) == 58.19


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@torch.inference_mode()
def test_latents(pair, compare):
    model, theirs, name = pair
    audio = 0.1 * torch.randn(1, 512 * FRAMES + 1536, generator=torch.Generator().manual_seed(1))
    z = model.encoder(model.frontend.analyse(audio)) * TABLE[name].scale
    truth = theirs.encode(audio).transpose(1, 2)
    assert float(truth.std()) > 0.1
    compare(f"{name}, latents", z, truth)


@pytest.mark.filterwarnings("ignore:CUDA is not available:UserWarning")
@torch.inference_mode()
@pytest.mark.parametrize("steps", [1, 4])
def test_what_is_decoded_from_the_same_noise(pair, steps, compare):
    """Representation and waveform, sampled by either's own code; theirs draws its noise as it goes."""
    model, theirs, name = pair
    p, shape = model.preconditioning, (1, 2, BINS, FRAMES)
    torch.manual_seed(steps)
    z = TABLE[name].scale * torch.tanh(torch.randn(1, 64, FRAMES // 8))
    truth = theirs.sample(p.sigma_max * torch.randn(shape), z, steps)
    torch.manual_seed(steps)
    torch.randn(z.shape)
    noise = [torch.randn(shape) for _ in range(steps)]
    features = model.decoder(z.transpose(1, 2) / TABLE[name].scale)
    frames = sample(
        lambda noisy, sigma: model.denoise(noisy, sigma, features),
        lambda step: to_frames(noise[step].transpose(2, 3)),
        p,
        steps,
    )
    compare(f"{name}, representation, steps: {steps}", frames, to_frames(truth.transpose(2, 3)))

    audio = model.frontend.synthesise(frames)[0] / model.frontend.overlap(FRAMES)
    inside = slice(1536, -1536)  # where four windows overlap: theirs fades at the ends
    back = theirs.waveform(truth)[0][inside]
    assert float((back.abs() < 1).float().mean()) > 0.5
    audio = (audio.clamp(-1, 1) if theirs.clipped else audio)[inside]
    compare(f"{name}, waveform, steps: {steps}", audio, back)


TINY = {
    "base_channels": 8, "multipliers": (1, 1, 2, 2, 2), "bottleneck_channels": 16, "bottleneck_blocks": 1,
    "condition_channels": 16,
}  # fmt: skip


def tiny_oracle():
    return filled(linear_cae().UNet(**PEER_TINY))


@pytest.mark.parametrize("way", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_another_configuration_and_every_way_to_compute(way, compare):
    """Two windows at once, at two noise levels."""
    theirs = tiny_oracle()
    model = ours(theirs.state_dict(), UnetConfig(**TINY))
    image = 0.5 * torch.randn(2, 2, BINS, FRAMES, generator=torch.Generator().manual_seed(1))
    frames, sigma = to_frames(image.transpose(2, 3)), torch.tensor([80.0, 0.5])
    with way():
        z, truth = model.encoder(frames), theirs.encoder(image)
        mine = model.denoise(frames, sigma, model.decoder(z))
        decoded = to_frames(theirs.forward_generator(truth, image, sigma=sigma).transpose(2, 3))
    compare(f"a tiny network, latents, {way.__name__}", z.detach(), truth.detach().transpose(1, 2))
    compare(f"a tiny network, representation, {way.__name__}", mine.detach(), decoded.detach())


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
    from lincae_core.models.codec import encode_blocks

    x = np.random.default_rng(0).normal(0, 0.1, (1, 4096 * 27 + 100)).astype(np.float32)
    whole = encode_array(tiny, x)
    assert whole.shape == (1, 64, 28)
    blocks = [x[:, i : i + 10_001] for i in range(0, x.shape[1], 10_001)]
    pieces = np.concatenate([z for z, _ in encode_blocks(tiny, blocks, np.ones(1), x.shape[1], stretch=7)], 2)
    assert np.abs(pieces - whole).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.slow
def test_decoding_from_the_middle_is_decoding_whole(tiny):
    from lincae_core.models.codec import decode_range, latent_rms

    z = np.random.default_rng(1).uniform(-1, 1, (1, 64, 26)).astype(np.float32)
    n = 26 * 4096 - 17
    whole = decode_array(tiny, z, n, steps=2)
    assert np.isfinite(whole).all()
    for start, stop in ((0, n), (50_000, 50_001), (5 * 4096, 18 * 4096 + 5), (n - 1, n)):
        parts = decode_range(
            tiny, lambda a, b: z[:, :, a:b], 26, latent_rms(tiny, [z], 1), start, stop, steps=2, stretch=6
        )
        part = np.concatenate(list(parts), 1)
        assert part.shape == (1, stop - start)
        assert np.abs(part - whole[:, start:stop]).max() < 1e-4 * np.abs(whole).max()


@pytest.mark.parametrize("samples", [1, 511, 4096, 4097, 30_000])
def test_any_length(tiny, samples):
    x = np.random.default_rng(0).normal(0, 0.1, (2, samples)).astype(np.float32)
    z = encode_array(tiny, x)
    assert z.shape == (2, 64, -(-samples // 4096))
    assert decode_array(tiny, z, samples).shape == (2, samples)
