"""Damaged and hostile `.lat` files: refused by name or read whole, in bounded memory, without other files."""

import io
import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_helpers import environment, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from lat_helpers import PACKED, make, make_int8, raw_file, raw_int8

from lincae_formats import ChecksumError, LatError, LatReader, LayoutError, algebra, read_lat, verify, write_lat

NUMBERS = st.sampled_from([0, 1, 2, 8, 255, 2**16 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1])
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), NUMBERS, st.sampled_from([1, 2, 4, 8])), min_size=1, max_size=4)


def old(data):
    """The same contents with superblock 0, whose metadata has no checksums."""
    file = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as source, h5py.File(file, "w", libver=("earliest", "v108")) as target:
        copy_attributes(source, target)
        for key in {"latents", "steps", "scale", "levels", "history"} & set(source):
            packed = {} if key == "history" else {"chunks": source[key].chunks, **PACKED}
            target.create_dataset(key, data=source[key][:], **packed)
            copy_attributes(source[key], target[key])
    return file.getvalue()


def copy_attributes(source, target):
    for key, value in source.attrs.items():
        target.attrs.create(key, value, dtype=source.attrs.get_id(key).dtype)


def seeds():
    """The bytes of files with checksums throughout, and of some whose metadata has none."""
    found = []
    for latents in (make(2, 4096 * 300, tags={"a": "b"}), -0.5 * make_int8(2, 4096 * 300)):
        buffer = io.BytesIO()
        write_lat(latents, buffer)
        found += [buffer.getvalue(), old(buffer.getvalue())]
    return found


SEEDS = seeds()


def test_the_seeds_are_good():
    for data in SEEDS:
        assert read_lat(io.BytesIO(data)).channels == 2


@pytest.mark.parametrize("seed", range(4), ids=["checked", "unchecked", "int8", "unchecked int8"])
@settings(max_examples=150, deadline=None)
@given(changes=CHANGES, cut=st.none() | st.integers(0, 2**14))
def test_numbers_written_over_a_file_are_refused_or_harmless(seed, changes, cut):
    data = bytearray(SEEDS[seed][:cut])
    for at, number, width in changes:
        at %= max(1, len(data))
        data[at : at + width] = (number % 256**width).to_bytes(width, "little")
    try:
        found = read_lat(io.BytesIO(bytes(data)))
    except LatError as e:
        message = str(e)
        assert "\n" not in message
        return
    assert found.data.shape == found.header.shape
    assert np.isfinite(found.data).all()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_behind_the_signature_are_refused(data):
    for start in (b"", b"\x89HDF\r\n\x1a\n", SEEDS[0][:60], SEEDS[1][:90]):
        with pytest.raises(LatError):
            read_lat(io.BytesIO(start + data))


def bomb(path, **options):
    """A file whose latents claim 64 GB in a few kB."""
    frames = 2**20
    raw_file(path, attributes={"num_samples": np.int64(frames * 4096)}, latents=False)
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        options = {"dtype": "<f2", "chunks": (1, 4096, 256), **options}
        f.create_dataset("latents", (8, 4096, frames), **options)


def many_attributes(path):
    raw_file(path)
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        for i in range(3000):
            f.attrs[f"x{i}"] = "y" * 50


def huge_attribute(path, key="model"):
    raw_file(path, attributes={key: None})
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        f.attrs.create(key, np.zeros(20_000_000, "S1"))


def huge_text(path):
    raw_file(path, attributes={"model": None})
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        f.attrs.create("model", np.array(b"x" * 60_000), dtype="S60000")


def packed_history(path):
    raw_file(path, attributes={"history": None})
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        f.create_dataset("history", (2**27,), "S1", chunks=(2**24,), compression="gzip", fillvalue=b"[")


def wide_history(path):
    raw_file(path, attributes={"history": None})
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        f.create_dataset("history", (), h5py.string_dtype("utf-8", 2**30))


def linked_group(path):
    raw_file(path)
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        tags = f.create_group("tags")
        tags["round"] = tags  # a group inside itself
        for i in range(2000):
            tags[f"{i}"] = h5py.SoftLink("/latents")


HOSTILE = {
    "claims 64 GB": bomb,
    "chunks of 4 GB": lambda p: bomb(p, chunks=(1, 4096, 2**19)),
    "one chunk of everything": lambda p: bomb(p, chunks=(8, 4096, 2**16)),
    "packed 1000 times": lambda p: bomb(p, **PACKED),
    "integers of 64 GB": lambda p: bomb(p, dtype="<i1", **PACKED),
    "steps of 4 GB": lambda p: raw_int8(p, steps=np.zeros((64, 4096, 2**14), np.uint8)[:, :, :1]),
    "groups of 20 MB": lambda p: raw_int8(p, groups=np.zeros(20_000, "S1")),
    "packed by a plugin": lambda p: bomb(p, compression=32015, allow_unknown_filter=True),
    "scale-offset": lambda p: raw_file(p, latents=np.zeros((1, 8, 5), "<i2"), scaleoffset=4),
    "3000 attributes": many_attributes,
    "an attribute of 20 MB": huge_attribute,
    "a writer of 20 MB": lambda p: huge_attribute(p, "writer"),
    "a name of 60 kB": huge_text,
    "a packed history": packed_history,
    "a history of 1 GB": wide_history,
    "tags that hold themselves": linked_group,
}

