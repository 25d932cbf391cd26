"""The arithmetic of latents, in memory and through files."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lat_helpers import make

from lincae_formats import (
    IncompatibleError,
    LatError,
    NonFiniteError,
    check_compatible,
    gain,
    mix,
    read_lat,
    subtract,
    write_lat,
)

gains = st.floats(-4, 4, width=32)
lengths = st.integers(1, 100_000)
seeds = st.integers(0, 1000)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(seeds, lengths, gains, st.sampled_from([1, 2])), min_size=2, max_size=4), st.randoms())
def test_order_changes_nothing_beyond_the_last_bit(parts, random):
    operands = [(make(c, n, seed=s, dtype="float32"), g) for s, n, g, c in parts]
    shuffled = operands[:]
    random.shuffle(shuffled)
    one = mix([z for z, _ in operands], [g for _, g in operands])
    two = mix([z for z, _ in shuffled], [g for _, g in shuffled])
    np.testing.assert_allclose(one.data, two.data, rtol=2e-7, atol=1e-14)
    assert one.header == two.header


@settings(max_examples=40, deadline=None)
@given(seeds, seeds, gains, gains)
def test_mix_with_gains_is_gain_then_mix(s, t, f, g):
    a, b, c = make(seed=s), make(seed=t, channels=2), make(seed=s + t + 1)
    together = mix([a, b, c], [f, g, 1.0])
    apart = mix([gain(a, f), g * b, c])
    assert together.data.tobytes() == apart.data.tobytes()


@settings(max_examples=40, deadline=None)
@given(seeds, seeds, gains, gains)
def test_distributive_and_homogeneous_to_float32_rounding(s, t, f, g):
    a, b = make(seed=s), make(seed=t)
    np.testing.assert_allclose((f * (a + b)).data, (f * a + f * b).data, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose((g * (f * a)).data, ((f * g) * a).data, rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal((a - b).data, (a + -b).data)
    np.testing.assert_array_equal((a * 0).data, np.zeros_like(a.data))


@settings(max_examples=20, deadline=None)
@given(seeds, seeds, lengths)
def test_mix_then_subtract_gives_the_first_back(tmp_path_factory, s, t, n):
    folder = tmp_path_factory.mktemp("mix")
    a, b = make(seed=s, num_samples=50_000), make(seed=t, num_samples=n)
    write_lat(mix([a, b], length="first"), folder / "m.lat")
    back = subtract(read_lat(folder / "m.lat"), [b])
    assert back.header == a.header
    # the mixture was rounded to float16 once: half a unit in the last place of a value below 16
    np.testing.assert_allclose(back.data, a.data, rtol=0, atol=np.abs(a.data).max() * 2**-10 + 2**-8)
    np.testing.assert_allclose(subtract(mix([a, b]), [b]).data[:, :, : a.frames], a.data, atol=1e-6)


def test_associativity_through_operators():
    a, b, c = (make(seed=i) for i in range(3))
    np.testing.assert_allclose(((a + b) + c).data, (a + (b + c)).data, atol=1e-6)
    np.testing.assert_allclose(((a + b) - b).data, a.data, atol=1e-6)
    np.testing.assert_array_equal((np.float64(0.5) * a).data, (a * 0.5).data)
    with pytest.raises(TypeError):
        a + 1
    with pytest.raises(TypeError):
        a * a


def test_mono_is_added_to_every_channel():
    mono, six = make(seed=1), make(6, seed=2)
    np.testing.assert_array_equal((six + mono).data, six.data + mono.data)
    assert (mono + six).channels == 6
    with pytest.raises(IncompatibleError, match="part has 6 channels, whole has 2"):
        subtract(make(2, name="whole"), [make(6, name="part")])
    with pytest.raises(IncompatibleError):
        subtract(mono, [make(2)])


@pytest.mark.parametrize(("length", "samples"), [("longest", 30_000), ("shortest", 9_000), ("first", 20_000)])
def test_lengths(length, samples):
    a, b, c = (
        make(num_samples=20_000, seed=1),
        make(num_samples=30_000, seed=2),
        make(num_samples=9_000, seed=3),
    )
    m = mix([a, b, c], length=length)
    assert m.num_samples == samples
    n = c.frames
    np.testing.assert_allclose(m.data[:, :, :n], a.data[:, :, :n] + b.data[:, :, :n] + c.data, atol=1e-6)
    if length == "longest":
        np.testing.assert_array_equal(m.data[:, :, a.frames :], b.data[:, :, a.frames :])


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"model": "other", "model_fingerprint": "sha256:" + "0" * 64}, "--model m"),
        ({"model_fingerprint": "sha256:" + "0" * 64}, "two versions"),
        ({"sample_rate": 48000}, "--sample-rate 44100"),
        ({"latent_dim": 4}, "latent_dim: 8 and 4"),
        ({"latent_scale": 2.0}, "latent_scale"),
        ({"samples_per_frame": 2048}, "samples_per_frame"),
    ],
)
def test_strangers_are_refused_in_one_line_with_both_names(change, hint):
    with pytest.raises(IncompatibleError) as caught:
        mix([make(name="a.lat"), make(name="b.lat", **change)])
    line = str(caught.value)
    assert [part for part in ("a.lat", "b.lat", hint) if part not in line] == []
    assert "\n" not in line


def test_channel_counts_that_differ_are_refused_even_behind_a_mono():
    with pytest.raises(IncompatibleError, match=r"b has 2 channels, c has 3; .*--mono"):
        check_compatible([make(1).header, make(2).header, make(3).header], ["a", "b", "c"])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 10**7), st.sampled_from([8000, 22050, 44100, 48000, 96000]), st.integers(100, 200_000))
def test_a_declared_rate_keeps_the_frames(samples, rate, result):
    a = make(num_samples=samples, sample_rate=rate, latent_dim=1)
    assume(4096 * result >= 44100)
    m = mix([a], sample_rate=result)
    assert m.sample_rate == result
    assert m.frames == a.frames
    assert abs(m.duration - a.duration) <= 1 / result
    if result == rate:
        assert m.num_samples == samples


def test_rates_can_be_mixed_when_declared():
    a, b = make(num_samples=44100, seed=1), make(num_samples=48000, sample_rate=48000, seed=2)
    m = mix([a, b], sample_rate=48000)
    assert (m.num_samples, m.sample_rate) == (48000, 48000)
    assert m.history[0]["sample_rate"] == 48000
    assert subtract(a, [b], sample_rate=44100).num_samples == 44100


def test_bad_gains_and_results_are_refused():
    a = make(dtype="float32")
    for bad in (float("nan"), float("inf"), -float("inf"), 1e39):
        with pytest.raises(NonFiniteError):
            gain(a, bad)
        with pytest.raises(NonFiniteError):
            mix([a, a], [1, bad])
    with pytest.raises(NonFiniteError, match="beyond float32"):
        gain(gain(a, 1e38), 100)
    with pytest.raises(LatError):
        mix([])
    with pytest.raises(LatError):
        mix([a], [1, 2])
    with pytest.raises(LatError):
        mix([a], length="middle")
    with pytest.raises(LatError):
        subtract(a, [])


def test_the_storage_type_is_float16_only_if_all_are():
    half, single = make(), make(dtype="float32")
    kinds = {mix(list(pair)).dtype for pair in itertools.permutations([half, single])}
    assert kinds == {"float32"}
    assert mix([half, half]).dtype == "float16"


def test_history_names_the_operands():
    a, b = make(name="a.lat"), make(name="b.lat", seed=1)
    entry = mix([a, b], [1, -0.5]).history[0]
    assert entry["op"] == "mix"
    assert [(o["name"], o["gain"], o["fingerprint"]) for o in entry["operands"]] == [
        ("a.lat", 1.0, a.fingerprint),
        ("b.lat", -0.5, b.fingerprint),
    ]
    assert entry["operands"][0]["history"] == list(a.history)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 10**6), st.sampled_from([8000, 44100, 48000]), st.floats(0, 1), st.floats(0, 1))
def test_slices_hold_the_frame_formula(samples, rate, x, y):
    z = make(num_samples=samples, sample_rate=rate, latent_dim=1)
    t0, t1 = sorted((x * z.duration, y * z.duration))
    frame = 4096 / 44100
    try:
        part = z[t0:t1]
    except LatError as e:
        assert "holds no frame" in str(e)  # noqa: PT017  refusing is one of two right answers
        assert t1 - t0 <= frame
        return
    start = int(t0 / frame + 0.5)
    np.testing.assert_array_equal(part.data, z.data[:, :, start : start + part.frames])
    assert abs(part.duration - (t1 - t0)) <= frame + 1 / rate
    tail = z[t0:]
    assert abs(tail.num_samples - (samples - start * frame * rate)) <= 1


def test_slices_at_the_ends():
    z = make(num_samples=100_000)
    assert z[:].num_samples == z[0 : z.duration].num_samples == 100_000
    assert z[: 10 * 4096 / 44100].num_samples == 10 * 4096
    assert make(num_samples=1)[0:].num_samples == 1
    for bad in (
        slice(-1, 1),
        slice(0, 9),
        slice(1, 1),
        slice(2, 1),
        slice(float("nan"), 1),
        slice(0, 1, 2),
        3,
    ):
        with pytest.raises(LatError):
            z[bad]
