"""8-bit integers: the rounding rule and its bound, what is exact, levels, and what many operations in a row lose."""

import io
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lat_helpers import GROUPS, make, make_int8

from lincae_formats import (
    DTypeError,
    Fade,
    Group,
    Header,
    IncompatibleError,
    Latents,
    LatReader,
    LatWriter,
    NonFiniteError,
    ShapeError,
    algebra,
    collect,
    concat,
    gain,
    mix,
    read_lat,
    requantised,
    subtract,
    verify,
    write_lat,
    writer,
)
from lincae_formats.header import parse_groups
from lincae_formats.signal import STEPS, accumulated, differences, layout, quantised, signed, unsigned

quick = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 1000)
factors = st.floats(-4, 4, width=32) | st.sampled_from([1.0, -1.0, 0.0])


def written(signal):
    """A signal as its file is read again."""
    file = io.BytesIO()
    write_lat(signal, file)
    file.seek(0)
    return read_lat(file)


def integers(source):
    """What lies in a file: integers, step codes, scale (ones where there is none), levels known."""
    file = io.BytesIO()
    write_lat(source, file)
    with h5py.File(file) as f:
        shape = f["latents"].shape
        scale = f["scale"][:] if "scale" in f else np.ones((shape[0], shape[2]), np.float32)
        groups = parse_groups(bytes(f["latents"].attrs["groups"]).decode(), "x")
        size = f["steps"].chunks[2]
        parts = [accumulated(f["steps"][:, :, at : at + size], groups) for at in range(0, shape[2], size)]
        return f["latents"][:], np.concatenate(parts, axis=2), scale, "levels_known" not in f.attrs


# --- rounding


