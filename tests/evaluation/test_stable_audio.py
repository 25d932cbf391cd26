"""Stable Audio's VAE by diffusers, small and with random weights."""

import numpy as np
import pytest
import torch
from eval_helpers import RATE, music

from lincae_core.evaluation import references as module
from lincae_core.evaluation.references import CONFIG, WEIGHTS, StableAudioVae
from lincae_core.evaluation.systems import Options, choose_systems
from lincae_formats.errors import LincaeError

diffusers = pytest.importorskip("diffusers", reason="the package diffusers is not installed")
HOP = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As `lincae models pull stable-audio-vae` leaves it: saved by diffusers itself."""
    torch.manual_seed(0)
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=12, downsampling_ratios=[2, 4], channel_multiples=[1, 2], decoder_channels=8,
        decoder_input_channels=6, audio_channels=2, sampling_rate=RATE,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("models") / "stable-audio-vae"
    vae.save_pretrained(path)
    assert sorted(p.name for p in path.iterdir()) == [CONFIG, WEIGHTS]
    return path


@pytest.fixture(scope="module")
def system(folder):
    return StableAudioVae(folder, "cpu")


@pytest.fixture(scope="module")
def vae(folder):
    return diffusers.AutoencoderOobleck.from_pretrained(folder).eval()


@pytest.mark.parametrize("n", [1, 7, 8, 9, 3000])
def test_lengths(system, n):
    latent = system.encode(music(1)[:n])
    assert latent.shape == (6, -(-n // HOP))
    audio = system.decode(latent, n)
    assert (audio.shape, audio.dtype) == ((n,), np.float32)


def test_rates(system):
    assert system.latent_rate == 6 * RATE / HOP
    assert system.bytes_per_second == 2 * system.latent_rate


def test_is_what_diffusers_computes_at_once(system, vae):
    """The mode of the posterior of the same signal in both channels; cuts into stretches change nothing."""
    x = music(0.2)[: 500 * HOP]  # four stretches
    with torch.inference_mode():
        mode = vae.encode(torch.from_numpy(x).expand(1, 2, -1)).latent_dist.mode()
        audio = vae.decode(mode).sample[0].mean(0).numpy()
    assert 3 * module.STRETCH < 500
    latent = system.encode(x)
    assert latent == pytest.approx(mode[0].numpy(), abs=1e-5)
    assert system.decode(latent, len(x)) == pytest.approx(audio, abs=1e-5)
    assert np.array_equal(latent, system.encode(x))


def test_the_real_networks_reach_is_within_the_context():
    """The published configuration: what lies beyond the context changes nothing, on both sides."""
    reach = 0.0
    for ratio in (8, 64, 256, 1024, 2048):  # samples of a latent frame at the level's rate: 2048, 1024, 256, ...
        reach += (3 * (1 + 3 + 9) + 2) / ratio  # three residual units of kernel 7, and the (transposed) convolution
    assert 3 + reach < module.CONTEXT


def test_is_found_among_the_users_models(folder, monkeypatch):
    monkeypatch.setenv("LINCAE_MODELS", str(folder.parent))
    (found,) = choose_systems(["stable-audio-vae"], [], Options(device="cpu"))
    assert found.name == "stable-audio-vae"
    assert found.fingerprint.startswith("sha256:")
    assert diffusers.__version__ in found.version


def test_the_fingerprint_follows_the_weights(folder, tmp_path, system):
    (tmp_path / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    weights = bytearray((folder / WEIGHTS).read_bytes())
    weights[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(weights)
    assert StableAudioVae(tmp_path).fingerprint != system.fingerprint


def test_loading_says_nothing(folder, capfd, recwarn):
    StableAudioVae(folder, "cpu").encode(music(0.1))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert not recwarn.list


def test_weights_load_again_after_closing(system):
    x = music(0.1)
    before = system.encode(x)
    system.close()
    assert np.array_equal(before, system.encode(x))


def test_damage(folder, tmp_path):
    with pytest.raises(LincaeError, match="lincae models pull stable-audio-vae"):
        StableAudioVae(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    (tmp_path / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(LincaeError, match="not a config of AutoencoderOobleck"):
        StableAudioVae(tmp_path)
    (tmp_path / CONFIG).write_bytes((folder / CONFIG).read_bytes())
    with pytest.raises(LincaeError, match="cannot load its weights"):
        StableAudioVae(tmp_path, "cpu").encode(music(0.1))
