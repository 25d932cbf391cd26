"""The codec with a model of the `frame` family: stretches, levels, integer storage, parts, tensors."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
import torch
from fake_frame import SIZE, fake_autoencoder, noise

from lincae_core.api import Model
from lincae_core.models.codec import (
    Autoencoder,
    decode_array,
    decode_file,
    decode_range,
    encode_array,
    encode_blocks,
    encode_file,
    signal_scales,
)
from lincae_core.models.store import build, load, qualities, save_weights
from lincae_formats import LatReader, read_lat
from lincae_formats.errors import ShapeError, UsageError


@pytest.fixture(scope="module")
def fake():
    return fake_autoencoder()


@pytest.fixture(scope="module")
def frame():
    """The `frame` family's own network, with random weights."""
    torch.manual_seed(0)
    model = build({"family": "frame", "width": 16, "blocks": 1, "expand": 1})
    torch.nn.init.normal_(model.network.output.weight, std=0.1)
    info = {"name": "frame", "version": "0", "fingerprint": "sha256:" + "e" * 64}
    return Autoencoder(model, info, torch.device("cpu"))


def encoded(model, x, cuts, stretch):
    scales = signal_scales(model, [], len(x))
    parts = list(encode_blocks(model, np.split(x, cuts, axis=1), scales, x.shape[1], stretch))
    return [np.concatenate(part, 2) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("n", [1, SIZE, 10 * SIZE + 17])
@pytest.mark.parametrize("stretch", [1, 3, 7])
def test_stretches_of_any_length_encode_alike(fake, n, stretch):
    x = noise(2, n)
    z, levels = encoded(fake, x, [n // 3, n // 2], stretch)
    whole, level = encoded(fake, x, [], 1000)
    assert z.shape == (2, 36, -(-n // SIZE))
    assert levels.shape == (2, 2, -(-n // SIZE))
    assert np.allclose(z, whole, atol=1e-5)
    assert np.allclose(levels, level, atol=1e-5)


def test_encoding_is_linear(fake):
    a, b = noise(1, 5 * SIZE, 1), noise(1, 5 * SIZE, 2)
    apart = 0.5 * encode_array(fake, a) - encode_array(fake, b)
    assert np.allclose(encode_array(fake, 0.5 * a - b), apart, atol=1e-5)


@pytest.mark.parametrize("known", [True, False])
def test_a_part_has_the_bits_of_the_whole(fake, known):
    """Stretches lie at fixed places and are computed whole, so every decode makes the same calls."""
    frames = 40
    z = np.random.default_rng(0).standard_normal((2, 36, frames)).astype(np.float32)
    levels = np.abs(z[:, :2]) if known else None
    read = None if levels is None else lambda a, b: levels[:, :, a:b]

    def part(start, stop, stretch):
        blocks = decode_range(
            fake, lambda a, b: z[:, :, a:b], frames, np.ones(2), start, stop, levels=read, stretch=stretch
        )
        return np.concatenate(list(blocks), 1)

    whole = part(0, frames * SIZE, 16)
    for start, stop in ((0, 1), (5, 3 * SIZE), (15 * SIZE + 7, 33 * SIZE + 1), (39 * SIZE, 40 * SIZE)):
        assert np.array_equal(part(start, stop, 16), whole[:, start:stop])
    assert np.allclose(part(0, frames * SIZE, 1000), whole, atol=1e-5), "stretches cannot be heard"
    assert np.allclose(part(0, frames * SIZE, 1), whole, atol=1e-5)


def test_equal_inverted_and_single_channels(fake):
    x = noise(1, 9 * SIZE)
    z = encode_array(fake, np.concatenate([x, x, 0 * x]))
    left, right, silent = decode_array(fake, z, 9 * SIZE)
    assert left.any()
    assert np.array_equal(left, right)
    assert not silent.any()


@pytest.mark.parametrize(("quality", "dtype"), [(None, "int8"), ("low", "int8"), ("exact", "float32")])
def test_a_file_keeps_levels_and_quality(fake, tmp_path, quality, dtype):
    x = noise(2, 12 * SIZE + 5)
    sf.write(tmp_path / "a.wav", x.T, 44100, subtype="FLOAT")
    encode_file(fake, tmp_path / "a.wav", tmp_path / "a.lat", quality=quality)
    z, level = encoded(fake, x, [], 1000)
    with LatReader(tmp_path / "a.lat") as reader:
        assert reader.dtype == dtype
        assert reader.header.groups == fake.groups(quality or "medium")
        found, levels = reader.read(), reader.levels()
    assert levels.shape == level.shape
    if quality == "exact":
        assert np.isnan(levels).all(), "the model gives none"
    else:
        assert np.allclose(levels, level, rtol=0.4, atol=1e-3)  # steps of a level lie 3 dB apart
    error = np.sqrt(np.mean((found - z) ** 2) / np.mean(z**2))
    assert error < {"int8": 0.7, "float32": 1e-5}[dtype]
    decode_file(fake, tmp_path / "a.lat", tmp_path / "b.wav", subtype="FLOAT")
    decode_file(fake, tmp_path / "a.lat", tmp_path / "c.wav", subtype="FLOAT", start=0.3, end=0.9)
    whole, part = sf.read(tmp_path / "b.wav", dtype="float32")[0], sf.read(tmp_path / "c.wav", dtype="float32")[0]
    assert np.array_equal(part, whole[round(0.3 * 44100) : round(0.9 * 44100)])
    assert np.allclose(whole.T, decode_array(fake, found, x.shape[1], levels=levels), atol=1e-6)


def test_a_quality_is_chosen_or_refused(fake, tiny, tmp_path):
    sf.write(tmp_path / "a.wav", noise(1, 100 * SIZE).T, 44100)
    sizes = {}
    for quality in ("low", "medium", "high", "exact"):
        encode_file(fake, tmp_path / "a.wav", tmp_path / f"{quality}.lat", quality=quality)
        sizes[quality] = (tmp_path / f"{quality}.lat").stat().st_size
    assert sizes["low"] <= sizes["medium"] <= sizes["high"] < sizes["exact"]
    for model, options, words in (
        (fake, {"quality": "best"}, "use one of low"),
        (fake, {"quality": "low", "dtype": "float32"}, "for integers"),
        (tiny, {"quality": "low"}, "stores floats"),
        (tiny, {"dtype": "int8"}, "stores floats only"),
    ):
        with pytest.raises(UsageError, match=words):
            encode_file(model, tmp_path / "a.wav", tmp_path / "x.lat", **options)
    assert not (tmp_path / "x.lat").exists()


def test_latents_in_memory_carry_levels(fake):
    model, x = Model(fake), noise(2, 6 * SIZE)
    z = model.encode(x)
    assert (z.dtype, z.band_levels.shape) == ("int8", (2, 2, 6))
    louder = model.decode(2.0 * z)
    assert np.allclose(louder, 2 * model.decode(z), atol=1e-4)


@pytest.mark.parametrize("name", ["fake", "tiny"])
def test_arrays_and_tensors_are_decoded(request, name):
    model = Model(request.getfixturevalue(name))
    z = model.encode(noise(2, 5 * SIZE)).data
    audio = model.decode(np.array(z))
    assert (audio.shape, audio.dtype) == ((2, 5 * SIZE), np.float32)
    batch = model.decode(np.stack([z, 0 * z]))
    assert batch.shape == (2, 2, 5 * SIZE)
    assert np.array_equal(batch[0], audio)
    assert not batch[1].any()
    tensor = torch.from_numpy(np.array(z)).requires_grad_()
    out = model.decode(tensor)
    assert isinstance(out, torch.Tensor)
    assert out.device == tensor.device
    assert np.allclose(out.detach().numpy(), audio, atol=1e-5)
    (gradient,) = torch.autograd.grad(out.square().sum(), tensor)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    assert model.decode(torch.stack([tensor, tensor])).shape == (2, 2, 5 * SIZE)
    with pytest.raises(ShapeError, match=r"give \[channels"):
        model.decode(np.zeros((2, model.latent_dim + 1, 4), np.float32))
    with pytest.raises(UsageError, match="decoded whole"):
        model.decode(np.array(z), start=1.0)


@pytest.mark.parametrize("name", ["fake", "tiny"])
def test_tensors_are_encoded_with_gradients(request, name):
    model = Model(request.getfixturevalue(name))
    x = torch.from_numpy(noise(2, 5 * SIZE)).requires_grad_()
    z, levels = model.encode_tensor(x)
    assert np.allclose(z.detach().numpy(), model.encode(x.detach().numpy()).data, atol=1e-4)
    assert (levels is None) == (name == "tiny")
    (gradient,) = torch.autograd.grad(z.square().sum(), x)
    assert gradient.abs().sum() > 0
    assert model.encode_tensor(x[None].repeat(3, 1, 1))[0].shape == (3, *z.shape)


def test_latents_come_back_from_a_file_as_they_were_decoded(fake, tmp_path):
    model = Model(fake)
    sf.write(tmp_path / "a.wav", noise(1, 4 * SIZE).T, 44100, subtype="FLOAT")
    model.encode_file(tmp_path / "a.wav", tmp_path / "a.lat")
    assert np.array_equal(model.decode(read_lat(tmp_path / "a.lat")), model.decode(tmp_path / "a.lat"))


@pytest.mark.parametrize("quality", ["low", "medium", "high", "exact"])
def test_the_frame_model_through_files(frame, tmp_path, quality):
    x = noise(2, 25 * SIZE + 5)
    sf.write(tmp_path / "a.wav", x.T, 44100, subtype="FLOAT")
    encode_file(frame, tmp_path / "a.wav", tmp_path / "a.lat", quality=quality)
    decode_file(frame, tmp_path / "a.lat", tmp_path / "b.wav", subtype="FLOAT")
    decode_file(frame, tmp_path / "a.lat", tmp_path / "c.wav", subtype="FLOAT", start=1.0, end=1.5)
    whole, part = sf.read(tmp_path / "b.wav", dtype="float32")[0], sf.read(tmp_path / "c.wav", dtype="float32")[0]
    assert whole.shape == (25 * SIZE + 5, 2)
    assert np.array_equal(part, whole[44100:66150])
    assert 0.3 < np.std(whole) / np.std(x) < 3


@pytest.mark.parametrize("stretch", [1, 5, 9])
def test_stretches_of_the_frame_model_cannot_be_heard(frame, stretch):
    x, frames = noise(1, 20 * SIZE), 20
    z, levels = encoded(frame, x, [], 1000)
    parts = encoded(frame, x, [777], stretch)
    assert np.allclose(z, parts[0], atol=1e-5)
    assert np.allclose(levels, parts[1], atol=1e-5)

    def decoded(stretch):
        blocks = decode_range(
            frame, lambda a, b: z[:, :, a:b], frames, np.ones(1), 0, 20 * SIZE, stretch=stretch,
            levels=lambda a, b: levels[:, :, a:b],
        )  # fmt: skip
        return np.concatenate(list(blocks), 1)

    assert np.abs(decoded(stretch) - decoded(1000)).max() < 1e-3 * np.abs(decoded(1000)).max()


def test_a_low_file_is_a_64th_of_16_bit_pcm_or_rounded_more_coarsely(frame, tmp_path):
    x = noise(1, 12 * 44100)
    sf.write(tmp_path / "a.wav", x.T, 44100)
    encode_file(frame, tmp_path / "a.wav", tmp_path / "a.lat", quality="low")
    with LatReader(tmp_path / "a.lat") as reader:
        first = reader.header.groups[0].relative_step
    small = (tmp_path / "a.lat").stat().st_size <= 2 * x.shape[1] / 64
    assert small or first == pytest.approx(frame.groups("low")[0].relative_step * 1.15**4, rel=0.01)


def test_the_qualities_of_a_weights_file_are_known_without_torch(frame, tmp_path):
    path = tmp_path / "own.safetensors"
    save_weights(frame.model.state_dict(), frame.config.to_dict(), path, name="own", version="1", license="CC0-1.0")
    assert qualities(str(path)) == {q: frame.groups(q) for q in ("low", "medium", "high", "exact")}
    again = load(path, "cpu")
    assert (again.deterministic, again.latent_dim) == (True, 512)
    program = "import sys; from lincae_core.models.store import qualities; "
    program += f"print(len(qualities({str(path)!r})), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "4 False\n", done.stderr
