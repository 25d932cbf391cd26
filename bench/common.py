"""What the benchmarks share: options, the machine's description, timing, and the JSON that reports are made from."""

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
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path("bench") / "results"
SAMPLE_RATE = 44100  # Hz

Figures = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--lincae", default=str(Path(sys.executable).with_name("lincae")), help="the command measured")
    p.add_argument("--model", default="frame", help="model: a name or a weights file")
    p.add_argument("--results", type=Path, default=ROOT / RESULTS, help="folder for the JSON")
    p.add_argument("--quick", action="store_true", help="less of everything: tries the script, measures nothing")
    return p


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "numpy": _version("numpy"),
        "h5py": _version("h5py"),
    }


def model_facts(name: str) -> dict[str, Any]:
    """Which weights were measured; does not import torch."""
    from lincae_core.models.registry import resolve

    info = resolve(name)
    return {
        "name": info.name,
        "version": info.version,
        "fingerprint": info.fingerprint,
        "parameters": info.parameters,
        "bytes": info.size_bytes,
    }


def save(name: str, figures: Figures, results: Path, model: str | None = None) -> None:
    """Writes `results/NAME.json`: the figures with the command, the machine and the weights that made them."""
    record: dict[str, Any] = {
        "command": shown_command(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "load_at_end": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if model is not None:
        record["model"] = model_facts(model)
    record["figures"] = figures
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    print(f"wrote {path}", file=sys.stderr)


def shown_command() -> str:
    """This process's command line, its paths as seen from the repository's root."""
    return shlex.join(["python", *(_shown(argument) for argument in sys.argv)])


def median_seconds(work: Callable[[], object], runs: int) -> dict[str, float | int]:
    """Wall-clock seconds of `work`: median, best and worst of `runs`, after one run that does not count."""
    work()
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return {
        "median_s": round(statistics.median(times), 4),
        "min_s": round(min(times), 4),
        "max_s": round(max(times), 4),
        "runs": runs,
    }


def run(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command, whose wall-clock seconds are returned; ends the benchmark with its message when it fails."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    elapsed = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{shlex.join(command)[:500]}: exit {done.returncode}\n{done.stderr}")
    return elapsed


@contextmanager
def scratch(inside: Path | None = None) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for the files, and an environment whose cache lies in it: nothing of the user's is touched."""
    with TemporaryDirectory(prefix="lincae-bench-", dir=inside) as folder:
        yield Path(folder), {**os.environ, "XDG_CACHE_HOME": str(Path(folder) / "cache")}


def random_lat(path: Path, seconds: float, model: str, seed: int = 0, channels: int = 1) -> None:
    """Writes a `.lat` file of random latents of unit variance, with the header of a real one."""
    from lincae_core.models.registry import resolve
    from lincae_formats import Header, Latents, write_lat

    info = resolve(model)
    header = Header(
        sample_rate=SAMPLE_RATE,
        num_samples=round(seconds * SAMPLE_RATE),
        model=info.name,
        model_fingerprint=info.fingerprint,
        channels=channels,
        latent_dim=int(info.config.get("latent_dim", 64)),
        latent_scale=float(info.config.get("latent_scale", 1.0)),
    )
    data = np.random.default_rng(seed).standard_normal(header.shape, dtype=np.float32)
    write_lat(Latents(data, header, history=({"op": "encode", "source": f"{path.stem}.wav"},)), path)


def _shown(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    try:
        inside = os.path.isabs(value) and Path(value).resolve().is_relative_to(ROOT.parent)
    except OSError:
        inside = False
    return f"{option}{equals}{os.path.relpath(value, ROOT)}" if inside else argument


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def _memory_gb() -> int | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