PROGRAM = """
import resource, sys
from lincae_formats import LatError, read_lat, verify
read_lat(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[2:]:
    for read in (read_lat, verify):
        try:
            read(path)
            print(path, "read")
        except LatError as e:
            print(path, type(e).__name__, e)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_hostile_header_takes_memory(tmp_path):
    """All of them in one process, whose peak is that of C code too."""
    paths = []
    for i, (what, build) in enumerate(HOSTILE.items()):
        path = tmp_path / f"{i}.lat"
        try:
            build(path)
        except (ValueError, OSError) as e:  # this HDF5 does not even write it
            path.unlink(missing_ok=True)
            print(what, e)
            continue
        assert path.stat().st_size < 25_000_000
        paths.append(path)
    assert len(paths) >= len(HOSTILE) - 3
    raw_file(tmp_path / "good.lat")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "good.lat", *paths],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *lines, grown = done.stdout.splitlines()
    assert len(lines) == 2 * len(paths)
    harmless = {
        f"{tmp_path}/{i}.lat"
        for i, what in enumerate(HOSTILE)
        if what in ("3000 attributes", "tags that hold themselves")
    }
    assert {line.split()[0] for line in lines if line.endswith(" read")} <= harmless
    assert int(grown) < 50_000, "kB"


def test_nothing_outside_the_file_is_opened(tmp_path):
    secret = raw_file(tmp_path / "secret.lat")
    (tmp_path / "raw").write_bytes(bytes(80))

    def layout(f):
        virtual = h5py.VirtualLayout((1, 8, 5), "<f2")
        virtual[:] = h5py.VirtualSource(secret, "latents", (1, 8, 5))
        f.create_virtual_dataset("latents", virtual)

    ways = {
        "external link": lambda f: f.__setitem__("latents", h5py.ExternalLink(secret, "/latents")),
        "soft link": lambda f: f.__setitem__("latents", h5py.SoftLink("/tags")),
        "virtual": layout,
        "external": lambda f: f.create_dataset("latents", (1, 8, 5), "<f2", external=[(str(tmp_path / "raw"), 0, 80)]),
    }
    program = """
import sys
opened = []
from lincae_formats import LatError, read_lat
try:
    read_lat(sys.argv[1])
    raise SystemExit("read")
except LatError:
    pass
"""
    strace = Path("/usr/bin/strace")
    for i, change in enumerate(ways.values()):
        path = raw_file(tmp_path / f"{i}.lat", latents=False)
        with h5py.File(path, "r+", libver=("v110", "v110")) as f:
            change(f)
        with pytest.raises(LayoutError):
            read_lat(path)
        if strace.exists():
            done = subprocess.run(
                [strace, "-f", "-e", "trace=open,openat", sys.executable, "-c", program, path],
                env=environment(), capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0
            assert "secret.lat" not in done.stderr
            assert f"{tmp_path}/raw" not in done.stderr


def test_reading_never_writes_to_a_file(tmp_path):
    for i, data in enumerate(SEEDS):
        path = tmp_path / f"{i}.lat"
        path.write_bytes(data)
        os.utime(path, (0, 0))
        with LatReader(path) as reader:
            reader.read()
        assert path.read_bytes() == data
        assert path.stat().st_mtime == 0


def test_files_are_closed_again_whatever_is_wrong_with_them(tmp_path):
    path = tmp_path / "x.lat"
    path.write_bytes(SEEDS[1][:-100] + bytes(100))
    raw_file(tmp_path / "y.lat", attributes={"model": None})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, limit[0]), limit[1]))
    try:
        for _ in range(300):
            for bad in (path, tmp_path / "y.lat"):
                with pytest.raises(LatError):
                    read_lat(bad)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize(("channels", "samples"), [(1, 4096 * 600), (2, 4096 * 600), (1, 1)])
def test_a_hole_of_zeros_is_noticed(tmp_path, channels, samples, silent, dtype):
    """Chunk by chunk: by what reads everything and by what reads that part, and by nothing that reads another."""
    path, places = tmp_path / "x.lat", []
    latents = make_int8(channels, samples) if dtype == "int8" else make(channels, samples, dtype=dtype)
    write_lat(0.0 * latents if silent else latents, path)
    with h5py.File(path) as f:
        step = f["latents"].chunks[2]
        f["latents"].id.chunk_iter(lambda c: places.append((c.chunk_offset, c.byte_offset, c.size)))
    whole = path.read_bytes()
    assert len(places) == channels * -(-samples // (4096 * step))
    for (_, _, frame), at, size in places:
        path.write_bytes(whole[:at] + bytes(size) + whole[at + size :])
        for read in (read_lat, verify, lambda p: write_lat(LatReader(p), io.BytesIO())):
            with pytest.raises(ChecksumError, match=r"x\.lat: a checksum of /latents does not match"):
                read(path)
        with LatReader(path) as reader:
            last = min(frame + step, reader.header.frames)
            for part in ((frame, frame + 1), (last - 1, last)):
                with pytest.raises(ChecksumError):
                    reader.read(*part)
            with pytest.raises(ChecksumError):
                algebra.cut(reader, frame, last).read()
            assert reader.read(0, frame - frame % step).shape[2] == frame
            assert reader.read(last).shape[2] == reader.header.frames - last


def test_the_command_line_tells_of_a_hole(tmp_path):
    path, places = tmp_path / "x.lat", []
    write_lat(make(1, 4096 * 600), path)
    with h5py.File(path) as f:
        f["latents"].id.chunk_iter(lambda c: places.append((c.byte_offset, c.size)))
    with open(path, "r+b") as file:
        file.seek(places[1][0])
        file.write(bytes(places[1][1]))
    for command in (["verify", path], ["gain", path, "--db", "0", "-o", tmp_path / "y.lat"], ["info", "--level", path]):
        assert refused(1, *command) == (
            f"lincae: error: {path}: a checksum of /latents does not match: the file is damaged; "
            "copy or encode it again"
        )
    assert list(tmp_path.iterdir()) == [path]
