"""lincae faders: gains read back from a mix; lincae find: mixes that contain a stem."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from cli_helpers import FINGERPRINT, make_lat

from lincae_formats import Header, Latents, read_lat, write_lat

FRAME = 4096 / 44100  # s


@pytest.fixture
def stems(cli):
    """Three stems of 40 s."""
    return [make_lat(cli.folder / f"{name}.lat", i, num_samples=44100 * 40) for i, name in enumerate("abc")]


@pytest.fixture
def song(cli, stems):
    """The stems with a curve, a constant gain and inverted, mixed."""
    cli.ok("gain", "a.lat", "--curve", "0:0dB 10:-10dB 25:0dB", "--lines", "db", "-o", "a1.lat")
    cli.ok("mix", "a1.lat", "b.lat:-6dB", "c.lat:-0.8", "-o", "mix.lat")


def test_gains_are_recovered_within_a_twentieth_of_a_decibel(cli, song):
    facts = json.loads(cli.ok("faders", "mix.lat", "a.lat", "b.lat", "c.lat", "--json"))
    times, (a, b, c) = np.array(facts["times"]), facts["stems"]
    wanted = np.interp(times, [0, 10, 25], [0, -10, 0])
    assert np.abs(20 * np.log10(a["gains"]) - wanted)[1:40].max() < 0.1  # lines in decibels are not quite straight
    assert np.abs(20 * np.log10(b["gains"]) + 6).max() < 0.05
    assert np.abs(20 * np.log10(np.abs(c["gains"]) / 0.8)).max() < 0.05
    assert c["typical_gain"] == pytest.approx(-0.8, rel=1e-3)
    assert facts["total_residual_db"] < -40
    assert all(stem["belongs"] for stem in facts["stems"])


def test_the_arrangement_renders_to_the_mix(cli, song):
    cli.ok("faders", "mix.lat", "a.lat", "b.lat", "c.lat", "-o", "song.yaml")
    cli.ok("render", "song.yaml", "-o", "again.lat")
    assert float(cli.ok("residual", "mix.lat", "again.lat").split()[0]) < -40
    assert "--force" in cli.refused(1, "faders", "mix.lat", "a.lat", "-o", "song.yaml")
    with open("song.yaml", encoding="utf-8") as file:
        text = file.read()
    assert "gain: 0.501" in text
    assert "invert: true" in text


def test_what_is_missing_is_the_residual(cli, song):
    facts = json.loads(cli.ok("faders", "mix.lat", "b.lat", "c.lat", "--json"))
    a = read_lat("a1.lat").data
    wanted = 10 * np.log10(np.square(a).sum() / np.square(read_lat("mix.lat").data).sum())
    assert facts["total_residual_db"] == pytest.approx(wanted, abs=0.3)
    assert "residual dB" in cli.ok("faders", "mix.lat", "b.lat", "c.lat")


def test_delays_are_found(cli, stems):
    cli.noted("mix", "a.lat", "b.lat:0.5@3", "-o", "mix.lat")
    facts = json.loads(cli.ok("faders", "mix.lat", "a.lat", "b.lat", "--max-delay", "5", "--json"))
    assert [round(stem["delay"] / FRAME) for stem in facts["stems"]] == [0, 32]
    assert facts["stems"][1]["typical_gain"] == pytest.approx(0.5, rel=1e-2)


def test_a_stem_of_another_song_is_named(cli, song):
    make_lat(cli.folder / "x.lat", 99, num_samples=44100 * 40)
    code, _, err = cli.run("faders", "mix.lat", "a.lat", "x.lat", "b.lat", "--check")
    assert code == 1
    assert err == "lincae: note: x.lat does not seem to be part of mix.lat\n"
    assert cli.run("faders", "mix.lat", "a.lat", "b.lat", "--check")[0] == 0


def test_non_negative_gains(cli, song):
    _, out, _ = cli.run("faders", "mix.lat", "a.lat", "b.lat", "c.lat", "--non-negative", "--json")
    facts = json.loads(out)
    assert all(min(stem["gains"]) >= 0 for stem in facts["stems"])
    assert facts["stems"][1]["typical_gain"] == pytest.approx(0.5, rel=0.1)


def test_gains_as_csv(cli, song):
    cli.ok("faders", "mix.lat", "a.lat", "b.lat", "c.lat", "--window", "2", "--csv", "gains.csv")
    with open("gains.csv", encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert head == ["time", "a.lat", "b.lat", "c.lat", "residual_db"]
    duration = read_lat("mix.lat").header.duration
    assert [float(row[0]) for row in rows] == pytest.approx([2.0 * i for i in range(len(rows) - 1)] + [duration])
    assert 0 < duration - float(rows[-2][0]) <= 2.0
    assert float(rows[5][2]) == pytest.approx(0.501, rel=1e-2)


def test_mixes_that_contain_a_stem_are_found(cli, stems):
    (cli.folder / "mixes").mkdir()
    cli.noted("mix", "a.lat", "b.lat:-3dB@7", "-o", "mixes/yes.lat")
    cli.ok("mix", "a.lat", "c.lat", "-o", "mixes/no.lat")
    head, row = cli.ok("find", "b.lat", "mixes").splitlines()
    assert head.split()[0] == "file"
    assert row.split()[:2] == ["mixes/yes.lat", "0:06.97"]
    assert float(row.split()[2]) == pytest.approx(-3, abs=0.5)
    rows = json.loads(cli.ok("find", "b.lat", "mixes", "--json"))
    assert [(row["file"], row["found"]) for row in rows] == [("mixes/yes.lat", True), ("mixes/no.lat", False)]
    make_lat(cli.folder / "z.lat", 77, num_samples=44100 * 10)
    assert "found in none of 2 files" in cli.refused(1, "find", "z.lat", "mixes")


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("faders a.lat", 2, "STEM is missing"),
        ("faders a.lat b.lat -o song.lat", 2, "-o song.yaml"),
        ("faders a.lat none.lat", 1, "no such file"),
        ("faders a.lat b.lat --window 0", 2, "--window"),
        ("find a.lat", 2, "LAT is missing"),
        ("find none.lat a.lat", 1, "no such file"),
    ],
)
def test_one_line_that_names_the_remedy(cli, stems, line, code, remedy):
    assert remedy in cli.refused(code, *line.split())


def test_a_silent_stem_is_no_stranger(cli, song):
    cli.ok("gain", "a.lat", "--factor", "0", "-o", "silent.lat")
    code, _, err = cli.run("faders", "mix.lat", "a.lat", "b.lat", "c.lat", "silent.lat", "--check")
    assert (code, err) == (0, "")


def test_mono_and_stereo(cli):
    """A mono mix is of the means of its stems' channels; a mono stem is on both channels of a stereo mix."""
    wide = make_lat(cli.folder / "wide.lat", 1, 2, 44100 * 10)
    make_lat(cli.folder / "mono.lat", 2, 1, 44100 * 10)
    cli.ok("mix", "wide.lat", "mono.lat:0.5", "-o", "stereo.lat")
    _, mono = json.loads(cli.ok("faders", "stereo.lat", "wide.lat", "mono.lat", "--json"))["stems"]
    assert mono["typical_gain"] == pytest.approx(0.5, rel=1e-3)
    with_mean = Latents(0.7 * wide.data.mean(axis=0, keepdims=True), replace(wide.header, channels=1))
    write_lat(with_mean, cli.folder / "mean.lat")
    facts = json.loads(cli.ok("faders", "mean.lat", "wide.lat", "--json"))
    assert facts["stems"][0]["typical_gain"] == pytest.approx(0.7, rel=1e-3)
    assert "mean.lat" in cli.ok("find", "wide.lat", ".")


