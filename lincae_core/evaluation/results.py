"""The results of a comparison as one JSON object: schema 1."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lincae_core.evaluation.confidence import mean_interval
from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.protocols import GAINS
from lincae_core.evaluation.report.tables import tables
from lincae_core.evaluation.segments import SEGMENT_SECONDS
from lincae_core.evaluation.systems.base import System
from lincae_core.evaluation.written import SUBTYPES
from lincae_formats import __version__
from lincae_formats.atomic import atomic_path

SCHEMA = 1


@dataclass(frozen=True)
class Settings:
    """What was measured, beside the data.

    Args:
        seconds: only the first so many of each track; None is all.
        gains: of the homogeneity.
        steps: sampling steps of consistency models.
        seed: of their noise.
        subtype: what decoded audio is measured as: what `lincae decode` writes by default, or another of `SUBTYPES`.
    """

    seconds: float | None = None
    gains: tuple[float, ...] = GAINS
    steps: int = 1
    seed: int = 0
    subtype: str = SUBTYPES[0]


def gather(
    data: Path, systems: Sequence[System], parts: Sequence[dict[str, Any]], settings: Settings
) -> dict[str, Any]:
    """Joins what was measured of every system on every track.

    Args:
        data: the folder of the tracks.
        systems: in the order of the tables.
        parts: of each system and track, as `runner` keeps them.
        settings: of the measuring.
    """
    lengths = {part["track"]: part["audio_seconds"] for part in parts}
    tracks = sorted(lengths)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "writer": f"lincae {__version__}",
        "data": {
            "path": str(data), "tracks": tracks, "seconds": _short(sum(lengths.values())),
            "sample_rate": SAMPLE_RATE, "channels": "mono",
        },
        "settings": {
            "gains": list(settings.gains), "segment_seconds": SEGMENT_SECONDS, "seed": settings.seed,
            "steps": settings.steps, "subtype": settings.subtype,
        },
        "systems": [], "measures": [], "examples": [],
    }  # fmt: skip
    for system in systems:
        own = sorted((part for part in parts if part["system"] == system.name), key=lambda part: part["track"])
        if own:
            result["systems"].append(_facts(system, own))
            result["measures"] += _measures(system.name, own)
            result["examples"] += [example for part in own for example in part["examples"]]
    return result


def write_results(results: dict[str, Any], base: Path, path: Path) -> None:
    """Writes results as JSON, atomically; media paths become relative to the file.

    Args:
        results: from `gather`.
        base: the folder that the media paths are relative to now.
        path: target, replaced if it exists.
    """
    with atomic_path(path, overwrite=True) as temporary:
        temporary.write_text(dump_results(results, base, path.parent), encoding="utf-8")


def dump_results(results: dict[str, Any], base: Path, folder: Path) -> str:
    """JSON text, with the tables as they are shown, whose media paths are relative to `folder` instead of `base`."""
    start = os.path.realpath(folder)
    moved = [
        {**e, **{key: Path(os.path.relpath(os.path.realpath(base / e[key]), start)).as_posix() for key in MEDIA}}
        for e in results["examples"]
    ]
    shown = [asdict(table) for table in tables(results)]
    whole = {**results, "examples": moved, "tables": shown}
    return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


MEDIA = ("estimate", "truth")


def _facts(system: System, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    rate = system.bytes_per_second
    if rate is None:
        rate = sum(part["bytes"] for part in parts) / sum(part["audio_seconds"] for part in parts)
    return {
        "name": system.name, "label": system.label, "kind": system.kind, "version": system.version,
        "fingerprint": system.fingerprint,
        "latent_rate": None if system.latent_rate is None else _short(system.latent_rate),
        "bytes_per_second": _short(rate),
        "seconds_encode": _short(sum(part["seconds_encode"] for part in parts)),
        "seconds_decode": _short(sum(part["seconds_decode"] for part in parts)),
        "notes": system.notes,
    }  # fmt: skip


def _measures(name: str, parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    for part in parts:
        for m in part["measures"]:
            values.setdefault((m["measure"], m["metric"], m["target"]), []).extend(m["values"])
    entries = []
    for (measure, metric, target), found in values.items():
        mean, low, high = mean_interval(found)
        entries.append(
            {
                "system": name, "measure": measure, "metric": metric, "target": target, "mean": _short(mean),
                "low": None if low is None else _short(low), "high": None if high is None else _short(high),
                "n": len(found), "values": [_short(v) for v in found],
            }
        )  # fmt: skip
    return entries


def _short(number: float) -> float:
    """Six significant digits."""
    return float(f"{number:.6g}")
