"""What the shipped model promises, on the stems of the demo: a linear encoder, an odd, homogeneous decoder, sizes."""

from importlib.resources import files

import numpy as np
import pytest
import soundfile as sf

import lincae_core as lincae
from lincae_core.evaluation.metrics import mss
from lincae_core.models import store
from lincae_formats import write_lat

SECONDS = 10


@pytest.fixture(scope="module")
def model():
    return lincae.load(device="cpu")


@pytest.fixture(scope="module")
def stems():
    """Mono stems, `[1, n]` each."""
    folder = files("lincae_core") / "demo" / "stems"
    read = {n: sf.read(str(folder / f"{n}.flac"), dtype="float32")[0] for n in ("bass", "drums", "other", "vocals")}
    return {name: audio.mean(1)[None, : SECONDS * 44100] for name, audio in read.items()}


def close(a, b, limit):
    return np.linalg.norm(a - b) <= limit * np.linalg.norm(b)


def test_the_encoder_is_linear_to_rounding(model, stems):
    z = {name: model.encode(x).data for name, x in stems.items()}
    assert close(model.encode(sum(stems.values())).data, sum(z.values()), 1e-5)
    assert close(model.encode(-0.3 * stems["drums"]).data, -0.3 * z["drums"], 1e-5)
    rest = sum(stems.values()) - stems["vocals"]
    assert close(model.encode(rest).data, sum(z.values()) - z["vocals"], 1e-5)


@pytest.mark.parametrize("gain", [0.01, 0.25, -1.0, 30.0])
def test_the_decoder_is_homogeneous_and_odd(model, stems, gain):
    z = model.encode(stems["drums"])
    assert close(model.decode(gain * z), gain * model.decode(z), 1e-3)


@pytest.mark.parametrize("quality", ["low", "medium", "high", "exact"])
def test_a_file_decodes_as_its_latents_do(model, stems, tmp_path, quality):
    """By the spectra of the whole mixture, which rounding at each quality may worsen by so much."""
    mixture = sum(stems.values())
    z = model.encode(mixture, quality=quality)
    write_lat(z, tmp_path / "a.lat")
    audio = model.decode(tmp_path / "a.lat")
    assert audio.shape == mixture.shape
    limit = {"low": 2.5, "medium": 2.0, "high": 2.0, "exact": 2.5}[quality]
    assert mss(audio[0], mixture[0], 44100) < limit


def test_a_sum_of_files_decodes_as_well_as_the_mixture(model, stems):
    mixture = sum(stems.values())
    whole = mss(model.decode(model.encode(mixture))[0], mixture[0], 44100)
    summed = mss(model.decode(sum(model.encode(x) for x in stems.values()))[0], mixture[0], 44100)
    assert summed < 1.03 * whole


def test_a_low_file_is_64_times_smaller_than_16_bit_pcm(model, stems, tmp_path):
    sf.write(tmp_path / "a.wav", sum(stems.values()).T, 44100)
    model.encode_file(tmp_path / "a.wav", tmp_path / "a.lat", quality="low")
    assert (tmp_path / "a.lat").stat().st_size <= 2 * SECONDS * 44100 / 64


def test_the_card_names_the_weights_that_ship():
    info = store.resolve("frame")
    assert info.card_path is not None
    assert info.fingerprint in info.card_path.read_text(encoding="utf-8")
    assert info.size_bytes < 32e6
    assert info.license == "CC-BY-SA-4.0"
    assert set(info.qualities) == set(store.QUALITIES)
