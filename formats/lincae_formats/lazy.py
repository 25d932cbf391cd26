"""The algebra, computed as it is read: mixing, volume, and the timeline, over files of any length.

Every function takes signals (open files, latents, other results) and gives a `Lazy`; `write_lat` writes one in constant
memory. `algebra` has the same on latents in memory.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from . import curve, summation, timeline
from .compatible import check_compatible
from .curve import Gain
from .errors import IncompatibleError, LatError, NonFiniteError
from .header import Header
from .history import Entry
from .signal import Lazy, Signal, Stored, source_record, stored, width

LENGTHS = ("longest", "shortest", "first")


def gain(signal: Signal, by: float | Gain, *, offset: int = 0) -> Lazy:
    """`by` times a signal; a factor may be 0 or negative.

    Args:
        signal: What to make louder or softer.
        by: A finite factor, or a function of time, evaluated in the middle of each frame.
        offset: The frame of the function's timeline that the signal begins at.

    Raises:
        NonFiniteError: the factor is NaN or infinite; on reading: the result leaves float32.
    """
    if isinstance(by, (int, float, np.number)):
        factor = check_gain(by, signal)
        return _step(signal, {"op": "gain", "factor": factor}, lambda a, b: _scaled(signal, a, b, factor))

    def compute(start: int, stop: int) -> np.ndarray:
        factors = curve.factors(by, signal.header, start + offset, stop + offset)
        if (factors == 1.0).all():
            return signal.read(start, stop)
        with np.errstate(over="ignore"):
            return _finite(signal.read(start, stop) * factors, signal.name)

    return _step(signal, {**by.entry(), **({"offset_frames": offset} if offset else {})}, compute)


def cut(signal: Signal, start: int, stop: int) -> Lazy:
    """The frames `[start, stop)` of a signal.

    Raises:
        LatError: they are not within it, or none.
    """
    if not 0 <= start < stop <= signal.header.frames:
        raise LatError(f"{signal.name}: frames {start} to {stop} are not within 0 to {signal.header.frames}")
    entry = {"op": "slice", "start_frame": start, "stop_frame": stop}
    header = timeline.cut(signal.header, start, stop)
    result = _step(signal, entry, lambda a, b: signal.read(a + start, b + start), header)
    plain = stored(signal)
    return result if plain is None else replace(result, stored=lambda a, b: plain(a + start, b + start))


def shift(signal: Signal, frames: int) -> Lazy:
    """A signal that begins later, after silence; or, with negative frames, without its beginning.

    Raises:
        LatError: nothing is left.
    """
    header = timeline.shifted(signal.header, frames, signal.name)

    def compute(start: int, stop: int) -> np.ndarray:
        silent = min(max(frames - start, 0), stop - start)
        if not silent:
            return signal.read(start - frames, stop - frames)
        block = np.zeros((*header.shape[:2], stop - start), np.float32)
        if start + silent < stop:
            block[:, :, silent:] = signal.read(0, stop - frames)
        return block

    return _step(signal, {"op": "shift", "frames": frames}, compute, header)


def concat(signals: Sequence[Signal], *, sample_rate: int | None = None) -> Lazy:
    """Signals one after the other; every one but the last takes whole frames. Mono ones are heard on every channel.

    Raises:
        IncompatibleError: they do not belong together.
        LatError: there are none.
    """
    parts = list(signals)
    if not parts:
        raise LatError("nothing to join", "name at least one .lat file")
    check_compatible([s.header for s in parts], _names(parts), sample_rate=sample_rate)
    header = timeline.joined([_at_rate(s.header, sample_rate) for s in parts])
    starts = [0]
    for signal in parts:
        starts.append(starts[-1] + signal.header.frames)

    def joined(reads: Sequence[Stored], start: int, stop: int) -> np.ndarray:
        blocks = []
        for i in range(bisect_right(starts, start) - 1, bisect_left(starts, stop)):
            first, last = max(start, starts[i]), min(stop, starts[i + 1])
            blocks.append(_spread(reads[i](first - starts[i], last - starts[i]), header.channels))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)

    def entry() -> Entry:
        return _entry({"op": "concat"}, [source_record(s) for s in parts], sample_rate)

    dtype, reads = _dtype(parts), [s.read for s in parts]
    plain = [read for s in parts if s.dtype == dtype and (read := stored(s)) is not None]
    return Lazy(
        header,
        dtype,
        lambda start, stop: joined(reads, start, stop),
        (entry,),
        width=2 * max(width(s) for s in parts),
        stored=(lambda start, stop: joined(plain, start, stop)) if len(plain) == len(parts) else None,
        seams=tuple(starts),
    )


def mix(
    signals: Sequence[Signal],
    gains: Sequence[float] | None = None,
    *,
    offsets: Sequence[int] | None = None,
    length: str | Header = "longest",
    sample_rate: int | None = None,
    entry: Entry | None = None,
) -> Lazy:
    """The sum of `gain * signal`, each from its offset on; what lies before the beginning is left out.

    Mono operands are added to every channel; shorter ones are followed by silence. The order of the operands
    does not change one bit of the result's data.

    Args:
        signals: One or more.
        gains: One finite factor each; all 1 by default.
        offsets: The frame of the result that each begins at; negative before its beginning.
        length: `longest`, `shortest` or `first`: the operand whose end is the result's; or the result's header.
        sample_rate: Rate of the result, Hz, where the operands' rates differ; nothing is resampled, for
            latents share one timeline.
        entry: What the history says of it beside the operands; `{"op": "mix"}` by default.

    Raises:
        IncompatibleError: the operands do not belong together.
        NonFiniteError: a gain is NaN or infinite; on reading: the result leaves float32.
        LatError: no operands, another number of gains or offsets, or an unknown `length`.
    """
    parts = list(signals)
    factors = [1.0] * len(parts) if gains is None else list(gains)
    places = [0] * len(parts) if offsets is None else list(offsets)
    if not parts:
        raise LatError("nothing to mix", "name at least one .lat file")
    if not len(parts) == len(factors) == len(places):
        raise LatError(f"{len(parts)} operands but {len(factors)} gains and {len(places)} offsets")
    factors = [check_gain(factor, signal) for factor, signal in zip(factors, parts, strict=True)]
    check_compatible([s.header for s in parts], _names(parts), sample_rate=sample_rate)
    if isinstance(length, Header):
        header = length
    else:
        placed = [
            timeline.shifted(s.header, at, s.name) if at else s.header for s, at in zip(parts, places, strict=True)
        ]
        header = result_header(placed, length, sample_rate)
    label = " and ".join(s.name or "latents" for s in parts[:2])

    def terms(start: int, stop: int) -> Iterator[summation.Term]:
        for signal, factor, at in zip(parts, factors, places, strict=True):
            first, last = max(start, at), min(stop, at + signal.header.frames)
            if first < last:
                yield first - start, _scaled(signal, first - at, last - at, factor)

    def compute(start: int, stop: int) -> np.ndarray:
        total = summation.Total((*header.shape[:2], stop - start))
        for at, term in terms(start, stop):
            total.add(at, term)
        if not total.exact:  # rare: all terms at once, a few frames at a time
            step = max(16, 2**22 // sum(width(s) for s in parts))
            for at in range(start, stop, step):
                if again := list(terms(at, min(at + step, stop))):
                    total.repair(at - start, again)
        return _finite(total.rounded(), label)

    def record() -> Entry:
        operands = [
            {**source_record(s), "gain": factor, **({"offset_frames": at} if at else {})}
            for s, factor, at in zip(parts, factors, places, strict=True)
        ]
        named = {"length": length} if isinstance(length, str) and length != "longest" else {}
        return _entry(entry or {"op": "mix", **named}, operands, sample_rate)

    held = 4 * header.channels * header.latent_dim + max(width(s) for s in parts)
    return Lazy(header, _dtype(parts), compute, (record,), width=held)


def subtract(
    whole: Signal,
    parts: Sequence[Signal],
    gains: Sequence[float] | None = None,
    *,
    offsets: Sequence[int] | None = None,
    sample_rate: int | None = None,
) -> Lazy:
    """`whole` minus every part, as long as `whole`.

    Args:
        whole: What to take from.
        parts: What to take out.
        gains: A factor for each part; all 1 by default.
        offsets: The frame of `whole` that each part begins at.
        sample_rate: As in `mix`.

    Raises:
        IncompatibleError: the operands do not belong together, or a part has more channels than `whole`.
        LatError: no parts.
    """
    if not parts:
        raise LatError("nothing to subtract", "name at least one part")
    for part in parts:
        if part.header.channels > whole.header.channels:
            raise IncompatibleError(
                f"{part.name or 'latents'} has {part.header.channels} channels, "
                f"{whole.name or 'latents'} has {whole.header.channels}",
                "encode the parts with --mono",
            )
    factors = [1.0] * len(parts) if gains is None else gains
    return mix(
        [whole, *parts],
        [1.0, *(-f for f in factors)],
        offsets=[0, *(offsets or [0] * len(parts))],
        length="first",
        sample_rate=sample_rate,
        entry={"op": "subtract"},
    )


def result_header(headers: Sequence[Header], length: str, sample_rate: int | None) -> Header:
    """The header of a sum.

    Raises:
        LatError: an unknown `length`.
        HeaderError: a sample rate out of range.
    """
    if length not in LENGTHS:
        raise LatError(f"length is {length!r}", f"use one of {', '.join(LENGTHS)}")
    seconds = [Fraction(h.num_samples, h.sample_rate) for h in headers]
    wanted = {"longest": max(seconds), "shortest": min(seconds), "first": seconds[0]}[length]
    chosen = headers[seconds.index(wanted)]
    base = replace(
        chosen, channels=max(h.channels for h in headers), model=min(h.model for h in headers)
    )  # names of one fingerprint may differ; the least does not depend on the order
    return _at_rate(base, sample_rate)


def check_gain(factor: float, signal: Signal) -> float:
    """A finite gain that float32 holds.

    Raises:
        NonFiniteError: it is none.
    """
    value = float(factor)
    if not math.isfinite(value) or abs(value) > 3.4e38:
        raise NonFiniteError(f"{signal.name or 'latents'}: the gain is {value}", "use a finite number")
    return value


def _at_rate(header: Header, sample_rate: int | None) -> Header:
    if sample_rate is None or sample_rate == header.sample_rate:
        return header
    other = replace(header, sample_rate=sample_rate)
    other.validate("--sample-rate")
    return other.with_length(Fraction(header.num_samples * sample_rate, header.sample_rate), header.frames)


def _step(
    signal: Signal, entry: Entry, compute: Callable[[int, int], np.ndarray], header: Header | None = None
) -> Lazy:
    """What is computed from one signal, with one more step in its history."""
    lazy = signal if isinstance(signal, Lazy) else None
    return Lazy(
        header or signal.header,
        signal.dtype,
        compute,
        (*(lazy.steps if lazy else ()), entry),
        lazy.origin if lazy else signal,
        signal.name,
        signal.tags,
        width(signal),
    )


def _entry(given: Entry, operands: list[Entry], sample_rate: int | None) -> Entry:
    rate = {} if sample_rate is None else {"sample_rate": sample_rate}
    return {**given, "operands": operands, **rate}


def _scaled(signal: Signal, start: int, stop: int, factor: float) -> np.ndarray:
    block = signal.read(start, stop)
    if factor == 1.0:
        return block
    with np.errstate(over="ignore"):
        scaled = block * np.float32(factor)
    return scaled if abs(factor) <= 1 else _finite(scaled, signal.name)


def _spread(block: np.ndarray, channels: int) -> np.ndarray:
    return block if block.shape[0] == channels else np.broadcast_to(block, (channels, *block.shape[1:]))


def _finite(data: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(data).all():
        raise NonFiniteError(f"the result of {name or 'latents'} is beyond float32", "use smaller gains")
    return data


def _dtype(signals: Sequence[Signal]) -> str:
    return "float16" if all(s.dtype == "float16" for s in signals) else "float32"


def _names(signals: Sequence[Signal]) -> list[str]:
    return [s.name or f"operand {i + 1}" for i, s in enumerate(signals)]
