"""Peak memory and speed of `lincae encode` and `decode`, of 2 minutes and of an hour of audio."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import common
import numpy as np
import soundfile as sf

# a fresh process whose only child is the command
CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(str(peak // 1024 if sys.platform == "darwin" else peak))
sys.exit(code)
"""


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--minutes", type=float, nargs=2, default=(2.0, 60.0), help="the two lengths, min")
    a = options.parse_args()
    lengths = (0.25, 0.5) if a.quick else tuple(a.minutes)
    rows = []
    with common.scratch() as (folder, environment):
        wav, lat, back, note = (folder / name for name in ("in.wav", "in.lat", "back.wav", "peak"))
        for minutes in lengths:
            write_audio(wav, minutes * 60)
            for arguments in (
                ["encode", str(wav), "-o", str(lat), "--model", a.model, "--force"],
                [
                    "decode",
                    str(lat),
                    "-o",
                    str(back),
                    "--force",
                    *(["--model", a.model] if Path(a.model).exists() else []),
                ],
            ):
                print(f"{arguments[0]}, {minutes:g} min", file=sys.stderr)
                command = [sys.executable, "-c", CHILD, str(note), *shlex.split(a.lincae), *arguments]
                elapsed = common.run(command, environment)
                peak = int(note.read_text()) * 1024
                rows.append(
                    {"command": arguments[0], "minutes": minutes, "peak_mb": round(peak / 1e6, 1),
                     "elapsed_s": round(elapsed, 2), "times_real_time": round(minutes * 60 / elapsed, 1)}
                )  # fmt: skip
    common.show({"rows": rows}, a)


def write_audio(path: Path, seconds: float) -> None:
    """Noise and tones, mono PCM_16, written a second at a time."""
    rng, rate = np.random.default_rng(0), common.SAMPLE_RATE
    with sf.SoundFile(path, "w", rate, 1, "PCM_16") as file:
        left, at = round(seconds * rate), 0
        while left:
            n = min(left, rate)
            t = (at + np.arange(n)) / rate
            tones = sum(0.1 * np.sin(2 * np.pi * f * t) for f in (110.0, 440.0, 1760.0 + at % 997))
            file.write(np.asarray(tones + 0.05 * rng.standard_normal(n), np.float32))
            at, left = at + n, left - n


if __name__ == "__main__":
    main()
