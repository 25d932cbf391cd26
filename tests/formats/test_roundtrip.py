"""What is written comes back, to files and through pipes, whole and in parts."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lat_helpers import make

from lincae_formats import (
    DTypeError,
    Header,
    HeaderError,
    Latents,
    LatError,
    LatReader,
    LatWriter,
    LincaeError,
    NonFiniteError,
    OverflowFloat16Error,
    ShapeError,
    read_lat,
    signal,
    verify,
    write_lat,
)
from lincae_formats.header import MAX_HISTORY


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("channels", "samples", "rate"), [(1, 1, 8000), (2, 44101, 44100), (6, 4096, 96000)])
def test_everything_comes_back(tmp_path, dtype, channels, samples, rate):
    z = make(channels, samples, sample_rate=rate, dtype=dtype, tags={"a": "ä", "empty": ""})
    write_lat(z, tmp_path / "z.lat")
    back = read_lat(tmp_path / "z.lat")
    np.testing.assert_array_equal(back.data, z.data)
    assert (back.header, back.dtype, back.history, back.tags) == (z.header, dtype, z.history, z.tags)
    assert back.fingerprint == z.fingerprint
    assert not back.data.flags.writeable
    verify(tmp_path / "z.lat")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 700), st.integers(1, 3), st.lists(st.integers(1, 300), min_size=1, max_size=5))
def test_the_bytes_do_not_depend_on_the_blocks(frames, channels, sizes):
    z = make(channels, 4096 * frames, latent_dim=2)
    whole, blocks = io.BytesIO(), io.BytesIO()
    write_lat(z, whole)
    with LatWriter(blocks, z.header, dtype=z.dtype, history=z.history) as out:
        at, i = 0, 0
        while at < frames:
            n = sizes[i % len(sizes)]
            out.append(z.data[:, :, at : at + n])
            at, i = at + n, i + 1
    assert blocks.getvalue() == whole.getvalue()


def test_parts_equal_the_whole(tmp_path):
    z = make(2, 4096 * 600)
    write_lat(z, tmp_path / "z.lat")
    with LatReader(tmp_path / "z.lat") as reader:
        np.testing.assert_array_equal(reader.read(250, 520), z.data[:, :, 250:520])
        np.testing.assert_array_equal(np.concatenate(list(signal.blocks(reader, 77)), axis=2), z.data)
        assert reader.read(5, 5).shape == (2, 8, 0)
        for bad in ((-1, 4), (0, 601), (9, 8)):
            with pytest.raises(LatError, match="not within"):
                reader.read(*bad)


def test_a_pipe_has_the_bytes_of_the_file_and_can_be_read(tmp_path):
    z = make(2, 4096 * 300, latent_dim=64)
    write_lat(z, tmp_path / "z.lat")
    stored = (tmp_path / "z.lat").read_bytes()

    def send():
        with os.fdopen(write_end, "wb") as sink:
            write_lat(z, sink)

    read_end, write_end = os.pipe()
    thread = threading.Thread(target=send)
    thread.start()
    with os.fdopen(read_end, "rb") as source:
        data = source.read()
    thread.join()
    assert data == stored

    program = "import sys, lincae_formats as L; print(L.read_lat(sys.stdin.buffer).fingerprint)"
    done = subprocess.run([sys.executable, "-c", program], input=stored + b"more", capture_output=True, check=True)
    assert done.stdout.decode().strip() == z.fingerprint


def test_a_fifo_is_read_like_a_stream(tmp_path):
    z = make()
    os.mkfifo(tmp_path / "fifo")
    thread = threading.Thread(target=lambda: write_lat(z, tmp_path / "fifo"))
    thread.start()
    back = read_lat(tmp_path / "fifo")
    thread.join()
    np.testing.assert_array_equal(back.data, z.data)


def test_the_writer_refuses_what_readers_would(tmp_path):
    z = make()
    target = tmp_path / "z.lat"
    with pytest.raises(NonFiniteError, match=r"z\.lat"), LatWriter(target, z.header) as out:
        out.append(np.full(z.header.shape, np.nan))
    with pytest.raises(OverflowFloat16Error, match="--dtype float32"), LatWriter(target, z.header) as out:
        out.append(np.full(z.header.shape, 70_000.0))
    with pytest.raises(NonFiniteError), LatWriter(target, z.header, dtype="float32") as out:
        out.append(np.full(z.header.shape, 1e39))
    with pytest.raises(ShapeError, match="4 of the 5"), LatWriter(target, z.header) as out:
        out.append(z.data[:, :, :4])
    with pytest.raises(ShapeError, match="6 frames"), LatWriter(target, z.header) as out:
        out.append(np.zeros((1, 8, 6)))
    with pytest.raises(ShapeError), LatWriter(target, z.header) as out:
        out.append(np.zeros((2, 8, 5)))
    with pytest.raises(DTypeError), LatWriter(target, z.header) as out:
        out.append(np.zeros(z.header.shape, complex))
    with pytest.raises(DTypeError):
        LatWriter(target, z.header, dtype="float64")
    with pytest.raises(HeaderError, match="tag"):
        LatWriter(target, z.header, tags={"a": "b" * 2000})
    with pytest.raises(HeaderError, match="JSON"):
        LatWriter(target, z.header, history=[{"op": "x", "value": float("nan")}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"num_samples": 0}, HeaderError),
        ({"sample_rate": 0}, HeaderError),
        ({"sample_rate": 44100.0}, HeaderError),
        ({"model": ""}, HeaderError),
        ({"model": "a\nb"}, HeaderError),
        ({"model_fingerprint": "sha256:00"}, HeaderError),
        ({"latent_scale": float("inf")}, HeaderError),
        ({"samples_per_frame": 0}, HeaderError),
        ({"channels": 65}, ShapeError),
        ({"latent_dim": 0}, ShapeError),
    ],
)
def test_headers_are_checked(change, error):
    facts = {"sample_rate": 44100, "num_samples": 1, "model": "m", "model_fingerprint": "sha256:" + "0" * 64}
    with pytest.raises(error, match=r"file\.lat"):
        Header(**{**facts, **change}).validate("file.lat")


def test_long_histories_are_elided_and_stay_readable(tmp_path):
    z = make()
    for _ in range(40):  # doubles at each step unless it is bounded
        z = 0.5 * (z + z)
    write_lat(z, tmp_path / "deep.lat")
    assert (tmp_path / "deep.lat").stat().st_size < MAX_HISTORY + 4096
    back = read_lat(tmp_path / "deep.lat")
    assert back.history[-1] == {"op": "gain", "factor": 0.5}
    assert "elided" in str(back.history)
    long = [{"op": "gain", "factor": 1.0, "note": "x" * 1000} for _ in range(1000)]
    with LatWriter(tmp_path / "long.lat", z.header, history=long) as out:
        out.append(z.data)
    kept = read_lat(tmp_path / "long.lat").history
    assert kept[0] == {"op": "elided"}
    assert 100 < len(kept) < 300


def test_latents_are_checked_and_read_only():
    z = make()
    with pytest.raises(ShapeError):
        Latents(z.data[:, :, :2], z.header)
    with pytest.raises(DTypeError):
        Latents(z.data, z.header, dtype="int8")
    mine = np.zeros(z.header.shape, np.float32)
    frozen = Latents(mine, z.header)
    with pytest.raises(ValueError, match="read-only"):
        frozen.data[:] = 1
    mine[:] = 2  # the caller's array stays the caller's


def test_missing_files_are_one_line(tmp_path):
    for path in (tmp_path / "none.lat", tmp_path, tmp_path / "a\nb"):
        with pytest.raises(LincaeError, match="cannot read") as caught:
            read_lat(path)
        assert "\n" not in str(caught.value)


def test_import_is_light():
    heavy = ("torch", "scipy", "soundfile", "rich")
    program = f"import sys; from lincae_formats import *; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_imports_no_more_than_its_module():
    program = (
        "import sys, lincae_formats as f; f.Header, f.LatError, f.check_target\n"
        "assert not {'numpy', 'h5py'} & set(sys.modules)\n"
        "f.LatReader\n"
        "assert not {'lincae_formats.algebra', 'lincae_formats.writer'} & set(sys.modules)\n"
        "assert all(getattr(f, name) for name in f.__all__)\n"
        "f.unheard_of"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'lincae_formats' has no attribute 'unheard_of'"
