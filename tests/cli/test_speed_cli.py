"""Whole processes stay close to what importing numpy and h5py alone costs, however slow the machine is."""

import subprocess
import sys
import time

import pytest
from cli_helpers import environment, make_lat

BARE = ("-c", "import numpy, h5py")


def fastest(*args, cwd=None, tries=7) -> float:
    """Shortest wall-clock time of some runs, s: other programs only ever add to it."""
    times = []
    for _ in range(tries):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *args], cwd=cwd, env=environment(), check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return min(times)


@pytest.fixture(scope="module")
def stems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stems")
    for i in range(4):
        make_lat(folder / f"{i}.lat", seed=i, channels=2, num_samples=240 * 44100)
    return folder


def test_info_takes_little_more_than_its_imports(stems):
    bare = fastest(*BARE)
    assert fastest("-m", "lincae_cli", "info", "0.lat", cwd=stems) < max(0.3, 3.5 * bare)


def test_mixing_four_stems_takes_little_more_than_its_imports(stems):
    bare = fastest(*BARE)
    names = [f"{i}.lat" for i in range(4)]
    mix = fastest("-m", "lincae_cli", "mix", *names, "-o", "out.lat", "--force", cwd=stems)
    assert mix < max(0.4, 4.5 * bare)
