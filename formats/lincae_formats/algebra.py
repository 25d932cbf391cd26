"""Arithmetic on latents, computed as it is read: gains, sums, and edits in time, over files of any length.

Every function takes signals (open files, latents in memory, other results) and gives a `Lazy`; times are in frames.
`write_lat` writes one in constant memory. Gains and edits in time of integers are exact; sums are rounded once, when
they are written.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, groupby, pairwise
from numbers import Real
from typing import Any

import numpy as np

from .errors import IncompatibleError, LatError, NonFiniteError
from .header import MAX_OFFSET, Entry, Group, Header, Position, common_tags, without_gain_tags
from .signal import DTYPES, UNHEARD, Block, Lazy, Signal, joined, layout, signed, source_record, unknown_levels

LENGTHS = ("longest", "shortest", "first")
FINER = 4.0  # by this much the steps of a sum are finer than those of its operands
FINEST = 1 / 16, 1 / 8  # relative steps of a sum are not made finer than this: groups without a level, with a level
MAX_POINTS = 1000  # of a curve
_LARGEST = 3.4e38  # of a gain

# Of fades: the factor at a part of their length, both from 0 to 1.
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda part: part,
    "sine": lambda part: np.sin(part * (np.pi / 2)),  # equal power in a crossfade
    "log": lambda part: 1 - np.where(part < 1, 10.0 ** (-3 * part), 0.0),  # `exp` upside down: fast at first
    "exp": lambda part: np.where(part > 0, 10.0 ** (3 * (part - 1)), 0.0),  # even in decibels from -60 dB
    "s-curve": lambda part: 0.5 - 0.5 * np.cos(part * np.pi),
}


# --- gains that change over time


@dataclass(frozen=True)
class Curve:
    """A gain curve: straight lines between points, constant before the first and after the last.

    Two points at the same time make a step. The curve is evaluated in the middle of each frame.

    Attributes:
        points: Times, s, never decreasing, and factors.
        decibels: Whether the lines are straight in decibels instead of in the factor; every factor is then above 0.

    Raises:
        LatError: no points, too many, decreasing times, or decibels of a factor that is not above 0.
        NonFiniteError: a time or factor is NaN or infinite, or beyond float32.
    """

    points: Sequence[tuple[float, float]]
    decibels: bool = False

    def __post_init__(self) -> None:
        points = tuple((float(t), float(f)) for t, f in self.points)
        if not 1 <= len(points) <= MAX_POINTS:
            raise LatError(f"a curve has {len(points)} points, must have 1 to {MAX_POINTS}")
        for t, f in points:
            if not math.isfinite(t) or not abs(f) <= _LARGEST:
                raise NonFiniteError(f"a curve's point is {t:g}:{f:g}", "use finite numbers")
            if self.decibels and f <= 0:
                raise LatError(f"a curve straight in decibels cannot reach the factor {f:g}", "end it at -80dB")
        for (a, _), (b, _) in pairwise(points):
            if b < a:
                raise LatError(f"a curve goes back from {a:g} s to {b:g} s", "put its points in the order of time")
        object.__setattr__(self, "points", points)

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The factors at those times, float64."""
        times, factors = np.array(self.points).T
        if not self.decibels:
            return np.interp(seconds, times, factors)
        return np.exp(np.interp(seconds, times, np.log(factors)))

    def entry(self) -> Entry:
        """Its entry in a history."""
        points = [list(point) for point in self.points]
        return {"op": "gain", "curve": points, **({"straight_in": "dB"} if self.decibels else {})}


