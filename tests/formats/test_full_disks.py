"""Writes that fail for lack of room, in processes of their own: one line, exit code 1, no crash, nothing left."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lat_helpers import make, make_int8

from lincae_formats import LatError, LatWriter, read_lat, write_lat

PROGRAM = """
import sys
from lincae_formats import LincaeError, LatReader, algebra, write_lat, write_lats
source, target, operation = sys.argv[1:4]
try:
    with LatReader(source) as reader:
        result = {
            "copy": lambda: reader,
            "gain": lambda: algebra.gain(reader, 0.5),
            "mix": lambda: algebra.mix([reader, reader]),
            "two": lambda: algebra.mix([reader, reader]),
        }[operation]()
        write_lats([(result, target), (reader, target + ".2")][: 2 if operation == "two" else 1], overwrite=True)
except LincaeError as e:
    print(e, file=sys.stderr)
    sys.exit(1)
"""


def run(source, target, operation, shell="", **options):
    command = [sys.executable, "-c", PROGRAM, str(source), str(target), operation]
    if shell:
        command = ["bash", "-c", f'{shell}; exec "$@"', "bash", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def refused(done, target):
    assert done.returncode == 1, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cannot write {target}")
    assert line.endswith("is the disk full?") or "write elsewhere" in line
    assert "HDF5" not in line
    assert "h5" not in line.replace(str(target), "").lower()


@pytest.fixture(params=["float16", "int8"])
def source(tmp_path, request):
    """A file of 50 to 100 kB outside the folder that is looked at."""
    folder = tmp_path / "source"
    folder.mkdir()
    write_lat((make if request.param == "float16" else make_int8)(1, 4096 * 5000), folder / "x.lat")
    assert (folder / "x.lat").stat().st_size > 50_000
    return folder / "x.lat"


@pytest.fixture
def tiny():
    """Mounts a file system of 16 KiB; skips where that is not allowed."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lincae-tiny-"))
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], capture_output=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip("file systems cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


@pytest.mark.parametrize(
    ("operation", "blocks"), [("copy", 2), ("gain", 2), ("mix", 2), ("two", 2), ("mix", 0), ("mix", 20)]
)
def test_a_file_size_limit_is_an_error_and_no_crash_at_exit(source, tmp_path, operation, blocks):
    target = tmp_path / "out" / "y.lat"
    target.parent.mkdir()
    refused(run(source, target, operation, f"ulimit -f {blocks}"), target)
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("operation", ["gain", "two"])
def test_a_full_disk_is_an_error_and_no_crash_at_exit(source, tiny, operation):
    target = tiny / "y.lat"
    refused(run(source, target, operation), target)
    assert list(tiny.iterdir()) == []


def test_a_full_disk_keeps_the_file_that_was_to_be_replaced(source, tiny):
    target = tiny / "y.lat"
    write_lat(make(), target)
    before = target.read_bytes()
    refused(run(source, target, "gain"), target)
    assert target.read_bytes() == before
    assert list(tiny.iterdir()) == [target]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_device_that_is_always_full(source):
    done = run(source, "/dev/full", "gain")
    assert done.returncode == 1
    assert done.stderr == "cannot write /dev/full: No space left on device; free some space, or write elsewhere\n"
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(LatError, match="No space left on device"):
        write_lat(make(), full)


def test_writing_stops_soon_after_the_disk_is_full(tiny):
    """A long encode does not go on for hours for nothing."""
    z = make(1, 4096 * 300)
    header = replace(z.header, num_samples=4096 * 300_000)
    appended = 0
    with pytest.raises(LatError, match="No space left"), LatWriter(tiny / "y.lat", header) as out:  # noqa: PT012
        for _ in range(1000):
            out.append(z.data)
            appended += 1
    assert appended < 600
    assert list(tiny.iterdir()) == []


def test_results_that_fit_are_written(source, tiny):
    write_lat(make(), tiny / "small.lat")
    assert read_lat(tiny / "small.lat").frames == 5
