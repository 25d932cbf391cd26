"""What the shipped model promises, on the demo's stems: homogeneity to rounding, additivity, a card that fits."""

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import soundfile as sf

from lincae_core.evaluation.metrics import mss
from lincae_core.models import store
from lincae_core.models.codec import decode_array, encode_array

SECONDS = 5


@pytest.fixture(scope="module")
def model():
    return store.load()


@pytest.fixture(scope="module")
def stems():
    """Mono stems, `[1, n]` each."""
    folder = files("lincae_core") / "demo" / "stems"
    read = {n: sf.read(str(folder / f"{n}.flac"), dtype="float32")[0] for n in ("bass", "drums", "other", "vocals")}
    return {name: audio.mean(1)[None, 44100 : 44100 * (1 + SECONDS)] for name, audio in read.items()}


@pytest.mark.parametrize("gain", [0.01, 0.25, 1.5, 30.0])
def test_encoder_is_homogeneous(model, stems, gain):
    x = stems["drums"]
    z, scaled = encode_array(model, x), encode_array(model, gain * x)
    assert np.linalg.norm(scaled - gain * z) < 1e-3 * np.linalg.norm(gain * z)


@pytest.mark.parametrize("gain", [0.01, 0.25, 1.5, 30.0])
def test_decoder_is_homogeneous(model, stems, gain):
    z = encode_array(model, stems["drums"])
    n = stems["drums"].shape[1]
    y, scaled = decode_array(model, z, n), decode_array(model, gain * z, n)
    assert np.linalg.norm(scaled - gain * y) < 1e-3 * np.linalg.norm(gain * y)


def test_sum_of_latents_decodes_as_well_as_the_mixture(model, stems):
    mixture = sum(stems.values())
    n = mixture.shape[1]
    whole = decode_array(model, encode_array(model, mixture), n)[0]
    summed = decode_array(model, sum(encode_array(model, x) for x in stems.values()), n)[0]
    recon, add = mss(whole, mixture[0], 44100), mss(summed, mixture[0], 44100)
    assert recon < 1.6
    assert add < 1.01 * recon


def test_encoder_is_additive(model, stems):
    apart = sum(encode_array(model, x) for x in stems.values())
    together = encode_array(model, sum(stems.values()))
    assert np.linalg.norm(together - apart) < 1e-3 * np.linalg.norm(apart)


def test_a_stem_by_subtraction_decodes_as_well_as_the_stem(model, stems):
    mixture, vocals = sum(stems.values()), stems["vocals"]
    n = mixture.shape[1]
    apart = encode_array(model, mixture) - encode_array(model, mixture - vocals)
    pulled, alone = (decode_array(model, z, n)[0] for z in (apart, encode_array(model, vocals)))
    assert mss(pulled, vocals[0], 44100) < 1.02 * mss(alone, vocals[0], 44100)


@pytest.mark.parametrize(
    ("version", "fingerprint"),
    [
        ("0.2", "sha256:4f3ac1f82157084dc0b541a26065c893415c4056d81a452c39533e96c6335f6a"),
        ("0.3", "sha256:e2b8af0b8075b7602447f2bb342a6abe0d2cfd09534bb8586278f61268f485ac"),
    ],
)
def test_the_models_before_are_there_under_their_versions(version, fingerprint):
    info = store.resolve(f"frame-{version}")
    assert (info.name, info.version, info.fingerprint) == (f"frame-{version}", version, fingerprint)
    before = store.load(info)
    assert (before.name, before.fingerprint) == (f"frame-{version}", fingerprint)
    assert store.find_fingerprint(fingerprint, "frame", "a.lat") == info
    assert decode_array(before, encode_array(before, np.zeros((1, 5000), np.float32)), 5000).shape == (1, 5000)


def test_the_newest_version_has_the_bare_name():
    info = store.resolve("frame")
    assert store.resolve(f"frame-{info.version}") == info, "a script may pin the version"
    older = [replace(info, name="frame", version=v) for v in ("0.9", "0.10", "0.2")]
    assert [(m.name, m.version) for m in store.by_version([*older, replace(info, name="a", version="1")])] == [
        ("a", "1"), ("frame", "0.10"), ("frame-0.9", "0.9"), ("frame-0.2", "0.2"),
    ]  # fmt: skip


def test_latents_have_about_unit_variance(model, stems):
    mixture = sum(stems.values())
    level = float(np.sqrt(np.mean(mixture**2))) / model.config.reference_rms
    assert 0.4 < encode_array(model, mixture).std() / level < 2.5


def test_card_names_the_very_weights_that_ship():
    info = store.resolve("frame")
    assert info.card_path is not None
    assert info.fingerprint in info.card_path.read_text(encoding="utf-8")
    assert info.size_bytes < 80e6
    assert info.license == "CC-BY-SA-4.0"
