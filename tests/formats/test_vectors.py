"""Files of every released version are read for ever, and written again to the same bytes."""

import hashlib
import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import pytest

from lincae_formats import LatReader, read_lat, verify, write_lat
from lincae_formats.header import FORMAT_VERSION

FOLDER = Path(__file__).parents[2] / "formats" / "vectors"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
# HDF5 1.14 lays out the same metadata differently.
SAME_HDF5 = pytest.mark.skipif(h5py.version.hdf5_version_tuple[0] != 2, reason="the bytes are those of HDF5 2")


def test_every_file_is_expected():
    assert sorted(p.name for p in FOLDER.glob("*.lat")) == sorted(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_vectors_are_read(name):
    wanted = EXPECTED[name]
    verify(FOLDER / name)
    z = read_lat(FOLDER / name)
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == wanted["bytes_sha256"]
    header = json.loads(json.dumps(asdict(z.header)))
    assert (header, z.frames, z.dtype) == (wanted["header"], wanted["frames"], wanted["dtype"])
    assert z.fingerprint == wanted["fingerprint"]
    levels = z.levels()[0, :, 0]
    assert [None if np.isnan(v) else float(v) for v in levels] == wanted["first_levels"]
    assert (list(z.history), z.tags) == (wanted["history"], wanted["tags"])
    assert hashlib.sha256(np.ascontiguousarray(z.data, dtype="<f4").data).hexdigest() == wanted["float32_sha256"]
    assert z.data[0, : len(wanted["first"]), 0].tolist() == wanted["first"]


@SAME_HDF5
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_rewriting_gives_the_bytes_of_the_current_version(name):
    with LatReader(FOLDER / name) as reader:
        writer = reader.writer
    again = io.BytesIO()
    write_lat(read_lat(FOLDER / name), again, writer=writer)
    now = FOLDER / f"v{FORMAT_VERSION}-{name.partition('-')[2]}"
    assert again.getvalue() == now.read_bytes()


@SAME_HDF5
def test_the_script_makes_them_again(tmp_path):
    subprocess.run([sys.executable, FOLDER / "make_vectors.py", tmp_path], check=True)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), path.name
