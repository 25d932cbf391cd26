"""Whole-process time of the commands that work on latents, beside the same mix by decoding, adding and encoding."""

from __future__ import annotations

import shlex
import sys
import time
from functools import partial
from pathlib import Path

import common

MINUTES = 4


def main() -> None:
    """Measures and writes cli_speed.json."""
    options = common.parser(__doc__)
    options.add_argument("--runs", type=int, default=15, help="runs per command, of which the median counts")
    options.add_argument("--skip-decode", action="store_true", help="leave out decode-add-encode")
    a = options.parse_args()
    runs, seconds = (3, 10.0) if a.quick else (a.runs, 60.0 * MINUTES)
    lincae = shlex.split(a.lincae)
    figures: common.Figures = {"file_seconds": seconds, "files": 4, "commands": {}}

    with common.scratch() as (folder, environment):
        lats = [folder / f"stem{i}.lat" for i in range(4)]
        for i, lat in enumerate(lats):
            common.random_lat(lat, seconds, a.model, seed=i)
        first, second, out = str(lats[0]), str(lats[1]), ["-o", str(folder / "out.lat"), "--force"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "lincae --help": [*lincae, "--help"],
            "lincae info": [*lincae, "info", first],
            "lincae gain": [*lincae, "gain", first, "--db", "-6", *out],
            "lincae mix of four": [*lincae, "mix", *map(str, lats), *out],
            "lincae subtract": [*lincae, "subtract", first, second, *out],
        }
        for name, command in commands.items():
            print(name, file=sys.stderr)
            work = partial(common.run, command, environment)
            figures["commands"][name] = common.median_seconds(work, runs)
        if not a.skip_decode:
            figures["decode_add_encode"] = _by_audio(lats[0], folder, a.model, seconds)
            mix = figures["commands"]["lincae mix of four"]["median_s"]
            figures["decode_add_encode"]["times_the_mix"] = round(
                figures["decode_add_encode"]["estimated_total_s"] / mix, 1
            )
    common.save("cli_speed", figures, a.results, a.model)


def _by_audio(lat: Path, folder: Path, model: str, seconds: float) -> common.Figures:
    """One file decoded and encoded in this process; four decodes and one encode make the mix (an estimate)."""
    import torch

    from lincae_core.models.registry import load
    from lincae_core.pipeline import decode_file, encode_file

    torch.set_num_threads(common.cores())
    print("decode and encode of one file", file=sys.stderr)
    loaded = load(model, device="cpu")
    wav = folder / "one.wav"
    decode_file(loaded, lat, wav, end=min(5.0, seconds))  # warms up
    began = time.perf_counter()
    decode_file(loaded, lat, wav, overwrite=True)
    decoded = time.perf_counter()
    encode_file(loaded, wav, folder / "one.lat")
    encoded = time.perf_counter()
    return {
        "decode_one_s": round(decoded - began, 3),
        "encode_one_s": round(encoded - decoded, 3),
        "estimated_total_s": round(4 * (decoded - began) + encoded - decoded, 2),
    }


if __name__ == "__main__":
    main()
