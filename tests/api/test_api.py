"""The Python interface: what the documentation shows, and that it gives what the command line gives."""

import doctest
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import lincae_core as lincae
from lincae_core.models.codec import encode_file
from lincae_formats import IncompatibleError, LatError, UsageError
from lincae_formats.errors import NonFiniteError, ShapeError

PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def model(tiny_model):
    return lincae.load(tiny_model, device="cpu")


@pytest.fixture
def recording(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = 0.1 * np.random.default_rng(0).standard_normal((2, 30_001)).astype(np.float32)
    soundfile.write("a.wav", audio.T, 44100, subtype="FLOAT")
    return audio


def test_the_page_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = PAGE.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join("\n" if line.startswith("```") else line for line in lines)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 30
    printed = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=printed.append)
    assert result.failed == 0, "".join(printed)


def test_importing_it_imports_nothing_heavy():
    program = "import sys, lincae_core as lincae; dir(lincae); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "numpy", "h5py", "soundfile", "lincae_formats"}.isdisjoint(loaded)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        _ = lincae.laod


def test_every_name_is_there():
    for name in lincae.__all__:
        assert getattr(lincae, name) is not None
        assert name in dir(lincae)


def test_a_file_and_its_array_encode_to_what_the_command_line_writes(model, recording, tmp_path):
    encode_file(model.autoencoder, "a.wav", "a.lat")
    stored = lincae.read_lat("a.lat")
    z = model.encode("a.wav")
    lincae.write_lat(z, "b.lat")
    assert (tmp_path / "b.lat").read_bytes() == (tmp_path / "a.lat").read_bytes()
    from_array = model.encode(recording)
    assert np.array_equal(from_array.data, z.data)
    assert np.array_equal(from_array.data.astype(np.float16), stored.data)
    assert from_array.header == stored.header
    assert from_array.history == ({"op": "encode", "source": "array", "model": "tiny"},)


def test_decoding_a_file_an_open_file_and_latents_is_the_same(model, recording):
    model.encode_file("a.wav", "a.lat")
    model.decode_file("a.lat", "d.wav", subtype="FLOAT", start=0.1, end=0.4)
    wanted = soundfile.read("d.wav", dtype="float32")[0].T
    with lincae.open_lat("a.lat") as file:
        for latents in ("a.lat", Path("a.lat"), file, lincae.read_lat("a.lat"), file.latents()):
            assert np.array_equal(model.decode(latents, start=0.1, end=0.4), wanted)


def test_an_array_at_another_rate_and_mono(model):
    noise = 0.1 * np.random.default_rng(1).standard_normal((2, 9001))
    z = model.encode(noise, sample_rate=22050, mono=True, dtype="float32")
    assert (z.sample_rate, z.num_samples, z.channels, z.dtype) == (22050, 9001, 1, "float32")
    assert model.decode(z).shape == (1, 9001)
    assert model.decode(z, sample_rate=44100).shape == (1, 18002)


@pytest.mark.parametrize(
    ("audio", "complaint"),
    [
        (np.zeros((44100, 2), np.float32), r"audio\.T"),
        (np.zeros((65, 65), np.float32), "fewer channels"),
        (np.zeros((2, 100), np.int16), "floats"),
        (np.zeros((2, 0), np.float32), "shape"),
        (np.zeros((1, 2, 3), np.float32), "shape"),
        (np.full(100, np.nan), "NaN"),
        (np.full(100, 1e300), "NaN or infinity"),
        ("text", "no file"),
        (None, "shape"),
    ],
)
def test_what_is_no_audio_is_refused(model, audio, complaint):
    with pytest.raises(lincae.LincaeError, match=complaint):
        model.encode(audio)


def test_a_rate_for_a_file_and_latents_of_another_model_are_refused(model, recording, tiny_model):
    with pytest.raises(UsageError, match="leave sample_rate out"):
        model.encode("a.wav", 48000)
    foreign = model.encode(recording)
    object.__setattr__(foreign.header, "model_fingerprint", "sha256:" + "0" * 64)
    with pytest.raises(IncompatibleError, match="not with 'tiny'"):
        model.decode(foreign)


def test_numbers_and_rates_that_cannot_be_meant_are_refused(model, recording):
    with pytest.raises(UsageError, match="a sample rate of 0 Hz"):
        model.encode(np.zeros(100, np.float32), sample_rate=0)
    with pytest.raises(UsageError, match="a sample rate of -1 Hz"):
        model.decode(model.encode(recording), sample_rate=-1)
    with pytest.raises(NonFiniteError, match="NaN"):
        model.decode(np.full((1, model.latent_dim, 3), np.nan, np.float32))
    with pytest.raises(ShapeError, match="or a batch of such arrays"):
        model.decode(np.zeros((0, 1, model.latent_dim, 3), np.float32))
    z = model.encode(recording)
    with pytest.raises(LatError, match="several operands as a list"):
        lincae.mix(z, z)


def test_an_open_file_reads_only_what_is_asked_for(tmp_path):
    header = lincae.Latents(np.zeros((1, 64, 1), np.float32), _header(1)).header
    assert header.frames == 1
    big = _header(40_000)
    data = np.random.default_rng(0).standard_normal(big.shape, dtype=np.float32)
    lincae.write_lat(lincae.Latents(data, big), tmp_path / "long.lat")
    del data
    tracemalloc.start()
    with lincae.open_lat(tmp_path / "long.lat") as file:
        part = file[1000.0:1010.0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert part.frames == 107 or part.frames == 108
        assert np.array_equal(part.data, lincae.read_lat(tmp_path / "long.lat")[1000.0:1010.0].data)
        assert peak < 40_000 * 64 * 2 / 10, "a tenth of the file"
        with pytest.raises(LatError, match="seconds"):
            _ = file[3]
        with pytest.raises(LatError, match="not within"):
            _ = file[5000:6000]
    with pytest.raises(LatError, match="cannot read"):
        lincae.open_lat(tmp_path / "none.lat")


def _header(frames):
    from lincae_formats import Header

    return Header(44100, 4096 * frames, "m", "sha256:" + "0" * 64)