@dataclass(frozen=True)
class Fade:
    """From silence at the beginning, and to silence at the end.

    Attributes:
        duration: Length of what is faded, s.
        fade_in: How long it rises, s; 0 for not at all.
        fade_out: How long it falls, s.
        shape: One of `SHAPES`.

    Raises:
        LatError: a negative or endless time, or an unknown shape.
    """

    duration: float
    fade_in: float = 0.0
    fade_out: float = 0.0
    shape: str = "linear"

    def __post_init__(self) -> None:
        for name, value in (("in", self.fade_in), ("out", self.fade_out)):
            if not 0 <= value < math.inf:
                raise LatError(f"a fade {name} of {value!r} s", "use seconds, 0 or more")
        if self.shape not in SHAPES:
            raise LatError(f"a fade's shape is {self.shape!r}", f"use one of {', '.join(SHAPES)}")

    def at(self, seconds: np.ndarray) -> np.ndarray:
        """The factors at those times, float64."""
        factors = np.ones_like(seconds)
        for length, since in ((self.fade_in, seconds), (self.fade_out, self.duration - seconds)):
            if length > 0:
                with np.errstate(over="ignore"):
                    factors *= SHAPES[self.shape](np.clip(since / length, 0.0, 1.0))
        return factors

    def entry(self) -> Entry:
        """Its entry in a history."""
        return {"op": "fade", "in": self.fade_in, "out": self.fade_out, "shape": self.shape}


Gain = Curve | Fade


def factors(gain: Gain, header: Header, start: int, stop: int) -> np.ndarray:
    """The float32 factors of the frames `[start, stop)`: those in the middle of each."""
    return gain.at((np.arange(start, stop) + 0.5) * float(header.frame_seconds)).astype(np.float32)


# --- one signal


