"""lincae stats: loudness as BS.1770 says it, estimates without decoding, statistics of latent dimensions."""

import json

import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_core.measure import LoudnessMeter, fit_table, measure_audio


def sine(db, seconds, rate=48000, hertz=1000.0):
    """A sine of a peak level in dBFS."""
    return 10 ** (db / 20) * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def loudness(audio, rate=48000, block=4096):
    """The measurement of `[C, n]`, fed in blocks."""
    meter = LoudnessMeter(rate, len(audio))
    for start in range(0, audio.shape[1], block):
        meter.feed(audio[:, start : start + block])
    return meter.result()


# EBU Tech 3341, table 1: 1 kHz in both channels, dBFS and s, with the loudness to be measured.
@pytest.mark.parametrize(
    ("steps", "lufs"),
    [
        ([(-23, 20)], -23.0),
        ([(-33, 20)], -33.0),
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),
    ],
)
def test_integrated_loudness_passes_the_ebus_cases(steps, lufs):
    mono = np.concatenate([sine(db, seconds) for db, seconds in steps])
    assert loudness(np.stack([mono, mono])).integrated == pytest.approx(lufs, abs=0.1)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
def test_sample_rates_and_blocks_make_no_difference(rate):
    mono = sine(-23, 8, rate)[None]
    found = loudness(mono, rate)
    assert found.integrated == pytest.approx(-26.0, abs=0.1)  # one channel has half the power of two
    assert found.short_term == pytest.approx(-26.0, abs=0.1)
    again = loudness(mono, rate, block=777)
    assert again.integrated == pytest.approx(found.integrated, abs=1e-9)
    assert found.peak == pytest.approx(10 ** (-23 / 20), rel=1e-2)
    assert found.rms == pytest.approx(10 ** (-23 / 20) / 2**0.5, rel=1e-3)


def test_silence_and_very_short_audio_have_an_answer():
    silent = loudness(np.zeros((2, 48000)))
    assert (silent.peak, silent.rms) == (0.0, 0.0)
    assert silent.integrated == silent.short_term == -np.inf
    assert loudness(sine(-23, 0.05)[None]).integrated == pytest.approx(-26, abs=0.5)


def test_short_term_is_the_loudest_three_seconds():
    mono = np.concatenate([sine(-40, 10), sine(-20, 3), sine(-40, 10)])
    assert loudness(np.stack([mono, mono])).short_term == pytest.approx(-20, abs=0.1)


@pytest.fixture
def measured_model(tmp_path_factory, tiny_model, monkeypatch):
    """An installed model that carries a loudness table: mean squares of latents are K-weighted powers, -20 dB."""
    from safetensors.torch import load_file

    from lincae_core.models.store import read_info, save_weights

    config = read_info(tiny_model).config
    weights = {"numbers": [0.01], "levels": [0.01]}
    folder = tmp_path_factory.mktemp("measured")
    save_weights(
        load_file(tiny_model), config, folder / "measured.safetensors", name="measured", version="1", license="CC0-1.0",
        loudness={"weighted": weights, "flat": weights},
    )  # fmt: skip
    monkeypatch.setenv("LINCAE_MODELS", str(folder))
    return read_info(folder / "measured.safetensors")


@pytest.fixture
def recording(cli):
    soundfile.write("a.wav", np.stack([sine(-20, 5, 44100), sine(-20, 5, 44100)], 1), 44100, subtype="FLOAT")
    return "a.wav"


def test_a_row_for_each_file_and_json(cli, recording):
    head, row = cli.ok("stats", recording).splitlines()
    assert head.split("  ")[0] == "file"
    assert row.split() == ["a.wav", "0:05", "-20.0", "-23.0", "-20.0", "-20.0"]
    (facts,) = json.loads(cli.ok("stats", recording, "--json"))
    assert facts["lufs"] == pytest.approx(-20, abs=0.1)
    assert facts["estimated"] is False
    soundfile.write("silence.wav", np.zeros(4410), 44100)
    (facts,) = json.loads(cli.ok("stats", "silence.wav", "--json"))
    assert facts["lufs"] is None
    assert "silent" in cli.ok("stats", "silence.wav")


