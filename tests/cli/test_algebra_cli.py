"""mix, gain and subtract as a user types them."""

import numpy as np
import pytest
from cli_helpers import lincae, make_lat, ok, refused

from lincae_formats import read_lat


@pytest.fixture
def ab(tmp_path):
    """Two operands, and the folder they are in."""
    return make_lat(tmp_path / "a.lat", 1), make_lat(tmp_path / "b.lat", 2), tmp_path


def test_mix_adds_with_gains(ab):
    a, b, folder = ab
    assert ok("mix", "a.lat:0.5", "b.lat:-6dB", "-o", "out.lat", cwd=folder) == b""
    expected = np.float32(0.5) * a.data + np.float32(10 ** (-6 / 20)) * b.data
    np.testing.assert_allclose(read_lat(folder / "out.lat").data, expected, rtol=1e-3, atol=1e-6)


def test_the_order_of_operands_does_not_matter(ab):
    folder = ab[2]
    ok("mix", "a.lat", "b.lat:0.3", "-o", "1.lat", cwd=folder)
    ok("mix", "b.lat:0.3", "a.lat", "-o", "2.lat", cwd=folder)
    assert np.array_equal(read_lat(folder / "1.lat").data, read_lat(folder / "2.lat").data)


def test_subtract_undoes_mix(ab):
    a, _, folder = ab
    ok("mix", "a.lat", "b.lat", "-o", "sum.lat", cwd=folder)
    ok("subtract", "sum.lat", "b.lat", "-o", "rest.lat", cwd=folder)
    np.testing.assert_allclose(read_lat(folder / "rest.lat").data, a.data, atol=6e-3)


def test_a_file_twice_is_double(ab):
    a, _, folder = ab
    ok("mix", "a.lat", "a.lat", "-o", "out.lat", cwd=folder)
    assert np.array_equal(read_lat(folder / "out.lat").data, 2 * a.data)


@pytest.mark.parametrize(
    ("given", "factor"),
    [
        (("--db", "-6"), 10 ** (-6 / 20)),
        (("--db=-6dB",), 10 ** (-6 / 20)),
        (("--factor", "-1"), -1),
        (("--factor", "0"), 0),
        (("--factor", "-.5"), -0.5),
    ],
)
def test_gain_takes_negative_numbers(ab, given, factor):
    a, _, folder = ab
    ok("gain", "a.lat", *given, "-o", "out.lat", cwd=folder)
    np.testing.assert_allclose(read_lat(folder / "out.lat").data, np.float32(factor) * a.data, rtol=1e-3, atol=1e-6)


def test_length_chooses_the_operand(tmp_path):
    make_lat(tmp_path / "short.lat", num_samples=9000)
    make_lat(tmp_path / "long.lat", num_samples=30_000)
    for length, samples in (("longest", 30_000), ("shortest", 9000), ("first", 9000)):
        ok("mix", "short.lat", "long.lat", "--length", length, "-o", f"{length}.lat", cwd=tmp_path)
        assert read_lat(tmp_path / f"{length}.lat").num_samples == samples


def test_nothing_is_overwritten_without_force(ab):
    a, b, folder = ab
    line = refused(1, "mix", "a.lat", "-o", "b.lat", cwd=folder)
    assert "b.lat" in line
    assert "--force" in line
    assert np.array_equal(read_lat(folder / "b.lat").data, b.data)
    ok("mix", "a.lat", "-o", "b.lat", "--force", cwd=folder)
    assert np.array_equal(read_lat(folder / "b.lat").data, a.data)


def test_an_operand_is_never_the_output(ab):
    folder = ab[2]
    (folder / "link.lat").hardlink_to(folder / "a.lat")
    for output in ("a.lat", "./a.lat", "link.lat"):
        assert "is an input" in refused(2, "mix", "a.lat", "b.lat", "-o", output, "--force", cwd=folder)


def test_a_name_may_hold_colons(ab):
    a, _, folder = ab
    (folder / "a.lat").rename(folder / "x:2")
    ok("mix", "x:2", "-o", "out:1.lat", cwd=folder)
    assert np.array_equal(read_lat(folder / "out:1.lat").data, a.data)
    ok("mix", "x:2:2", "-o", "twice.lat", cwd=folder)
    assert np.array_equal(read_lat(folder / "twice.lat").data, 2 * a.data)


def test_operands_that_do_not_belong_together_are_named(tmp_path):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "other.lat", fingerprint="sha256:" + "00" * 32, model="n")
    line = refused(1, "mix", "a.lat", "other.lat", "-o", "out.lat", cwd=tmp_path)
    assert "a.lat" in line
    assert "other.lat" in line
    assert not (tmp_path / "out.lat").exists()


def test_sample_rates_differ_only_when_meant(tmp_path):
    make_lat(tmp_path / "a.lat", sample_rate=44100, num_samples=44100)
    make_lat(tmp_path / "b.lat", sample_rate=48000, num_samples=48000)
    assert "--sample-rate 44100" in refused(1, "mix", "a.lat", "b.lat", "-o", "out.lat", cwd=tmp_path)
    ok("mix", "a.lat", "b.lat", "-o", "out.lat", "--sample-rate", "48k", cwd=tmp_path)
    mixed = read_lat(tmp_path / "out.lat")
    assert (mixed.sample_rate, mixed.num_samples) == (48000, 48000)


def test_a_damaged_operand_leaves_no_output(ab):
    folder = ab[2]
    data = (folder / "b.lat").read_bytes()
    (folder / "b.lat").write_bytes(data[: len(data) // 2])
    assert "b.lat" in refused(1, "mix", "a.lat", "b.lat", "-o", "out.lat", cwd=folder)
    assert sorted(p.name for p in folder.iterdir()) == ["a.lat", "b.lat"]


def test_debug_shows_the_traceback_wherever_it_stands(ab):
    folder = ab[2]
    command = ("mix", "missing.lat", "-o", "out.lat")
    for done in (
        lincae("--debug", *command, cwd=folder),
        lincae(*command, "--debug", cwd=folder),
        lincae(*command, cwd=folder, LINCAE_DEBUG="1"),
    ):
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith(b"lincae: error: missing.lat: no such file")
