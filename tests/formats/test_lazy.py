"""The algebra of time and volume, in memory and computed as it is read: the same bits, whatever the blocks."""

import io
import math
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lat_helpers import make, make_int8

from lincae_formats import (
    Curve,
    Fade,
    IncompatibleError,
    LatError,
    LatReader,
    LatWriter,
    NonFiniteError,
    Pool,
    algebra,
    collect,
    concat,
    fade,
    gain,
    mix,
    read_lat,
    shift,
    signal,
    write_lat,
    write_lats,
)
from lincae_formats.signal import Meter

FRAME = 4096 / 44100  # s

seeds = st.integers(0, 1000)
lengths = st.integers(1, 100_000)
rates = st.sampled_from([8000, 22050, 44100, 48000, 96000])
offsets = st.integers(-20, 40)
gains = st.floats(-4, 4, width=32)
times = st.floats(0, 3)
points = st.lists(st.tuples(times, gains), min_size=1, max_size=6).map(lambda p: sorted(p, key=lambda tf: tf[0]))
quick = settings(max_examples=40, deadline=None)


def middles(z):
    return (np.arange(z.frames) + 0.5) * FRAME


# --- time


@quick
@given(seeds, lengths, rates, st.integers(0, 300))
def test_shifted_there_and_back_is_the_same(seed, samples, rate, frames):
    z = make(num_samples=samples, sample_rate=rate, seed=seed)
    later = algebra.shift(z, frames)
    back = collect(algebra.shift(later, -frames))
    np.testing.assert_array_equal(back.data, z.data)
    np.testing.assert_array_equal(collect(later).data[:, :, :frames], 0)
    assert abs(later.header.num_samples - samples - frames * FRAME * rate) <= 1
    assert abs(back.num_samples - samples) <= 1
    if rate == 44100:  # a frame is a whole number of samples
        assert (later.header.num_samples, back.header) == (samples + 4096 * frames, z.header)


def test_shifting_earlier_cuts_the_beginning_off():
    z = make(num_samples=50_000)
    np.testing.assert_array_equal(shift(z, -3 * FRAME).data, z.data[:, :, 3:])
    assert shift(z, -3 * FRAME).num_samples == 50_000 - 3 * 4096
    with pytest.raises(LatError, match="nothing of it is left"):
        shift(z, -100.0)
    for bad in (float("nan"), float("inf"), 1e9, "1"):
        with pytest.raises(LatError):
            shift(z, bad)


@quick
@given(st.lists(st.tuples(seeds, lengths, st.sampled_from([1, 2])), min_size=1, max_size=4), rates)
def test_slices_of_a_join_are_its_parts(parts, rate):
    operands = [make(c, n, seed=s, sample_rate=rate) for s, n, c in parts]
    joined = concat(operands)
    at = 0
    for z in operands:
        part = collect(algebra.cut(joined, at, at + z.frames))
        np.testing.assert_array_equal(part.data, np.broadcast_to(z.data, part.data.shape))
        assert z.num_samples <= part.num_samples + 1
        at += z.frames
    assert at == joined.frames
    whole = sum(z.frames for z in operands[:-1]) * FRAME * rate
    assert abs(joined.num_samples - whole - operands[-1].num_samples) <= 1


def test_every_part_but_the_last_takes_whole_frames():
    a, b = make(num_samples=5000), make(num_samples=3000, seed=1)
    assert concat([a, b]).num_samples == 2 * 4096 + 3000
    assert a.header.silence_after == pytest.approx((2 * 4096 - 5000) / 44100)
    assert make(num_samples=8192).header.silence_after == 0
    assert make(num_samples=4458, sample_rate=48000).header.silence_after == 0  # less than a sample
    with pytest.raises(LatError):
        concat([])
    with pytest.raises(IncompatibleError, match="--sample-rate 44100"):
        concat([a, make(sample_rate=48000)])
    assert concat([a, make(sample_rate=48000)], sample_rate=48000).sample_rate == 48000


