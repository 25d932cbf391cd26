"""Stems out of 100 mixes by recipes/examples/extract-stems.sh, beside decode-subtract-encode of the same files.

Mixes and accompaniments are made of the demo's stems, each at its own offset and gains, mono, 10 to 20 s. By audio it
is one `lincae decode` of all files, a subtraction sample by sample and one `lincae encode` of all stems: each command
loads the model once. Measured by turns, in one run; audio with one file at a time and with as many as there are cores.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import common
import numpy as np
import soundfile as sf

from lincae_core.demo.run import NAMES, STEMS

SCRIPT = common.ROOT / "recipes" / "examples" / "extract-stems.sh"
TAKEN = "vocals"


def main() -> None:
    """Measures and writes extraction.json."""
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=100, help="mixes, each with its accompaniment")
    options.add_argument("--rounds", type=int, default=3, help="runs of each way, by turns; the median counts")
    a = options.parse_args()
    files, rounds = (4, 1) if a.quick else (a.files, a.rounds)
    lincae = shlex.split(a.lincae)
    with common.scratch() as (folder, environment):
        environment["PATH"] = f"{_program(folder / 'bin', lincae)}{os.pathsep}{environment['PATH']}"
        audio, lats, out = folder / "audio", folder / "lats", folder / "out"
        seconds = write_audio(audio, files)
        common.run([*lincae, "encode", str(audio), "-o", f"{lats}/", "--model", a.model], environment)
        ways: dict[str, Callable[[], float]] = {
            "extract-stems.sh, from .lat": partial(extract, lats, out, environment),
            **{
                f"decode, subtract, encode, --jobs {jobs}": partial(
                    by_audio, lincae, a.model, lats, out, jobs, environment
                )
                for jobs in dict.fromkeys((1, common.cores()))
            },
            "extract-stems.sh, from audio": partial(extract, audio, out, environment),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for round_ in range(rounds):
            for name, way in ways.items():
                print(f"{name}, round {round_ + 1}", file=sys.stderr)
                shutil.rmtree(out, ignore_errors=True)
                times[name].append(way())
    rows = [
        {"way": name, "median_s": round(statistics.median(t), 3), "min_s": round(min(t), 3), "max_s": round(max(t), 3)}
        for name, t in times.items()
    ]
    medians = {name: statistics.median(t) for name, t in times.items()}
    fastest = min(t for name, t in medians.items() if name.startswith("decode"))
    figures = {
        "files": files,
        "audio_s": round(seconds, 1),
        "rounds": rounds,
        "rows": rows,
        "times_as_fast": round(fastest / medians["extract-stems.sh, from .lat"], 1),
    }
    common.save("extraction", figures, a.results, a.model)


def write_audio(folder: Path, files: int) -> float:
    """Mixes and accompaniments, mono PCM_16; returns the seconds of all mixes."""
    stems = {name: sf.read(STEMS / f"{name}.flac", dtype="float32")[0].mean(axis=1) for name in NAMES}
    rng, total = np.random.default_rng(0), 0.0
    for kind in ("mixes", "accompaniments"):
        (folder / kind).mkdir(parents=True)
    for i in range(files):
        n = round(common.SAMPLE_RATE * rng.uniform(10, 20))
        parts = {
            name: np.float32(rng.uniform(0.3, 0.7)) * np.resize(np.roll(stem, rng.integers(len(stem))), n)
            for name, stem in stems.items()
        }
        rest = sum(part for name, part in parts.items() if name != TAKEN)
        sf.write(folder / "mixes" / f"{i:03}.wav", rest + parts[TAKEN], common.SAMPLE_RATE)
        sf.write(folder / "accompaniments" / f"{i:03}.wav", rest, common.SAMPLE_RATE)
        total += n / common.SAMPLE_RATE
    return total


def extract(sources: Path, out: Path, environment: dict[str, str]) -> float:
    """Seconds of the script."""
    return common.run([str(SCRIPT), str(sources / "mixes"), str(sources / "accompaniments"), str(out)], environment)


def by_audio(lincae: list[str], model: str, lats: Path, out: Path, jobs: int, environment: dict[str, str]) -> float:
    """Seconds of the same by way of audio, in float, so that nothing is rounded or clipped."""
    began = time.perf_counter()
    decoded, stems, many = out / "decoded", out / "audio", ["--jobs", str(jobs)]
    common.run([*lincae, "decode", str(lats), "-o", f"{decoded}/", "--subtype", "FLOAT", *many], environment)
    stems.mkdir()
    for mix in sorted((decoded / "mixes").iterdir()):
        whole, rate = sf.read(mix, dtype="float32")
        rest, _ = sf.read(decoded / "accompaniments" / mix.name, dtype="float32")
        sf.write(stems / mix.name, whole - rest, rate, "FLOAT")
    common.run([*lincae, "encode", str(stems), "-o", f"{out / 'stems'}/", "--model", model, *many], environment)
    return time.perf_counter() - began


def _program(folder: Path, lincae: list[str]) -> Path:
    """A folder for PATH that holds the command measured under its name."""
    folder.mkdir()
    (folder / "lincae").write_text(f'#!/bin/sh\nexec {shlex.join(lincae)} "$@"\n', encoding="utf-8")
    (folder / "lincae").chmod(0o755)
    return folder


if __name__ == "__main__":
    main()
