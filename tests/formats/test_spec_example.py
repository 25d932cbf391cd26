"""SPEC.md does not lie: its example runs, and its bound on the overhead holds."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from lincae_formats import Group, Header, Latents, LatReader, LatWriter, read_lat, verify
from lincae_formats import errors as named

SPEC = (Path(__file__).parents[2] / "formats" / "SPEC.md").read_text(encoding="utf-8")


def test_the_example_makes_a_file_that_is_good(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SPEC, re.S)
    assert "lincae_formats" not in code
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    z = read_lat(tmp_path / "example.lat")
    assert (z.num_samples, z.frames, z.dtype, z.history[0]["op"]) == (44100, 11, "int8", "encode")
    random = np.random.default_rng(0).standard_normal((1, 8, 11))
    again = Latents(random, z.header, band_levels=np.full((1, 1, 11), 1.5))
    with LatReader(tmp_path / "example.lat") as reader:
        assert reader.fingerprint == again.fingerprint  # this program rounds as the example does
    assert np.abs(np.log2(z.levels() / 1.5)).max() <= 1 / 4
    verify(tmp_path / "example.lat")


@pytest.mark.parametrize("dtype", ["int8", "float16", "float32"])
@pytest.mark.parametrize(
    ("channels", "frames", "latent_dim"),
    [(1, 1, 64), (1, 257, 64), (2, 2570, 8), (64, 300, 1), (1, 256 * 1030, 1), (3, 511, 128)],
)
@pytest.mark.parametrize("tags", [{}, {"a": "b"}, {f"{i:064d}": "v" * 1024 for i in range(64)}], ids=len)
def test_the_bound_on_the_overhead(dtype, channels, frames, latent_dim, tags):
    groups = (Group(latent_dim, 1, 0.123456789, 1, True),)
    header = Header(
        44100, 4096 * frames, "m" * 255, "sha256:" + "0" * 64,
        channels=channels, latent_dim=latent_dim, groups=groups, latent_scale=0.5,
    )  # fmt: skip
    buffer = io.BytesIO()
    with LatWriter(buffer, header, dtype=dtype, tags=tags, writer="w" * 255) as out:
        out.append(np.zeros(header.shape, np.float32))
    chunks = []
    with h5py.File(buffer) as f:
        for key in {"latents", "steps", "scale", "levels"} & set(f):
            f[key].id.chunk_iter(lambda chunk: chunks.append(chunk.size))
        groups_bytes = len(f["latents"].attrs["groups"])
    bound = sum(chunks) + 3072 + 64 * len(chunks) + groups_bytes + len("[]")
    bound += sum(len(k) + len(v) + 64 for k, v in tags.items())
    assert len(buffer.getvalue()) <= bound


def test_ten_seconds_have_little_overhead():
    groups = (Group(16, 16, 0.7), Group(16, 8, 0.9, 2, True))
    header = Header(44100, 441_000, "frame", "sha256:" + "0" * 64, latent_dim=384, groups=groups)
    buffer, history = io.BytesIO(), [{"op": "encode", "source": "song.wav", "model": "frame"}]
    with LatWriter(buffer, header, history=history) as out:
        out.append(np.random.default_rng(0).standard_normal(header.shape), np.ones((1, 16, header.frames)))
    with h5py.File(buffer) as f:
        stored = sum(f[key].id.get_storage_size() for key in ("latents", "steps"))
    assert len(buffer.getvalue()) - stored <= 1250


def test_every_named_error_is_in_the_spec():
    raised_on_reading = [
        named.NotHDF5Error, named.TruncatedError, named.WrongFormatError, named.UnsupportedVersionError,
        named.ChecksumError, named.ShapeError, named.DTypeError, named.NonFiniteError, named.HeaderError,
        named.LayoutError,
    ]  # fmt: skip
    assert [e.__name__ for e in raised_on_reading if f"`{e.__name__}`" not in SPEC] == []
