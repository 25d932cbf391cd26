"""Workers that die and disks that fill up while several processes work: no hang, failures by name, the rest done."""

import os
import signal
import subprocess
import sys
import time

import pytest
from cli_helpers import environment, make_lat

from lincae_cli import workers
from lincae_formats import LincaeError, verify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="files are worked on in processes on Linux only")
LIMIT = 120  # s: a hang is a failure


def square_or_die(item):
    """A job that kills its own process at 7, as the kernel does when memory runs out."""
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item * item


def test_the_item_that_kills_its_process_is_named_and_all_others_are_done():
    results = list(workers.in_processes(range(100), square_or_die, 2))
    assert [r for i, r in enumerate(results) if i != 7] == [i * i for i in range(100) if i != 7]
    assert isinstance(results[7], LincaeError)
    assert str(results[7]).startswith("7: the process that worked on it died")


def test_a_process_that_was_killed_once_costs_nothing(tmp_path):
    def work(item):
        if item == 7 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return -item

    assert list(workers.in_processes(range(200), work, 3)) == [-i for i in range(200)]


def test_errors_that_cannot_be_sent_between_processes_are_still_told():
    class Odd(Exception):
        def __init__(self, a, b):
            super().__init__(a, b)

    def work(item):
        return Odd("not", "picklable") if item == 3 else item

    results = list(workers.in_processes(range(60), work, 2))
    assert "Odd" in str(results[3])
    assert results[4:] == list(range(4, 60))


@pytest.fixture
def songs(tmp_path):
    """A folder of 400 .lat files."""
    make_lat(tmp_path / "b.lat", num_samples=200_000)
    (tmp_path / "s").mkdir()
    for i in range(400):
        os.link(tmp_path / "b.lat", tmp_path / "s" / f"{i:03}.lat")
    return tmp_path


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "lincae_cli", *map(str, arguments)],
        cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds=LIMIT):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.005)
    return found


def done(folder):
    return [name for name in os.listdir(folder) if name.endswith(".lat")] if folder.exists() else []


def test_a_killed_worker_in_a_batch_is_no_hang_and_loses_no_file(songs):
    process = start(songs, "gain", "s", "--db", "-3", "-o", "o", "-j", "2")
    wait_for(lambda: len(done(songs / "o")) > 20 or process.poll() is not None)
    for pid in children(process.pid)[:1]:
        os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=LIMIT)
    assert "Traceback" not in said
    if process.returncode:
        assert "died" in said
        process = start(songs, "gain", "s", "--db", "-3", "-o", "o", "-j", "2")
        process.communicate(timeout=LIMIT)
    assert process.returncode == 0
    assert len(done(songs / "o")) == 400
    assert not [name for name in os.listdir(songs / "o") if name.endswith(".tmp")]


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_workers_end_with_their_parent_and_the_same_command_goes_on(songs, number):
    process = start(songs, "gain", "s", "--db", "-3", "-o", "o", "-j", "2")
    wait_for(lambda: len(done(songs / "o")) > 20 or process.poll() is not None)
    workers = children(process.pid)
    process.send_signal(number)
    _, said = process.communicate(timeout=LIMIT)
    wait_for(lambda: not any(alive(pid) for pid in workers))
    assert "Traceback" not in said
    if number != signal.SIGKILL:
        assert not [name for name in os.listdir(songs / "o") if name.endswith(".tmp")]
    again = start(songs, "gain", "s", "--db", "-3", "-o", "o", "-j", "2")
    _, said = again.communicate(timeout=LIMIT)
    assert again.returncode == 0, said
    assert len(done(songs / "o")) == 400
    assert not [name for name in os.listdir(songs / "o") if name.endswith(".tmp")]
    verify(songs / "o" / "200.lat")


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_disk_that_fills_up_under_several_workers(songs, disk, jobs):
    process = start(songs, "gain", "s", "--db", "-3", "-o", disk / "o", "-j", jobs)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    *failures, last = said.splitlines()
    count = len(done(disk / "o"))
    assert 0 < count < 400
    assert last == f"lincae: error: {400 - count} of 400 files failed; the others are done"
    assert all("No space left" in line for line in failures)
    for name in done(disk / "o"):
        verify(disk / "o" / name)
