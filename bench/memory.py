"""Peak memory and speed of `lincae encode` and `decode`, of 2 minutes and of an hour of audio."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import common
import numpy as np
import soundfile as sf

TIME = Path("/usr/bin/time")
# Where there is no /usr/bin/time: a fresh process whose only child is the command.
CHILD = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
open(sys.argv[1], "w").write(str(peak // 1024 if sys.platform == "darwin" else peak))
sys.exit(code)
"""


def main() -> None:
    """Measures and writes memory.json."""
    options = common.parser(__doc__)
    options.add_argument("--minutes", type=float, nargs=2, default=(2.0, 60.0), help="the two lengths, min")
    a = options.parse_args()
    lengths = (0.25, 0.5) if a.quick else tuple(a.minutes)
    lincae = shlex.split(a.lincae)
    rows = []
    with common.scratch() as (folder, environment):
        wav, lat, back = folder / "in.wav", folder / "in.lat", folder / "back.wav"
        for minutes in lengths:
            write_audio(wav, minutes * 60)
            for name, arguments in {
                "encode": ["encode", str(wav), "-o", str(lat), "--model", a.model],
                "decode": ["decode", str(lat), "-o", str(back)],
            }.items():
                print(f"{name}, {minutes:g} min", file=sys.stderr)
                peak, elapsed = measure([*lincae, *arguments], environment, folder / "peak")
                row = {"command": name, "minutes": minutes, "peak_mb": round(peak / 1e6, 1)}
                rows.append(
                    {**row, "elapsed_s": round(elapsed, 2), "times_real_time": round(minutes * 60 / elapsed, 1)}
                )
            for path in (wav, lat, back):
                path.unlink()
    peaks = {(r["command"], r["minutes"]): r["peak_mb"] for r in rows}
    ratios = {c: round(peaks[c, lengths[1]] / peaks[c, lengths[0]], 3) for c in ("encode", "decode")}
    figures = {"measured_with": means(), "rows": rows, "peak_ratio_long_to_short": ratios}
    common.save("memory", figures, a.results, a.model)


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


def measure(command: list[str], environment: dict[str, str], note: Path) -> tuple[int, float]:
    """Peak resident size, bytes, and wall-clock seconds of a command."""
    if TIME.exists():
        wrapped = [str(TIME), "-v", "-o", str(note), *command]
    else:
        wrapped = [sys.executable, "-c", CHILD, str(note), *command]
    elapsed = common.run(wrapped, environment)
    lines = note.read_text(encoding="utf-8").splitlines()
    kilobytes = next(line for line in lines if "Maximum resident" in line or line.isdigit())
    os.unlink(note)
    return int(kilobytes.rpartition(":")[2]) * 1024, elapsed


def means() -> str:
    """How peaks are measured here."""
    return "/usr/bin/time -v" if TIME.exists() else "getrusage(RUSAGE_CHILDREN)"


if __name__ == "__main__":
    main()
