"""Stretches of many files in one batch: the same numbers as one file at a time, and no thread waits for ever."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from fake_frame import noise

from lincae_core.api import Model
from lincae_core.models import codec
from lincae_core.models.codec import Autoencoder, Batched, decode_file, encode_file
from lincae_core.models.frame import FrameModel
from lincae_core.models.store import build
from lincae_formats import read_lat, write_lat

SAMPLES = (1, 4096, 44100, 44101, 100_000, 220_500, 150 * 4096)  # the last is more than a stretch


@pytest.fixture(scope="module")
def frame():
    torch.manual_seed(0)
    model = build({"family": "frame", "width": 16, "blocks": 1, "expand": 1})
    torch.nn.init.normal_(model.network.output.weight, std=0.1)
    return Autoencoder(model, {"name": "f", "version": "0", "fingerprint": "sha256:" + "e" * 64}, torch.device("cpu"))


@pytest.fixture
def gathered(frame, monkeypatch):
    """A batched model that begins when a first batch has gathered, and the sizes of its batches."""
    batches, opened = [], threading.Event()
    model = Batched(frame, most=5)
    original = Batched._next

    def next_(self):
        opened.wait(60)
        before = len(self._waiting)
        original(self)
        batches.append(before - len(self._waiting))

    monkeypatch.setattr(Batched, "_next", next_)
    monkeypatch.setattr(codec, "batched", lambda model: model)
    return model, batches, opened


def together(model, opened, work, items):
    with ThreadPoolExecutor(len(items)) as pool:
        found = [pool.submit(work, model, item) for item in items]
        while len(model._waiting) < len(items):
            threading.Event().wait(0.01)
        opened.set()
        return [future.result(60) for future in found]


@pytest.mark.parametrize("on_cpu", [True, False], ids=["numpy", "torch"])
@pytest.mark.parametrize("quality", ["medium", "exact"])
def test_files_encode_alike_in_batches(frame, gathered, quality, on_cpu, monkeypatch):
    model, batches, opened = gathered
    if not on_cpu:
        monkeypatch.setattr(frame, "on_cpu", None)
        monkeypatch.setattr(model, "on_cpu", None)
    sounds = [noise(1 + i % 2, n, seed=i) for i, n in enumerate(SAMPLES)]
    alone = [Model(frame).encode(x, quality=quality) for x in sounds]
    found = together(model, opened, lambda m, x: Model(m).encode(x, quality=quality), sounds)
    assert max(batches) > 1, "several at once"
    for a, b in zip(alone, found, strict=True):
        assert a.header == b.header
        assert np.allclose(a.data, b.data, atol=1e-5)
        assert (a.band_levels is None) == (b.band_levels is None)
        assert a.band_levels is None or np.allclose(a.band_levels, b.band_levels, atol=1e-5)


@pytest.mark.parametrize("known", [True, False], ids=["levels", "no levels"])
def test_files_decode_alike_in_batches(frame, gathered, known, tmp_path):
    model, batches, opened = gathered
    paths = []
    for i, n in enumerate(SAMPLES):
        z = Model(frame).encode(noise(1 + i % 2, n, seed=i), quality="medium" if known or i == 2 else "exact")
        paths.append(tmp_path / f"{i}.lat")
        write_lat(z, paths[-1])
    alone = [Model(frame).decode(path) for path in paths]
    parts = [Model(frame).decode(paths[-1], start=1.0, end=2.0)]
    found = together(model, opened, lambda m, path: Model(m).decode(path), paths)
    found_parts = [Model(model).decode(paths[-1], start=1.0, end=2.0)]
    assert max(batches) == 5
    for a, b in zip([*alone, *parts], [*found, *found_parts], strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() < 1e-5


def test_an_error_reaches_its_own_file_alone(frame, gathered, monkeypatch):
    model, _, opened = gathered
    original = FrameModel.decode

    def decode(self, z, *rest):
        if len(z) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if z.abs().max() > 1e5:
            raise RuntimeError("bad numbers")
        return original(self, z, *rest)

    monkeypatch.setattr(FrameModel, "decode", decode)
    latents = [Model(frame).encode(noise(1, 50_000, seed=i)) for i in range(4)]
    latents[2] = latents[2] * 1e8

    def work(m, z):
        try:
            return Model(m).decode(z)
        except RuntimeError as e:
            return str(e)

    found = together(model, opened, work, latents)
    assert found[2] == "bad numbers"
    for i in (0, 1, 3):
        assert np.abs(found[i] - Model(frame).decode(latents[i])).max() < 1e-5


@pytest.mark.slow
def test_many_from_python(frame, tmp_path, monkeypatch):
    sounds = [noise(1, 30_000, seed=i) for i in range(20)]
    wanted = [Model(frame).encode(x) for x in sounds]
    for wrapped in (False, True):
        if wrapped:  # as on a GPU
            monkeypatch.setattr("lincae_core.api.batched", Batched)
        found = Model(frame).encode_many(sounds)
        assert all(np.allclose(a.data, b.data, atol=1e-5) for a, b in zip(wanted, found, strict=True))
        audio = Model(frame).decode_many(wanted, end=0.5)
        assert all(np.abs(x - Model(frame).decode(z, end=0.5)).max() < 1e-5 for x, z in zip(audio, wanted, strict=True))


def test_files_on_disk_are_written_by_several_threads(frame, tmp_path):
    import soundfile

    model = Batched(frame)
    for i in range(6):
        soundfile.write(tmp_path / f"{i}.wav", noise(1, 40_000, seed=i)[0], 44100, subtype="FLOAT")

    def work(i):
        encode_file(model, tmp_path / f"{i}.wav", tmp_path / f"{i}.lat")
        decode_file(model, tmp_path / f"{i}.lat", tmp_path / f"{i}.out.wav", subtype="FLOAT")

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    for i in range(6):
        z, whole = read_lat(tmp_path / f"{i}.lat"), soundfile.read(tmp_path / f"{i}.out.wav", dtype="float32")[0]
        assert np.abs(Model(frame).decode(z)[0] - whole).max() < 1e-5