def gain(signal: Signal, by: float | Gain, *, offset: int = 0) -> Lazy:
    """A signal times a factor, which may be 0 or negative, or times a curve. Exact for int8: only the scale changes.

    A curve is evaluated in the middle of each frame; the signal begins at frame `offset` of its timeline.

    Raises:
        NonFiniteError: the factor is NaN or infinite; on reading: the result is beyond float32.
        LatError: it is neither a number nor a `Gain`.
    """
    if isinstance(by, Gain):
        curve, factor = by, math.nan
        entry = {**curve.entry(), **({"offset_frames": offset} if offset else {})}
    else:
        curve, factor = None, check_gain(by, signal)
        entry = {"op": "gain", "factor": factor}

    def found(start: int, stop: int) -> Any:
        return factor if curve is None else factors(curve, signal.header, start + offset, stop + offset)

    integers = signal.dtype == "int8"
    result = step(
        signal,
        entry,
        lambda start, stop: signal.block(start, stop).scaled(found(start, stop), signal.name),
        rounded=integers and signal.rounded,
        tags=signal.tags if abs(factor) == 1.0 else without_gain_tags(signal.tags),
    )
    file = signal.copies if isinstance(signal, Lazy) else signal
    scale = getattr(signal, "scale", None)
    if not integers or file is None or scale is None:
        return result

    def scales(start: int, stop: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return np.asarray(scale(start, stop) * np.float32(found(start, stop)))

    return replace(result, copies=file, scale=scales)


def cut(signal: Signal, start: int, stop: int) -> Lazy:
    """The frames `[start, stop)` of a signal.

    Raises:
        LatError: they are not within it, or there are none.
    """
    if not 0 <= start < stop <= signal.header.frames:
        raise LatError(f"{signal.name}: frames {start} to {stop} are not within 0 to {signal.header.frames}")
    entry = {"op": "slice", "start_frame": start, "stop_frame": stop}
    return _window(signal, start, signal.header.part(start, stop), entry)


def shift(signal: Signal, frames: int) -> Lazy:
    """A signal that begins later, after silence; or, with negative frames, without its beginning.

    Raises:
        LatError: nothing is left.
    """
    return _window(signal, -frames, signal.header.shifted(frames, signal.name), {"op": "shift", "frames": frames})


def pad(signal: Signal, before: int, after: float = 0.0) -> Lazy:
    """A signal with silence around it: frames before, seconds after.

    Raises:
        LatError: a negative number, or more than 100 hours.
    """
    if before < 0 or not 0 <= after <= MAX_OFFSET:
        raise LatError(f"{signal.label}: cannot add {before} frames and {after} s of silence", "use 0 or more")
    header = signal.header.shifted(before, signal.name)
    header = replace(header, num_samples=header.num_samples + round(Fraction(after) * header.sample_rate))
    entry = {"op": "pad", "before_frames": before, "after": after}
    return replace(_window(signal, -before, header, entry), seams=(before, before + signal.header.frames))


def repeat(signal: Signal, times: int) -> Lazy:
    """A signal several times in a row; every time but the last takes whole frames.

    Raises:
        LatError: fewer than one time.
    """
    if times < 1:
        raise LatError(f"{signal.label}: repeated {times} times", "use 1 or more")
    like = step(signal, {"op": "repeat", "times": times}, signal.block)
    return replace(concat([signal] * times), steps=like.steps, origin=like.origin, name=like.name, tags=like.tags)


def requantised(signal: Signal, groups: tuple[Group, ...] | None = None, dtype: str = "int8") -> Lazy:
    """A signal with groups of other steps or in another storage type, rounded when it is written.

    Raises:
        IncompatibleError: the groups have other sizes or levels, or there are none for int8.
    """
    given = signal.header
    header = replace(given, groups=given.groups if groups is None else groups)
    header.validate(signal.label)
    if given.groups and _group_shape(header) != _group_shape(given):
        raise IncompatibleError(f"{signal.label}: the groups have other sizes", "use the model's own")
    if dtype == "int8" and not header.groups:
        raise IncompatibleError(f"{signal.label} has no groups for integers", "use --dtype float16")
    same = header.groups == given.groups and dtype == signal.dtype
    compute = signal.block if same else lambda start, stop: _floats(signal, start, stop, header)
    result = step(signal, None, compute, header, rounded=same and signal.rounded, seams=signal.seams)
    return replace(result, dtype=dtype)


# --- several signals


def concat(signals: Sequence[Signal], *, sample_rate: int | None = None) -> Lazy:
    """Signals one after the other; every one but the last takes whole frames. Mono ones are put on every channel.

    Exact for int8 where the parts have the same groups.

    Raises:
        IncompatibleError: they do not belong together.
        LatError: there are none.
    """
    parts = _checked(signals, "nothing to join", sample_rate)
    dtype = _dtype(parts)
    given = [_at_rate(s.header, sample_rate) for s in parts]
    header = replace(
        given[-1].shifted(sum(h.frames for h in given[:-1])),
        channels=max(h.channels for h in given),
        model=min(h.model for h in given),
        groups=_finest(given),
    )
    exact = all(_same_steps(s, dtype, header) and s.rounded for s in parts)
    starts = [0, *accumulate(h.frames for h in given)]

    def compute(start: int, stop: int) -> Block:
        spans = [(s, max(start - at, 0), min(stop - at, s.header.frames)) for s, at in zip(parts, starts, strict=False)]
        spans = [(s, a, b) for s, a, b in spans if a < b] or [(parts[0], 0, 0)]
        found = [s.block(a, b) if exact else _floats(s, a, b, header) for s, a, b in spans]
        return joined([block.spread(header.channels) for block in found])

    def record() -> Entry:
        return _entry({"op": "concat"}, [source_record(s) for s in parts], sample_rate)

    tags = common_tags([s.tags for s in parts]) if len(parts) > 1 else parts[0].tags
    held = 2 * max(s.width for s in parts)
    return Lazy(header, dtype, compute, (record,), tags=tags, width=held, rounded=exact, seams=tuple(starts))


def crossfade(
    signals: Sequence[Signal], seconds: float, shape: str = "sine", *, sample_rate: int | None = None
) -> tuple[Lazy, list[Position]]:
    """Signals one after another, each fading in while the one before it fades out: two at once for so many seconds.

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
            raise LatError(f"a crossfade of {seconds:g} s is longer than {signal.label}", "make it shorter")
    ends = [signal.header.duration for signal in signals]
    positions = [s.header.offset(end - seconds, s.name) for s, end in zip(signals[:-1], ends, strict=False)]
    # The next signal begins on a frame, so that fades differ in length.
    fades = [0.0, *(end - begin.seconds for end, begin in zip(ends, positions, strict=False)), 0.0]
    faded = [gain(s, Fade(s.header.duration, i, o, shape)) for s, i, o in zip(signals, fades, fades[1:], strict=False)]
    offsets = [0, *accumulate(begin.frame for begin in positions)]
    return mix(faded, offsets=offsets, sample_rate=sample_rate), positions


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

    Mono operands are added to every channel; shorter ones are followed by silence. Levels add as powers; powers of
    operands whose sign is not that of the first are subtracted, and the level is then uncertain. For int8 the relative
    steps of the result are a quarter of the finest of the operands.

    Args:
        signals: One or more.
        gains: One finite factor each; all 1 by default.
        offsets: The frame of the result at which each begins; negative before its beginning.
        length: `longest`, `shortest` or `first`: the operand whose end is the result's; or the result's header.
        sample_rate: Rate of the result, Hz, where the operands' rates differ; nothing is resampled, for latents share
            one timeline.
        entry: What the history says beside the operands; `{"op": "mix"}` by default.

    Raises:
        IncompatibleError: the operands do not belong together.
        NonFiniteError: a gain is NaN or infinite; on reading: the result is beyond float32.
        LatError: no operands, another number of gains or offsets, or an unknown `length`.
    """
    parts = _checked(signals, "nothing to mix", sample_rate)
    given = [1.0] * len(parts) if gains is None else list(gains)
    places = [0] * len(parts) if offsets is None else list(offsets)
    if not len(parts) == len(given) == len(places):
        raise LatError(f"{len(parts)} operands but {len(given)} gains and {len(places)} offsets")
    terms = [(s, check_gain(f, s), at) for s, f, at in zip(parts, given, places, strict=True)]
    if isinstance(length, str):
        placed = [s.header.shifted(at, s.name) if at else s.header for s, _, at in terms]
        header = result_header(placed, length, sample_rate)
    else:
        header = length
    finer = [1.0 if isinstance(s, Lazy) and not s.rounded else FINER for s in parts]
    header = replace(header, groups=_finest([s.header for s in parts], finer, grid=1))

    def compute(start: int, stop: int) -> Block:
        total, levels = np.zeros((*header.shape[:2], stop - start)), []
        for signal, factor, at in terms:
            first, last = max(start, at), min(stop, at + signal.header.frames)
            if first >= last:
                continue
            found, there = signal.block(first - at, last - at), np.s_[:, :, first - start : last - start]
            numbers = Block(found.values(signal.header.groups)).scaled(factor, signal.name).data
            np.add(total[there], numbers, out=total[there])
            if factor != 0 and header.level_count:  # what is multiplied by 0 is known
                levels.append((_levels(found, signal.header, header) * np.float32(factor), there))
        data = as_float32(total, " and ".join(s.label for s in parts[:2]))
        return Block(data, levels=_summed((header.channels, header.level_count, stop - start), levels))

    def record() -> Entry:
        operands = [
            {**source_record(s), "gain": factor, **({"offset_frames": at} if at else {})} for s, factor, at in terms
        ]
        named = {"length": length} if isinstance(length, str) and length != "longest" else {}
        return _entry(entry or {"op": "mix", **named}, operands, sample_rate)

    held = 4 * header.channels * header.latent_dim + max(s.width for s in parts)
    return Lazy(header, _dtype(parts), compute, (record,), tags=common_tags([s.tags for s in parts]), width=held)


def as_float32(total: np.ndarray, label: str) -> np.ndarray:
    """A result as float32.

    Raises:
        NonFiniteError: a number is beyond that.
    """
    with np.errstate(over="ignore"):
        data = total.astype(np.float32)
    if not np.isfinite(data).all():
        raise NonFiniteError(f"the result of {label} is beyond float32", "use smaller gains")
    return data


def _summed(shape: tuple[int, ...], operands: Sequence[tuple[np.ndarray, Any]]) -> np.ndarray:
    """Levels of a sum: the powers of those that have the sign of the first, less the powers of the others.

    Each operand has levels, see `signal.signed`, and a place in the result, which has `shape`.
    """
    if all(not np.iscomplexobj(found) and (found >= 0).all() for found, _ in operands):
        total = np.zeros(shape)  # known levels of one sign
        for found, there in operands:
            total[there] += np.square(found, dtype=np.float64)
        with np.errstate(over="ignore"):
            return np.sqrt(total).astype(np.float32)
    added, taken, first_sign = np.zeros(shape), np.zeros(shape), np.zeros(shape)  # powers of both signs
    uncertain = np.zeros(shape, bool)
    for found, there in operands:
        side = (found.real + found.imag).astype(np.float64)
        added[there] += np.square(np.where(side < 0, 0.0, side))
        taken[there] += np.square(np.where(side > 0, 0.0, side))
        first_sign[there] = np.where(first_sign[there] == 0, np.sign(side), first_sign[there])
        uncertain[there] |= found.imag != 0
    uncertain |= (added > 0) & (taken > 0)
    with np.errstate(over="ignore"):
        size = np.sqrt(np.maximum((added - taken) * first_sign, 0.0)).astype(np.float32)
    return (first_sign * estimated(size, uncertain & ~np.isnan(size))).astype(np.complex64)


def estimated(levels: np.ndarray, uncertain: np.ndarray) -> np.ndarray:
    """Levels from 0 on with those marked that are uncertain, see `signal.signed`."""
    return np.where(uncertain, 1j * np.maximum(levels, UNHEARD), levels).astype(np.complex64)


def subtract(
    whole: Signal,
    parts: Sequence[Signal],
    gains: Sequence[float] | None = None,
    *,
    offsets: Sequence[int] | None = None,
    sample_rate: int | None = None,
) -> Lazy:
    """`whole` minus every part, as long as `whole`; gains, offsets and sample rate are those of `mix`.

    Raises:
        IncompatibleError: the operands do not belong together, or a part has more channels than `whole`.
        LatError: no parts.
    """
    if not parts:
        raise LatError("nothing to subtract", "name at least one part")
    for part in _signals([whole, *parts]):
        a, b = part.header.channels, whole.header.channels
        if a > b:
            what = f"{part.label} has {a} channels, {whole.label} has {b}"
            raise IncompatibleError(what, "encode the parts with --mono")
    return mix(
        [whole, *parts],
        [1.0, *(-check_gain(f, whole) for f in gains or [1.0] * len(parts))],
        offsets=[0, *(offsets or [0] * len(parts))],
        length="first",
        sample_rate=sample_rate,
        entry={"op": "subtract"},
    )


# --- which operands belong together


def check_compatible(
    headers: Sequence[Any], names: Sequence[str] | None = None, *, sample_rate: int | None = None
) -> None:
    """Checks that latents with these headers (or signals, or anything with a header) can be added.

    Error messages call them by `names`. A sample rate is given where different ones are meant.

    Raises:
        IncompatibleError: naming two operands, what differs, and what to type next.
    """
    found = [getattr(each, "header", each) for each in headers]
    labels = names or [getattr(each, "name", "") or f"operand {i + 1}" for i, each in enumerate(headers)]
    for header, label in zip(found[1:], labels[1:], strict=True):
        _check_pair(found[0], labels[0], header, label, sample_rate)
    many = [(header.channels, label) for header, label in zip(found, labels, strict=True) if header.channels > 1]
    for channels, label in many[1:]:
        if channels != many[0][0]:
            what = f"{many[0][1]} has {many[0][0]} channels, {label} has {channels}"
            raise IncompatibleError(what, "encode one of them again with --mono")


def _check_pair(a: Header, name_a: str, b: Header, name_b: str, sample_rate: int | None) -> None:
    both, again = f"{name_a} and {name_b}", f"encode {name_b}'s audio again with --model {a.model}"
    if a.model_fingerprint != b.model_fingerprint:
        what = f"models {a.model} and {b.model}" if a.model != b.model else f"two versions of the model {a.model}"
        raise IncompatibleError(f"{both} come from {what}", again)
    for key in ("latent_dim", "latent_scale", "model_sample_rate", "samples_per_frame"):
        if getattr(a, key) != getattr(b, key):
            raise IncompatibleError(f"{both} differ in {key}: {getattr(a, key)} and {getattr(b, key)}", again)
    if a.groups and b.groups and _group_shape(a) != _group_shape(b):
        raise IncompatibleError(f"{both} differ in their groups of latent dimensions", again)
    if a.sample_rate != b.sample_rate and sample_rate is None:
        what = f"{name_a} is at {a.sample_rate} Hz, {name_b} at {b.sample_rate} Hz"
        raise IncompatibleError(what, f"add --sample-rate {a.sample_rate}")


def result_header(headers: Sequence[Header], length: str, sample_rate: int | None) -> Header:
    """The header of a sum, but for the steps of its groups.

    Raises:
        LatError: an unknown `length`.
        HeaderError: a sample rate out of range.
    """
    if length not in LENGTHS:
        raise LatError(f"length is {length!r}", f"use one of {', '.join(LENGTHS)}")
    seconds = [Fraction(h.num_samples, h.sample_rate) for h in headers]
    wanted = {"longest": max(seconds), "shortest": min(seconds), "first": seconds[0]}[length]
    # Names of one fingerprint may differ; the smallest does not depend on the order.
    channels, model = max(h.channels for h in headers), min(h.model for h in headers)
    return _at_rate(replace(headers[seconds.index(wanted)], channels=channels, model=model), sample_rate)


def check_gain(factor: object, signal: Signal) -> float:
    """A finite gain that float32 can hold.

    Raises:
        LatError: it is not a number.
        NonFiniteError: it is NaN, infinite or beyond float32.
    """
    if not isinstance(factor, (Real, np.number)):
        raise LatError(f"{signal.label}: the gain is {factor!r}", "use a factor such as 0.5, or a Curve")
    value = float(factor)
    if not abs(value) <= _LARGEST:
        raise NonFiniteError(f"{signal.label}: the gain is {value}", "use a finite number")
    return value


def _group_shape(header: Header) -> list[tuple[int, bool]]:
    """Size of each group, and whether it has a level."""
    found = layout(header.groups)
    return list(zip(found.sizes.tolist(), found.level.tolist(), strict=True))


def _finest(
    headers: Sequence[Header], finer: Sequence[float] | None = None, grid: int | None = None
) -> tuple[Group, ...]:
    """The finest steps among some headers, each divided by `finer`, so that many sums in a row lose little."""
    distinct = {header.groups for header in headers if header.groups}
    if not distinct or (finer is None and len(distinct) == 1):
        return distinct.pop() if distinct else ()
    having = [(layout(h.groups), by) for h, by in zip(headers, finer or [1.0] * len(headers), strict=True) if h.groups]
    shape = having[0][0]
    finest = np.array(FINEST)[shape.level.astype(int)]
    steps = np.min([np.minimum(a.relative, np.maximum(a.relative / by, finest)) for a, by in having], axis=0)
    grids = np.full_like(shape.grid, grid) if grid else np.min([a.grid for a, _ in having], axis=0)
    rows = zip(*(a.tolist() for a in (shape.sizes, steps, grids, shape.level, shape.slots)), strict=True)
    runs = [(len(list(same)), row) for row, same in groupby(rows)]
    return tuple(
        Group(count, size, relative, each, level, 1 if count % slots else slots)
        for count, (size, relative, each, level, slots) in runs
    )


def _same_steps(signal: Signal, dtype: str, header: Header) -> bool:
    """Whether a signal's stored frames mean the same under another header: levels are fractions of steps."""
    if signal.dtype != dtype:
        return False
    if dtype != "int8":
        return bool(signal.header.groups) == bool(header.groups)
    a, b = layout(signal.header.groups), layout(header.groups)
    return bool((a.relative[a.level] == b.relative[b.level]).all())


def _at_rate(header: Header, sample_rate: int | None) -> Header:
    if sample_rate is None or sample_rate == header.sample_rate:
        return header
    other = replace(header, sample_rate=sample_rate)
    other.validate("--sample-rate")
    return other.with_length(Fraction(header.num_samples * sample_rate, header.sample_rate), header.frames)


# --- small parts


def step(
    signal: Signal,
    entry: Entry | None,
    compute: Callable[[int, int], Block],
    header: Header | None = None,
    **facts: Any,
) -> Lazy:
    """What is computed from one signal, with one more step in its history, unless that is None.

    Header and `facts`, other attributes of `Lazy`, are the signal's unless they are given.
    """
    steps, origin = (signal.steps, signal.origin) if isinstance(signal, Lazy) else ((), signal)
    steps = steps if entry is None else (*steps, entry)
    facts = {"tags": signal.tags, "width": signal.width, "rounded": signal.rounded, **facts}
    return Lazy(header or signal.header, signal.dtype, compute, steps, origin, signal.name, **facts)


def _window(signal: Signal, first: int, header: Header, entry: Entry) -> Lazy:
    """The signal from frame `first` on, which may lie before its beginning; there, and after its end, is silence."""
    frames = signal.header.frames

    def compute(start: int, stop: int) -> Block:
        a, b = (min(max(at + first, 0), frames) for at in (start, stop))
        sound = signal.block(a, b)
        before = min(max(-start - first, 0), stop - start)
        after = stop - start - before - sound.frames
        return joined([*[sound.silence(before)][: before > 0], sound, *[sound.silence(after)][: after > 0]])

    return step(signal, entry, compute, header)


def _floats(signal: Signal, start: int, stop: int, header: Header) -> Block:
    """Frames as a result with groups needs them: float32, levels unknown where the signal has no groups."""
    found = signal.block(start, stop)
    return Block(found.values(signal.header.groups), levels=_levels(found, signal.header, header).astype(np.complex64))


def _levels(block: Block, own: Header, header: Header) -> np.ndarray:
    if own.level_count == header.level_count:
        return block.signed_levels(own.groups)
    return signed(unknown_levels(own.channels, header.level_count, block.frames))


def _entry(given: Entry, operands: list[Entry], sample_rate: int | None) -> Entry:
    return {**given, "operands": operands, **({} if sample_rate is None else {"sample_rate": sample_rate})}


def _dtype(signals: Sequence[Signal]) -> str:
    """int8 if all are, float32 if any is, float16 otherwise."""
    return max((signal.dtype for signal in signals), key=list(DTYPES).index)


def _signals(operands: Sequence[Any]) -> Sequence[Signal]:
    for operand in operands:
        if not isinstance(operand, Signal):
            raise LatError(f"{operand!r} is not latents", "give what read_lat() or LatReader() returns")
    return operands


def _checked(operands: Sequence[Any], nothing: str, sample_rate: int | None) -> list[Signal]:
    """Operands that are signals, at least one, and belong together; else LatError."""
    if not operands:
        raise LatError(nothing, "name at least one .lat file")
    check_compatible(_signals(operands), sample_rate=sample_rate)
    return list(operands)
