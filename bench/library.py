"""Throughput of whole commands over a library of `.lat` files, beside `cp` of the same files in the same run.

All commands read files from the page cache. `cp` leaves its copies there, while lincae waits until each file
is on the disk before it takes its name; so `cp` followed by `sync` is measured too.
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
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=1000, help="files of four minutes, mono")
    options.add_argument("--rounds", type=int, default=5, help="runs of each command, in turn; the median counts")
    options.add_argument("--folder", type=Path, help="folder on the disk to be measured")
    a = options.parse_args()
    files, rounds = (40, 1) if a.quick else (a.files, a.rounds)
    lincae = shlex.split(a.lincae)
    with common.scratch(a.folder) as (folder, environment):
        library = folder / "library"
        library.mkdir()
        first = library / "0000.lat"
        common.random_lat(first, 60.0 * MINUTES, a.model)
        for i in range(1, files):
            shutil.copy(first, library / f"{i:04}.lat")
        names = sorted(str(path) for path in library.iterdir())
        size = sum(path.stat().st_size for path in library.iterdir())
        out, one = folder / "out", folder / "one.lat"
        copy = f"cp -r {shlex.quote(str(library))} {shlex.quote(str(out))}"
        commands = {
            "cp": ["sh", "-c", copy],
            "cp, then sync": ["sh", "-c", f"{copy} && sync"],
            "lincae gain": [*lincae, "gain", str(library), "--db", "-6", "-o", str(out)],
            "lincae fade": [*lincae, "fade", str(library), "--in", "2", "--out", "5", "-o", str(out)],
            "lincae mix": [*lincae, "mix", *names, "-o", str(one), "--force"],
            "lincae concat": [*lincae, "concat", *names, "-o", str(one), "--force"],
        }
        spent: dict[str, list[float]] = {name: [] for name in commands}
        for round_ in range(rounds + 1):
            for name, command in commands.items():
                print(f"{name}, round {round_}", file=sys.stderr)
                shutil.rmtree(out, ignore_errors=True)
                os.sync()
                elapsed = common.run(command, environment)
                if round_ or a.quick:  # the first round fills the caches
                    spent[name].append(elapsed)
    copying = statistics.median(spent["cp"])
    rows = [
        {
            "command": name,
            **common.summary(found),
            "mb_per_s": round(size / statistics.median(found) / 1e6, 1),
            "speed_of_cp": round(copying / statistics.median(found), 3),
        }
        for name, found in spent.items()
    ]
    common.show({"files": files, "file_minutes": MINUTES, "bytes": size, "rounds": rounds, "rows": rows}, a)


if __name__ == "__main__":
    main()
