"""The commands that need no model never wait for one, nor for what only others need."""

import subprocess
import sys

import numpy as np
import pytest
from cli_helpers import environment, make_lat

HEAVY = ("torch", "pydantic", "rich", "soundfile", "soxr", "scipy", "lincae_core")
PROGRAM = """
import sys
from lincae_cli.app import main
code = main(sys.argv[1:])
sys.stderr.write(" ".join(sorted(name for name in sys.modules if "." not in name)))
sys.exit(code)
"""

LINES = [
    "",
    "--help",
    "encode --help",
    "decode --help",
    "train --help",
    "mix a.lat b.lat:-6dB -o mix.lat",
    "gain a.lat --db -6 -o gain.lat",
    "invert a.lat -o invert.lat",
    "subtract a.lat b.lat -o sub.lat",
    "residual a.lat b.lat",
    "slice a.lat --end 0.3 -o slice.lat",
    "concat a.lat b.lat -o concat.lat",
    "shift a.lat --by 1 -o shift.lat",
    "fade a.lat --in 1 -o fade.lat",
    "channels a.lat --mono -o mono.lat",
    "pad a.lat --before 1 -o pad.lat",
    "repeat a.lat --times 2 -o repeat.lat",
    "crossfade a.lat b.lat --over 0.1 -o cross.lat",
    "faders a.lat a.lat",
    "find a.lat a.lat",
    "info a.lat --history --level",
    "info a.lat",
    "info a.lat b.lat --json",
    "verify a.lat",
    "export a.lat b.lat -o out --to npy",
    "--version",
]


@pytest.mark.parametrize("line", LINES)
def test_nothing_heavy_is_imported(tmp_path, line):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "b.lat", seed=1)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *line.split()],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "lincae_cli" in loaded
    core = line.startswith(("faders", "find", "export"))  # two of them solve with scipy
    heavy = {"torch"} if core else set(HEAVY)
    assert loaded.isdisjoint(heavy), loaded.intersection(heavy)
    if line.endswith("--help") or not line:
        assert loaded.isdisjoint({"numpy", "h5py"})


def test_an_arrangement_is_rendered_without_torch(tmp_path):
    make_lat(tmp_path / "a.lat")
    (tmp_path / "song.yaml").write_text("tracks: {a: {file: a.lat}}")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "render", "song.yaml", "-o", "song.lat"],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.split()).isdisjoint({"torch", "soundfile", "soxr", "scipy", "rich"})
    assert (tmp_path / "song.lat").exists()


def test_encode_needs_no_torch(tmp_path):
    """The default model's encoder is a fixed filterbank."""
    sf = pytest.importorskip("soundfile")
    sf.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal((9000, 2)) * 0.1, 44100)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "encode", "a.wav", "-o", "a.lat"],
        cwd=tmp_path, capture_output=True, text=True, env=environment(), timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.split())
    assert "lincae_core" in loaded
    assert loaded.isdisjoint({"torch", "scipy", "pydantic", "rich", "matplotlib"}), loaded
