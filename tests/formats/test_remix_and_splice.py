"""Channels, padding, repetition and crossfades of integer latents: what is copied is exact, levels follow."""

import numpy as np
import pytest

from lincae_formats import Group, Header, Latents, algebra, read_lat, write_lat
from lincae_formats.algebra import crossfade, pad, repeat
from lincae_formats.channels import matrix_builder, remix
from lincae_formats.reader import LatReader

GROUPS = (Group(2, 4, 0.5), Group(3, 4, 0.7, 2, True))


def stored_file(path, seed=0, channels=2, num_samples=4096 * 300, known=True):
    """Integer latents with levels in a file; returns them as they are read back."""
    rng = np.random.default_rng(seed)
    header = Header(44100, num_samples, "m", "sha256:" + "ab" * 32, channels=channels, latent_dim=20, groups=GROUPS)
    data = rng.standard_normal(header.shape).astype(np.float32)
    levels = rng.uniform(0.5, 2, (channels, 3, header.frames)).astype(np.float32)
    write_lat(Latents(data, header, dtype="int8", band_levels=levels if known else None), path)
    return read_lat(path)


def written(signal, path):
    write_lat(signal, path)
    with LatReader(path) as reader:
        return reader.dtype, read_lat(path), reader.levels(0, reader.header.frames)


@pytest.fixture
def stereo(tmp_path):
    stored_file(tmp_path / "a.lat")
    with LatReader(tmp_path / "a.lat") as reader:
        yield reader


@pytest.mark.parametrize("spec", ["2 1", "1", "2i 0", "1v0.5 2v3 1p-6"])
def test_channels_that_are_picked_and_scaled_are_exact(stereo, tmp_path, spec):
    matrix = np.array(matrix_builder("remix", spec)(2))
    dtype, out, levels = written(remix(stereo, matrix.tolist()), tmp_path / "out.lat")
    wanted = np.einsum("oi,idk->odk", matrix, stereo.read(0, 300).astype(np.float64))
    assert dtype == "int8"
    np.testing.assert_allclose(out.data, wanted, rtol=1e-6)
    np.testing.assert_allclose(levels, np.einsum("oi,igk->ogk", abs(matrix), stereo.levels(0, 300)), rtol=1e-5)


def test_swapped_twice_is_the_same_file_but_for_its_history(stereo, tmp_path):
    written(remix(stereo, [[0, 1], [1, 0]]), tmp_path / "b.lat")
    with LatReader(tmp_path / "b.lat") as swapped:
        written(remix(swapped, [[0, 1], [1, 0]]), tmp_path / "c.lat")
    with LatReader(tmp_path / "c.lat") as back:
        a, c = stereo.block(0, 300), back.block(0, 300)
        assert np.array_equal(a.data, c.data)
        assert np.array_equal(a.steps, c.steps)
        assert np.array_equal(a.scale, c.scale)


def test_the_mono_sum_of_two_equal_channels_keeps_its_level(tmp_path):
    one = stored_file(tmp_path / "m.lat", channels=1)
    with LatReader(tmp_path / "m.lat") as mono:
        twice = remix(mono, [[1], [1]])
        summed = remix(twice, [[0.5, 0.5]])
        np.testing.assert_allclose(summed.read(), one.data, rtol=1e-5)
        np.testing.assert_allclose(summed.levels(), mono.levels(0, 300), rtol=1e-4)
        side = remix(twice, [[0.5, -0.5]])
        np.testing.assert_allclose(side.levels(), 0, atol=1e-6)


def test_the_mono_sum_of_independent_channels_adds_powers(stereo):
    summed = remix(stereo, [[1, 1]])
    power = np.square(summed.levels()).mean()
    assert power == pytest.approx(np.square(stereo.levels(0, 300)).sum(axis=0).mean(), rel=0.1)


def test_channels_whose_numbers_are_all_zero_agree_as_their_low_bands_do(tmp_path):
    """Steps may be so coarse that the numbers of a level group are always zero."""
    groups = (Group(4, 8, 0.1), Group(2, 4, 16.0, 2, True))
    header = Header(44100, 4096 * 200, "m", "sha256:" + "ab" * 32, channels=3, latent_dim=40, groups=groups)
    rng = np.random.default_rng(0)
    data = rng.standard_normal(header.shape)
    data[1] = data[0]  # the same signal; the third channel is another one of the same level
    latents = Latents(data, header, dtype="int8", band_levels=np.ones((3, 2, 200), np.float32))
    write_lat(latents, tmp_path / "a.lat")
    with LatReader(tmp_path / "a.lat") as reader:
        one = reader.levels(0, 200)[0].mean()
        np.testing.assert_allclose(remix(reader, [[0.5, 0.5, 0]]).levels().mean(), one, rtol=1e-3)
        np.testing.assert_allclose(remix(reader, [[0.5, -0.5, 0]]).levels(), 0, atol=1e-6)
        assert remix(reader, [[0.5, 0, 0.5]]).levels().mean() == pytest.approx(one / 2**0.5, rel=0.05)
        assert remix(reader, [[0.5, 0, -0.5]]).levels().mean() == pytest.approx(one / 2**0.5, rel=0.05)


