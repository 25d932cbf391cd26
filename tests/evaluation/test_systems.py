"""The systems one by one, behind their interface: lengths, sizes, rates, and linearity where it is exact."""

import numpy as np
import pytest
import soundfile as sf
import torch
from eval_helpers import RATE, music, write_track

from lincae_core.evaluation import references
from lincae_core.evaluation.dataset import find_tracks
from lincae_core.evaluation.metrics import sdr
from lincae_core.evaluation.protocols import SUBTYPES, System, as_written, relative_error
from lincae_core.evaluation.references import (
    NUMBERS,
    SAMPLES_PER_FRAME,
    Identity,
    Klt,
    Opus,
    covariance,
    fitted_on,
    imdct,
    mdct,
    principal_vectors,
)
from lincae_core.evaluation.results import Settings
from lincae_core.evaluation.systems import LincaeModel, Options, choose_systems
from lincae_formats import Header, Latents, read_lat, write_lat
from lincae_formats.errors import LincaeError, UsageError
from lincae_formats.header import Group

LENGTHS = (1, 4095, 4096, 4097, 30_000)


def choose(*words, tracks=(), **options) -> list[System]:
    return choose_systems(words, tracks, Options(device="cpu", **options))


@pytest.fixture(scope="module")
def klt() -> Klt:
    return Klt(principal_vectors(covariance([music(4, seed) for seed in range(3)]), NUMBERS))


@pytest.fixture(scope="module")
def tiny(tiny_model) -> System:
    return choose(str(tiny_model))[0]


def check_shapes(system, n):
    x = music(1)[:n]
    latent = system.encode(x)
    y = system.decode(latent, n)
    assert (y.shape, y.dtype) == ((n,), np.float32)
    assert np.isfinite(y).all()
    return x, latent, y


@pytest.mark.parametrize("n", LENGTHS)
def test_identity(n):
    x, _, y = check_shapes(Identity(), n)
    assert np.array_equal(x, y)


