"""Histories as trees: from what a file was made, and how."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Entry = dict[str, Any]

_POINTS = 6  # of a curve that are shown


@dataclass
class Step:
    """A line of the tree and what hangs from it."""

    label: str
    children: "list[Step]" = field(default_factory=list)


def tree(name: str, history: list[Any], frame_seconds: float) -> Step:
    """A file and its steps, oldest first; from a step that adds or joins hang its operands, each with its own.

    Args:
        name: What to call the file.
        history: As stored.
        frame_seconds: Length of a frame, s.
    """
    return Step(name, [_step(entry, frame_seconds) for entry in history])


def _step(entry: Any, frame: float) -> Step:
    if not isinstance(entry, dict):
        return Step(str(entry))
    operands = entry.get("operands")
    less = entry.get("op") == "subtract"
    children = [_operand(o, frame, less) for o in operands] if isinstance(operands, list) else []
    try:
        words = _WORDS.get(str(entry.get("op")), _any)(entry, frame)
    except (KeyError, TypeError, ValueError, IndexError):
        words = _any(entry, frame)  # another program's idea of the same operation
    return Step(words, children)


def _operand(operand: Any, frame: float, less: bool) -> Step:
    if not isinstance(operand, dict):
        return Step(str(operand))
    words = [str(operand.get("name") or "latents in memory")]
    gain, offset = operand.get("gain", 1), operand.get("offset_frames", 0)
    if less and isinstance(gain, int | float) and gain < 0:
        words, gain = [f"less {words[0]}"], -gain
    words += [_gain(gain)] if isinstance(gain, int | float) and gain != 1 else []
    words += [f"at {_clock(offset * frame)}"] if isinstance(offset, int) and offset else []
    steps = [entry for key in ("history", "steps") for entry in operand.get(key) or [] if isinstance(entry, dict)]
    return Step("  ".join(words), [_step(entry, frame) for entry in steps])


def _encode(entry: Entry, frame: float) -> str:
    del frame
    return f"encode {entry['source']}" + (f"  ({entry['model']})" if "model" in entry else "")


def _volume(entry: Entry, frame: float) -> str:
    if "curve" not in entry:
        return "invert" if entry["factor"] == -1 else f"gain {_gain(entry['factor'])}"
    points = [f"{_clock(time)} {_gain(factor)}" for time, factor in entry["curve"]]
    more = f", {len(points) - _POINTS} more" if len(points) > _POINTS else ""
    begin = f", heard from {_clock(entry['offset_frames'] * frame)}" if entry.get("offset_frames") else ""
    return f"gain curve: {', '.join(points[:_POINTS])}{more}{begin}"


def _slice(entry: Entry, frame: float) -> str:
    return f"slice {_clock(entry['start_frame'] * frame)} to {_clock(entry['stop_frame'] * frame)}"


def _shift(entry: Entry, frame: float) -> str:
    return f"shift by {_clock(entry['frames'] * frame)}"


def _fade(entry: Entry, frame: float) -> str:
    del frame
    parts = [f"{way} {_clock(entry[way])}" for way in ("in", "out") if entry[way]]
    return f"fade {', '.join(parts)}" + (f", {entry['shape']}" if entry["shape"] != "linear" else "")


def _render(entry: Entry, frame: float) -> str:
    del frame
    return f"render {entry['arrangement']}" + (f", variant {entry['variant']}" if "variant" in entry else "")


def _elided(entry: Entry, frame: float) -> str:
    del entry, frame
    return "... (what came before was too long to keep)"


def _any(entry: Entry, frame: float) -> str:
    del frame
    rest = [f"{key}={value}" for key, value in entry.items() if key not in ("op", "operands", "model_fingerprint")]
    return " ".join([str(entry.get("op")), *rest])


_WORDS: dict[str, Callable[[Entry, float], str]] = {
    "encode": _encode,
    "gain": _volume,
    "slice": _slice,
    "shift": _shift,
    "fade": _fade,
    "render": _render,
    "elided": _elided,
}


def _gain(factor: float) -> str:
    from lincae_formats.levels import decibels

    size = "silent" if factor == 0 else f"{decibels(abs(factor)):.1f} dB"
    return f"{size}, inverted" if factor < 0 else size


def _clock(seconds: float) -> str:
    from lincae_formats.notation import clock

    return clock(round(seconds, 3))
