"""What the benchmarks share: options, the machine's description, timing, and the JSON they print."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

SAMPLE_RATE = 44100  # Hz

Figures = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lincae", default=str(Path(sys.executable).with_name("lincae")), help="the command measured")
    p.add_argument("--model", default="frame", help="model: a name or a weights file")
    p.add_argument("--json", type=Path, help="also write the figures to a file")
    p.add_argument("--quick", action="store_true", help="less of everything: tries the script, measures nothing")
    return p


def show(figures: Figures, options: argparse.Namespace) -> None:
    """Prints the figures with the command, the machine and the model that made them."""
    from lincae_core.models.store import resolve

    info = resolve(options.model)
    record = {
        "command": shlex.join(["python", *sys.argv]),
        "machine": f"{_cpu()}, {cores()} cores",
        "versions": {name: version(name) for name in ("lincae", "torch", "numpy", "h5py")},
        "model": f"{info.name} {info.version} ({info.fingerprint[:19]})",
        **figures,
    }
    text = json.dumps(record, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def times(work: Callable[[], object], runs: int) -> dict[str, float]:
    """Wall-clock seconds of `work`: median, least and most of `runs`, after one run that does not count."""
    work()
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return summary(found)


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {
        "median_s": round(statistics.median(seconds), 4),
        "min_s": round(min(seconds), 4),
        "max_s": round(max(seconds), 4),
    }


def run(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command and returns its wall-clock seconds; ends the benchmark with its message when it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    elapsed = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{shlex.join(command)[:500]}: exit {done.returncode}\n{done.stderr}")
    return elapsed


@contextmanager
def scratch(inside: Path | None = None) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for the files, and an environment whose cache is in it, so that nothing of the user's is changed."""
    with TemporaryDirectory(prefix="lincae-bench-", dir=inside) as folder:
        yield Path(folder), {**os.environ, "XDG_CACHE_HOME": str(Path(folder) / "cache")}


def random_lat(path: Path, seconds: float, model: str, seed: int = 0, channels: int = 1) -> None:
    """Writes a `.lat` file of noise with the header and the storage of a real one."""
    from lincae_core.models import DEFAULT_QUALITY
    from lincae_core.models.store import config_class, qualities, resolve
    from lincae_formats import Header, Latents, write_lat

    info, groups = resolve(model), qualities(model).get(DEFAULT_QUALITY, ())
    config = config_class(info.family)(**info.config)
    header = Header(
        sample_rate=SAMPLE_RATE, num_samples=round(seconds * SAMPLE_RATE), model=info.name,
        model_fingerprint=info.fingerprint, channels=channels, latent_dim=config.latent_dim,
        latent_scale=float(getattr(config, "latent_scale", 1.0)), groups=groups,
    )  # fmt: skip
    data = np.random.default_rng(seed).standard_normal(header.shape, dtype=np.float32)
    history = ({"op": "encode", "source": f"{path.stem}.wav"},)
    if not groups:
        write_lat(Latents(data, header, history=history), path)
        return
    levels = np.ones((channels, header.level_count, header.frames), np.float32)
    write_lat(Latents(data, header, history=history, dtype="int8", band_levels=levels), path)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