@quick
@given(st.floats(-100, 100), rates)
def test_positions_are_the_nearest_frames(seconds, rate):
    header = make(sample_rate=rate).header
    position = header.nearest(seconds)
    assert abs(position.seconds - seconds) <= FRAME / 2 + 1e-9
    assert position.seconds == pytest.approx(position.frame * FRAME)
    assert position.exact == (abs(position.seconds - seconds) * rate * 2 < 1)
    assert header.nearest(position.seconds).exact


# --- volume


@quick
@given(seeds, points, st.booleans())
def test_a_curve_is_a_gain_for_every_frame(seed, pairs, decibels):
    if decibels:
        pairs = [(t, abs(f) + 0.01) for t, f in pairs]
    z, curve = make(2, 120_000, seed=seed), Curve(pairs, decibels=decibels)
    shaped = gain(z, curve)
    for k, factor in enumerate(curve.at(middles(z))):
        expected = gain(collect(algebra.cut(z, k, k + 1)), float(np.float32(factor))).data
        np.testing.assert_array_equal(shaped.data[:, :, k : k + 1], expected)
    assert shaped.history[-1]["curve"] == [list(p) for p in curve.points]


@quick
@given(points, times)
def test_a_curve_is_straight_between_its_points(pairs, at):
    value = float(Curve(pairs).at(np.array([at]))[0])
    before = [p for p in pairs if p[0] <= at]
    after = [p for p in pairs if p[0] > at]
    if not before or not after:
        assert value == pytest.approx((before[-1] if before else after[0])[1])
    else:
        (t0, f0), (t1, f1) = before[-1], after[0]
        assert value == pytest.approx(f0 + (f1 - f0) * (at - t0) / (t1 - t0), rel=1e-6, abs=1e-6)


def test_curves_of_the_issue_and_steps():
    curve = Curve([(0, 0), (2, 1), (58, 1), (60, 0)])
    np.testing.assert_allclose(curve.at(np.array([0.0, 1, 2, 30, 59, 60, 99])), [0, 0.5, 1, 1, 0.5, 0, 0])
    step = Curve([(1, 1), (1, 0), (2, 0), (2, 0.5)])
    np.testing.assert_array_equal(step.at(np.array([0.99, 1.0, 1.99, 2.0, 3.0])), [1, 0, 0, 0.5, 0.5])
    halfway = Curve([(0, 1.0), (2, 0.01)], decibels=True).at(np.array([1.0]))
    assert halfway[0] == pytest.approx(0.1)  # -40 dB, half of it


@pytest.mark.parametrize(
    ("pairs", "decibels"),
    [
        ([], False),
        ([(1, 1), (0, 1)], False),
        ([(0, math.nan)], False),
        ([(math.inf, 1)], False),
        ([(0, 1e39)], False),
        ([(0, 0.0), (1, 1.0)], True),
        ([(i, 1) for i in range(2000)], False),
    ],
)
def test_curves_that_are_none(pairs, decibels):
    with pytest.raises(LatError):
        Curve(pairs, decibels=decibels)


@quick
@given(seeds, st.floats(0, 2), st.floats(0, 2), st.sampled_from(["linear", "sine"]))
def test_fades_rise_and_fall(seed, rise, fall, shape):
    z = make(num_samples=130_000, seed=seed)
    faded = fade(z, fade_in=rise, fade_out=fall, shape=shape)
    t = middles(z)
    with np.errstate(over="ignore"):
        parts = [np.clip(x / n, 0, 1) if n else np.ones_like(t) for x, n in ((t, rise), (z.duration - t, fall))]
    expected = np.prod([np.sin(p * np.pi / 2) if shape == "sine" else p for p in parts], axis=0)
    np.testing.assert_allclose(faded.data, z.data * expected, rtol=1e-6, atol=1e-9)
    untouched = (t >= rise) & (t <= z.duration - fall)
    np.testing.assert_array_equal(faded.data[:, :, untouched], z.data[:, :, untouched])


def test_a_crossfade_of_sines_keeps_the_power_and_of_lines_the_sum():
    t = np.linspace(0, 2, 50)
    for shape, power in (("sine", 2), ("linear", 1)):
        out = Fade(2.0, fade_out=2.0, shape=shape).at(t)
        into = Fade(2.0, fade_in=2.0, shape=shape).at(t)
        np.testing.assert_allclose(out**power + into**power, 1)


