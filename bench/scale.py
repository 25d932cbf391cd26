"""What encoding costs, per hour of stereo audio and for 20 TB; writes the tables of docs/scale.md with --write.

Costs are CPU seconds (user and system) of one thread, so that a loaded machine changes them little. The last table
checks how costs add up: two processes that share a folder, beside one; predicted from the costs of each file.
"""

from __future__ import annotations

import argparse
import heapq
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import common
import numpy as np
import soundfile as sf

from lincae_cli.options import Shard
from lincae_core.audio import AudioReader, read_audio
from lincae_core.models.codec import AudioArray, decode_file, encode_file, encoded_blocks, encoded_header, resampled
from lincae_core.models.store import load, load_encoder, resolve
from lincae_formats import LatWriter

PAGE = Path(__file__).parent.parent / "docs" / "scale.md"
ROOT = Path(__file__).parent.parent
FORMATS = {  # name: extension, options of soundfile, sample rate
    "WAV": (".wav", {"subtype": "PCM_16"}, 44100),
    "FLAC": (".flac", {"subtype": "PCM_16"}, 44100),
    "FLAC, 48 kHz": (".flac", {"subtype": "PCM_16"}, 48000),
    "MP3, 192 kbit/s": (".mp3", {"bitrate_mode": "CONSTANT", "compression_level": 0.4}, 44100),
    "Vorbis": (".ogg", {}, 44100),
}
TERABYTES = 20
DAY = 86400  # s


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--audio", type=Path, help="music to repeat; by default the demo's stems, added")
    options.add_argument("--minutes", type=float, default=4.0, help="length of a file, min")
    options.add_argument("--files", type=int, default=24, help="files of the check with two processes")
    options.add_argument("--runs", type=int, default=3, help="runs of each measurement; the fastest counts")
    options.add_argument("--write", action="store_true", help="write the tables into docs/scale.md")
    a = options.parse_args()
    if a.quick:
        a.minutes, a.files, a.runs = 0.5, 4, 1
    with common.scratch() as (folder, environment):
        paths = sources(a, folder)
        rows = [costs(name, paths[name], a, folder) for name in paths]
        startup = child_seconds(
            [*shlex.split(a.lincae), "encode", str(tiny(folder)), "-f", "--model", a.model], environment
        )
        check = scaling(a, paths["MP3, 192 kbit/s"], folder, environment)
    figures = {"minutes": a.minutes, "rows": rows, "startup_cpu_s": round(startup, 2), "scaling": check}
    gpu = on_gpu(a)
    if gpu:
        figures["gpu"] = gpu
    common.show(figures, a)
    if a.write:
        text = PAGE.read_text(encoding="utf-8")
        for mark, block in tables(rows, startup, check, gpu).items():
            pattern = rf"(<!-- {mark}:begin.*?-->\n).*?(<!-- {mark}:end -->)"
            text = re.sub(pattern, lambda m, block=block: m[1] + block + m[2], text, flags=re.S)
        PAGE.write_text(text, encoding="utf-8")


