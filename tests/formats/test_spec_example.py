"""SPEC.md does not lie: its example runs, and its bound on the overhead holds."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lincae_formats import Header, LatWriter, read_lat, verify
from lincae_formats import errors as named

SPEC = (Path(__file__).parents[2] / "formats" / "SPEC.md").read_text(encoding="utf-8")


def test_the_example_makes_a_file_that_is_good(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", SPEC, re.S)
    assert "lincae_formats" not in code
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    z = read_lat(tmp_path / "example.lat")
    assert (z.num_samples, z.frames, z.history[0]["op"], z.tags) == (
        44100,
        11,
        "encode",
        {"title": "Silence"},
    )
    verify(tmp_path / "example.lat")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(
    ("channels", "frames", "latent_dim"),
    [(1, 1, 64), (1, 257, 64), (2, 2570, 8), (64, 300, 1), (1, 256 * 1030, 1), (3, 511, 128)],
)
@pytest.mark.parametrize("tags", [{}, {"a": "b"}, {f"{i:064d}": "v" * 1024 for i in range(64)}], ids=len)
def test_the_bound_on_the_overhead(dtype, channels, frames, latent_dim, tags):
    header = Header(44100, 4096 * frames, "m" * 255, "sha256:" + "0" * 64, channels=channels, latent_dim=latent_dim)
    buffer = io.BytesIO()
    with LatWriter(buffer, header, dtype=dtype, tags=tags, writer="w" * 255) as out:
        out.append(np.zeros(header.shape, np.float32))
    item = 2 if dtype == "float16" else 4
    chunks = channels * -(-frames // header.chunk_frames)
    bound = channels * latent_dim * frames * item + 8192 + chunks * (32 + latent_dim * item) + len("[]")
    bound += sum(len(k) + len(v) + 64 for k, v in tags.items())
    assert len(buffer.getvalue()) <= bound


def test_every_named_error_is_in_the_spec():
    raised_on_reading = [
        named.NotHDF5Error, named.TruncatedError, named.WrongFormatError, named.UnsupportedVersionError,
        named.ChecksumError, named.ShapeError, named.DTypeError, named.NonFiniteError, named.HeaderError,
        named.LayoutError,
    ]  # fmt: skip
    assert [e.__name__ for e in raised_on_reading if f"`{e.__name__}`" not in SPEC] == []
