"""Runs the command as a real process, and makes small .lat files for it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lincae_cli.batch import LIST
from lincae_formats import Header, Latents, write_lat

ROOT = Path(__file__).parents[2]
FINGERPRINT = "sha256:" + "cd" * 32


def environment() -> dict[str, str]:
    """This process's environment, in which the checkout is importable."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "LINCAE_DEBUG": "", "OMP_NUM_THREADS": "1"}


def lincae(*args, cwd=None, stdin=b"", **extra_env) -> subprocess.CompletedProcess:
    """`lincae ARGS` with its output as bytes."""
    return subprocess.run(
        [sys.executable, "-m", "lincae_cli", *map(os.fspath, args)],
        cwd=cwd, input=stdin, capture_output=True, timeout=120, env={**environment(), **extra_env},
    )  # fmt: skip


def ok(*args, **kwargs) -> bytes:
    """What a command that must work prints on stdout; stderr must be empty, for it is no terminal."""
    done = lincae(*args, **kwargs)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    return done.stdout


def refused(code: int, *args, **kwargs) -> str:
    """The one line with which a command ends that must fail with `code`."""
    done = lincae(*args, **kwargs)
    text = done.stderr.decode()
    assert done.returncode == code, text
    assert done.stdout == b""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert lines[0].startswith("lincae: error: ")
    assert "; " in lines[0], "what to type next is missing"
    return lines[0]


def make_lat(path: Path, seed=0, channels=1, num_samples=20_000, dtype="float16", **facts) -> Latents:
    """Writes random latents that are exact in their storage type, and returns them."""
    header = Header(
        sample_rate=facts.pop("sample_rate", 44100), num_samples=num_samples, model=facts.pop("model", "m"),
        model_fingerprint=facts.pop("fingerprint", FINGERPRINT), channels=channels, latent_dim=8,
    )  # fmt: skip
    data = np.random.default_rng(seed).standard_normal(header.shape).astype(dtype).astype(np.float32)
    latents = Latents(data, header, history=({"op": "encode", "source": "x.wav"},), dtype=dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lat(latents, path)
    return latents


def listing(folder) -> list:
    """The names in a folder, sorted, without the list of what made them."""
    return sorted(name for name in os.listdir(folder) if name not in (LIST, os.fsencode(LIST)))