def test_fades_that_are_none():
    for wrong in ({"fade_in": -1.0}, {"fade_out": math.nan}, {"fade_in": math.inf}, {"shape": "square"}):
        with pytest.raises(LatError):
            fade(make(), **wrong)


# --- sums


@quick
@given(st.lists(st.tuples(seeds, lengths, gains, offsets), min_size=1, max_size=4))
def test_mix_with_offsets_is_shift_then_mix(parts):
    operands = [make(num_samples=n + 21 * 4096, seed=s, dtype="float32") for s, n, _, _ in parts]
    factors = [g for _, _, g, _ in parts]
    moved = [o * FRAME for _, _, _, o in parts]
    together = mix(operands, factors, offsets=moved)
    apart = mix([shift(z, o) for z, o in zip(operands, moved, strict=True)], factors)
    assert together.header == apart.header
    assert together.data.tobytes() == apart.data.tobytes()


@quick
@given(
    st.lists(st.tuples(seeds, lengths, gains, offsets, st.sampled_from([1, 2])), min_size=2, max_size=5), st.randoms()
)
def test_order_changes_nothing_beyond_the_last_bit_with_offsets_either(parts, random):
    operands = [(make(c, n + 21 * 4096, seed=s, dtype="float32"), g, o * FRAME) for s, n, g, o, c in parts]
    shuffled = operands[:]
    random.shuffle(shuffled)
    one, two = (
        mix([z for z, _, _ in p], [g for _, g, _ in p], offsets=[o for _, _, o in p]) for p in (operands, shuffled)
    )
    assert one.header == two.header
    np.testing.assert_allclose(one.data, two.data, rtol=2e-7, atol=1e-14)


def test_mixing_says_what_is_wrong_with_its_numbers():
    z = make()
    with pytest.raises(LatError, match="2 offsets"):
        mix([z], offsets=[0.0, 1.0])
    with pytest.raises(LatError, match="beyond 100 hours"):
        mix([z], offsets=[1e7])
    with pytest.raises(LatError, match="nothing of it is left"):
        mix([z, z], offsets=[0.0, -100.0])
    huge = gain(make(dtype="float32"), 3e37)
    with pytest.raises(NonFiniteError, match="beyond float32"):
        mix([huge] * 20)


# --- files of any length


@pytest.fixture(params=["float16", "int8"])
def long(tmp_path, request):
    """Two files of several blocks, of different lengths and chunks."""
    new = make_int8 if request.param == "int8" else make
    operands = [new(1, 4096 * 1900 + 17, seed=1, name="a.lat"), new(2, 4096 * 2700, seed=2, name="b.lat")]
    for z in operands:
        write_lat(z, tmp_path / z.name)
    return tmp_path, operands


def operations(a, b):
    """Every operation, on latents in memory or on open files."""
    return {
        "gain": algebra.gain(a, 0.3),
        "curve": algebra.gain(a, Curve([(0, 0), (60, 1), (100, 0.2)])),
        "fade": algebra.gain(a, Fade(a.header.duration, 20, 30, "sine")),
        "cut": algebra.cut(b, 300, 2300),
        "later": algebra.shift(a, 777),
        "earlier": algebra.shift(b, -1001),
        "join": algebra.concat([a, b, algebra.cut(a, 5, 900)]),
        "mix": algebra.mix([a, b, a], [1.0, -0.7, 0.1], offsets=[100, -33, 1500]),
        "subtract": algebra.subtract(b, [a, algebra.gain(a, 0.5)], offsets=[3, 0]),
        "all at once": algebra.mix([algebra.gain(algebra.shift(algebra.cut(b, 7, 2001), 40), 0.5), a], length="first"),
    }


@pytest.mark.parametrize("name", operations(make(1, 4096 * 1900, name="a.lat"), make(2, 4096 * 2700, name="b.lat")))
def test_files_give_the_bytes_that_memory_gives(long, monkeypatch, name):
    folder, (a, b) = long
    in_memory, from_files = io.BytesIO(), io.BytesIO()
    write_lat(collect(operations(a, b)[name]), in_memory)
    monkeypatch.setattr(signal, "_MOST_FRAMES", 500)
    with Pool(most=1) as pool:
        opened = [pool.open(folder / z.name, z.name) for z in (a, b)]
        write_lat(operations(*opened)[name], from_files)
    assert from_files.getvalue() == in_memory.getvalue()


