"""Random crops a second from many files: `LatDataset` beside `np.load` and other readers, in one run.

All readers give the same crops, float32 tensors [C, latent_dim, frames]. Files come from the page cache.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import webdataset
import zarr
from torch.utils.data import DataLoader

import lincae_core as lincae
from lincae_core.export import Export

MINUTES = 4.0


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--files", type=int, default=100, help="files of four minutes, stereo")
    options.add_argument("--crops", type=int, default=1000, help="crops of each reader")
    options.add_argument("--frames", type=int, default=64, help="frames of a crop")
    options.add_argument("--rounds", type=int, default=3, help="runs of each reader, in turn; the fastest counts")
    a = options.parse_args()
    files, crops, rounds = (6, 30, 1) if a.quick else (a.files, a.crops, a.rounds)
    torch.set_num_threads(1)
    with common.scratch() as (folder, _):
        made = folder / "int8"
        made.mkdir()
        for i in range(files):
            common.random_lat(made / f"{i:04}.lat", 60 * MINUTES, a.model, seed=i, channels=2)
        readers, sizes = prepare(folder, a.frames, crops)
        best: dict[str, float] = {}
        for _ in range(rounds):
            for name, (count, read) in readers.items():
                print(name, file=sys.stderr)
                began = time.perf_counter()
                read()
                rate = count / (time.perf_counter() - began)
                best[name] = max(rate, best.get(name, 0.0))
    hours = files * MINUTES / 60
    base = best["np.load of a whole file, float32"]
    rows = [
        {
            "reader": name,
            "crops_per_s": round(rate, 1),
            "times_np_load": round(rate / base, 2),
            "mb_per_hour_of_audio": round(sizes[name] / hours / 1e6, 1),
        }
        for name, rate in best.items()
    ]
    common.show({"files": files, "file_minutes": MINUTES, "channels": 2, "crop_frames": a.frames, "rows": rows}, a)


def prepare(folder: Path, frames: int, crops: int) -> tuple[dict[str, tuple[int, Callable[[], None]]], dict[str, int]]:
    """The readers, with the crops of a run, and the bytes of what each reads."""
    exact, whole = folder / "exact", folder / "npy"
    exact.mkdir()
    whole.mkdir()
    lats = sorted((folder / "int8").iterdir())
    for path in lats:
        z = lincae.read_lat(path)
        lincae.write_lat(
            lincae.Latents(z.data, z.header, dtype="float32", band_levels=z.band_levels), exact / path.name
        )
        np.save(whole / f"{path.stem}.npy", z.data)
    arrays: dict[str, Any] = {}
    for to in ("npy", "zarr", "webdataset"):
        export = Export([(str(path), path.name) for path in lats], folder / to / "export", to)
        for number in export.todo:
            export.write(number)
        export.finish()
    lines = [json.loads(line) for line in (folder / "npy" / "export" / "files.jsonl").open()]
    for line in lines:
        path = folder / "npy" / "export" / f"{line['shard']}.latents.npy"
        arrays[line["shard"]] = np.load(path, mmap_mode="r")
    group = zarr.open_group(str(folder / "zarr" / "export" / "latents.zarr"), mode="r")
    latents, starts = group["latents"], group["starts"][:]

    def dataset(name: str) -> lincae.LatDataset:
        return lincae.LatDataset(folder / name, frames=frames, length=crops)

    places = [dataset("int8").place(i) for i in range(crops)]

    def each(read: Callable[[int, int], np.ndarray]) -> Callable[[], None]:
        def run() -> None:
            for number, start in places:
                torch.from_numpy(np.ascontiguousarray(read(number, start), np.float32))

        return run

    def of_lats(name: str) -> Callable[[], None]:
        data = dataset(name)
        return lambda: [data[i] for i in range(crops)] and None

    def in_workers() -> None:
        for _ in DataLoader(dataset("int8"), batch_size=32, num_workers=2):
            pass

    def mapped(number: int, start: int) -> np.ndarray:
        first = lines[number]["start"] + start
        return arrays[lines[number]["shard"]][..., first : first + frames]

    def tars() -> None:
        paths = sorted(map(str, (folder / "webdataset" / "export").glob("*.tar")))
        found = iter(webdataset.WebDataset(paths, shardshuffle=False).decode())
        for _ in lats:
            torch.from_numpy(np.ascontiguousarray(next(found)["latents.npy"][..., :frames], np.float32))

    names = [whole / f"{path.stem}.npy" for path in lats]
    readers = {
        "LatDataset, medium": (crops, of_lats("int8")),
        "LatDataset, medium, DataLoader with 2 workers": (crops, in_workers),
        "LatDataset, float32": (crops, of_lats("exact")),
        "np.load of a whole file, float32": (crops, each(lambda n, a: np.load(names[n])[..., a : a + frames])),
        "np.load, memory-mapped, float32": (
            crops, each(lambda n, a: np.load(names[n], mmap_mode="r")[..., a : a + frames]),
        ),
        "lincae export --to npy, memory-mapped, float16": (crops, each(mapped)),
        "lincae export --to zarr, float16": (
            crops, each(lambda n, a: latents[..., int(starts[n]) + a : int(starts[n]) + a + frames]),
        ),
        "lincae export --to webdataset, one crop a file, float16": (len(lats), tars),
    }  # fmt: skip

    def size(inside: Path, pattern: str) -> int:
        return sum(path.stat().st_size for path in inside.rglob(pattern) if path.is_file())

    medium, single = size(folder / "int8", "*.lat"), size(whole, "[0-9]*.npy") - size(whole / "export", "*.npy")
    sizes = dict(zip(readers, (
        medium, medium, size(exact, "*.lat"), single, single, size(whole / "export", "*.npy"),
        size(folder / "zarr", "*"), size(folder / "webdataset", "*.tar"),
    ), strict=True))  # fmt: skip
    return readers, sizes


if __name__ == "__main__":
    main()
