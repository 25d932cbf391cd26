"""Pad, repeat and crossfade: further edits in time, made of those in `algebra`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from . import algebra, timeline
from .curve import Fade
from .errors import LatError
from .signal import Lazy, Read, Signal, signed_levels, stored, width
from .stored import Stored, joined, silence


def pad(signal: Signal, before: int, after: float = 0.0) -> Lazy:
    """A signal with silence around it.

    Args:
        signal: The signal.
        before: Frames of silence at the beginning.
        after: Silence at the end, s.

    Raises:
        LatError: a negative number, or more than 100 hours.
    """
    if before < 0 or not 0 <= after <= timeline.MAX_OFFSET:
        raise LatError(
            f"{signal.name or 'latents'}: cannot add {before} frames and {after} s of silence",
            "use 0 or more",
        )
    header = timeline.shifted(signal.header, before, signal.name)
    header = replace(header, num_samples=header.num_samples + round(Fraction(after) * header.sample_rate))
    frames = signal.header.frames
    plain = stored(signal)

    def pieces(start: int, stop: int) -> tuple[int, int, int, int]:
        """Silent frames at the beginning, frames of the signal from and to, silent frames at the end."""
        first, last = min(max(start, before), stop), max(min(stop, before + frames), start)
        if first >= last:
            return stop - start, 0, 0, 0
        return first - start, first - before, last - before, stop - last

    def padded(read: Read, rows: int, start: int, stop: int) -> np.ndarray:
        leading, first, last, trailing = pieces(start, stop)
        sound = read(first, last) if first < last else np.zeros((header.channels, rows, 0), np.float32)
        return np.pad(sound, ((0, 0), (0, 0), (leading, trailing)))

    def padded_stored(start: int, stop: int) -> Stored:
        assert plain is not None
        leading, first, last, trailing = pieces(start, stop)
        sound = [plain(first, last)] if first < last else []
        known = sound[0].known if sound else plain(0, 0).known
        parts = [silence(header, signal.dtype, n, known) for n in (leading, trailing)]
        chosen = [part for part in (parts[0], *sound, parts[1]) if part.frames]
        return joined(chosen or parts[:1])

    return Lazy(
        header,
        signal.dtype,
        lambda a, b: padded(signal.read, header.latent_dim, a, b),
        lambda a, b: padded(lambda x, y: signed_levels(signal, x, y), header.level_count, a, b).astype(np.complex64),
        (*_steps(signal), {"op": "pad", "before_frames": before, "after": after}),
        _origin(signal),
        signal.name,
        signal.tags,
        width(signal),
        stored=None if plain is None else padded_stored,
        seams=(before, before + frames),
    )


def repeat(signal: Signal, times: int) -> Lazy:
    """A signal several times in a row; every time but the last takes whole frames.

    Raises:
        LatError: fewer than one time.
    """
    if times < 1:
        raise LatError(f"{signal.name or 'latents'}: repeated {times} times", "use 1 or more")
    result = algebra.concat([signal] * times)
    steps = (*_steps(signal), {"op": "repeat", "times": times})
    return replace(result, steps=steps, origin=_origin(signal), name=signal.name, tags=signal.tags)


def crossfade(
    signals: Sequence[Signal], seconds: float, shape: str = "sine", *, sample_rate: int | None = None
) -> tuple[Lazy, list[timeline.Position]]:
    """Signals one after another, each fading in while the one before it fades out.

    Args:
        signals: Two or more.
        seconds: How long two are heard at once.
        shape: Of the fades; see `curve.shaped`.
        sample_rate: As in `algebra.mix`.

    Returns:
        The result, and where each signal but the first begins in the one before it, rounded to frames.

    Raises:
        LatError: fewer than two signals, or one is shorter than the fade.
        IncompatibleError: they do not belong together.
    """
    if len(signals) < 2:
        raise LatError("a crossfade needs two signals", "name two .lat files")
    for signal in signals:
        if not 0 < seconds <= signal.header.duration:
            name = signal.name or "latents"
            raise LatError(f"a crossfade of {seconds:g} s is longer than {name}", "make it shorter")
    positions: list[timeline.Position] = []
    offsets, faded = [0], []
    fade_in = 0.0
    for i, signal in enumerate(signals):
        fade_out, length = 0.0, signal.header.duration
        if i < len(signals) - 1:
            begin = timeline.offset(signal.header, length - seconds, signal.name)
            fade_out = length - begin.seconds  # the next signal begins on a frame
            positions.append(begin)
            offsets.append(offsets[-1] + begin.frame)
        faded.append(algebra.gain(signal, Fade(length, fade_in, fade_out, shape)))
        fade_in = fade_out
    return algebra.mix(faded, offsets=offsets, sample_rate=sample_rate), positions


def _steps(signal: Signal) -> tuple[dict[str, Any] | Callable[[], dict[str, Any]], ...]:
    return signal.steps if isinstance(signal, Lazy) else ()


def _origin(signal: Signal) -> Signal | None:
    return signal.origin if isinstance(signal, Lazy) else signal