def test_every_chunk_is_read_once(long, monkeypatch):
    folder, _ = long
    read = []
    load = LatReader._load
    monkeypatch.setattr(LatReader, "_load", lambda self, n: read.append((self.name, n)) or load(self, n))
    monkeypatch.setattr(signal, "_MOST_FRAMES", 300)
    with Pool() as pool:
        a, b = (pool.open(folder / name, name) for name in ("a.lat", "b.lat"))
        two = [algebra.mix([a, b], [1, g], offsets=[50, 0]) for g in (0.5, 0.25)]
        write_lats([(z, folder / f"{i}.lat") for i, z in enumerate(two)])
    assert sorted(read) == [(name, n) for name, chunks in (("a.lat", 8), ("b.lat", 11)) for n in range(chunks)]


@pytest.mark.parametrize("hold", [True, False])
@pytest.mark.parametrize("step", [1, 77, 256, 300, 1000, 5000])
def test_reading_in_order_reads_every_chunk_once(long, monkeypatch, hold, step):
    folder, (_, b) = long
    loaded = []
    load = LatReader._load
    monkeypatch.setattr(LatReader, "_load", lambda self, number: loaded.append(number) or load(self, number))
    with LatReader(folder / "b.lat") as reader:
        reader.hold_blocks = hold
        blocks = list(signal.blocks(reader, step))
    np.testing.assert_array_equal(np.concatenate(blocks, axis=2), b.data)
    assert loaded == list(range(11))


def test_the_fingerprint_is_the_same_however_it_is_read(long):
    folder, (a, b) = long
    for z in (a, b):
        with LatReader(folder / z.name) as reader:
            assert reader.fingerprint == z.fingerprint
        with Pool(most=1) as pool:
            file = pool.open(folder / z.name)
            file.read(200, 700)
            file.read(0, 300)
            other = pool.open(folder / ("a.lat" if z is b else "b.lat"))
            other.read(0, 10)  # closes the first
            file.read(300, 900)
            assert file.fingerprint == z.fingerprint


@pytest.mark.parametrize("new", [make, make_int8])
def test_memory_does_not_grow_with_the_length(tmp_path, new):
    import tracemalloc

    peaks = []
    for frames in (20_000, 80_000):
        z = new(num_samples=4096 * frames)
        write_lat(z, tmp_path / f"{frames}.lat")
        del z
        tracemalloc.start()
        with Pool() as pool:
            file = pool.open(tmp_path / f"{frames}.lat")
            moved = algebra.gain(algebra.cut(file, 100, frames), 0.5)
            write_lat(algebra.mix([file, moved, algebra.shift(file, 99)], [1, 0.5, -1]), tmp_path / f"{frames}-mix.lat")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]  # for four times the length; what two threads hold at once varies


def test_a_pool_opens_again_what_it_closed_but_not_what_was_replaced(tmp_path):
    for i in range(5):
        write_lat(make(seed=i), tmp_path / f"{i}.lat")
    with Pool(most=2) as pool:
        files = [pool.open(tmp_path / f"{i}.lat") for i in range(5)]
        assert pool.open(tmp_path / "0.lat") is files[0]
        np.testing.assert_array_equal(algebra.mix(files).read(), mix([make(seed=i) for i in range(5)]).data)
        write_lat(make(seed=9), tmp_path / "0.lat", overwrite=True)
        with pytest.raises(LatError, match=r"0\.lat was replaced or changed"):
            algebra.mix(files).read()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_a_closed_file_is_let_go_of_and_says_so(tmp_path):
    for i in range(3):
        write_lat(make(seed=i), tmp_path / f"{i}.lat")
    before = len(os.listdir("/proc/self/fd"))
    readers = [LatReader(tmp_path / f"{i}.lat") for i in range(3)]
    assert len(os.listdir("/proc/self/fd")) > before
    for reader in readers[:2]:
        reader.close()
        reader.close()
        with pytest.raises(LatError):
            reader.read()
    np.testing.assert_array_equal(readers[2].read(), make(seed=2).data)  # which was open beside them
    readers[2].close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_streams_stay_open_in_a_pool(tmp_path):
    buffer = io.BytesIO()
    write_lat(make(seed=3), buffer)
    for i in range(3):
        write_lat(make(seed=i), tmp_path / f"{i}.lat")
    with Pool(most=1) as pool:
        stream = pool.open(io.BytesIO(buffer.getvalue()))
        files = [pool.open(tmp_path / f"{i}.lat") for i in range(3)]
        assert algebra.mix([*files, stream]).read().tobytes() == mix([make(seed=i) for i in range(4)]).data.tobytes()
        assert stream.fingerprint == make(seed=3).fingerprint


