"""Files that change while they are read: said so, never a result of two halves."""

import os

import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_core import load
from lincae_core.models.codec import decode_file, encode_file
from lincae_formats import LatError, LatReader, LincaeError, read_lat


def grow(path):
    with open(path, "ab") as file:
        file.write(bytes(1000))


def rewrite(path):
    with open(path, "r+b") as file:
        file.seek(1000)
        file.write(b"\x12\x34" * 500)
    os.utime(path, ns=(1, 1))


def replace(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-2000])


def shorten(path):
    os.truncate(path, 30_000)


@pytest.fixture(scope="module")
def model(tiny_model):
    return load(tiny_model, device="cpu").autoencoder


@pytest.mark.parametrize("change", [grow, rewrite, replace, shorten])
def test_audio_that_changes_while_it_is_encoded(tmp_path, model, change):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(44100 * 60), 44100)
    changed = []

    def progress(_done, _total):
        if not changed:
            change(path)
            changed.append(True)

    with pytest.raises(LincaeError, match=r"a\.wav changed while it was being read"):
        encode_file(model, path, tmp_path / "a.lat", progress=progress)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav"]


def test_audio_that_is_only_read_meanwhile_is_no_change(tmp_path, model):
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(44100 * 20), 44100)
    encode_file(model, path, tmp_path / "a.lat", progress=lambda *_: path.read_bytes())
    assert read_lat(tmp_path / "a.lat").num_samples == 44100 * 20


def test_a_lat_that_is_cut_while_it_is_read(tmp_path, model):
    make_lat(tmp_path / "x.lat", num_samples=44100 * 600, dtype="float32")
    with LatReader(tmp_path / "x.lat") as reader:
        reader.read(0, 10)
        os.truncate(tmp_path / "x.lat", 5000)
        with pytest.raises(LatError, match=r"x\.lat"):
            reader.read()
    with pytest.raises(LatError, match=r"x\.lat: cut short"):
        decode_file(model, tmp_path / "x.lat", tmp_path / "x.wav")


def test_a_lat_whose_bytes_change_while_it_is_read(tmp_path):
    make_lat(tmp_path / "x.lat", num_samples=44100 * 600, dtype="float32")
    size = (tmp_path / "x.lat").stat().st_size
    with LatReader(tmp_path / "x.lat") as reader:
        with open(tmp_path / "x.lat", "r+b") as file:
            file.seek(size // 2)
            file.write(bytes(64))
        with pytest.raises(LatError, match="checksum"):
            reader.read()


def test_a_lat_that_is_replaced_while_it_is_read_is_read_to_its_end(tmp_path):
    old = make_lat(tmp_path / "x.lat", num_samples=44100 * 60)
    make_lat(tmp_path / "new.lat", seed=1)
    with LatReader(tmp_path / "x.lat") as reader:
        os.replace(tmp_path / "new.lat", tmp_path / "x.lat")
        assert np.array_equal(reader.read(), old.data)
