"""Many files of 1 to 5 s: files a second, one at a time and in batches, encoded and decoded, on a CPU and on a GPU.

Batches are those of `codec.Batched`, which the command line and `Model.encode_many` use on a GPU. On the CPU they are
measured, too, in CPU seconds: they gain nothing there.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import common
import numpy as np
import soundfile as sf
import torch

from lincae_core.models.codec import Autoencoder, Batched, decode_file, encode_file
from lincae_core.models.store import load


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=400, help="files, mono")
    options.add_argument("--runs", type=int, default=3, help="runs of each; the fastest counts")
    options.add_argument("--threads", type=int, default=16, help="files at once, of which batches are made")
    a = options.parse_args()
    files, runs = (20, 1) if a.quick else (a.files, a.runs)
    rows = []
    with common.scratch() as (folder, _):
        rng = np.random.default_rng(0)
        for i in range(files):
            audio = 0.1 * rng.standard_normal(int(44100 * rng.uniform(1, 5)))
            sf.write(folder / f"{i}.wav", audio.astype(np.float32), 44100)
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            model = load(a.model, device=device)
            for name, chosen, threads in (("one at a time", model, 1), ("batches", Batched(model), a.threads)):
                for verb, work in (("encode", encoder(chosen, folder)), ("decode", decoder(chosen, folder))):
                    print(device, name, verb, file=sys.stderr)
                    wall, cpu = measured(work, files, threads, runs)
                    rows.append(
                        {"device": device, "how": name, "what": verb, "files_per_s": round(files / wall, 1),
                         "cpu_ms_per_file": round(1000 * cpu / files, 2)}
                    )  # fmt: skip
    common.show({"files": files, "seconds": "1 to 5", "threads": a.threads, "rows": rows}, a)


def encoder(model: Autoencoder, folder: Path) -> Callable[[int], object]:
    return lambda i: encode_file(model, folder / f"{i}.wav", folder / f"{i}.lat", overwrite=True)


def decoder(model: Autoencoder, folder: Path) -> Callable[[int], object]:
    return lambda i: decode_file(model, folder / f"{i}.lat", folder / f"{i}.back.wav", overwrite=True)


def measured(work: Callable[[int], object], files: int, threads: int, runs: int) -> tuple[float, float]:
    """Wall-clock and CPU seconds for all files, after a tenth of them that do not count."""
    best = (float("inf"), float("inf"))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(-(-files // 10))))
        for _ in range(runs):
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            list(pool.map(work, range(files)))
            wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
            cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
            best = min(best[0], wall), min(best[1], cpu)
    return best


if __name__ == "__main__":
    main()
