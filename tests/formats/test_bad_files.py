"""A hand-made bad file for every named error: refused by name, in one line, before memory is asked for."""

import io
import json
import re
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
from lat_helpers import FACTS, FINGERPRINT, PACKED, make, packed, raw_file, raw_int8, text

from lincae_formats import (
    ChecksumError,
    DTypeError,
    HeaderError,
    LatError,
    LatReader,
    LayoutError,
    NonFiniteError,
    NotHDF5Error,
    ShapeError,
    TruncatedError,
    UnsupportedVersionError,
    WrongFormatError,
    algebra,
    read_lat,
    verify,
    write_lat,
)
from lincae_formats.reader import fletcher32


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


REQUIRED = sorted(FACTS.keys() - {"format", "history"})


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
        f.create_dataset("latents", (1, 4096, frames), "<f2", chunks=(1, 4096, 256), **PACKED)
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


@pytest.mark.parametrize("dtype", ["<f8", ">f2", ">f4", "<i2", "<u1", "S4", "<c8", "bool"])
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
        {"compression": None},
        {"compression": None, "fletcher32": False, "chunks": None},
        {"compression": "lzf"},
        {"shuffle": True},
        {"chunks": (1, 4, 5)},
        {"chunks": (1, 8, 2)},
    ],
    ids=str,
)
def test_other_filters_and_chunks(bad, options):
    refused(raw_file(bad, **options), LayoutError)


def chunk_of(path, key="latents"):
    """The stored bytes of a dataset's first chunk, without their checksum, and where they lie in the file."""
    with h5py.File(path) as f:
        found = []
        f[key].id.chunk_iter(lambda c: found.append((c.byte_offset, c.size)))
    (at, size), *_ = found
    return path.read_bytes()[at : at + size - 4], at