def sources(a: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """A file of each format with the same music."""
    if a.audio:
        music = read_audio(a.audio, 44100)
    else:
        stems = sorted((ROOT / "lincae_core" / "demo" / "stems").glob("*.flac"))
        music = np.sum([read_audio(stem, 44100) for stem in stems], axis=0)
    music = music if len(music) == 2 else np.repeat(music[:1], 2, 0)
    length = round(a.minutes * 60 * 44100)
    music = np.tile(music, -(-length // music.shape[1]))[:, :length]
    music *= 0.9 / np.abs(music).max()
    paths = {}
    for name, (extension, how, rate) in FORMATS.items():
        data = music if rate == 44100 else np.concatenate(list(resampled(iter([music]), 44100, rate, 2)), axis=1)
        path = paths[name] = folder / f"{name.split(',')[0]}-{rate}{extension}"
        with sf.SoundFile(path, "w", rate, 2, **how) as file:
            for at in range(0, data.shape[1], 1 << 16):  # libsndfile's Vorbis overflows its stack on long blocks
                file.write(data[:, at : at + (1 << 16)].T)
    return paths


def cpu(work: Callable[[], object], runs: int) -> float:
    """CPU seconds of this process: the least of several runs, after one that does not count."""
    work()
    least = float("inf")
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_SELF)
        work()
        after = resource.getrusage(resource.RUSAGE_SELF)
        least = min(least, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return least


def child_seconds(command: list[str], environment: dict[str, str]) -> float:
    """CPU seconds of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    common.run(command, environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def tiny(folder: Path) -> Path:
    """A file of a tenth of a second."""
    path = folder / "tiny.wav"
    sf.write(path, np.zeros(4410, np.float32), 44100)
    return path


def costs(name: str, path: Path, a: argparse.Namespace, folder: Path) -> dict[str, object]:
    """CPU seconds and bytes per hour of stereo audio: reading, resampling, the filterbank, writing, and the whole."""
    print(name, file=sys.stderr)
    model, lat, hours = load_encoder(resolve(a.model), "cpu"), folder / "out.lat", a.minutes / 60
    with AudioReader(path) as reader:
        rate, header = reader.sample_rate, encoded_header(model, reader)
        audio = np.concatenate(list(reader.blocks()), axis=1)
    music = AudioArray(audio, rate) if rate == 44100 else AudioArray(next(_whole(audio, rate)), 44100)
    latents = list(encoded_blocks(model, music))

    def read() -> None:
        with AudioReader(path) as reader:
            for _ in reader.blocks():
                pass

    def write() -> None:
        with LatWriter(lat, header, dtype="int8", overwrite=True) as writer:
            for z, levels in latents:
                writer.append(z, levels)

    spent = {
        "read": cpu(read, a.runs),
        "resample": cpu(lambda: next(_whole(audio, rate)), a.runs) if rate != 44100 else 0.0,
        "compute": cpu(lambda: list(encoded_blocks(model, music)), a.runs),
        "write": cpu(write, a.runs) if header.groups else 0.0,
        "encode": cpu(lambda: encode_file(model, path, lat, overwrite=True), a.runs),
    }
    if name == "WAV":
        decoder = load(a.model, device="cpu")
        spent["decode"] = cpu(lambda: decode_file(decoder, lat, folder / "back.wav", overwrite=True), a.runs)
    size = path.stat().st_size
    return {
        "format": name,
        **{f"{key}_cpu_s": round(seconds / hours, 2) for key, seconds in spent.items()},
        "mb_read": round(size / hours / 1e6, 1),
        "mb_written": round(lat.stat().st_size / hours / 1e6, 2),
    }


def _whole(audio: np.ndarray, rate: int) -> object:
    yield np.concatenate(list(resampled(iter([audio]), rate, 44100, len(audio))), axis=1)


def on_gpu(a: argparse.Namespace) -> dict[str, object] | None:
    """Times real time of computing on a GPU, stereo, where there is one."""
    import torch

    if not torch.cuda.is_available():
        return None
    model = load(a.model, device="cuda")
    music = AudioArray(0.1 * np.random.default_rng(0).standard_normal((2, 44100 * 240)).astype(np.float32), 44100)
    seconds = common.times(lambda: list(encoded_blocks(model, music)), a.runs)["min_s"]
    return {"name": torch.cuda.get_device_name(), "times_real_time": round(240 / seconds)}


def scaling(a: argparse.Namespace, path: Path, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of one process over a folder, and of two that shard it; and what the costs of the files predict."""
    library = folder / "library"
    library.mkdir()
    music = read_audio(path, 44100)
    lengths = np.random.default_rng(0).lognormal(0.0, 0.6, a.files)
    lengths = np.maximum(44100, lengths / lengths.max() * music.shape[1]).astype(int)
    for i, n in enumerate(lengths.tolist()):
        sf.write(library / f"{i:04}.mp3", music[:, :n].T, 44100)
    names = [path.name for path in sorted(library.iterdir())]

    def encode(processes: int) -> tuple[float, float]:
        """Wall-clock and CPU seconds of processes side by side, each with its shard."""
        out = folder / f"out{processes}-{time.monotonic_ns()}"
        command = [*shlex.split(a.lincae), "encode", str(library), "--model", a.model, "-o", f"{out}/", "--shard"]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        running = [
            subprocess.Popen([*command, f"{i + 1}/{processes}"], env=environment, stderr=subprocess.DEVNULL)
            for i in range(processes)
        ]
        if any([process.wait() for process in running]):
            sys.exit("lincae encode failed")
        elapsed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        return elapsed, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    one, two = zip(*[(encode(1), encode(2)) for _ in range(a.runs)], strict=True)
    single, double = min(one), min(two)
    startup = child_seconds(
        [*shlex.split(a.lincae), "encode", str(tiny(folder)), "-f", "--model", a.model], environment
    )
    # The costs of files are as their lengths: the shard with more of it decides.
    first = np.array([Shard(1, 2).holds(name) for name in names])
    share = max(lengths[first].sum(), lengths[~first].sum()) / lengths.sum()
    return {
        "files": a.files, "one_process_s": round(single[0], 2), "two_processes_s": round(double[0], 2),
        "speedup": round(single[0] / double[0], 2),
        "predicted_speedup": round(float(single[0] / (startup + (single[0] - startup) * share)), 2),
        "one_process_cpu_s": round(single[1], 2), "two_processes_cpu_s": round(double[1], 2),
    }  # fmt: skip


def simulated(workers: int, files: int, shared: bool, seed: int = 0) -> float:
    """Efficiency of workers: the mean of their times over the longest, with files whose lengths are log-normal.

    Args:
        workers: How many.
        files: How many in all.
        shared: Whether they take files from one queue (Ray), instead of having a share each (`--shard`).
        seed: Of the lengths.
    """
    lengths = np.random.default_rng(seed).lognormal(0.0, 0.8, files)  # 4 minutes in the median; 1 of 1000 above 47
    if not shared:
        loads = np.bincount(np.random.default_rng(seed + 1).integers(workers, size=files), lengths, workers)
        return float(loads.mean() / loads.max())
    free = [0.0] * workers
    for length in lengths.tolist():
        heapq.heapreplace(free, free[0] + length)
    return float(lengths.sum() / workers / max(free))


def tables(
    rows: list[dict[str, object]], startup: float, check: dict[str, float], gpu: dict[str, object] | None
) -> dict[str, str]:
    """The blocks of docs/scale.md."""

    def table(head: list[str], body: list[list[str]]) -> str:
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"

    costs = table(
        ["source, stereo", "read", "resample", "compute", "write", "`lincae encode`", "MB read", "MB written"],
        [
            [str(r["format"]), *(f"{r[f'{k}_cpu_s']:.1f}" for k in ("read", "resample", "compute", "write", "encode")),
             f"{r['mb_read']:.0f}", f"{r['mb_written']:.1f}"]
            for r in rows
        ],
    )  # fmt: skip
    costs += f"\nA process takes {startup:.1f} s of CPU time to start. "
    costs += f"`lincae decode` to WAV takes {rows[0]['decode_cpu_s']:.1f} s per hour.\n"
    whole = []
    for r in rows:
        hours = TERABYTES * 1e6 / float(str(r["mb_read"]))
        seconds = hours * float(str(r["encode_cpu_s"]))
        beside = sum(float(str(r[f"{key}_cpu_s"])) for key in ("read", "resample", "write"))
        whole.append(
            [str(r["format"]), f"{hours / 1000:.0f}", f"{seconds / 3600:.0f}",
             f"{hours * beside / 3600:.0f}", *(f"{seconds / DAY / n:.2g}" for n in (2, 64, 512)),
             f"{float(str(r['mb_read'])) / float(str(r['encode_cpu_s'])):.3g}",
             f"{hours * float(str(r['mb_written'])) / 1e6:.2f}"]
        )  # fmt: skip
    head = [
        "source",
        "1000 hours",
        "core hours",
        "beside GPUs",
        "days on 2 cores",
        "on 64",
        "on 512",
        "MB/s a core reads",
        "TB written",
    ]
    total = table(head, whole)
    queue = table(
        ["workers", "files a worker", "`--shard`", "one queue"],
        [
            [str(n), str(per), f"{simulated(n, n * per, False):.2f}", f"{simulated(n, n * per, True):.2f}"]
            for n in (2, 16, 64, 512)
            for per in (10, 100, 1000)
        ],
    )
    found = (
        f"Measured on {check['files']} MP3 files of different lengths: one process {check['one_process_s']:.1f} s, two "
        f"with `--shard 1/2` and `2/2` {check['two_processes_s']:.1f} s: {check['speedup']:.2f} times as fast; the "
        f"sums of lengths and the time to start predict {check['predicted_speedup']:.2f}. In CPU time "
        f"{check['one_process_cpu_s']:.1f} s and {check['two_processes_cpu_s']:.1f} s.\n"
    )
    slowest = max(float(str(r["read_cpu_s"])) + float(str(r["resample_cpu_s"])) for r in rows)
    device = (
        "No GPU was at hand when this was measured.\n"
        if gpu is None
        else f"{gpu['name']}: stereo is computed at {gpu['times_real_time']} times real time; "
        f"{float(str(gpu['times_real_time'])) * slowest / 3600:.0f} cores read the slowest of these sources as fast.\n"
    )
    return {"costs": costs, "total": total, "queue": queue, "check": found, "gpu": device}


if __name__ == "__main__":
    main()