def test_uncertain_levels_stay_uncertain(tmp_path):
    stored_file(tmp_path / "a.lat", known=False)
    with LatReader(tmp_path / "a.lat") as reader:
        levels = reader.levels(0, 300)
        assert np.signbit(levels).all()  # what signals call uncertain
        np.testing.assert_array_equal(remix(reader, [[0, 1]]).levels(), levels[1:])
        assert np.signbit(remix(reader, [[1, 1]]).levels()).all()
        _, _, padded = written(pad(reader, 3, 1.0), tmp_path / "b.lat")
        np.testing.assert_array_equal(padded[:, :, 3:303], levels)


def test_padding_copies_integers(stereo, tmp_path):
    dtype, out, levels = written(pad(stereo, 5, 2.0), tmp_path / "out.lat")
    assert dtype == "int8"
    assert out.num_samples == 4096 * 305 + 88200
    np.testing.assert_array_equal(out.data[:, :, 5:305], stereo.read(0, 300))
    assert not out.data[:, :, :5].any()
    assert not out.data[:, :, 305:].any()
    np.testing.assert_array_equal(levels[:, :, 5:305], stereo.levels(0, 300))
    assert not levels[:, :, :5].any()


def test_repetitions_copy_integers(stereo, tmp_path):
    dtype, out, levels = written(repeat(stereo, 3), tmp_path / "out.lat")
    assert dtype == "int8"
    np.testing.assert_array_equal(out.data, np.tile(stereo.read(0, 300), (1, 1, 3)))
    np.testing.assert_array_equal(levels, np.tile(stereo.levels(0, 300), (1, 1, 3)))
    assert out.history[-1] == {"op": "repeat", "times": 3}


def test_a_crossfade_of_integers_adds_levels_as_powers(stereo, tmp_path):
    other = stored_file(tmp_path / "b.lat", seed=1)
    seconds = 20 * 4096 / 44100
    result, (begin,) = crossfade([stereo, other], seconds)
    assert begin.frame == 280
    _, out, levels = written(result, tmp_path / "out.lat")
    assert out.num_samples == 4096 * 580
    t = (np.arange(20) + 0.5) / 20
    fall, rise = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
    wanted = fall * stereo.read(280, 300) + rise * other.data[:, :, :20]
    error = out.data[:, :, 280:300] - wanted
    assert np.square(error).mean() < 0.01 * np.square(wanted).mean()
    power = (fall * stereo.levels(280, 300)) ** 2 + (rise * other.levels(0, 20)) ** 2
    # Levels are rounded to step codes of 1.5 dB.
    np.testing.assert_allclose(20 * np.log10(levels[:, :, 280:300]), 10 * np.log10(power), atol=0.8)


def test_blocks_of_any_size_give_the_same(stereo):
    for make in (lambda s: pad(s, 7, 1.0), lambda s: repeat(s, 2), lambda s: remix(s, [[0.5, 0.5]])):
        whole = make(stereo)
        frames = whole.header.frames
        parts = [whole.read(a, min(a + 37, frames)) for a in range(0, frames, 37)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole.read())


def test_replaygain_goes_where_the_level_changes_and_common_tags_stay(tmp_path):
    header = Header(44100, 20_000, "m", "sha256:" + "ab" * 32, channels=2, latent_dim=8)
    data = np.random.default_rng(0).standard_normal(header.shape)
    tags = {"album": "A", "title": "T", "REPLAYGAIN_TRACK_GAIN": "-3 dB", "r128_track_gain": "5"}
    a = Latents(data, header, tags=tags)
    b = Latents(data, header, tags={**tags, "title": "U"})
    plain = {"album": "A", "title": "T"}
    assert dict(algebra.cut(a, 0, 2).tags) == tags
    assert dict(algebra.gain(a, -1.0).tags) == tags
    assert dict(algebra.gain(a, 0.5).tags) == plain
    assert dict(remix(a, [[0, 1], [1, 0]]).tags) == tags
    assert dict(remix(a, [[0.5, 0.5]]).tags) == plain
    assert dict(pad(a, 1, 0).tags) == tags
    assert dict(repeat(a, 2).tags) == tags
    assert dict(algebra.mix([a, b]).tags) == {"album": "A"}
    assert dict(algebra.concat([a, b]).tags) == {"album": "A"}
    assert dict(crossfade([a, b], 0.2)[0].tags) == {"album": "A"}
    assert dict(algebra.subtract(a, [b]).tags) == {"album": "A"}


def test_python_has_them_on_latents_in_memory():
    import lincae_formats

    header = Header(44100, 4096 * 10, "m", "sha256:" + "ab" * 32, channels=2, latent_dim=8)
    z = Latents(np.random.default_rng(0).standard_normal(header.shape), header)
    np.testing.assert_allclose(lincae_formats.remix(z, "1,2").data[0], z.data.mean(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(lincae_formats.remix(z, [[0, 1], [1, 0]]).data, z.data[::-1])
    padded = lincae_formats.pad(z, 2 * 4096 / 44100, 1.0)
    np.testing.assert_array_equal(padded.data[:, :, 2:12], z.data)
    assert padded.num_samples == 4096 * 12 + 44100
    np.testing.assert_array_equal(lincae_formats.repeat(z, 2).data, np.tile(z.data, (1, 1, 2)))
    assert lincae_formats.crossfade([z, z], 4 * 4096 / 44100, "linear").frames == 16
    with pytest.raises(lincae_formats.LatError, match="none with number 3"):
        lincae_formats.remix(z, "3")
    with pytest.raises(lincae_formats.LatError, match="longer than"):
        lincae_formats.crossfade([z, z], 60)
