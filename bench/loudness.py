"""Fits the table by which `lincae stats` estimates the loudness of latents, and measures its error.

The table is fitted on AUDIO and on narrow noises. For each file of --test the estimate for its latents is compared
with the measured loudness of its audio; without --test, for each file of AUDIO by a table that is fitted on the
others. Prints the errors as JSON; with --write, puts the table into the weights file, whose fingerprint stays.

    python bench/loudness.py lincae_core/weights/frame.safetensors music/* --test stems/*/*.wav --write
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

import lincae_core as lincae
from lincae_core.audio import AudioReader
from lincae_core.measure import estimate, fit_table, measure_audio


def main() -> None:
    """Runs the script."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=Path, help="weights file")
    p.add_argument("audio", nargs="+", help="audio files at the model's sample rate")
    p.add_argument("--test", nargs="*", default=[], help="audio files to measure the error on")
    p.add_argument("--seconds", type=float, default=60, help="seconds used of each file")
    p.add_argument("--write", action="store_true", help="write the table into the weights file")
    a = p.parse_args()
    model = lincae.load(a.model, "cpu")

    def encoded(path: str) -> tuple[object, np.ndarray]:
        with AudioReader(path) as reader:
            if reader.sample_rate != model.sample_rate:
                raise SystemExit(f"{path} is at {reader.sample_rate} Hz, the model at {model.sample_rate} Hz")
            audio = np.concatenate(list(reader.blocks()), axis=1)[:, : round(a.seconds * model.sample_rate)]
        return model.encode(audio, model.sample_rate), audio

    pairs = [encoded(path) for path in a.audio]
    bank = [noise(25 * 2 ** (i / 6), model.sample_rate) for i in range(58)]
    noises = [(model.encode(audio, model.sample_rate), audio) for audio in bank]
    errors = []
    tested = [encoded(path) for path in a.test] if a.test else pairs
    for i, (path, (latents, audio)) in enumerate(zip(a.test or a.audio, tested, strict=True)):
        table = fit_table([pair for j, pair in enumerate(pairs) if a.test or j != i] + noises)
        measured = measure_audio(_Array(audio, model.sample_rate)).integrated
        found = estimate(latents, table).integrated
        errors.append(found - measured)
        print(f"{path}: {measured:.2f} LUFS, estimated {found:.2f}", flush=True)
    sizes = np.abs([error for error in errors if np.isfinite(error)])
    print(
        json.dumps({"files": len(sizes), "mean_error_lu": float(sizes.mean()), "largest_error_lu": float(sizes.max())})
    )
    if a.write:
        write(a.model, fit_table(pairs + noises))


def noise(hertz: float, sample_rate: int) -> np.ndarray:
    """Four seconds of noise, a sixth of an octave wide, `[1, n]`."""
    spectrum = np.fft.rfft(np.random.default_rng(0).standard_normal(4 * sample_rate))
    distance = np.abs(np.log2(np.maximum(np.fft.rfftfreq(4 * sample_rate, 1 / sample_rate), 1) / hertz))
    audio = np.fft.irfft(np.where(distance < 1 / 12, spectrum, 0))
    return (0.1 * audio / np.sqrt(np.square(audio).mean()))[None].astype(np.float32)


def write(path: Path, table: dict) -> None:
    """Puts the table into the metadata of a weights file."""
    with safe_open(str(path), "pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    metadata["lincae"] = json.dumps({**json.loads(metadata["lincae"]), "loudness": table}, sort_keys=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as temporary:
        save_file(tensors, temporary.name, metadata)
    os.chmod(temporary.name, path.stat().st_mode)
    os.replace(temporary.name, path)


class _Array:
    """Audio in memory."""

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        self._audio, self.sample_rate = audio, sample_rate
        self.channels, self.num_samples = audio.shape

    def blocks(self):
        """Yields all of it."""
        yield self._audio


if __name__ == "__main__":
    main()