def test_a_window_longer_than_the_mix(cli, song):
    facts = json.loads(cli.ok("faders", "mix.lat", "b.lat", "--window", "100", "--json"))
    assert facts["times"] == [0.0, pytest.approx(40.0)]
    assert np.isfinite(facts["residual_db"]).all()


def test_rounding_of_stems_does_not_lower_gains(cli):
    """The shipped model's groups at `medium`: audio mixed and encoded apart, as against a mix of latents."""
    from lincae_core.models import frame_groups

    groups, rng = frame_groups("medium"), np.random.default_rng(0)
    header = Header(sample_rate=44100, num_samples=44100 * 20, model="m", model_fingerprint=FINGERPRINT,
                    channels=1, latent_dim=512, groups=groups)  # fmt: skip
    plain = [rng.standard_normal(header.shape).astype(np.float32) for _ in range(2)]
    levels = np.ones((1, header.level_count, header.frames), np.float32)
    for name, data in (("a", plain[0]), ("b", plain[1]), ("audio", 0.5 * plain[0] - plain[1])):
        write_lat(Latents(data, header, dtype="int8", band_levels=levels), cli.folder / f"{name}.lat")
    cli.ok("mix", "a.lat:0.5", "b.lat:-1", "-o", "latents.lat")
    for mix in ("audio", "latents"):
        facts = json.loads(cli.ok("faders", f"{mix}.lat", "a.lat", "b.lat", "--json"))
        gains = np.abs([stem["gains"] for stem in facts["stems"]])
        errors = 20 * np.log10(gains[:, :20] / [[0.5], [1.0]])
        assert np.abs(errors.mean(axis=1)).max() < 0.03, mix
    alike = json.loads(cli.ok("faders", "audio.lat", "a.lat", "a.lat", "b.lat", "--json"))["stems"]
    assert alike[0]["typical_gain"] == pytest.approx(0.25, abs=0.02)


@pytest.mark.slow
def test_gains_of_a_mix_of_audio_with_the_shipped_model(cli):
    import soundfile as sf

    import lincae_core as lincae
    from lincae_core import demo

    gains = {"bass": 0.5, "drums": 0.3, "other": 0.4, "vocals": 0.2}
    audio = {
        name: sf.read(f"{demo.__path__[0]}/stems/{name}.flac", dtype="float32", always_2d=True)[0] for name in gains
    }
    model = lincae.load(device="cpu")
    encoded = {name: model.encode(x.T, quality="exact") for name, x in audio.items()}
    mix = model.encode(sum(gain * audio[name] for name, gain in gains.items()).T, quality="exact")
    found = lincae.faders(mix, list(encoded.values()))
    for row, sounding, wanted in zip(found.gains, found.sounding, gains.values(), strict=True):
        assert np.abs(20 * np.log10(row[sounding] / wanted)).max() < 0.2