def test_a_bad_file_stops_nothing(cli, recording):
    (cli.folder / "bad.wav").write_bytes(b"no audio")
    code, out, err = cli.run("stats", "bad.wav", recording, "--json")
    assert code == 1
    assert [row["file"] for row in json.loads(out)] == ["a.wav"]
    assert "bad.wav" in err


def test_mean_and_deviation_of_latent_dimensions(cli):
    parts = [
        make_lat(cli.folder / "in" / f"{i}.lat", i, channels=1 + i, num_samples=50_000 * (i + 1)) for i in range(2)
    ]
    facts = json.loads(cli.ok("stats", "in", "--per-dimension"))
    rows = np.concatenate([z.data.transpose(1, 0, 2).reshape(8, -1) for z in parts], axis=1)
    np.testing.assert_allclose(facts["mean"], rows.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(facts["deviation"], rows.std(axis=1), rtol=1e-4)
    assert (facts["files"], facts["latent_dim"], facts["frames"]) == (2, 8, sum(z.frames for z in parts))
    make_lat(cli.folder / "in" / "other.lat", fingerprint="sha256:" + "00" * 32)
    assert "different models" in cli.refused(1, "stats", "in", "--per-dimension")


def test_an_estimate_follows_the_gain_and_names_what_is_missing(cli, measured_model):
    make_lat(cli.folder / "0.lat", 1, num_samples=2_000_000, fingerprint=measured_model.fingerprint)
    cli.ok("gain", "0.lat", "--db", "-6", "-o", "1.lat")
    a, b = json.loads(cli.ok("stats", "0.lat", "1.lat", "--json"))
    assert a["rms_dbfs"] == pytest.approx(-20, abs=0.3)  # of latents of unit variance
    assert a["lufs"] == pytest.approx(-20.691, abs=0.3)
    assert b["lufs"] - a["lufs"] == pytest.approx(-6, abs=0.02)
    assert b["short_term_lufs"] - a["short_term_lufs"] == pytest.approx(-6, abs=0.02)
    assert (a["estimated"], a["peak_dbfs"]) == (True, None)
    assert "~" in cli.ok("stats", "0.lat")
    make_lat(cli.folder / "unknown.lat")
    assert "unknown.lat" in cli.refused(1, "stats", "unknown.lat")


def test_a_model_without_a_table_says_to_decode(cli, tiny_model, monkeypatch):
    from lincae_core.models.store import read_info

    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    make_lat(cli.folder / "a.lat", num_samples=30_000, fingerprint=read_info(tiny_model).fingerprint, model="tiny")
    assert "add --decode" in cli.refused(1, "stats", "a.lat")
    (facts,) = json.loads(cli.ok("stats", "a.lat", "--decode", "--json"))
    cli.run("decode", "a.lat", "-o", "a.wav", "--subtype", "FLOAT")
    (wanted,) = json.loads(cli.ok("stats", "a.wav", "--json"))
    for key in ("peak_dbfs", "rms_dbfs", "lufs", "short_term_lufs"):
        assert facts[key] == pytest.approx(wanted[key], abs=0.01)
    assert facts["estimated"] is False


def test_a_fitted_table_estimates_the_loudness_of_what_was_encoded():
    from lincae_core.measure import estimate
    from lincae_formats import Header, Latents

    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((4096, 64)))[0].T  # an orthonormal code of 64 numbers a frame

    class Audio:
        sample_rate, channels = 44100, 1

        def __init__(self, samples):
            self.samples, self.num_samples = samples, samples.shape[1]

        def blocks(self):
            yield self.samples

    def pair(seed):
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((64, 120)) * np.exp(rng.standard_normal(120))
        audio = 0.02 * (z.T @ basis).reshape(1, -1)
        header = Header(44100, audio.shape[1], "m", "sha256:" + "cd" * 32, latent_dim=64)
        return Latents(z[None].astype(np.float32), header, dtype="float32"), audio

    table = fit_table([pair(1), pair(2)])
    latents, audio = pair(3)
    found, wanted = estimate(latents, table), measure_audio(Audio(audio))
    assert found.integrated == pytest.approx(wanted.integrated, abs=0.3)
    assert found.short_term == pytest.approx(wanted.short_term, abs=0.5)
    assert found.rms == pytest.approx(wanted.rms, rel=0.03)
