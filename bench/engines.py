"""The same batch by this process's threads, by `--engine ray` on a cluster started for it, and with `--shard 1/1`.

`ratio` is the local batch's time over the other's, each the median of `--runs`; the kinds take turns. `ray_working`
leaves out what it takes to start a cluster: it is the time from the first file to the last.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from pathlib import Path

import common
import numpy as np
import soundfile as sf


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=200, help="files, stereo")
    options.add_argument("--seconds", type=float, default=30, help="their length, s")
    options.add_argument("--runs", type=int, default=3, help="runs of each")
    options.add_argument("--jobs", type=int, default=common.cores(), help="files at once, and workers")
    a = options.parse_args()
    files, seconds, runs = (6, 5, 1) if a.quick else (a.files, a.seconds, a.runs)
    jobs = ["--jobs", str(a.jobs)]
    kinds = {"local": jobs, "shard": [*jobs, "--shard", "1/1"], "ray": [*jobs, "--engine", "ray"]}
    found: dict[str, list[float]] = {kind: [] for kind in (*kinds, "ray_working")}
    with common.scratch() as (folder, environment):
        music = folder / "in"
        music.mkdir()
        rng = np.random.default_rng(0)
        for i in range(files):
            sf.write(music / f"{i}.wav", 0.1 * rng.standard_normal((int(44100 * seconds), 2)), 44100)
        for _ in range(runs):
            for kind, words in kinds.items():
                out = folder / "out"
                began = time.perf_counter()
                command = [a.lincae, "encode", str(music), "-o", f"{out}/", "--model", a.model, *words]
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env=environment)
                found[kind].append(time.perf_counter() - began)
                if kind == "ray":
                    found["ray_working"].append(working(out))
                assert len(list(out.glob("*.lat"))) == files
                shutil.rmtree(out)
    medians = {kind: statistics.median(times) for kind, times in found.items()}
    rows = [
        {"kind": kind, "ratio": round(medians["local"] / medians[kind], 3), **common.summary(times)}
        for kind, times in found.items()
    ]
    common.show({"files": files, "seconds": seconds, "jobs": a.jobs, "rows": rows}, a)


def working(out: Path) -> float:
    """Seconds from the first file written to the last, for as many files as there are."""
    written = sorted(path.stat().st_mtime for path in out.glob("*.lat"))
    return (written[-1] - written[0]) * len(written) / max(len(written) - 1, 1)


if __name__ == "__main__":
    main()
