"""This code beside an older checkout: start-up, info, gain, mix, encode and decode, in one run, turn by turn.

git worktree add /tmp/old COMMIT && python bench/beside.py /tmp/old [--packages DIR]

DIR holds packages that the old code needs and this one does not. Each code works on files that it encoded itself.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

import common
import numpy as np
import soundfile

HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints median seconds of both, and new over old."""
    options = common.parser(__doc__)
    options.add_argument("old", type=Path, help="folder of the older code")
    options.add_argument("--packages", default="", help="folder of packages for it")
    options.add_argument("--runs", type=int, default=7, help="runs per command, of which the median counts")
    a = options.parse_args()
    runs, seconds = (1, 10) if a.quick else (a.runs, 240)
    with common.scratch() as (folder, environment):
        wav = folder / "a.wav"
        noise = np.random.default_rng(0).standard_normal((seconds * common.SAMPLE_RATE, 2)) * 0.05
        soundfile.write(wav, noise.cumsum(0) % 0.5 - 0.25, common.SAMPLE_RATE)  # a spectrum that falls, as music's does
        found: dict[str, dict[str, list[float]]] = {}
        for turn in range(runs + 1):
            for name, tree, more in (("old", a.old, a.packages), ("new", HERE, "")):
                path = os.pathsep.join(filter(None, (str(tree), str(tree / "formats"), more)))
                lat = folder / f"{name}.lat"
                out = ["-o", str(folder / f"{name}-out.lat"), "--force"]
                commands = {
                    "--help": ["--help"],
                    "encode": ["encode", str(wav), "-o", str(lat), "--force"],
                    "info": ["info", str(lat)],
                    "gain": ["gain", str(lat), "--db", "-6", *out],
                    "mix of four": ["mix", str(lat), f"{lat}:-3dB", f"{lat}:-6dB", f"{lat}:-9dB", *out],
                    "decode": ["decode", str(lat), "-o", str(folder / f"{name}.wav"), "--force"],
                }
                for title, words in commands.items():
                    call = [sys.executable, "-P", "-m", "lincae_cli", *words]
                    elapsed = common.run(call, {**environment, "PYTHONPATH": path})
                    if turn:  # the first compiles and fills caches
                        found.setdefault(title, {"old": [], "new": []})[name].append(elapsed)
    figures: common.Figures = {"file_seconds": seconds, "runs": runs}
    for title, both in found.items():
        old, new = (round(statistics.median(both[name]), 3) for name in ("old", "new"))
        figures[title] = {"old_s": old, "new_s": new, "ratio": round(new / old, 2)}
    common.show(figures, a)


if __name__ == "__main__":
    main()
