"""Time of whole commands on files of 4 minutes, from start-up to exit, and the same mix by way of audio.

The mix of four files as latents is set beside decoding four files, adding their samples and encoding the sum, measured
on one file in this process.
"""

from __future__ import annotations

import shlex
import sys
import time
from functools import partial
from pathlib import Path

import common


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--runs", type=int, default=15, help="runs per command, of which the median counts")
    options.add_argument("--skip-decode", action="store_true", help="leave out the mix by way of audio")
    a = options.parse_args()
    runs, seconds = (3, 10.0) if a.quick else (a.runs, 240.0)
    lincae = shlex.split(a.lincae)
    figures: common.Figures = {"file_seconds": seconds, "runs": runs, "commands": {}}
    with common.scratch() as (folder, environment):
        lats = [str(folder / f"stem{i}.lat") for i in range(4)]
        for i, lat in enumerate(lats):
            common.random_lat(Path(lat), seconds, a.model, seed=i)
        figures["file_bytes"] = Path(lats[0]).stat().st_size
        out = ["-o", str(folder / "out.lat"), "--force"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "cp": ["cp", lats[0], str(folder / "copy.lat")],
            "lincae --help": [*lincae, "--help"],
            "lincae info": [*lincae, "info", lats[0]],
            "lincae gain": [*lincae, "gain", lats[0], "--db", "-6", *out],
            "lincae slice": [*lincae, "slice", lats[0], "--start", "1", "--end", str(seconds / 2), *out],
            "lincae mix of four": [*lincae, "mix", *lats, *out],
            "lincae subtract": [*lincae, "subtract", *lats[:2], *out],
        }
        for name, command in commands.items():
            print(name, file=sys.stderr)
            figures["commands"][name] = common.times(partial(common.run, command, environment), runs)
        if not a.skip_decode:
            total = by_audio(Path(lats[0]), folder, a.model, seconds)
            mix = figures["commands"]["lincae mix of four"]["median_s"]
            figures["mix_by_audio"] = {"estimated_s": round(total, 2), "times_the_mix": round(total / mix, 1)}
    common.show(figures, a)


def by_audio(lat: Path, folder: Path, model: str, seconds: float) -> float:
    """Seconds of four decodes and one encode."""
    from lincae_core.models.codec import decode_file, encode_file
    from lincae_core.models.store import load

    loaded, wav = load(model, device="cpu"), folder / "one.wav"
    decode_file(loaded, lat, wav, end=min(5.0, seconds))  # warms up
    began = time.perf_counter()
    decode_file(loaded, lat, wav, overwrite=True)
    decoded = time.perf_counter()
    encode_file(loaded, wav, folder / "one.lat")
    return 4 * (decoded - began) + time.perf_counter() - decoded


if __name__ == "__main__":
    main()
