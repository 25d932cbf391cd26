"""Kills workers and writers of batches at random moments and checks what is left: `python bench/kill.py --kills 1000`.

A batch of small `.lat` files runs again and again. Each run is hit once, by SIGKILL, at a random moment: its first
process or one of its workers. Afterwards no process may be left, every file under its final name must be whole, and
the same command must go on. When a batch is done its files must have the bytes of an undisturbed run, and no temporary
file may be left. With `--model` batches of `lincae encode` are killed too.
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lincae_formats import Header, Latents, verify, write_lat

LIMIT = 60.0  # s that a run may take before it counts as hung
LINCAE = [sys.executable, "-m", "lincae_cli"]


def make_lats(folder: Path, count: int) -> None:
    """Small `.lat` files of noise, each another."""
    folder.mkdir()
    header = Header(sample_rate=44100, num_samples=44100 * 5, model="noise", model_fingerprint="sha256:" + "0" * 64,
                    channels=1, latent_dim=64)  # fmt: skip
    for i in range(count):
        noise = np.random.default_rng(i).standard_normal(header.shape).astype(np.float32)
        write_lat(Latents(noise, header, dtype="float16"), folder / f"{i:04}.lat")


def make_audio(folder: Path, count: int) -> None:
    """Short WAV files of noise."""
    import soundfile

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


def hit(command: list[str], delay: float, chance: random.Random) -> tuple[str, int | None]:
    """Runs a command and kills its first process or a worker after `delay` seconds.

    Returns:
        What was killed, or "" when the run was over before; the exit code, None when the first process was killed.

    Raises:
        AssertionError: something hangs.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seen: set[int] = set()
    end = time.monotonic() + delay
    while time.monotonic() < end and process.poll() is None:
        seen.update(workers(process.pid))
        time.sleep(0.005)
    victim = ""
    if process.poll() is None:
        there = workers(process.pid)
        seen.update(there)
        pid = chance.choice([process.pid, *there])
        victim = "writer" if pid == process.pid else "worker"
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    try:
        code = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"hung after its {victim or 'run'} was killed: {' '.join(command)}") from None
    end = time.monotonic() + LIMIT
    while any(is_running(pid) for pid in seen):
        assert time.monotonic() < end, f"workers outlive their batch: {' '.join(command)}"
        time.sleep(0.01)
    return victim, None if victim == "writer" else code


def contents(folder: Path) -> dict[str, bytes]:
    """The results in a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.lat")} if folder.exists() else {}


def main() -> int:
    """Kills and checks; prints a summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--model", help="a model's name or file: kill batches of encode too")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    counts = {"writer": 0, "worker": 0, "batches": 0, "runs": 0, "failures by name": 0}
    with tempfile.TemporaryDirectory(prefix="lincae-kill-") as name:
        home = Path(name)
        make_lats(home / "lats", arguments.files)
        batches = [["gain", str(home / "lats"), "--db", "-3", "--jobs", "2"],
                   ["fade", str(home / "lats"), "--in", "1", "--jobs", "3"]]  # fmt: skip
        if arguments.model:
            make_audio(home / "audio", arguments.files // 4)
            batches.append(["encode", str(home / "audio"), "--model", arguments.model, "--jobs", "2"])
        plain = []
        for i, batch in enumerate(batches):
            began = time.monotonic()
            subprocess.run([*LINCAE, *batch, "-o", str(home / f"plain{i}")], check=True)
            plain.append((contents(home / f"plain{i}"), time.monotonic() - began))
        while counts["writer"] + counts["worker"] < arguments.kills:
            i = chance.randrange(len(batches))
            wanted, seconds = plain[i]
            target = home / "target"
            command = [*LINCAE, *batches[i], "-o", str(target)]
            while True:
                victim, code = hit(command, chance.uniform(0.1, 1.0) * seconds, chance)
                counts["runs"] += 1
                for path in target.glob("[!.]*.lat") if target.exists() else []:
                    verify(path)
                if victim:
                    counts[victim] += 1
                if code == 0:
                    break
                assert code in (None, 1), f"exit code {code}: {' '.join(command)}"
                counts["failures by name"] += code == 1
            assert contents(target) == wanted, "other bytes than an undisturbed run"
            leftovers = [path.name for path in target.iterdir() if path.name.endswith(".tmp")]
            assert not leftovers, f"temporary files are left: {leftovers}"
            shutil.rmtree(target)
            counts["batches"] += 1
    print(", ".join(f"{key}: {value}" for key, value in counts.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
