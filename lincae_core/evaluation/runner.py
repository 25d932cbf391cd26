"""Runs a comparison; what was measured is kept per system and track, so that an interrupted run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Track
from lincae_core.evaluation.media import excerpt, keep_example, safe_name
from lincae_core.evaluation.mss import WINDOWS_MS
from lincae_core.evaluation.protocols import Session, measure_track
from lincae_core.evaluation.results import MEDIA, Settings, gather, write_results
from lincae_core.evaluation.systems.base import System
from lincae_formats import __version__
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError

RESULTS = "results.json"
PROTOCOL = 2  # goes up when the same system on the same track would be measured differently

SHORTEST = WINDOWS_MS[-1] / 1000  # s of a track

Say = Callable[[str], None]


def evaluate(
    data: Path, tracks: Sequence[Track], systems: Sequence[System], out: Path, settings: Settings,
    *, device: str = "auto", say: Say | None = None,
) -> tuple[dict[str, Any], list[Exception]]:  # fmt: skip
    """Measures every system on every track, or takes what an earlier run in `out` measured.

    A part is taken when system, settings, version and the track's files are what they were; else it is measured anew.
    Results are written to `out`/results.json after all, excerpts to `out`/media, parts to `out`/parts.

    Args:
        data: the folder of the tracks, for the record.
        tracks: what to measure on.
        systems: what to measure, with names that differ.
        out: folder, made if need be.
        settings: of the measuring.
        device: where torch computes distances: auto, cpu or cuda.
        say: called before every part with what it is: `frame, Lithium (1 of 15)`.

    Returns:
        The results (schema 1, media paths relative to `out`) and the errors of what could not be measured.

    Raises:
        LincaeError: `out` cannot be written, or there is no such device.
    """
    from lincae_core.models.device import choose_device

    tell = say or (lambda _: None)
    place = str(choose_device(device))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise LincaeError(f"{out}: cannot make the folder ({e.strerror})", "choose another --out") from None
    parts: list[dict[str, Any]] = []
    failures: list[Exception] = []
    for done, system in enumerate(systems):
        for number, track in enumerate(tracks, 1 + done * len(tracks)):
            tell(f"{system.name}, {track.name} ({number} of {len(systems) * len(tracks)})")
            try:
                path = part_path(out, system, track)
                key = part_key(system, track, settings)
                part = _kept(path, key, out)
                if part is None:
                    part = {"key": key, **_measure(system, track, settings, out, place)}
                    _write(path, part)
                parts.append(part)
            except Exception as e:
                failures.append(e if isinstance(e, LincaeError) else _named(e, f"{system.name}, {track.name}"))
        system.close()
    results = gather(data, systems, parts, settings)
    if parts:
        write_results(results, out, out / RESULTS)
    return results, failures


def part_path(out: Path, system: System, track: Track) -> Path:
    """Where the part of a system and a track is kept."""
    return out / "parts" / safe_name(system.name) / f"{safe_name(track.name)}.json"


def part_key(system: System, track: Track, settings: Settings) -> str:
    """SHA-256 of everything a part depends on."""
    facts = [PROTOCOL, __version__, system.name, system.fingerprint, track.name, track.key(), asdict(settings)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _kept(path: Path, key: str, out: Path) -> dict[str, Any] | None:
    try:
        part: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        media = [out / example[which] for example in part["examples"] for which in MEDIA]
        return part if part["key"] == key and all(m.is_file() for m in media) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measure(system: System, track: Track, settings: Settings, out: Path, device: str) -> dict[str, Any]:
    audio = track.load(settings.seconds)
    if len(audio.mixture) < SHORTEST * SAMPLE_RATE:
        raise LincaeError(
            f"{track.name}: {len(audio.mixture)} samples, too short to measure: the longest window is {SHORTEST:g} s",
            "leave the track out with --tracks" if settings.seconds is None else "give a longer --seconds",
        )
    session, span = Session(system.for_track(track), audio, device, settings.subtype), excerpt(audio)
    examples: list[dict[str, object]] = []

    def keep(operation: str, target: str, estimate: np.ndarray, truth: np.ndarray) -> None:
        examples.append(keep_example(out, system.name, track.name, operation, target, estimate, truth, span))

    measures = measure_track(session, settings.gains, keep)
    return {
        "system": system.name, "track": track.name, "audio_seconds": len(audio.mixture) / SAMPLE_RATE,
        "seconds_encode": session.seconds_encode, "seconds_decode": session.seconds_decode, "bytes": session.size,
        "measures": [asdict(m) for m in measures], "examples": examples,
    }  # fmt: skip


def _write(path: Path, part: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(json.dumps(part, allow_nan=False), encoding="utf-8")


def _named(error: Exception, where: str) -> Exception:
    error.add_note(f"in: {where}")
    what = f"{type(error).__name__}: {error}".rstrip(": ").splitlines()[0]
    named = LincaeError(f"{where}: {what}", "add --debug and report what it prints")
    named.__cause__ = error
    return named