@pytest.mark.parametrize("n", LENGTHS)
def test_klt_has_our_latent_rate(klt, n):
    _, latent, _ = check_shapes(klt, n)
    assert latent.shape[1] == NUMBERS
    assert 0 <= len(latent) - -(-n // SAMPLES_PER_FRAME) <= 1
    assert (klt.latent_rate, klt.bytes_per_second) == (64 * RATE / 4096, 2 * 64 * RATE / 4096)


@pytest.mark.parametrize("n", LENGTHS)
def test_model(tiny, n):
    _, latent, _ = check_shapes(tiny, n)
    assert latent.data.shape == (1, 8, -(-n // 4096))
    assert tiny.latent_rate == 8 * RATE / 4096


@pytest.mark.parametrize("n", LENGTHS)
def test_opus(n):
    opus = Opus()
    _, file, _ = check_shapes(opus, n)
    assert opus.size(file) == len(file)
    assert not opus.linear


def test_identity_and_klt_are_exactly_linear(klt):
    x, y = music(1, 1), music(1, 2)
    for system in (Identity(), klt):
        combined = 0.5 * system.encode(x) - 2 * system.encode(y)
        assert relative_error(system.encode(np.float32(0.5) * x - 2 * y), combined) < 1e-5
        apart = 0.5 * system.decode(system.encode(x), len(x)) - 2 * system.decode(system.encode(y), len(x))
        assert relative_error(system.decode(combined, len(x)), apart) < 1e-5


def test_klt_is_a_projection_onto_what_it_was_fitted_on(klt):
    assert klt.basis.T @ klt.basis == pytest.approx(np.eye(NUMBERS), abs=1e-4)
    x = music(4, 0)
    once = klt.decode(klt.encode(x), len(x))
    assert sdr(once, x) > sdr(klt.decode(klt.encode(music(4, 50)), len(x)), music(4, 50)) > 0
    assert sdr(once, x) > 10


def test_principal_vectors_are_eigenvectors():
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((200, 200)))[0]
    values = 0.8 ** np.arange(200)
    found = principal_vectors(basis * values @ basis.T, 5)
    assert np.abs(np.sum(found * basis[:, :5], 0)) == pytest.approx(np.ones(5), abs=1e-3)
    with pytest.raises(LincaeError, match="silent"):
        principal_vectors(np.zeros((4, 4)), 2)


@pytest.mark.slow
def test_klt_of_other_tracks(tmp_path):
    for i in range(3):
        write_track(tmp_path / f"T{i}", names=("drums", "vocals"), seed=i)
    tracks = find_tracks(tmp_path)
    other = fitted_on(tracks, None)
    held_out = other.for_track(tracks[0])
    audio = [track.load() for track in tracks[1:]]
    alone = covariance([x for a in audio for x in (*a.stems.values(), a.mixture)])
    x = audio[0].mixture
    wanted = Klt(principal_vectors(alone, NUMBERS))
    error = relative_error(held_out.decode(held_out.encode(x), len(x)), wanted.decode(wanted.encode(x), len(x)))
    assert error < 1e-3
    assert sdr(held_out.decode(held_out.encode(x), len(x)), x) > 3
    # fitted on a folder that is not the data, it is the same for every track
    elsewhere = fitted_on(tracks[:1], tmp_path)
    assert elsewhere.fingerprint != fitted_on(tracks[:2], None).fingerprint
    assert "the audio in" in elsewhere.notes
    names = [s.name for s in choose("klt", f"klt:{tmp_path}", tracks=tracks[:2])]
    assert names == ["klt", f"klt-{tmp_path.name}"]
    # a track that cannot be read is left out
    (tmp_path / "T2" / "drums.flac").write_text("no audio")
    with_broken = fitted_on(find_tracks(tmp_path), None).for_track(tracks[0])
    (tmp_path / "T2" / "drums.flac").unlink()
    (tmp_path / "T2" / "vocals.flac").unlink()
    without = fitted_on(find_tracks(tmp_path), None).for_track(tracks[0])
    assert np.array_equal(with_broken.basis, without.basis)


def test_klt_needs_other_tracks(tmp_path):
    write_track(tmp_path / "Only")
    with pytest.raises(LincaeError, match="no track but Only") as caught:
        choose("klt", tracks=find_tracks(tmp_path))
    assert "--model klt:DIR" in str(caught.value)


def test_opus_has_the_bitrate_that_was_asked_for():
    x = music(8) + 0.02 * np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    few, many = Opus(), Opus(24)
    sizes = [system.size(system.encode(x)) for system in (few, many)]
    assert sizes[0] / 8 == pytest.approx(12_000 / 8, rel=0.1)
    assert sizes[1] / 8 == pytest.approx(24_000 / 8, rel=0.1)
    good = Opus(192)
    y = good.decode(good.encode(x), len(x))
    assert np.argmax(np.correlate(y[:5000], x[:5000], "full")) == 4999  # no delay
    assert sdr(y, x) > 10


def test_no_opus_encoder(monkeypatch):
    monkeypatch.setattr(references, "opus_available", lambda: False)
    with pytest.raises(LincaeError, match="pip install --upgrade soundfile"):
        Opus()


def test_a_model_gives_what_the_command_line_gives(tiny, tiny_model, tmp_path):
    from lincae_core.models.codec import decode_file, encode_file
    from lincae_core.models.store import load

    write_track(tmp_path, names=("vocals",), extension=".wav", subtype="FLOAT")
    x = find_tracks(tmp_path)[0].load().mixture
    model = load(tiny_model, "cpu")
    encode_file(model, tmp_path / "vocals.wav", tmp_path / "a.lat")
    decode_file(model, tmp_path / "a.lat", tmp_path / "b.wav", subtype="FLOAT")
    latent = tiny.encode(x)
    audio = tiny.decode(latent, len(x))
    assert np.array_equal(latent.data, read_lat(tmp_path / "a.lat").data)
    assert tiny.size(latent) == pytest.approx((tmp_path / "a.lat").stat().st_size, abs=100)  # names differ
    assert sf.read(tmp_path / "b.wav", dtype="float32")[0] == pytest.approx(audio, abs=1e-5)
    decode_file(model, tmp_path / "a.lat", tmp_path / "c.wav")  # as it is written by default
    written = as_written(audio, Settings().subtype, "tiny")
    assert np.mean(sf.read(tmp_path / "c.wav", dtype="float32")[0] != written) < 0.01


def test_quality_low_is_as_small_as_the_files_of_encode(tmp_path):
    """Noise takes so many bits that the file is rounded more coarsely, to 1/64 of 16-bit PCM."""
    from lincae_core.models.codec import encode_file
    from lincae_core.models.store import load

    (system,) = choose("frame:low")
    x = 0.1 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    latent = system.encode(x)
    assert system.size(latent) <= 2 * len(x) / 64
    sf.write(tmp_path / "audio.wav", x, RATE, subtype="FLOAT")
    encode_file(load("frame", "cpu"), tmp_path / "audio.wav", tmp_path / "a.lat", quality="low")
    assert np.array_equal(latent.data, read_lat(tmp_path / "a.lat").data)


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-15), ("PCM_24", 2**-23), ("FLOAT", 0)])
def test_audio_as_a_file_holds_it(subtype, step):
    assert subtype in SUBTYPES
    x = music(0.1)
    written = as_written(x, subtype, "x")
    assert written.dtype == np.float32
    assert 0.4 * step <= np.abs(written - x).max() <= 1.1 * step
    if step:
        assert np.array_equal(written, np.round(written / step) * step)
        assert as_written(np.float32([2, -2]), subtype, "x") == pytest.approx([1, -1], abs=1e-4)


def test_audio_that_no_file_should_hold():
    for value in (np.nan, np.inf):
        with pytest.raises(LincaeError, match="some: what it decoded holds NaN"):
            as_written(np.float32([0, value]), "FLOAT", "some")


def test_both_channels_of_a_stereo_file(tiny):
    x = np.stack([music(0.3), np.zeros(len(music(0.3)), np.float32)])
    assert tiny.roundtrip(x).shape == x.shape
    one = tiny.size(tiny.encode(x[0]))
    assert one < tiny.size(tiny.encode(x)) < 2 * one
    opus = Opus(24)
    y = opus.roundtrip(x)
    assert sdr(y[0], x[0]) > 3
    assert np.abs(y[1]).max() < 0.1 * np.abs(y[0]).max()


