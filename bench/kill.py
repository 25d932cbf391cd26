"""Kills workers and writers of batches at random moments and checks what is left: `python bench/kill.py --kills 1000`.

A batch of small `.lat` files runs again and again, in a process forked from this one, which has imported everything:
so the kills fall into the work and not into the start. At random moments SIGKILL hits one of its workers, or the first
process, which writes the files itself where there are no workers (the writer). Afterwards no process may be left, every
file under its final name must be whole, and the same command must go on. When a batch is done its files must have the
bytes of an undisturbed run, and no temporary file may be left. With `--model` batches of `lincae encode`, whose files
are written by threads of the first process, are killed too.
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lincae_cli.app import main as lincae
from lincae_formats import Header, Latents, verify, write_lat

LIMIT = 120.0  # s that a run may take before it counts as hung


def make_lats(folder: Path, count: int) -> None:
    """Small `.lat` files of noise, each another."""
    folder.mkdir()
    header = Header(sample_rate=44100, num_samples=44100 * 2, model="noise", model_fingerprint="sha256:" + "0" * 64,
                    channels=1, latent_dim=64)  # fmt: skip
    for i in range(count):
        noise = np.random.default_rng(i).standard_normal(header.shape).astype(np.float32)
        write_lat(Latents(noise, header, dtype="float16"), folder / f"{i:04}.lat")


def make_audio(folder: Path, count: int) -> None:
    """Short WAV files of noise."""
    import soundfile

    import lincae_core.models.codec
    import lincae_core.models.frame64  # noqa: F401

    folder.mkdir()
    for i in range(count):
        soundfile.write(folder / f"{i:04}.wav", 0.1 * np.random.default_rng(i).standard_normal(44100), 44100)


def workers(pid: int) -> list[int]:
    """The children of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def call(arguments: list[str]) -> None:
    """`lincae ARGUMENTS` in a process of its own, without output."""
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os._exit(lincae(arguments))


def start(arguments: list[str]) -> Any:
    """Starts `lincae ARGUMENTS`."""
    process = multiprocessing.get_context("fork").Process(target=call, args=(arguments,))
    process.start()
    return process


def hit(arguments: list[str], seconds: float, chance: random.Random, counts: dict[str, int]) -> int:
    """Runs a command and kills its workers, and at last its first process, at random moments.

    Args:
        arguments: The command.
        seconds: How long it takes when it is left alone.
        chance: Draws moments and victims.
        counts: Gets 1 more for each "worker" and "writer".

    Returns:
        The exit code; -9 when the first process was killed.

    Raises:
        AssertionError: something hangs.
    """
    process = start(arguments)
    seen: set[int] = set()
    hang = time.monotonic() + LIMIT
    while process.exitcode is None:
        end = time.monotonic() + chance.uniform(0.0, 0.8) * seconds
        while time.monotonic() < end and process.exitcode is None:
            seen.update(workers(process.pid))
            time.sleep(0.002)
        there = workers(process.pid)
        seen.update(there)
        alone = not there or chance.random() < 0.25
        if process.exitcode is None and counts["worker"] + counts["writer"] < counts["wanted"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid if alone else chance.choice(there), signal.SIGKILL)
                counts["writer" if alone else "worker"] += 1
        if alone:
            process.join(LIMIT)
        assert time.monotonic() < hang, f"hangs after a kill: {' '.join(arguments)}"
    end = time.monotonic() + LIMIT
    while any(is_running(pid) for pid in seen):
        assert time.monotonic() < end, f"workers outlive their batch: {' '.join(arguments)}"
        time.sleep(0.01)
    return process.exitcode


def contents(folder: Path) -> dict[str, bytes]:
    """The results in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.lat")} if folder.exists() else {}


def main() -> int:
    """Kills and checks; prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=64)
    parser.add_argument("--model", help="a model's name or file: kill batches of encode too")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    counts = {"wanted": arguments.kills, "worker": 0, "writer": 0, "runs": 0, "batches": 0, "failures by name": 0}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="lincae-kill-") as name:
        home = Path(name)
        make_lats(home / "lats", arguments.files)
        batches = [["gain", str(home / "lats"), "--db", "-3", "--jobs", "2"],
                   ["fade", str(home / "lats"), "--in", "1", "--jobs", "3"]]  # fmt: skip
        if arguments.model:
            make_audio(home / "audio", arguments.files // 8)
            batches.append(["encode", str(home / "audio"), "--model", arguments.model, "--jobs", "2"])
        plain = []
        for i, batch in enumerate(batches):
            then, process = time.monotonic(), start([*batch, "-o", str(home / f"plain{i}")])
            process.join()
            assert process.exitcode == 0, f"exit code {process.exitcode}: {' '.join(batch)}"
            plain.append((contents(home / f"plain{i}"), time.monotonic() - then))
        while counts["writer"] + counts["worker"] < arguments.kills:
            i = chance.randrange(len(batches))
            wanted, seconds = plain[i]
            target = home / "target"
            while True:
                code = hit([*batches[i], "-o", str(target)], seconds, chance, counts)
                counts["runs"] += 1
                for path in target.glob("[!.]*.lat") if target.exists() else []:
                    verify(path)
                if code == 0:
                    break
                assert code in (-signal.SIGKILL, 1), f"exit code {code}: {' '.join(batches[i])}"
                counts["failures by name"] += code == 1
            assert contents(target) == wanted, "other bytes than an undisturbed run"
            leftovers = [path.name for path in target.iterdir() if path.name.endswith(".tmp")]
            assert not leftovers, f"temporary files are left: {leftovers}"
            shutil.rmtree(target)
            counts["batches"] += 1
            if counts["batches"] % 10 == 0:
                print(f"{counts['worker'] + counts['writer']} kills", file=sys.stderr, flush=True)
    del counts["wanted"]
    print(", ".join(f"{key}: {value}" for key, value in counts.items()), f"in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
