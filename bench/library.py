"""Throughput of whole commands over a library of `.lat` files, beside `cp` of the same files in the same run.

Every command reads files that are in the page cache, as `cp` does. `cp` leaves what it copied in the page cache; lincae
waits until each file is on the disk before it gives it its name, so `cp` with a `sync` after it is measured too.
"""

from __future__ import annotations

import os
import shlex
import shutil
import statistics
import sys
from pathlib import Path

import common

MINUTES = 4


def main() -> None:
    """Measures and writes library.json."""
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=1000, help="files of four minutes, mono")
    options.add_argument("--rounds", type=int, default=5, help="runs of each command, in turn; the median counts")
    options.add_argument("--folder", type=Path, help="where to put the files, on the disk to be measured")
    a = options.parse_args()
    files, rounds = (40, 1) if a.quick else (a.files, a.rounds)
    lincae = shlex.split(a.lincae)
    with common.scratch(a.folder) as (folder, environment):
        library = folder / "library"
        library.mkdir()
        for i in range(files):
            common.random_lat(library / f"{i:04}.lat", 60.0 * MINUTES, a.model, seed=i)
        names = sorted(str(path) for path in library.iterdir())
        size = sum(path.stat().st_size for path in library.iterdir())
        out, one = folder / "out", folder / "one.lat"
        commands = {
            "cp": ["cp", "-r", str(library), str(out)],
            "cp, then sync": ["sh", "-c", f"cp -r {shlex.quote(str(library))} {shlex.quote(str(out))} && sync"],
            "lincae gain": [*lincae, "gain", str(library), "--db", "-6", "-o", str(out)],
            "lincae fade": [*lincae, "fade", str(library), "--in", "2", "--out", "5", "-o", str(out)],
            "lincae mix": [*lincae, "mix", *names, "-o", str(one), "--force"],
            "lincae concat": [*lincae, "concat", *names, "-o", str(one), "--force"],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(rounds + 1):
            for name, command in commands.items():
                print(f"{name}, round {round_}", file=sys.stderr)
                elapsed = timed(command, environment, out)
                if round_ or a.quick:  # the first round fills the caches
                    times[name].append(elapsed)
    copying = statistics.median(times["cp"])
    durable = statistics.median(times["cp, then sync"])
    rows = []
    for name, found in times.items():
        median = statistics.median(found)
        rows.append(
            {
                "command": name,
                "median_s": round(median, 3),
                "min_s": round(min(found), 3),
                "max_s": round(max(found), 3),
                "mb_per_s": round(size / median / 1e6, 1),
                "of_cp": round(copying / median, 3),
                "of_cp_sync": round(durable / median, 3),
            }
        )
    figures = {"files": files, "file_minutes": MINUTES, "bytes": size, "rounds": rounds, "rows": rows}
    common.save("library", figures, a.results, a.model)


def timed(command: list[str], environment: dict[str, str], out: Path) -> float:
    """Wall-clock seconds of a whole process, from a quiet disk and an empty output folder."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    return common.run(command, environment)


if __name__ == "__main__":
    main()