class Mdct:
    """A model whose latents are 256 MDCT coefficients of each 4096 samples, stored at a quality."""

    sample_rate = RATE

    def encode_file(self, source, target, quality=None):
        audio, rate = sf.read(source, dtype="float32", always_2d=True)
        audio = audio.T
        assert rate == RATE
        z = np.stack([mdct(x, 4096)[:, :256].T for x in audio])
        step = {"low": 1.0, "medium": 0.5, "high": 0.25, "exact": 0.0}[quality]
        header = Header(
            sample_rate=RATE, num_samples=(z.shape[2] - 1) * 4096, model="mdct",
            model_fingerprint="sha256:" + "12" * 32, channels=len(z), latent_dim=256,
            groups=(Group(16, 16, step, 1, False),) if step else (),
        )  # fmt: skip
        z = z[:, :, : header.frames]
        write_lat(Latents(z, header, dtype="int8" if step else "float16"), target)

    def decode(self, latents, **_):
        frames = np.pad(latents.data, ((0, 0), (0, 4096 - 256), (0, 1)))
        return np.stack([imdct(z.T, latents.num_samples) for z in frames])


def test_qualities_are_systems_that_cost_and_lose_what_their_files_do():
    """Finer steps take more bytes and are nearer; sums are rounded once more; bytes include the header."""
    x = music(4) + 0.02 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    kept = imdct(np.pad(mdct(x, 4096)[:, :256], ((0, 0), (0, 3840))), len(x))
    n, sizes, errors, halves = 40 * 4096, [], [], []
    for quality in ("low", "medium", "high", "exact"):
        system = LincaeModel(
            Mdct,
            name="mdct",
            label="MDCT",
            version="1",
            fingerprint="m",
            latent_rate=256 * RATE / 4096,
            quality=quality,
        )
        assert (system.name, system.label, system.fingerprint) == (
            f"mdct:{quality}",
            f"MDCT, {quality}",
            f"m:{quality}",
        )
        z = system.encode(x)
        sizes.append(system.size(z))
        assert sizes[-1] > 1000
        errors.append(sdr(system.decode(z, n), kept[:n]))
        halves.append(sdr(system.decode(0.5 * z + 0.5 * z, n), kept[:n]))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors)
    assert errors[3] > 60
    assert all(abs(half - once) < 0.5 for half, once in zip(halves[:3], errors[:3], strict=True)), (halves, errors)


def test_random_weights_are_the_same_every_time():
    first, second = (choose("random:frame64")[0] for _ in range(2))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    x = music(0.3)
    assert np.array_equal(first.encode(x), second.encode(x))
    assert torch.equal(before, torch.get_rng_state())
    assert first.fingerprint == second.fingerprint
    assert "untrained" in first.notes


def test_random_unet_is_the_papers_network():
    from lincae_core.models.unet import UnetConfig

    (system,) = choose("random:unet")
    assert system.latent_rate == UnetConfig().latent_dim * RATE / 4096


def test_choosing(tiny_model, tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(tiny_model.read_bytes())
    found = choose("identity", str(tiny_model), "opus", "opus-12", "opus:24k", "identity", str(copy), "random:frame64")
    assert [s.name for s in found] == ["identity", "tiny", "opus-12", "opus-24", "random-frame64"]  # each once
    assert len({s.fingerprint for s in found}) == len(found)
    assert found[3].kbps == 24


def test_two_weights_of_one_name(tiny_model, tmp_path):
    from lincae_core.models.store import load_weights, save_weights

    model, info = load_weights(tiny_model)
    state = {k: v + 1 for k, v in model.state_dict().items()}
    save_weights(state, info["config"], tmp_path / "b.safetensors", name="tiny", version="1", license="CC0-1.0")
    found = choose(str(tiny_model), str(tmp_path / "b.safetensors"))
    assert [s.name for s in found] == ["tiny", "tiny-2"]
    assert found[0].label != found[1].label


@pytest.mark.parametrize(
    ("word", "error", "remedy"),
    [
        ("opus:5", UsageError, "--model opus-12"),
        ("opus:many", UsageError, "from 6 to 256 kbit/s"),
        ("random:vae", UsageError, "random:unet"),
        ("lin-cae", LincaeError, "lincae models pull lin-cae"),
        ("stable-audio-vae", LincaeError, "lincae models pull stable-audio-vae"),
        ("fram", LincaeError, "did you mean --model frame"),
        ("none.safetensors", LincaeError, "no model 'none.safetensors'"),
    ],
)
def test_what_cannot_be_chosen(word, error, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv("LINCAE_MODELS", str(tmp_path))
    with pytest.raises(error) as caught:
        choose(word)
    assert remedy in str(caught.value)
    assert isinstance(caught.value, UsageError) == (error is UsageError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_refused_at_once():
    with pytest.raises(LincaeError, match="--device cpu"):
        choose_systems(["identity"], [], Options(device="cuda"))
