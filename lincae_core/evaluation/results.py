"""Runs a comparison and gathers its results as one JSON object (schema 1).

What was measured of a system on a track is kept as a part, so that an interrupted or extended run continues.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Audio, Track
from lincae_core.evaluation.judges import Judges
from lincae_core.evaluation.metrics import MSS_WINDOWS_MS, SEGMENT_SECONDS, mean_interval, mss, rms, spans
from lincae_core.evaluation.protocols import GAINS, SUBTYPES, Session, System, measure_track
from lincae_core.evaluation.references import ogg
from lincae_core.evaluation.report import tables
from lincae_core.models.store import choose_device
from lincae_formats import __version__
from lincae_formats.errors import LincaeError
from lincae_formats.files import atomic_path

SCHEMA = 1
PROTOCOL = 4  # goes up when the same system on the same track would be measured differently
RESULTS = "results.json"
SHORTEST = MSS_WINDOWS_MS[-1] / 1000  # s of a track
EXCERPT = ("estimate", "truth")  # an example's files
TOTALS = ("audio_seconds", "bytes", "seconds_encode", "seconds_decode")  # of a part


@dataclass(frozen=True)
class Settings:
    """What is measured, and how."""

    seconds: float | None = None  # only the first so many of each track
    gains: tuple[float, ...] = GAINS  # of the homogeneity
    steps: int = 1  # sampling steps of consistency models
    seed: int = 0  # of their noise
    subtype: str = SUBTYPES[0]  # how decoded audio is rounded before it is measured
    judges: bool = False  # whether the perceptual judges are asked


def evaluate(
    data: Path, tracks: Sequence[Track], systems: Sequence[System], out: Path, settings: Settings,
    *, device: str = "auto", say: Callable[[str], None] | None = None, mine: Callable[[str], bool] = lambda name: True,
) -> tuple[dict[str, Any], list[Exception]]:  # fmt: skip
    """Measures every system on every track, or takes what an earlier run in `out` measured.

    A kept part is used when system, settings, version and the track's files are the same. Results are written to
    `out`/results.json, excerpts to `out`/media, parts to `out`/parts.

    Args:
        data: the folder of the tracks, for the record.
        tracks: what to measure on.
        systems: what to measure, with names that differ.
        out: folder, made if needed.
        settings: of the measuring.
        device: where torch computes distances: auto, cpu or cuda.
        say: called before every part with a line such as `frame, Lithium (1 of 15)`.
        mine: whether to measure a part, such as `frame/Lithium`, or to leave it to another process. The results are
            written by whoever finds all parts.

    Returns:
        The results, media paths relative to `out`, and the errors of what could not be measured. `left` in the results
        is how many parts other processes have yet to measure, where there are any.

    Raises:
        LincaeError: `out` cannot be written, there is no such device, or a judge is not installed.
    """
    place = str(choose_device(device))
    judges = Judges() if settings.judges else None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise LincaeError(f"{out}: cannot make the folder ({e.strerror})", "choose another --output") from None
    parts: list[dict[str, Any]] = []
    failures: list[Exception] = []
    missing: list[tuple[Path, str]] = []
    for done, system in enumerate(systems):
        for number, track in enumerate(tracks, 1 + done * len(tracks)):
            where = f"{system.name}, {track.name}"
            if say:
                say(f"{where} ({number} of {len(systems) * len(tracks)})")
            try:
                path = out / "parts" / safe_name(system.name) / f"{safe_name(track.name)}.json"
                key = part_key(system, track, settings)
                part = _kept(path, key, out)
                if part is None and not mine(f"{system.name}/{track.name}"):
                    missing.append((path, key))
                    continue
                if part is None:
                    part = {"key": key, **_measure(system, track, settings, judges, out, place)}
                    path.parent.mkdir(parents=True, exist_ok=True)
                    _write(path, json.dumps(part, allow_nan=False))
                parts.append(part)
            except LincaeError as e:
                failures.append(e)
            except Exception as e:
                e.add_note(f"in: {where}")
                what = f"{type(e).__name__}: {e}".rstrip(": ").splitlines()[0]
                failures.append(LincaeError(f"{where}: {what}", "add --debug and report what it prints"))
                failures[-1].__cause__ = e
        system.close()
    arrived = [part for path, key in missing if (part := _kept(path, key, out)) is not None]
    left = len(missing) - len(arrived)
    results = _gather(data, systems, [*parts, *arrived], settings)
    if left:
        results["left"] = left
    elif parts or arrived:
        _write(out / RESULTS, dump_results(results, out, out))
    return results, failures


def part_key(system: System, track: Track, settings: Settings) -> str:
    """SHA-256 of everything a part depends on."""
    facts = [PROTOCOL, __version__, system.name, system.fingerprint, track.name, track.key(), asdict(settings)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _gather(
    data: Path, systems: Sequence[System], parts: Sequence[dict[str, Any]], settings: Settings
) -> dict[str, Any]:
    """Joins the parts that were measured on the tracks of a folder; systems in the order of the tables."""
    lengths = {part["track"]: part["audio_seconds"] for part in parts}
    own = {system: [p for p in parts if p["system"] == system.name] for system in systems}
    measured = {system: sorted(found, key=lambda p: p["track"]) for system, found in own.items() if found}
    return {
        "schema": SCHEMA,
        "writer": f"lincae {__version__}",
        "data": {
            "path": str(data), "tracks": sorted(lengths), "seconds": _short(sum(lengths.values())),
            "sample_rate": SAMPLE_RATE, "channels": "mono",
        },
        "settings": {
            "gains": list(settings.gains), "segment_seconds": SEGMENT_SECONDS, "seed": settings.seed,
            "steps": settings.steps, "subtype": settings.subtype, "judges": settings.judges,
        },
        "systems": [_facts(system, found) for system, found in measured.items()],
        "measures": [m for system, found in measured.items() for m in _measures(system.name, found)],
        "examples": [example for found in measured.values() for part in found for example in part["examples"]],
    }  # fmt: skip


def dump_results(results: dict[str, Any], base: Path, folder: Path) -> str:
    """JSON text, the tables included, whose media paths are relative to `folder` instead of `base`."""
    start = os.path.realpath(folder)
    moved = [
        {**e, **{key: Path(os.path.relpath(os.path.realpath(base / e[key]), start)).as_posix() for key in EXCERPT}}
        for e in results["examples"]
    ]
    whole = {**results, "examples": moved, "tables": [asdict(table) for table in tables(results)]}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def safe_name(name: str) -> str:
    """A file name that any file system takes; a checksum tells names apart that had to be changed."""
    safe = re.sub(r"[^A-Za-z0-9._ -]", "_", name).strip(" .")[:80]
    return safe if safe == name else f"{safe}-{zlib.crc32(name.encode(errors='surrogateescape')):08x}"


def excerpt(audio: Audio) -> slice:
    """The segment of 10 s in which all stems are heard: the greatest product of their levels."""
    signals = list(audio.stems.values()) or [audio.mixture]
    every = spans(len(audio.mixture), SAMPLE_RATE)
    return max(every, key=lambda span: sum(math.log(rms(x[span]) + 1e-6) for x in signals))


def _measure(
    system: System, track: Track, settings: Settings, judges: Judges | None, out: Path, device: str
) -> dict[str, Any]:
    audio = track.load(settings.seconds)
    if len(audio.mixture) < SHORTEST * SAMPLE_RATE:
        raise LincaeError(
            f"{track.name}: {len(audio.mixture)} samples, too short to measure: the longest window is {SHORTEST:g} s",
            "leave the track out with --tracks" if settings.seconds is None else "give a longer --seconds",
        )
    session = Session(system.for_track(track), audio, device, settings.subtype, judges)
    measures = measure_track(session, settings.gains)
    song, span, examples = safe_name(track.name), excerpt(audio), []
    start, stop = (at / SAMPLE_RATE for at in (span.start, span.start + len(audio.mixture[span])))
    for operation, target, estimate, truth in session.heard:
        heard = "half" if operation == "half" else target
        paths = {
            "estimate": Path("media") / safe_name(system.name) / f"{song}-{operation}.ogg",
            "truth": Path("media") / "truth" / f"{song}-{heard}-{start:g}-{stop:.3g}s.ogg",  # shared by the systems
        }
        for path, signal in zip(paths.values(), (estimate[span], truth[span]), strict=True):
            (out / path).parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(out / path, overwrite=True) as temporary:
                temporary.write_bytes(ogg(np.clip(signal, -1, 1)[None], SAMPLE_RATE, "VORBIS"))
        distance = mss(estimate[span], truth[span], SAMPLE_RATE)
        examples.append(
            {
                "system": system.name, "track": track.name, "operation": operation, "target": target, "start": start,
                **{key: path.as_posix() for key, path in paths.items()},
                "mss": None if np.isnan(distance) else _short(distance),
            }
        )  # fmt: skip
    return {
        "system": system.name, "track": track.name, "audio_seconds": len(audio.mixture) / SAMPLE_RATE,
        "seconds_encode": session.seconds_encode, "seconds_decode": session.seconds_decode, "bytes": session.size,
        "measures": [asdict(m) for m in measures], "examples": examples,
    }  # fmt: skip


def _kept(path: Path, key: str, out: Path) -> dict[str, Any] | None:
    try:
        part: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        media = [out / example[which] for example in part["examples"] for which in EXCERPT]
        return part if part["key"] == key and all(m.is_file() for m in media) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _facts(system: System, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {key: sum(part[key] or 0 for part in parts) for key in TOTALS}
    rate = system.bytes_per_second or total["bytes"] / total["audio_seconds"]
    return {
        **{key: getattr(system, key) for key in ("name", "label", "kind", "version", "fingerprint")},
        "latent_rate": None if system.latent_rate is None else _short(system.latent_rate),
        "bytes_per_second": _short(rate), "seconds_encode": _short(total["seconds_encode"]),
        "seconds_decode": _short(total["seconds_decode"]), "notes": system.notes,
    }  # fmt: skip


def _measures(name: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    for m in (m for part in parts for m in part["measures"]):
        values.setdefault((m["measure"], m["metric"], m["target"]), []).extend(m["values"])
    entries = []
    for (measure, metric, target), found in values.items():
        mean, low, high = (None if v is None else _short(v) for v in mean_interval(found))
        entries.append(
            {
                "system": name, "measure": measure, "metric": metric, "target": target, "mean": mean, "low": low,
                "high": high, "n": len(found), "values": [_short(v) for v in found],
            }
        )  # fmt: skip
    return entries


def _short(number: float) -> float:
    """Six significant digits."""
    return float(f"{number:.6g}")


def _write(path: Path, text: str) -> None:
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