def test_several_results_appear_together_or_not_at_all(tmp_path):
    good, bad = make(), gain(make(), 1e6)
    with pytest.raises(LatError, match="beyond float16"):
        write_lats([(good, tmp_path / "good.lat"), (bad, tmp_path / "bad.lat")])
    assert list(tmp_path.iterdir()) == []
    write_lats([(good, tmp_path / "1.lat"), (algebra.shift(good, 7), tmp_path / "2.lat")])
    assert read_lat(tmp_path / "2.lat").frames == good.frames + 7


# --- histories and levels


def test_histories_tell_the_steps_on_the_way(long):
    folder, (a, _) = long
    with Pool() as pool:
        file = pool.open(folder / "a.lat", "a.lat")
        moved = algebra.gain(algebra.cut(file, 10, 50), 0.5)
        total = algebra.mix([moved, file], [1.0, -1.0], offsets=[5, 0])
        write_lat(algebra.gain(algebra.concat([total, file]), Curve([(0, 1)])), folder / "out.lat")
    joined, last = read_lat(folder / "out.lat").history
    assert last == {"op": "gain", "curve": [[0.0, 1.0]]}
    inner, stored = joined["operands"]
    assert stored == {"name": "a.lat", "fingerprint": a.fingerprint, "history": list(a.history)}
    first, second = inner["history"][0]["operands"]
    assert first == {
        "name": "a.lat", "fingerprint": a.fingerprint, "history": list(a.history), "gain": 1.0, "offset_frames": 5,
        "steps": [{"op": "slice", "start_frame": 10, "stop_frame": 50}, {"op": "gain", "factor": 0.5}],
    }  # fmt: skip
    assert (second["gain"], "steps" in second, "fingerprint" in inner) == (-1.0, False, False)


def test_a_history_may_be_known_only_at_the_end(tmp_path):
    z = make()
    with LatWriter(tmp_path / "z.lat", z.header, history=lambda: [{"op": "late", "written": out._appended}]) as out:
        out.append(z.data)
    assert read_lat(tmp_path / "z.lat").history == ({"op": "late", "written": z.frames},)


def test_histories_of_many_long_curves_keep_their_operands():
    curve = Curve([(t, 1.0) for t in range(1000)])
    parts = [algebra.gain(make(seed=i, name=f"{i}.lat"), curve) for i in range(40)]
    (entry,) = algebra.mix(parts).history
    assert [o["name"] for o in entry["operands"]] == [f"{i}.lat" for i in range(40)]
    assert entry["operands"][0]["history"] == [{"op": "elided"}]


@quick
@given(seeds, st.integers(1, 500), st.floats(-60, 20))
def test_levels_move_by_the_gain(seed, frames, db):
    z = make(num_samples=4096 * frames, seed=seed, dtype="float32")
    before, after = (Meter(s).read_all() for s in (z, algebra.gain(z, 10 ** (db / 20))))
    assert before.rms == pytest.approx(math.sqrt(np.mean(np.square(z.data, dtype=np.float64))))
    assert after.decibels - before.decibels == pytest.approx(db, abs=1e-4)
    loudest = int(np.square(z.data, dtype=np.float64).sum(axis=(0, 1)).argmax())
    assert before.loudest == pytest.approx(loudest * FRAME)


def test_silence_has_a_level_too():
    assert Meter(make() * 0).read_all().decibels == -math.inf
