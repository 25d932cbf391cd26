"""Excerpts of results to listen to."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Audio
from lincae_core.evaluation.levels import rms
from lincae_core.evaluation.mss import mss
from lincae_core.evaluation.segments import spans
from lincae_formats.atomic import atomic_path

_BLOCK = 1 << 16


def safe_name(name: str) -> str:
    """A name that any file system takes; what had to be changed is told apart by a checksum."""
    safe = re.sub(r"[^A-Za-z0-9._ -]", "_", name).strip(" .")[:80]
    return safe if safe == name else f"{safe}-{zlib.crc32(name.encode(errors='surrogateescape')):08x}"


def excerpt(audio: Audio) -> slice:
    """The segment of 10 s in which most is heard of all stems: that with the greatest product of their levels."""
    signals = list(audio.stems.values()) or [audio.mixture]
    every = spans(len(audio.mixture), SAMPLE_RATE)
    return max(every, key=lambda span: sum(math.log(rms(x[span]) + 1e-6) for x in signals))


def keep_example(
    out: Path, system: str, track: str, operation: str, target: str, estimate: np.ndarray, truth: np.ndarray,
    span: slice,
) -> dict[str, object]:  # fmt: skip
    """Writes a segment of an estimate and of its truth as Ogg Vorbis below `out`/media.

    Args:
        out: folder.
        system: name.
        track: name.
        operation: recon, half, sum or sep.
        target: mixture, or a stem.
        estimate: ``[n]``.
        truth: ``[n]``.
        span: what to keep of them.

    Returns:
        The entry for the results' `examples`, with paths relative to `out`.
    """
    folder, song = safe_name(system), safe_name(track)
    seconds = f"{span.start / SAMPLE_RATE:g}-{span.start / SAMPLE_RATE + len(truth[span]) / SAMPLE_RATE:.3g}s"
    heard = f"{song}-{'half' if operation == 'half' else target}-{seconds}.ogg"  # the systems share it
    paths = Path("media") / folder / f"{song}-{operation}.ogg", Path("media") / "truth" / heard
    for path, audio in zip(paths, (estimate[span], truth[span]), strict=True):
        write_ogg(out / path, audio)
    distance = mss(estimate[span], truth[span], SAMPLE_RATE)
    return {
        "system": system, "track": track, "operation": operation, "target": target,
        "start": span.start / SAMPLE_RATE,
        "estimate": paths[0].as_posix(), "truth": paths[1].as_posix(),
        "mss": None if np.isnan(distance) else float(f"{distance:.6g}"),
    }  # fmt: skip


def write_ogg(path: Path, audio: np.ndarray) -> None:
    """Mono audio ``[n]`` as Ogg Vorbis, replaced if it exists. In blocks: libsndfile crashes on long writes."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    audio = np.clip(audio, -1, 1)
    with (
        atomic_path(path, overwrite=True) as temporary,
        soundfile.SoundFile(str(temporary), "w", SAMPLE_RATE, 1, format="OGG", subtype="VORBIS") as file,
    ):
        for at in range(0, len(audio), _BLOCK):
            file.write(audio[at : at + _BLOCK])