@st.composite
def blocks(draw):
    """Numbers of very different sizes, in groups, with levels of some."""
    random = np.random.default_rng(draw(seeds))
    runs = draw(
        st.lists(
            st.tuples(
                st.integers(1, 3),
                st.integers(1, 5),
                st.sampled_from([0.01, 0.1, 0.25, 0.7, 4.0]),
                st.integers(1, 3),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )
    groups = tuple(Group(*run) for run in runs)
    dims, count = sum(g.count * g.size for g in groups), sum(g.count for g in groups if g.level)
    shape = (draw(st.integers(1, 2)), dims, 7)
    sizes = 10.0 ** random.uniform(-30, draw(st.sampled_from([3, 30])), (shape[0], 1, 7))
    z = random.standard_normal(shape) * 10.0 ** random.uniform(-2, 2, (1, dims, 1)) * sizes
    z[random.random(shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = 0.0
    levels = np.abs(random.standard_normal((shape[0], count, 7))) * sizes
    levels[random.random(levels.shape) < 0.3] = np.nan
    return z.astype(np.float32), levels.astype(np.float32), groups


@quick
@given(blocks())
def test_no_number_is_further_off_than_half_a_step(block):
    z, levels, groups = block
    found, lay = quantised(z, signed(levels), groups), layout(groups)
    steps = STEPS[found.steps] * np.abs(found.scale)[:, None]
    bound = np.repeat(steps, lay.sizes, axis=1) / 2
    silent = np.repeat(found.steps == 0, lay.sizes, axis=1)
    known = np.zeros(found.steps.shape, bool)
    known[:, lay.level] = ~np.isnan(levels)
    clipped = (np.abs(found.data) == 127) & np.repeat(known, lay.sizes, axis=1)
    error = np.abs(found.values(groups).astype(float) - z)
    assert (error <= bound * (1 + 1e-5) + 1e-30)[~silent & ~clipped].all()
    assert not found.data[silent].any()
    # A group without a known level is silent where no number is above half the step that it would have.
    quiet = silent & ~np.repeat(np.broadcast_to(lay.level[:, None], known.shape), lay.sizes, axis=1)
    relative = np.repeat(np.broadcast_to(lay.relative[:, None], found.steps.shape[1:]), lay.sizes, axis=0)
    rms = np.sqrt(np.mean(z.astype(float) ** 2, axis=1, keepdims=True))
    assert (np.abs(z) <= np.maximum(relative * 8 * rms, 2.0**-47))[quiet].all()


@quick
@given(blocks())
def test_levels_are_steps(block):
    z, levels, groups = block
    found, lay = quantised(z, signed(levels), groups), layout(groups)
    if np.isnan(levels).any() or not lay.level.any():
        return
    back = np.abs(found.signed_levels(groups)).astype(float)
    grid, smallest = lay.grid[lay.level][:, None], 2.0**-48 / lay.relative[lay.level][:, None]
    heard = levels > 2 * smallest * np.abs(found.scale)[:, None] * 2.0**grid
    assert (np.abs(np.log2(back[heard] / levels[heard])) <= np.broadcast_to(grid / 8, back.shape)[heard] + 1e-4).all()


def test_the_steps_of_the_specification():
    groups = (Group(1, 4, 0.5), Group(1, 4, 0.5), Group(1, 2, 1.0, 2, True))
    z = np.zeros((1, 10, 1), np.float32)
    z[0, :4, 0] = 2.0, -2.0, 2.0, -2.0  # RMS 2: step 1, code 192
    z[0, 4:8, 0] = 1e-4  # 86 dB lower: the step of the floor is 45 dB below that of the whole
    z[0, 8:, 0] = 0.3, 1000.0  # beyond 127 steps of the level: clipped
    levels = np.full((1, 1, 1), 0.5, np.float32)
    found = quantised(z, signed(levels), groups)
    whole = np.sqrt((4 * 4 + 4e-8) / 8)
    floor = round(4 * np.log2(0.5 * whole * 10 ** (-45 / 20)) + 192)
    assert floor == 160
    # The floor's step of 2^-8 rounds every number of the second group to 0, so that it is silent.
    assert found.steps[0, :, 0].tolist() == [192, 0, 188]
    assert found.data[0, :, 0].tolist() == [2, -2, 2, -2, 0, 0, 0, 0, 1, 127]
    assert found.scale.tolist() == [[1.0]]
    # Halves are rounded to even.
    z = np.array([0.5, 1.5, -0.5, 2.5, 2.0, -2.0, 2.0, 2.0], np.float32).reshape(1, 8, 1)
    assert quantised(z, None, (Group(1, 8, 1.0, 64),)).data[0, :, 0].tolist() == [0, 2, 0, 2, 2, -2, 2, 2]


def test_numbers_beyond_every_step_go_to_the_scale():
    z = make_int8().data * np.float32(1e20)
    found = quantised(z, None, GROUPS)
    assert (found.steps <= 255).all()
    np.testing.assert_allclose(found.values(GROUPS), z, atol=np.abs(z).max() / 3)


@quick
@given(seeds, st.integers(1, 700), st.lists(st.integers(1, 300), min_size=1, max_size=5), st.booleans())
def test_the_bytes_do_not_depend_on_the_blocks(seed, frames, sizes, known):
    z = make_int8(2, 4096 * frames, seed=seed, levels=known)
    z = Latents(z.data + np.float32(0.01), z.header, dtype="int8", band_levels=z.band_levels)
    whole, parts = io.BytesIO(), io.BytesIO()
    write_lat(z, whole)
    with LatWriter(parts, z.header) as out:
        at, i = 0, 0
        while at < frames:
            n = sizes[i % len(sizes)]
            out.append(z.data[:, :, at : at + n], z.levels(at, min(at + n, frames)))
            at, i = at + n, i + 1
    assert parts.getvalue() == whole.getvalue()
    whole.seek(0)
    with LatReader(whole) as reader:
        read = [reader.read(at, min(at + sizes[0], frames)) for at in range(0, frames, sizes[0])]
        levels = [reader.levels(at, min(at + sizes[0], frames)) for at in range(0, frames, sizes[0])]
    back = read_lat(io.BytesIO(whole.getvalue()))
    np.testing.assert_array_equal(np.concatenate(read, axis=2), back.data)
    np.testing.assert_array_equal(np.concatenate(levels, axis=2), back.levels())


@quick
@given(seeds, st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9))
def test_step_codes_are_differences_in_time(seed, channels, bands, slots, frames):
    groups = (Group(2, 1, 1.0), Group(bands * slots, 1, 1.0, 1, True, slots))
    codes = np.random.default_rng(seed).integers(0, 256, (channels, 2 + bands * slots, frames)).astype(np.uint8)
    stored = differences(codes, groups)
    np.testing.assert_array_equal(accumulated(stored, groups), codes)
    for channel, group, frame in np.ndindex(codes.shape):
        if group < 2 or (group - 2) % slots == 0:  # the first slot: the last one of the frame before
            last = group if group < 2 else group + slots - 1
            before = codes[channel, last, frame - 1] if frame else 0
        else:
            before = codes[channel, group - 1, frame]
        assert stored[channel, group, frame] == (int(codes[channel, group, frame]) - int(before)) % 256


def test_numbers_that_are_all_zero_cost_next_to_nothing(tmp_path):
    """128 probes at coarse steps, whose integers are 0, beside 384 numbers that are not."""
    sizes = []
    for probes in (0, 128):
        groups = (Group(12, 32, 0.5), *([Group(probes, 1, 8.0, 2, True, 8)] if probes else []))
        header = Header(44100, 4096 * 512, "m", "sha256:" + "0" * 64, latent_dim=384 + probes, groups=groups)
        random = np.random.default_rng(0)
        with LatWriter(tmp_path / f"{probes}.lat", header) as out:
            z = random.standard_normal(header.shape)
            out.append(z, np.abs(z[:, 384:]) + 0.3)
        with h5py.File(tmp_path / f"{probes}.lat") as f:
            sizes.append(f["latents"].id.get_storage_size())
            assert not f["latents"][:, 384:].any()
    assert sizes[1] - sizes[0] < 200


# --- what is exact


@quick
@given(seeds, st.lists(factors, min_size=1, max_size=4))
def test_gains_leave_integers_and_steps_alone(seed, gains):
    z = make_int8(2, 300_000, seed=seed)
    data, steps, scale, _ = integers(z)
    result = z
    for factor in gains:
        result = gain(result, factor)
        scale = scale * np.float32(factor)
    found = integers(result)
    np.testing.assert_array_equal(found[0], data)
    np.testing.assert_array_equal(found[1], steps)
    np.testing.assert_array_equal(found[2], scale)
    assert found[3]
    np.testing.assert_allclose(result.levels(), z.levels() * np.prod(np.abs(gains)), rtol=1e-6, atol=1e-30)


def test_inverted_twice_is_the_same_file():
    z = make_int8(2, 300_000)
    once, twice = io.BytesIO(), io.BytesIO()
    write_lat(Latents(z.data, z.header, (), dtype="int8", band_levels=z.band_levels, coded=z.coded), once)
    back = gain(gain(z, -1.0), -1.0)
    write_lat(Latents(back.data, z.header, (), dtype="int8", band_levels=back.band_levels, coded=back.coded), twice)
    assert once.getvalue() == twice.getvalue()


@quick
@given(seeds, st.integers(2, 600), st.data())
def test_slices_shifts_and_joins_keep_the_integers(seed, frames, data):
    z = make_int8(1, 4096 * frames, seed=seed)
    other = make_int8(2, 4096 * data.draw(st.integers(1, 400)), seed=seed + 1)
    start = data.draw(st.integers(0, frames - 1))
    stop = data.draw(st.integers(start + 1, frames))
    later = data.draw(st.integers(0, 300))
    q, s, _, _ = integers(z)
    for result, place in (
        (algebra.cut(z, start, stop), slice(start, stop)),
        (algebra.shift(z, -start), slice(start, None)),
    ):
        found = integers(result)
        np.testing.assert_array_equal(found[0], q[:, :, place])
        np.testing.assert_array_equal(found[1], s[:, :, place])
    found = integers(algebra.shift(z, later))
    assert not found[0][:, :, :later].any()
    np.testing.assert_array_equal(found[0][:, :, later:], q)
    np.testing.assert_array_equal(found[1][:, :, later:], s)
    joined = algebra.concat([z, algebra.gain(other, -0.5), z])
    found, (q2, s2, _, _) = integers(joined), integers(other)
    np.testing.assert_array_equal(found[0], np.concatenate([np.repeat(q, 2, 0), q2, np.repeat(q, 2, 0)], axis=2))
    np.testing.assert_array_equal(found[1], np.concatenate([np.repeat(s, 2, 0), s2, np.repeat(s, 2, 0)], axis=2))
    np.testing.assert_array_equal(found[2][:, frames : frames + other.frames], -0.5)
    np.testing.assert_array_equal(collect(joined).data, joined.read())
    np.testing.assert_array_equal(written(joined).levels(), joined.levels())


def test_fades_and_curves_only_change_the_scale():
    z = make_int8(2, 4096 * 600)
    faded = algebra.gain(z, Fade(z.duration, 3.0, 2.0))
    q, s, scale, known = integers(faded)
    np.testing.assert_array_equal(q, integers(z)[0])
    np.testing.assert_array_equal(s, integers(z)[1])
    assert known
    assert scale[0, 0] < 0.02 < 0.9 < scale[0, 300] == 1.0
    np.testing.assert_array_equal(written(faded).data, faded.read())


@pytest.mark.parametrize("operation", ["gain", "invert", "curve", "copy", "twice"])
def test_files_are_copied_to_the_bytes_that_memory_gives(tmp_path, operation, monkeypatch):
    z = make_int8(2, 4096 * 9000 + 5, name="z.lat")
    write_lat(z, tmp_path / "z.lat")

    def result(source):
        return {
            "gain": lambda: algebra.gain(source, 0.3),
            "invert": lambda: algebra.gain(source, -1),
            "curve": lambda: algebra.gain(source, Fade(z.duration, 3.0, 2.0)),
            "copy": lambda: source,
            "twice": lambda: algebra.gain(algebra.gain(source, 0.5), -0.25),
        }[operation]()

    in_memory, copied = io.BytesIO(), io.BytesIO()
    write_lat(result(z), in_memory)
    with LatReader(tmp_path / "z.lat", "z.lat") as reader:
        monkeypatch.setattr(LatReader, "_load", None)  # nothing is inflated
        write_lat(result(reader), copied)
    assert copied.getvalue() == in_memory.getvalue()


def test_damage_is_found_by_copies_too(tmp_path):
    z = make_int8(1, 4096 * 700)
    write_lat(z, tmp_path / "z.lat")
    with h5py.File(tmp_path / "z.lat") as f:
        places = []
        for key in ("latents", "steps"):
            f[key].id.chunk_iter(lambda c: places.append(c.byte_offset + c.size // 2))
    good = (tmp_path / "z.lat").read_bytes()
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 4
        (tmp_path / "bad.lat").write_bytes(bad)
        from lincae_formats import ChecksumError

        with LatReader(tmp_path / "bad.lat") as reader, pytest.raises(ChecksumError, match=r"bad\.lat"):
            write_lat(algebra.gain(reader, 0.5), tmp_path / "out.lat")
    assert not (tmp_path / "out.lat").exists()


# --- levels


@quick
@given(seeds, st.lists(st.floats(0.125, 4, width=32), min_size=1, max_size=4))
def test_levels_add_as_powers(seed, gains):
    parts = [make_int8(1 + i % 2, 100_000 + 30_000 * i, seed=seed + i) for i in range(len(gains))]
    mixed = mix(parts, gains)
    expected = np.zeros((mixed.channels, 2, mixed.frames))
    for z, factor in zip(parts, gains, strict=True):
        expected[:, :, : z.frames] += (factor * z.levels().astype(float)) ** 2
    np.testing.assert_allclose(mixed.levels(), np.sqrt(expected), rtol=1e-5)
    assert np.abs(20 * np.log10(written(mixed).levels() / mixed.levels())).max() < 0.77  # a grid of 1.5 dB


def test_levels_are_uncertain_where_operands_may_cancel():
    a, b = make_int8(1, 100_000, seed=1), make_int8(1, 50_000, seed=2)
    n = b.frames
    difference = a.levels(0, n).astype(float) ** 2 - b.levels().astype(float) ** 2
    for result, sign in (
        (a - b, 1), (mix([a, b], [1, -1]), 1), (mix([gain(a, -1), b]), 1), (a + gain(b, -1), 1), (gain(a - b, -1), 1),
        (b - a, -1), (mix([gain(b, -1), a]), -1),
    ):  # fmt: skip
        levels, expected = result.levels(), np.sqrt(np.maximum(sign * difference, 0))  # the first is the whole
        assert np.signbit(levels[:, :, :n]).all()
        assert (levels[:, :, n:] > 0).all()  # only one operand there
        np.testing.assert_allclose(levels[:, :, :n], -expected, rtol=1e-5, atol=1e-20)
        back = written(result).levels()
        assert np.signbit(back).all()  # the levels of a file are known or uncertain
        assert (np.abs(back) >= np.abs(levels) * 10 ** (-0.77 / 20)).all()  # raised where numbers need larger steps
        assert np.signbit((result * 0.5 + a).levels()[:, :, :n]).all()
    for result in (mix([gain(a, -1), gain(b, -1)]), mix([a, b], [-1, -2]), mix([a, b, b - a], [1, 1, 0])):
        assert (result.levels() > 0).all()
        assert (written(result).levels() > 0).all()
    flipped = written(mix([gain(a, -1), gain(b, -1)]))  # int8 files keep the sign, in the scale; floats do not
    assert np.signbit((flipped + a).levels()[:, :, :n]).all()
    assert (flipped + gain(b, -1)).levels().min() > 0


def test_uncertain_levels_go_through_files_of_every_type():
    a, b = make_int8(1, 100_000, seed=1), make_int8(1, 100_000, seed=2)
    for dtype in ("float16", "float32"):
        back = written(requantised(a - b, dtype=dtype))
        np.testing.assert_array_equal(back.levels(), (a - b).levels())
        assert np.signbit(written(requantised(back, a.header.groups)).levels()).all()
    same = written(a - a)
    assert np.signbit(same.levels()).all()
    assert np.abs(same.levels()).max() < 1e-12
    assert not same.data.any()


def test_numbers_of_uncertain_levels_are_not_clipped():
    groups = (Group(2, 1, 0.5, 2, True),)
    z = np.full((1, 2, 3), 100.0, np.float32)
    levels = np.array([[[-1e-3, 200.0, np.nan], [-0.0, -200.0, np.nan]]], np.float32)
    found = quantised(z, signed(levels), groups)
    np.testing.assert_allclose(found.values(groups), z, rtol=0.35)
    assert not found.known
    back = unsigned(found.signed_levels(groups))
    assert np.signbit(back).all()
    np.testing.assert_allclose(back[0, :, 1], -200, rtol=0.2)
    np.testing.assert_allclose(back[0, :, 2], -100, rtol=0.2)  # the size of the number


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_floats_keep_their_levels(dtype, tmp_path):
    z = make_int8(2, 4096 * 300, seed=3)
    z = Latents(z.data, z.header, dtype=dtype, band_levels=z.levels())
    write_lat(z, tmp_path / "z.lat")
    verify(tmp_path / "z.lat")
    back = read_lat(tmp_path / "z.lat")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.levels(), z.levels())
    np.testing.assert_allclose((back * -0.5).levels(), z.levels() * 0.5)
    assert back.fingerprint == z.fingerprint
    with LatReader(tmp_path / "z.lat") as reader:
        write_lat(algebra.cut(reader, 100, 250), tmp_path / "part.lat")
    np.testing.assert_array_equal(read_lat(tmp_path / "part.lat").levels(), z.levels(100, 250))
    unknown = Latents(z.data, z.header, dtype=dtype)
    assert np.isnan(written(unknown).levels()).all()


def test_unknown_levels_become_uncertain_as_integers():
    z = make_int8(1, 100_000, levels=False)
    assert np.signbit(z.levels()).all()
    assert z.levels().shape == (1, 2, z.frames)
    for result in (z * 0.5, z + make_int8(1, 100_000, seed=1), concat([z, make_int8(1, 100_000, seed=1)])):
        assert np.signbit(written(result).levels()).all()
    assert make().levels().shape == (1, 0, 5)


# --- sums


def test_sums_keep_the_finest_steps_and_do_not_become_finer_for_ever():
    coarse = make_int8(groups=(Group(2, 3, 1.0, 2), Group(2, 5, 1.0, 2, True)))
    fine = make_int8(seed=1, groups=(Group(2, 3, 0.5), Group(1, 5, 0.125, 1, True), Group(1, 5, 2.0, 1, True)))
    assert mix([coarse, fine]).header.groups == (
        Group(2, 3, 0.125), Group(1, 5, 0.125, 1, True), Group(1, 5, 0.25, 1, True),
    )  # fmt: skip
    z = coarse
    for _ in range(5):
        z = written(mix([z, coarse]))
    assert z.header.groups == (Group(2, 3, 1 / 16), Group(2, 5, 1 / 8, 1, True))
    nested = algebra.mix([algebra.mix([coarse, coarse]), coarse])
    assert nested.header.groups == (Group(2, 3, 0.25), Group(2, 5, 0.25, 1, True))  # rounded once
    back = written(requantised(nested, coarse.header.groups))
    assert back.header.groups == coarse.header.groups
    assert requantised(nested, dtype="float16").dtype == "float16"
    with pytest.raises(IncompatibleError, match="other sizes"):
        requantised(coarse, (Group(1, 16, 0.5),))
    with pytest.raises(IncompatibleError, match="no groups"):
        requantised(make())


def test_ten_mixes_and_gains_in_a_row_lose_less_than_half_a_decibel():
    groups = (Group(16, 8, 0.25),)
    header = Header(44100, 4096 * 300, "m", "sha256:" + "0" * 64, latent_dim=128, groups=groups)
    random = np.random.default_rng(0)

    def source():
        loud = 10 ** random.uniform(-1, 1, (1, 128, 1)) * np.exp(random.standard_normal((1, 1, 300)))
        return (random.standard_normal(header.shape) * loud).astype(np.float32)

    parts = [source() for _ in range(11)]
    whole = np.zeros(header.shape)
    result = written(Latents(parts[0], header))
    whole += parts[0]
    for part in parts[1:]:
        result = written(mix([result, written(Latents(part, header))]) * 0.7)
        whole = (whole + part) * 0.7
    gains = [0.7 ** min(10, 11 - i) for i in range(len(parts))]
    once = written(mix([written(Latents(part, header)) for part in parts], gains))
    content = np.sum(whole**2) / 10**1.5  # what a model loses of the audio: 15 dB
    snr = [10 * np.log10(np.sum(whole**2) / (content + np.sum((z.data - whole) ** 2))) for z in (once, result)]
    assert snr[0] - snr[1] < 0.5
    single = written(Latents(whole.astype(np.float32), header))
    best = 10 * np.log10(np.sum(whole**2) / (content + np.sum((single.data - whole) ** 2)))
    assert best - snr[1] < 0.5


def test_a_mixture_without_its_parts_is_small():
    parts = [make_int8(2, 200_000, seed=i) for i in range(3)]
    mixed = written(mix(parts))
    left = written(subtract(mixed, parts[1:]))
    error = left.data - parts[0].data
    assert np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(mixed.data**2))
    assert np.signbit(left.levels()).all()


def test_mixing_storage_types():
    a = make_int8(seed=1)
    half = Latents(a.data, a.header, dtype="float16", band_levels=a.levels())
    bare = Latents(a.data, Header(**{**{k: getattr(a.header, k) for k in a.header.__slots__}, "groups": ()}))
    assert (a + half).dtype == "float16"
    assert (a + bare).dtype == "float16"
    assert np.isnan((a + bare).levels()).all()
    assert concat([a, half]).dtype == "float16"
    with pytest.raises(IncompatibleError, match="differ in their groups"):
        a + make_int8(groups=(Group(1, 16, 0.5),))
    with pytest.raises(DTypeError, match="no groups"):
        Latents(bare.data, bare.header, dtype="int8")


def test_absurd_gains_are_refused(tmp_path):
    z = make_int8()
    with pytest.raises(NonFiniteError, match="beyond float32"):
        write_lat(gain(gain(z, 1e25), 1e25), tmp_path / "out.lat")
    assert not (tmp_path / "out.lat").exists()
    tiny = written(gain(gain(z, 1e-20), 1e20))
    np.testing.assert_allclose(tiny.data, z.data, rtol=1e-6)


def test_writers_refuse_wrong_levels(tmp_path):
    z = make_int8()
    with pytest.raises(ShapeError, match="levels"), LatWriter(tmp_path / "z.lat", z.header) as out:
        out.append(z.data, z.levels()[:, :1])
    with pytest.raises(NonFiniteError, match="level"), LatWriter(tmp_path / "z.lat", z.header) as out:
        out.append(z.data, np.full_like(z.levels(), np.inf))
    assert list(tmp_path.iterdir()) == []


def test_silence_takes_few_bytes(tmp_path):
    header = Header(44100, 4096 * 10_000, "m", "sha256:" + "0" * 64, latent_dim=256, groups=(Group(16, 16, 0.5),))
    with LatWriter(tmp_path / "z.lat", header) as out:
        for _ in range(10):
            out.append(np.zeros((1, 256, 1000), np.float32))
    verify(tmp_path / "z.lat")
    assert (tmp_path / "z.lat").stat().st_size < 15_000


def test_chunks_are_deflated_in_the_shortest_way():
    """A sample of a long chunk tells how: noise as Huffman codes, runs and repetition shorter."""
    random = np.random.default_rng(0)
    noise = np.rint(random.standard_normal(30_000) * 5).astype(np.int8)
    repeated = np.tile(noise[:500], 60)
    sparse = np.where(random.random(30_000) < 0.01, noise, 0).astype(np.int8)

    def packed(array, strategy, level=9):
        packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
        return len(packer.compress(array) + packer.flush())

    for array, strategy in (
        (noise, zlib.Z_HUFFMAN_ONLY),
        (repeated, zlib.Z_DEFAULT_STRATEGY),
        (sparse, zlib.Z_RLE),
        (noise[:3000], zlib.Z_HUFFMAN_ONLY),
    ):
        stream = writer._deflated([array.view(np.uint8).data])
        assert zlib.decompress(stream) == array.tobytes()
        assert len(stream) <= packed(array, strategy) + 6  # the zlib header and its checksum
