"""Latents in memory as Python values: from arrays, sums, division, numpy, a short repr."""

from dataclasses import replace

import numpy as np
import pytest
from lat_helpers import make, make_int8

from lincae_formats import Latents, LatReader, ShapeError, read_lat, write_lat


def test_latents_from_an_array_take_model_and_rates_from_others(tmp_path):
    like = make_int8(2, 50_000)
    array = np.random.default_rng(0).standard_normal((3, 16, 40))
    z = Latents.from_array(array, like)
    assert (z.channels, z.latent_dim, z.frames, z.num_samples) == (3, 16, 40, 40 * 4096)
    assert (z.model, z.header.groups, z.dtype, z.history) == (like.model, like.header.groups, "int8", ())
    np.testing.assert_array_equal(z.data, array.astype(np.float32))
    assert np.isnan(z.levels()).all()
    write_lat(z, tmp_path / "z.lat")
    mono = Latents.from_array(array[0].tolist(), like.header, levels=np.ones((1, 2, 40)), num_samples=39 * 4096 + 1)
    assert (mono.channels, mono.num_samples, mono.dtype) == (1, 39 * 4096 + 1, "int8")
    np.testing.assert_array_equal(mono.levels(), 1.0)
    assert Latents.from_array(array, replace(like, dtype="float32")).dtype == "float32"
    with LatReader(tmp_path / "z.lat") as reader:
        assert Latents.from_array(array, reader).dtype == "int8"


@pytest.mark.parametrize("shape", [(16,), (2, 15, 5), (2, 16, 0), (1, 2, 16, 5), (5, 15)])
def test_arrays_of_other_shapes_are_refused(shape):
    with pytest.raises(ShapeError, match=r"is not \[channels, 16, frames\]"):
        Latents.from_array(np.zeros(shape), make_int8())
    with pytest.raises(ShapeError, match="shape"):
        Latents.from_array(np.zeros((1, 16, 4)), make_int8(), num_samples=20_000)


def test_arrays_stay_their_owners():
    array = np.zeros((1, 16, 5), np.float32)
    z = Latents.from_array(array, make_int8())
    array[:] = 1
    assert not z.data.flags.writeable
    back = np.array(z)
    back[:] = 2  # a copy


def test_sum_begins_with_zero():
    a, b = make(seed=1), make(seed=2)
    np.testing.assert_array_equal(sum([a, b]).data, (a + b).data)
    assert sum([a]) is a
    with pytest.raises(TypeError):
        1 + a
    with pytest.raises(TypeError):
        None + a


def test_division_by_numbers():
    a = make(seed=1, dtype="float32")
    np.testing.assert_array_equal((a / 2).data, a.data / 2)
    np.testing.assert_array_equal((a / np.float32(-4)).data, a.data / -4)
    assert (a / 2).history[-1] == {"op": "gain", "factor": 0.5}
    with pytest.raises(ZeroDivisionError):
        a / 0
    with pytest.raises(TypeError):
        a / a
    with pytest.raises(TypeError):
        2 / a


def test_numpy_takes_latents_as_their_data():
    a = make(2, seed=1)
    np.testing.assert_array_equal(np.asarray(a), a.data)
    assert np.asarray(a).base is not None or np.asarray(a) is a.data  # no copy
    assert np.asarray(a, dtype=np.float64).dtype == np.float64
    assert np.array(a, copy=True).flags.writeable
    assert np.mean(np.asarray(a)) == pytest.approx(a.data.mean())
    product = np.float64(2) * a
    assert isinstance(product, Latents)


def test_the_repr_is_one_short_line():
    z = make_int8(2, 44100 * 12, name="songs/a.lat")
    assert repr(z) == "<Latents 'songs/a.lat': 12 s, 2 channels, 16 x 130, int8, model m>"
    assert repr(make()) == "<Latents: 0.4535 s, 1 channel, 8 x 5, float16, model m>"


def test_changed_latents_forget_the_integers_that_they_were_read_as(tmp_path):
    write_lat(make_int8(1, 50_000), tmp_path / "z.lat")
    z = read_lat(tmp_path / "z.lat")
    assert z.rounded
    assert replace(z, tags={"title": "x"}).rounded
    for change in ({"data": z.data + 1}, {"band_levels": z.levels() * 2}, {"dtype": "float32"}):
        other = replace(z, **change)
        assert not other.rounded
        write_lat(other, tmp_path / "other.lat", overwrite=True)
        back = read_lat(tmp_path / "other.lat")
        np.testing.assert_allclose(back.data[:, :6], other.data[:, :6], atol=np.abs(other.data[:, :6]).max() / 4)
        np.testing.assert_allclose(back.levels(), other.levels(), rtol=0.2)


def test_seconds_slice_what_was_read(tmp_path):
    z = make_int8(1, 44100 * 10)
    part = z[2.0:5.0]
    frame = round(2.0 * 44100 / 4096)
    np.testing.assert_array_equal(part.data, z.data[:, :, frame : frame + part.frames])
    np.testing.assert_array_equal(part.levels(), z.levels(frame, frame + part.frames))
    write_lat(part, tmp_path / "part.lat")
    np.testing.assert_array_equal(read_lat(tmp_path / "part.lat").data, part.data)
