"""A hand-made bad file for every named error: refused by name, in one line, before memory is asked for."""

import io
import json
import re
import tracemalloc

import h5py
import numpy as np
import pytest
from lat_helpers import FINGERPRINT, make, raw_file, text

from lincae_formats import (
    ChecksumError,
    DTypeError,
    HeaderError,
    LatError,
    LayoutError,
    NonFiniteError,
    NotHDF5Error,
    ShapeError,
    TruncatedError,
    UnsupportedVersionError,
    WrongFormatError,
    read_lat,
    verify,
    write_lat,
)


def refused(path, error, match=None):
    for read in (read_lat, verify):
        with pytest.raises(error, match=match) as caught:
            read(path)
        line = str(caught.value)
        assert str(path) in line
        assert "\n" not in line


@pytest.fixture
def good(tmp_path):
    write_lat(make(2, 4096 * 300, tags={"a": "b"}), tmp_path / "good.lat")
    return (tmp_path / "good.lat").read_bytes()


@pytest.fixture
def bad(tmp_path):
    return tmp_path / "bad.lat"


def test_the_hand_made_file_is_good(bad):
    assert read_lat(raw_file(bad)).frames == 5


def test_empty_and_foreign_files(bad):
    bad.write_bytes(b"")
    refused(bad, TruncatedError, "empty")
    for junk in (b"RIFF" + bytes(1000), b"\x89HDX", b"#!/bin/sh\n", bytes(5000)):
        bad.write_bytes(junk)
        refused(bad, NotHDF5Error, "not a .lat file .*; copy or encode it again")
        with pytest.raises(NotHDF5Error, match="; make one: lincae encode - -"):
            read_lat(io.BytesIO(junk))
    song = bad.rename(bad.with_name("song.wav"))
    with pytest.raises(NotHDF5Error, match=r"; make one: lincae encode \S*song\.wav"):
        read_lat(song)


def test_truncated_anywhere(good, bad):
    for size in [1, 7, 8, 12, 47, 48, 51, 52, 100, *range(200, len(good), 997), len(good) - 1]:
        bad.write_bytes(good[:size])
        refused(bad, TruncatedError)
        with pytest.raises(TruncatedError):
            read_lat(io.BytesIO(good[:size]))


