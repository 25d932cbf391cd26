"""Peak memory and time of `lincae render` of an arrangement of 32 tracks, of 2 minutes and of an hour each.

Tracks are mono `.lat` files of random latents, each with a gain, a curve over its length and a beginning of its own;
half of them feed a bus with a gain and fades. Whole processes, by turns, from `.lat` to `.lat`.
"""

from __future__ import annotations

import shlex
import statistics
import sys
from pathlib import Path
from typing import Any

import common
import yaml
from memory import means, measure

TRACKS = 32


def main() -> None:
    """Measures and writes arrangement.json."""
    options = common.parser(__doc__)
    options.add_argument("--minutes", type=float, nargs=2, default=(2.0, 60.0), help="the two lengths of a track, min")
    options.add_argument("--runs", type=int, default=5, help="renderings of each length, by turns")
    a = options.parse_args()
    lengths, runs = ((0.25, 0.5), 1) if a.quick else (tuple(a.minutes), a.runs)
    lincae = shlex.split(a.lincae)
    found: dict[float, list[tuple[int, float]]] = {minutes: [] for minutes in lengths}
    with common.scratch() as (folder, environment):
        for minutes in lengths:
            write_song(folder / f"{minutes:g}", 60 * minutes, a.model)
        for run in range(runs):
            for minutes in lengths:
                print(f"{minutes:g} min, run {run + 1}", file=sys.stderr)
                song = folder / f"{minutes:g}"
                command = [*lincae, "render", str(song / "song.yaml"), "-o", str(song / "song.lat"), "--force"]
                found[minutes].append(measure(command, environment, folder / "peak"))
    rows = [{"minutes": minutes, **row(measured)} for minutes, measured in found.items()]
    ratio = rows[1]["peak_mb"] / rows[0]["peak_mb"]
    figures = {"measured_with": means(), "tracks": TRACKS, "runs": runs, "rows": rows}
    common.save("arrangement", {**figures, "peak_ratio_long_to_short": round(ratio, 3)}, a.results, a.model)


def row(measured: list[tuple[int, float]]) -> dict[str, float]:
    """Peaks and times of some runs: the median, and the worst peak."""
    peaks, times = zip(*measured, strict=True)
    return {
        "peak_mb": round(statistics.median(peaks) / 1e6, 1),
        "worst_peak_mb": round(max(peaks) / 1e6, 1),
        "elapsed_s": round(statistics.median(times), 3),
        "worst_s": round(max(times), 3),
    }


def write_song(folder: Path, seconds: float, model: str) -> None:
    """The tracks and song.yaml beside them."""
    folder.mkdir()
    tracks: dict[str, Any] = {}
    for i in range(TRACKS):
        common.random_lat(folder / f"{i:02}.lat", seconds, model, seed=i)
        curve = f"0:-inf 2:0dB {seconds / 2:g}:-{i % 7}dB {seconds - 2:g}:0dB {seconds:g}:-inf"
        tracks[f"track{i:02}"] = {"file": f"{i:02}.lat", "gain": f"-{12 + i % 6}dB", "curve": curve, "offset": i / 4}
        if i % 2:
            tracks[f"track{i:02}"]["bus"] = "band"
    song = {"tracks": tracks, "buses": {"band": {"gain": "-1dB", "fade_in": 1, "fade_out": 3}}}
    (folder / "song.yaml").write_text(yaml.safe_dump(song, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
