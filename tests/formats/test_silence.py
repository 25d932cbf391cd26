"""Silence is marked since version 1.1, so that a hole in a file is none; nothing else of it is seen."""

import hashlib
import io

import h5py
import numpy as np
import pytest
from lat_helpers import make, raw_file, text

from lincae_formats import ChecksumError, Header, LatReader, LatWriter, lazy, read_lat, verify, write_lat


def old_file(path, data, version="1.0"):
    """A file as version 1.0 wrote it: silence is zero bytes."""
    frames = data.shape[2]
    chunk = -(-frames // -(-frames // 256))
    facts = {"num_samples": np.int64(4096 * frames), "format_version": text(version)}
    return raw_file(path, attributes=facts, latents=data.astype("<f2"), chunks=(1, data.shape[1], chunk))


def raw(source):
    """The latents as they are stored, and the frames of a chunk."""
    with h5py.File(source) as f:
        return f["latents"][:], f["latents"].chunks[2]


def music(frames=600, channels=1):
    """Random numbers, exact in float16."""
    return make(channels, 4096 * frames).data.copy()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("channels", "samples"), [(1, 1), (1, 20_000), (2, 4096 * 700), (3, 4096 * 513 + 1)])
def test_a_silent_file_is_marked_and_read_as_zeros(dtype, channels, samples):
    for zero in (0.0, -0.0):
        out = io.BytesIO()
        write_lat(zero * make(channels, samples, dtype=dtype), out)
        stored, chunk = raw(out)
        marks = np.zeros(stored.shape, bool)
        marks[:, 0, ::chunk] = True
        assert not stored.any()
        assert np.array_equal(np.signbit(stored), marks)
        out.seek(0)
        verify(out)
        out.seek(0)
        found = read_lat(out).data
        assert not found.any()
        assert not np.signbit(found).any()


def test_only_chunks_without_anything_else_are_marked():
    header = make(2, 4096 * 600).header  # chunks of 200
    data = np.zeros(header.shape, np.float32)
    data[0, 3, 399] = 1e-7  # a subnormal
    data[1, 0, 0] = 5.0
    out = io.BytesIO()
    with LatWriter(out, header) as writer:
        for at in range(0, 600, 7):
            writer.append(data[:, :, at : at + 7])
    stored, chunk = raw(out)
    assert chunk == 200
    assert [tuple(p) for p in np.argwhere(np.signbit(stored))] == [(0, 0, 0), (0, 0, 400), (1, 0, 200), (1, 0, 400)]
    assert np.array_equal(stored, data.astype("<f2"))


def test_zeros_in_music_keep_their_signs():
    data = music()
    data[0, :2, 5], data[0, 0, 0] = -0.0, -0.0
    out = io.BytesIO()
    latents = make(1, 4096 * 600)
    write_lat(type(latents)(data, latents.header), out)
    assert raw(out)[0].tobytes() == data.astype("<f2").tobytes()
    out.seek(0)
    assert read_lat(out).data.tobytes() == data.tobytes()


def test_files_of_1_0_are_read_as_ever_and_files_of_1_1_must_mark(tmp_path):
    data = music()
    data[:, :, 200:400] = 0
    old = old_file(tmp_path / "old.lat", data)
    verify(old)
    assert np.array_equal(read_lat(old).data, data)
    for version in ("1.1", "1.2", "1.10"):
        new = old_file(tmp_path / f"{version}.lat", data, version)
        with pytest.raises(ChecksumError, match="a hole"):
            verify(new)
        with LatReader(new) as reader:
            assert np.array_equal(reader.read(0, 200), data[:, :, :200])
            assert np.array_equal(reader.read(400), data[:, :, 400:])
            with pytest.raises(ChecksumError, match="a hole"):
                reader.read(399, 401)


def test_copies_of_old_silence_are_marked(tmp_path):
    """What is copied without arithmetic, too: slices and joins, whose chunks lie elsewhere."""
    data = music(1000)
    data[:, :, 100:900] = 0
    old, silent = old_file(tmp_path / "old.lat", data), old_file(tmp_path / "silent.lat", np.zeros((1, 8, 300)))
    with LatReader(old) as a, LatReader(silent) as b:
        results = {
            "copy": (a, data),
            "silence": (b, np.zeros((1, 8, 300))),
            "slice": (lazy.cut(a, 150, 950), data[:, :, 150:950]),
            "silent slice": (lazy.cut(a, 333, 334), np.zeros((1, 8, 1))),
            "shift": (lazy.shift(a, 400), np.concatenate([np.zeros((1, 8, 400)), data], axis=2)),
            "earlier": (lazy.shift(a, -120), data[:, :, 120:]),
            "concat": (lazy.concat([b, a, b]), np.concatenate([np.zeros((1, 8, 300)), data, np.zeros((1, 8, 300))], 2)),
            "gain": (lazy.gain(a, -1.0), -data),
        }
        for name, (source, wanted) in results.items():
            target = tmp_path / f"{name}.lat"
            write_lat(source, target)
            verify(target)
            assert np.array_equal(read_lat(target).data, wanted), name
            stored, chunk = raw(target)
            for at in range(0, stored.shape[2], chunk):
                assert stored[:, :, at : at + chunk].tobytes().strip(b"\0"), name
    # Once they are marked, copies of copies are the same bytes.
    with LatReader(tmp_path / "copy.lat") as copy:
        write_lat(lazy.cut(copy, 0, 1000), tmp_path / "again.lat")
    assert raw(tmp_path / "again.lat")[0].tobytes() == raw(tmp_path / "copy.lat")[0].tobytes()


def test_the_mark_is_not_in_fingerprints(tmp_path):
    """Histories of files made before name them as they do now."""
    data = music()
    data[:, :, 200:400] = 0
    old = old_file(tmp_path / "old.lat", data)
    write_lat(read_lat(old), tmp_path / "new.lat")
    latents = read_lat(old)
    negative = type(latents)(np.where(data == 0, np.float32(-0.0), data), latents.header)
    with LatReader(old) as a, LatReader(tmp_path / "new.lat") as b:
        chunks = [data[0, :, at : at + 200].astype("<f2").tobytes() for at in (0, 200, 400)]
        wanted = "sha256:" + hashlib.sha256(b"".join(chunks)).hexdigest()
        assert [a.fingerprint, b.fingerprint, latents.fingerprint, negative.fingerprint] == [wanted] * 4


def test_what_is_given_to_a_writer_is_not_changed():
    header = Header(44100, 4096 * 600, "m", "sha256:" + "ab" * 32, latent_dim=8)
    data = np.zeros(header.shape, "<f2")
    data.flags.writeable = False
    with LatWriter(io.BytesIO(), header) as writer:
        writer.append_stored(data[:, :, :300])
        writer.append(data[:, :, 300:])
    assert not np.signbit(data).any()