def test_flipped_bytes_in_the_data(good, bad):
    path = bad.with_name("good.lat")
    places = []
    with h5py.File(path) as f:
        f["latents"].id.chunk_iter(lambda c: places.extend([c.byte_offset, c.byte_offset + c.size // 2]))
    for at in places:
        flipped = bytearray(good)
        flipped[at] ^= 0x10
        bad.write_bytes(flipped)
        refused(bad, ChecksumError)


def test_any_flipped_byte_is_found_or_harmless(tmp_path):
    z = make(tags={"a": "b"})
    buffer = io.BytesIO()
    write_lat(z, buffer)
    good = buffer.getvalue()
    random = np.random.default_rng(7)
    found = 0
    for at in random.integers(0, len(good), 200):
        flipped = bytearray(good)
        flipped[at] ^= 1 << int(random.integers(8))
        path = tmp_path / "flipped.lat"
        path.write_bytes(flipped)
        try:
            back = read_lat(path)
        except LatError as e:
            assert str(path) in str(e)  # noqa: PT017  most flips are refused, those in gaps are not
            found += 1
            continue
        assert (back.header, back.dtype, back.history, back.tags) == (z.header, z.dtype, z.history, z.tags)
        assert back.data.tobytes() == z.data.tobytes()
    assert found > 50


@pytest.mark.parametrize("value", [None, text("other"), np.int64(1), text("lincae-lat2"), "lincae-lat"])
def test_wrong_format_attribute(bad, value):
    # the last one is a string of variable length, which the format forbids
    refused(raw_file(bad, attributes={"format": value}), WrongFormatError, "lincae-lat")


def test_versions(bad):
    refused(
        raw_file(bad, attributes={"format_version": text("2.0")}),
        UnsupportedVersionError,
        r"version 2\.0.*upgrade",
    )
    refused(raw_file(bad, attributes={"format_version": text("one")}), HeaderError, "MAJOR.MINOR")
    facts = {"format_version": text("1.7"), "unknown": np.int64(1)}
    future = raw_file(bad, attributes=facts, latents=np.ones((1, 8, 5), "<f2"))
    assert read_lat(future).frames == 5


REQUIRED = [
    "sample_rate", "num_samples", "model_sample_rate", "samples_per_frame",
    "model", "model_fingerprint", "latent_scale", "writer", "format_version",
]  # fmt: skip


@pytest.mark.parametrize("key", REQUIRED)
def test_missing_attributes(bad, key):
    refused(raw_file(bad, attributes={key: None}), HeaderError, f"{key} is missing")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sample_rate", np.float64(44100)),
        ("sample_rate", text("44100")),
        ("sample_rate", np.array([44100])),
        ("sample_rate", np.int64(0)),
        ("sample_rate", np.int64(-44100)),
        ("num_samples", np.int64(0)),
        ("num_samples", np.int64(2**62)),
        ("num_samples", np.True_),
        ("samples_per_frame", np.int64(0)),
        ("model_sample_rate", np.int64(2**40)),
        ("model", np.int64(1)),
        ("model", text("x" * 300)),
        ("model", text("x" * 5000)),
        ("model", np.array(b"\xff\xfe", dtype="S2")),
        ("model", text("line\nbreak")),
        ("model", "variable length"),
        ("model_fingerprint", text("sha256:xyz")),
        ("model_fingerprint", text(FINGERPRINT.upper())),
        ("latent_scale", np.float64("nan")),
        ("latent_scale", np.float64(0)),
        ("latent_scale", np.int64(1)),
        ("writer", text("a\x1b[2Jb")),
    ],
)
def test_ill_typed_and_out_of_range_attributes(bad, key, value):
    refused(raw_file(bad, attributes={key: value}), HeaderError, key)


def test_absurd_shapes_take_no_memory(bad):
    frames = 2**36
    raw_file(bad, attributes={"num_samples": np.int64(frames * 4096)}, latents=False)
    with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
        f.create_dataset("latents", (1, 4096, frames), "<f2", chunks=(1, 4096, 256), fletcher32=True)
    assert bad.stat().st_size < 100_000
    tracemalloc.start()
    refused(bad, ShapeError, "claims 562949953421312 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "shape", [(65, 1, 5), (1, 4097, 5), (1, 8, 4), (1, 8, 6)], ids=["channels", "dimension", "fewer", "more"]
)
def test_shapes_against_the_header(bad, shape):
    refused(raw_file(bad, shape=shape), ShapeError)


def test_other_ranks_and_resizable(bad):
    refused(raw_file(bad, latents=np.zeros((8, 5), "<f2"), chunks=(8, 5)), ShapeError, "2 dimensions")
    refused(raw_file(bad, maxshape=(1, 8, None)), ShapeError, "resizable")
    raw_file(bad, latents=False)
    with h5py.File(bad, "r+") as f:
        f.create_dataset("latents", data=h5py.Empty("<f2"))
    refused(bad, ShapeError)


@pytest.mark.parametrize("dtype", ["<f8", ">f2", ">f4", "<i2", "S4", "<c8", "bool"])
def test_other_types(bad, dtype):
    refused(raw_file(bad, latents=np.zeros((1, 8, 5), dtype)), DTypeError)


def test_references_are_no_latents(bad):
    raw_file(bad, latents=False)
    with h5py.File(bad, "r+") as f:
        f.create_dataset("latents", (1, 8, 5), h5py.ref_dtype, chunks=(1, 8, 5))
    refused(bad, DTypeError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(bad, value):
    data = np.zeros((1, 8, 5), "<f4")
    data[0, 3, 2] = value
    refused(raw_file(bad, latents=data), NonFiniteError)


@pytest.mark.parametrize(
    "options",
    [
        {"fletcher32": False},
        {"fletcher32": False, "chunks": None},
        {"compression": "gzip"},
        {"shuffle": True},
        {"chunks": (1, 4, 5)},
        {"chunks": (1, 8, 2)},
    ],
    ids=str,
)
def test_other_filters_and_chunks(bad, options):
    refused(raw_file(bad, **options), LayoutError)


def test_missing_chunks_and_unchecked_chunks(bad):
    raw_file(bad, latents=False)
    with h5py.File(bad, "r+") as f:
        f.create_dataset("latents", (1, 8, 5), "<f2", chunks=(1, 8, 5), fletcher32=True)
    refused(bad, LayoutError, "0 of 1 chunks")
    with h5py.File(bad, "r+") as f:
        f["latents"].id.write_direct_chunk((0, 0, 0), bytes(80), filter_mask=1)
    refused(bad, LayoutError, "no checksum")


def test_data_from_other_files(tmp_path, bad):
    secret = raw_file(tmp_path / "secret.lat")
    (tmp_path / "raw").write_bytes(bytes(80))

    def make_bad(change):
        raw_file(bad, latents=False)
        with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
            change(f)

    def virtual(f):
        layout = h5py.VirtualLayout((1, 8, 5), "<f2")
        layout[:] = h5py.VirtualSource(secret, "latents", (1, 8, 5))
        f.create_virtual_dataset("latents", layout)

    make_bad(lambda f: f.__setitem__("latents", h5py.ExternalLink(secret, "/latents")))
    refused(bad, LayoutError, "link")
    make_bad(lambda f: f.__setitem__("latents", h5py.SoftLink("/history")))
    refused(bad, LayoutError, "link")
    make_bad(virtual)
    refused(bad, LayoutError, "virtual")
    make_bad(lambda f: f.create_dataset("latents", (1, 8, 5), "<f2", external=[(str(tmp_path / "raw"), 0, 80)]))
    refused(bad, LayoutError, "another file")
    make_bad(lambda f: f.create_group("latents"))
    refused(bad, LayoutError, "wrong kind")
    make_bad(lambda f: None)
    refused(bad, HeaderError, "no dataset /latents")
    for key in ("history", "tags"):
        raw_file(bad, history=None)
        with h5py.File(bad, "r+") as f:
            if key == "tags":
                f.create_dataset("history", data=text("[]"))
                f["history"].attrs["sha256"] = text("4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945")
            f[key] = h5py.ExternalLink(secret, "/history")
        refused(bad, LayoutError, f"/{key} is a link")


@pytest.mark.parametrize(
    "history",
    [
        "not json",
        "{}",
        '["text"]',
        '[{"no": "op"}]',
        "[NaN]",
        "[" * 100_000,
        json.dumps([{"op": "x" * 300_000}]),
    ],
    ids=["text", "object", "strings", "no-op", "nan", "deep", "huge"],
)
def test_bad_histories(bad, history):
    refused(raw_file(bad, history=history), HeaderError, "history")


def test_damaged_or_missing_history(bad):
    refused(raw_file(bad, history=None), HeaderError, "no dataset /history")
    raw_file(bad, history='[{"op":"encode"}]')
    bad.write_bytes(bad.read_bytes().replace(b'"encode"', b'"encodf"'))
    refused(bad, ChecksumError, "history")
    raw_file(bad, history=None)
    with h5py.File(bad, "r+") as f:
        f["history"] = "[]"  # a string of variable length
    refused(bad, HeaderError, "fixed length")


@pytest.mark.parametrize(
    "tags",
    [
        {f"t{i}": text("x") for i in range(65)},
        {"t": text("x" * 1100)},
        {"t": np.int64(1)},
        {"t": "variable"},
        {"n" * 65: text("x")},
        {"a\nb": text("x")},
    ],
    ids=["many", "long", "number", "variable", "name", "line"],
)
def test_bad_tags(bad, tags):
    raw_file(bad)
    with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
        f.create_group("tags").attrs.update(tags)
    refused(bad, HeaderError)


def test_superblocks_of_other_versions(bad):
    raw_file(bad)
    for version in (4, 9, 255):
        data = bytearray(bad.read_bytes())
        data[8] = version
        bad.write_bytes(data)
        refused(bad, HeaderError, "superblock")
    raw_file(bad)
    data = bytearray(bad.read_bytes())
    data[28:36] = (2**60).to_bytes(8, "little")
    bad.write_bytes(data)
    refused(bad, TruncatedError, re.escape(str(2**60)))
    with pytest.raises(TruncatedError):
        read_lat(io.BytesIO(bytes(data)))


def test_files_of_h5pys_default_superblock_are_read(tmp_path):
    path = tmp_path / "v0.lat"
    raw_file(tmp_path / "v3.lat")
    with h5py.File(tmp_path / "v3.lat") as source, h5py.File(path, "w", libver=("earliest", "v108")) as f:
        for key, value in source.attrs.items():
            f.attrs[key] = text(value.decode()) if isinstance(value, bytes) else value
        f.create_dataset("latents", data=source["latents"][:], chunks=(1, 8, 5), fletcher32=True)
        f.create_dataset("history", data=text("[]"))
        f["history"].attrs["sha256"] = text(source["history"].attrs["sha256"].decode())
    assert read_lat(path).frames == 5
    path.write_bytes(path.read_bytes()[:-10])
    refused(path, TruncatedError)