def with_chunk(path, raw, key="latents", mask=0):
    """Replaces a dataset's first chunk by other bytes, with a right checksum."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        f[key].id.write_direct_chunk((0,) * f[key].ndim, raw + fletcher32(raw), filter_mask=mask)
    return path


def test_missing_chunks_and_unchecked_chunks(bad):
    raw_file(bad, latents=False)
    with h5py.File(bad, "r+") as f:
        f.create_dataset("latents", (1, 8, 5), "<f2", chunks=(1, 8, 5), **PACKED)
    refused(bad, LayoutError, "1 of the 1 chunks of /latents are missing")
    refused(with_chunk(bad, zlib.compress(bytes(80)), mask=1), LayoutError, "no checksum")
    refused(with_chunk(bad, zlib.compress(bytes(80)), mask=2), LayoutError, "no checksum")


@pytest.mark.parametrize(
    "raw",
    [
        zlib.compress(bytes(79)),
        zlib.compress(bytes(81)),
        zlib.compress(bytes(80))[:-1],
        zlib.compress(bytes(80))[:-2] + b"xx",
        b"\x78\x9cjunk that is no deflate stream",
        zlib.compress(bytes(100_000)),
    ],
    ids=["short", "long", "unfinished", "adler32", "junk", "bomb"],
)
@pytest.mark.parametrize("key", ["latents", "steps", "scale"])
def test_deflate_streams_that_do_not_make_a_chunk(bad, raw, key):
    refused(with_chunk(raw_int8(bad), raw, key), (ChecksumError, LayoutError))


def test_a_chunk_that_inflates_to_gigabytes_takes_no_memory(bad):
    frames = 256 * 200
    raw_file(bad, attributes={"num_samples": np.int64(frames * 4096)}, latents=False)
    with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
        dataset = f.create_dataset("latents", (1, 8, frames), "<f2", chunks=(1, 8, 256), **PACKED)
        bomb = zlib.compress(bytes(1 << 22), 9)
        for at in range(0, frames, 256):
            dataset.id.write_direct_chunk((0, 0, at), bomb + fletcher32(bomb))
    tracemalloc.start()
    refused(bad, (ChecksumError, LayoutError))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_a_hole_of_zeros_is_found(bad):
    """Fletcher-32 of zeros is zero, but zeros are no deflate stream."""
    raw, at = chunk_of(raw_int8(bad))
    data = bytearray(bad.read_bytes())
    data[at : at + len(raw) + 4] = bytes(len(raw) + 4)
    bad.write_bytes(data)
    refused(bad, ChecksumError)
    with LatReader(bad) as reader, pytest.raises(ChecksumError):  # copied without inflating, too
        write_lat(algebra.gain(reader, 0.5), bad.with_name("copy.lat"))
    assert not bad.with_name("copy.lat").exists()


# --- integers


def test_the_hand_made_integers_are_good(bad):
    z = read_lat(raw_int8(bad))
    np.testing.assert_array_equal(z.data, 1.0)
    np.testing.assert_array_equal(z.levels(), 2.0)  # step / relative step
    z = read_lat(raw_int8(bad, scale=None, attributes={"levels_known": np.int64(0)}))
    np.testing.assert_array_equal(z.data, 1.0)
    np.testing.assert_array_equal(z.levels(), -2.0)  # uncertain


@pytest.mark.parametrize(
    ("groups", "error"),
    [
        (None, HeaderError),
        ("[[2,3,0.5,1,0,1]]", ShapeError),
        ("[[2,3,0.5,1,0,1],[2,2,0.5,2,1,1]]", ShapeError),
        ("[]", HeaderError),
        ("{}", HeaderError),
        ("not json", HeaderError),
        ("[" * 4000, HeaderError),
        ("[[1,8,0.5,1,0]]", HeaderError),
        ("[[1,8,0.5,1,0,0]]", HeaderError),
        ("[[1,8,0.5,1,0,2]]", HeaderError),
        ("[[1,8,0.5,1,0,1.0]]", HeaderError),
        ("[[1,8,65,1,0,1]]", HeaderError),
        ("[[1,8,0.5,1,2,1]]", HeaderError),
        ("[[1,8,0.5,0,0,1]]", HeaderError),
        ("[[1,8,NaN,1,0,1]]", HeaderError),
        ("[[1,8,1e999,1,0,1]]", HeaderError),
        ("[[1,8,0,1,0,1]]", HeaderError),
        ("[[1,8,-0.5,1,0,1]]", HeaderError),
        ('[[1,8,"0.5",1,0,1]]', HeaderError),
        ("[[1,8.0,0.5,1,0,1]]", HeaderError),
        ("[[true,8,0.5,1,0,1]]", HeaderError),
        ("[[-1,-8,0.5,1,0,1]]", HeaderError),
        ("[[0,0,0.5,1,0,1],[1,8,0.5,1,0,1]]", HeaderError),
        ("[[1,1" + "0" * 400 + ",0.5,1,0,1]]", HeaderError),
        ("[[1,8,1" + "0" * 400 + ",1,0,1]]", HeaderError),
        ("[" + ",".join(["[1,1,0.123456789,1,0,1]"] * 1000) + "]", HeaderError),
        (np.array([1, 2]), HeaderError),
    ],
)
def test_bad_groups(bad, groups, error):
    refused(raw_int8(bad, groups=groups), error, "group")


@pytest.mark.parametrize(
    ("replaced", "error"),
    [
        ({"steps": None}, HeaderError),
        ({"steps": np.ones((1, 2, 5), np.uint8)}, ShapeError),
        ({"steps": np.ones((1, 3, 4), np.uint8)}, ShapeError),
        ({"steps": np.ones((2, 3, 5), np.uint8)}, ShapeError),
        ({"steps": np.ones((3, 5), np.uint8)}, ShapeError),
        ({"steps": np.ones((1, 3, 5), np.int8)}, DTypeError),
        ({"steps": np.ones((1, 3, 5), "<f4")}, DTypeError),
        ({"steps": h5py.SoftLink("/latents")}, LayoutError),
        ({"scale": h5py.ExternalLink("other", "/x")}, LayoutError),
        ({"scale": np.ones((1, 4), "<f4")}, ShapeError),
        ({"scale": np.ones((5,), "<f4")}, ShapeError),
        ({"scale": np.ones((1, 5), "<f8")}, DTypeError),
        ({"scale": np.ones((1, 5), ">f4")}, DTypeError),
        ({"scale": np.full((1, 5), np.nan, "<f4")}, NonFiniteError),
        ({"scale": np.full((1, 5), np.inf, "<f4")}, NonFiniteError),
        ({"scale": np.full((1, 5), -1e38, "<f4")}, NonFiniteError),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else None,
)
def test_bad_steps_and_scales(bad, replaced, error):
    refused(raw_int8(bad, **replaced), error, next(iter(replaced)))


@pytest.mark.parametrize("value", [np.int64(2), np.int64(-1), np.float64(1), text("1")])
def test_bad_levels_known(bad, value):
    refused(raw_int8(bad, attributes={"levels_known": value}), HeaderError, "levels_known")


@pytest.mark.parametrize(
    ("levels", "error"),
    [
        (np.ones((1, 2, 5), "<f4"), ShapeError),
        (np.ones((1, 1, 5), "<f2"), DTypeError),
        (np.full((1, 1, 5), np.inf, "<f4"), NonFiniteError),
    ],
)
def test_bad_levels_of_floats(bad, levels, error):
    raw_file(bad)
    with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
        f["latents"].attrs["groups"] = text("[[2,3,0.5,1,0,1],[1,2,0.5,2,1,1]]")
        f.create_dataset("levels", data=levels, chunks=levels.shape, **PACKED)
    refused(bad, error, "levels")


def test_rows_with_other_filters_or_chunks(bad):
    for options in ({"chunks": (1, 3, 2), **PACKED}, {"chunks": (1, 3, 5)}, {}):
        raw_int8(bad, steps=None)
        with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
            f.create_dataset("steps", data=np.ones((1, 3, 5), np.uint8), **options)
        refused(bad, LayoutError, "/steps")


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
    make_bad(lambda f: f.__setitem__("latents", h5py.SoftLink("/tags")))
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
        raw_file(bad, attributes={"history": None} if key == "history" else None)
        with h5py.File(bad, "r+") as f:
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
    if len(history) < 1000:
        refused(raw_file(bad, attributes={"history": text(history)}), HeaderError, "history")


def test_damaged_or_missing_history(bad):
    refused(raw_file(bad, attributes={"history": None}), HeaderError, "neither an attribute nor a dataset history")
    refused(raw_file(bad, attributes={"history": text("[" + " " * 5000 + "]")}), HeaderError, "history")
    refused(raw_file(bad, attributes={"history": "[]"}), HeaderError, "fixed length")
    good = packed('[{"op":"encode"}]')
    damaged = good.copy()
    damaged[5] ^= 1
    bomb = packed("[" + " " * 10_000_000 + "]")
    for data, error in (
        (damaged, ChecksumError),
        (good[:-1], ChecksumError),
        (bomb, HeaderError),
        (np.zeros(0, np.uint8), ChecksumError),
        (np.zeros(300_000, np.uint8), HeaderError),
        (good.astype(np.int16), HeaderError),
        (good[None], HeaderError),
        (text("[]"), HeaderError),
    ):
        raw_file(bad, attributes={"history": None})
        with h5py.File(bad, "r+", libver=("v110", "v110")) as f:
            f.create_dataset("history", data=data)
        refused(bad, error, "history")


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
        f.create_dataset("latents", data=source["latents"][:], chunks=(1, 8, 5), **PACKED)
    assert read_lat(path).frames == 5
    path.write_bytes(path.read_bytes()[:-10])
    refused(path, TruncatedError)
