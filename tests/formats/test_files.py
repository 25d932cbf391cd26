"""Files appear whole or not at all."""

import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest
from lat_helpers import make

from lincae_formats import (
    LatWriter,
    LincaeError,
    TargetExistsError,
    atomic_path,
    read_lat,
    remove_leftovers,
    write_lat,
)


def test_killed_while_writing_leaves_no_file(tmp_path):
    program = f"""
import time, numpy as np
from lincae_formats import Header, LatWriter
h = Header(44100, 4096 * 1000, "m", "sha256:" + "0" * 64)
with LatWriter({str(tmp_path / "z.lat")!r}, h) as out:
    out.append(np.ones((1, 64, 600), np.float32))
    print("half", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "z.lat").exists()
    assert all(p.name.endswith(".tmp") and p.name.startswith(".") for p in tmp_path.iterdir())
    write_lat(make(), tmp_path / "z.lat")  # what is left does not stand in the way
    assert read_lat(tmp_path / "z.lat").frames == 5


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_exceptions_leave_nothing(tmp_path, error):
    z = make()
    with pytest.raises(error), LatWriter(tmp_path / "z.lat", z.header) as out:  # noqa: PT012
        out.append(z.data)
        raise error
    with pytest.raises(error), atomic_path(tmp_path / "y.wav") as temp:  # noqa: PT012
        temp.write_bytes(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_existing_target_is_refused_before_work_and_replaced_whole(tmp_path):
    path = tmp_path / "z.lat"
    write_lat(make(seed=1), path)
    before = path.read_bytes()
    with pytest.raises(TargetExistsError, match=r"z\.lat exists; pass overwrite=True"):
        LatWriter(path, make().header).__enter__()
    z = make(seed=2)
    with pytest.raises(RuntimeError), LatWriter(path, z.header, overwrite=True):
        raise RuntimeError
    assert path.read_bytes() == before
    write_lat(z, path, overwrite=True)
    np.testing.assert_array_equal(read_lat(path).data, z.data)
    assert list(tmp_path.iterdir()) == [path]


def test_a_target_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "z"
    with pytest.raises(TargetExistsError), atomic_path(path) as temp:  # noqa: PT012
        temp.write_bytes(b"mine")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    old = os.umask(mask)
    try:
        write_lat(make(), tmp_path / "z.lat")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "z.lat").stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "z.lat"
    write_lat(make(seed=1), path)
    path.chmod(mode)
    with atomic_path(path, overwrite=True) as temp:
        temp.write_bytes(b"secret")
        assert stat.S_IMODE(temp.stat().st_mode) & 0o077 == 0  # nobody else reads it meanwhile
    assert stat.S_IMODE(path.stat().st_mode) == mode
    write_lat(make(seed=2), path, overwrite=True)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    np.testing.assert_array_equal(read_lat(path).data, make(seed=2).data)


@pytest.mark.skipif(not os.path.exists("/dev/fd/1"), reason="no /dev/fd")
@pytest.mark.parametrize("target", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_open_descriptors_are_written_to_where_they_stand(tmp_path, target, overwrite):
    """`-o /dev/stdout >> file` adds to the file; it is neither truncated nor replaced."""
    program = "import sys; sys.path.insert(0, sys.argv[1]); from lat_helpers import make; "
    program += f"import lincae_formats as L; L.write_lat(make(), {target!r}, overwrite={overwrite})"
    (tmp_path / "out").write_bytes(b"before")
    inode = (tmp_path / "out").stat().st_ino
    with open(tmp_path / "out", "ab") as file:
        subprocess.run([sys.executable, "-c", program, os.path.dirname(__file__)], stdout=file, check=True)
    write_lat(make(), tmp_path / "z.lat")
    assert (tmp_path / "out").read_bytes() == b"before" + (tmp_path / "z.lat").read_bytes()
    assert (tmp_path / "out").stat().st_ino == inode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "z.lat"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_that_become_exceptions_leave_nothing(tmp_path, number):
    """What the command line does with signals: SystemExit, on which temporary files are removed."""
    program = f"""
import signal, sys, time, numpy as np
from lincae_formats import Header, LatWriter
signal.signal({int(number)}, lambda *_: sys.exit(3))
h = Header(44100, 4096 * 1000, "m", "sha256:" + "0" * 64)
with LatWriter({str(tmp_path / "z.lat")!r}, h) as out:
    out.append(np.ones((1, 64, 600), np.float32))
    print("half", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"half\n"
        process.send_signal(number)
        assert process.wait(20) == 3
    assert list(tmp_path.iterdir()) == []


def test_symbolic_links_stay(tmp_path):
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.lat"
    link.symlink_to(tmp_path / "real" / "z.lat")
    write_lat(make(seed=1), link)  # a link to nothing yet
    write_lat(make(seed=2), link, overwrite=True)
    assert link.is_symlink()
    np.testing.assert_array_equal(read_lat(tmp_path / "real" / "z.lat").data, make(seed=2).data)
    assert len(list((tmp_path / "real").iterdir())) == 1


def test_devices_are_written_to_and_not_replaced(tmp_path):
    write_lat(make(), "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    program = "import sys; sys.path.insert(0, sys.argv[1]); from lat_helpers import make; "
    program += "import lincae_formats as L; L.write_lat(make(), '/dev/stdout')"
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-c", program, here], capture_output=True, check=True)
    write_lat(make(), tmp_path / "z.lat")
    assert done.stdout == (tmp_path / "z.lat").read_bytes()


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "no" / "z.lat", tmp_path / "file" / "z.lat", tmp_path, tmp_path / ("n" * 300)):
        with pytest.raises(LincaeError) as caught:
            write_lat(make(), path)
        assert "\n" not in str(caught.value)
        assert ";" in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    with pytest.raises(LincaeError, match="not writable"):
        write_lat(make(), folder / "z.lat")


def test_long_names_fit(tmp_path):
    path = tmp_path / ("n" * 251 + ".lat")
    write_lat(make(), path)
    assert read_lat(path).frames == 5


def test_leftovers_of_killed_writers_go_and_those_in_use_stay(tmp_path):
    target = tmp_path / "z\xe9\nz.lat"
    dead = [tmp_path / f".z\xe9\nz.lat.{'ab' * 6}.tmp", tmp_path / f".other.lat.{'ab' * 6}.tmp"]
    for path in dead:
        path.write_bytes(b"half")
    with atomic_path(target) as live:
        live.write_bytes(b"half")
        remove_leftovers([target])
        assert sorted(tmp_path.iterdir()) == sorted([live, dead[1]])
    remove_leftovers([target, tmp_path / "none" / "x"])
    assert sorted(tmp_path.iterdir()) == sorted([target, dead[1]])
