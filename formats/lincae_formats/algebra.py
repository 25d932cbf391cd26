"""Arithmetic on latents, computed as it is read: gain, mix, subtract, cut, shift, concat, over files of any length.

Every function takes signals (open files, latents in memory, other results) and gives a `Lazy`; times are in frames.
`write_lat` writes one in constant memory. Gain, cut, shift and concat of integers are exact; sums are rounded once,
when they are written.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import groupby

import numpy as np

from . import curve, timeline
from .curve import Gain
from .errors import IncompatibleError, LatError, NonFiniteError
from .header import Group, Header
from .history import Entry, common_tags, without_gain_tags
from .signal import Lazy, Read, Signal, signed_levels, source_record, stored, width
from .stored import SCALE_MAX, UNHEARD, Stored, joined, layout, signed, silence, unknown

LENGTHS = ("longest", "shortest", "first")
FINER = 4.0  # by this much the steps of a sum are finer than those of its operands
FINEST = 1 / 16, 1 / 8  # relative steps of a sum are not made finer than this: groups without a level, with a level


def gain(signal: Signal, by: float | Gain, *, offset: int = 0) -> Lazy:
    """A signal times a factor, which may be 0 or negative, or times a curve. Exact for int8: only the scale changes.

    Args:
        signal: The signal.
        by: A finite factor, or a function of time, evaluated in the middle of each frame.
        offset: The frame of the function's timeline at which the signal begins.

    Raises:
        NonFiniteError: the factor is NaN or infinite; on reading: the result is beyond float32.
    """
    if isinstance(by, (int, float, np.number)):
        factor = check_gain(by, signal)
        entry: Entry = {"op": "gain", "factor": factor}

        def factors(start: int, stop: int) -> np.ndarray | float:
            return factor
    else:
        entry = {**by.entry(), **({"offset_frames": offset} if offset else {})}

        def factors(start: int, stop: int) -> np.ndarray | float:
            return curve.factors(by, signal.header, start + offset, stop + offset)

    def compute(start: int, stop: int) -> np.ndarray:
        return _times(signal.read(start, stop), factors(start, stop), signal.name)

    def levels(start: int, stop: int) -> np.ndarray:
        with np.errstate(over="ignore"):
            return signed_levels(signal, start, stop) * np.float32(factors(start, stop))

    plain = stored(signal) if signal.dtype == "int8" else None
    result = _step(signal, entry, compute, levels)
    if entry.get("factor") not in (1.0, -1.0):
        result = replace(result, tags=without_gain_tags(result.tags))
    if plain is None:
        return result
    file, scale = (signal.copies, signal.scale) if isinstance(signal, Lazy) else (signal, None)
    if scale is None:
        scale = getattr(file, "scale", None)
    read_stored, read_scale = plain, scale

    def scaled(start: int, stop: int) -> Stored:
        return _scaled(read_stored(start, stop), factors(start, stop), signal.name)

    def scales(start: int, stop: int) -> np.ndarray:
        assert read_scale is not None
        with np.errstate(over="ignore"):
            return read_scale(start, stop) * np.float32(factors(start, stop))

    exact = replace(result, compute=lambda start, stop: scaled(start, stop).values(signal.header.groups), stored=scaled)
    return exact if read_scale is None else replace(exact, copies=file, scale=scales)


def cut(signal: Signal, start: int, stop: int) -> Lazy:
    """The frames `[start, stop)` of a signal.

    Raises:
        LatError: they are not within it, or there are none.
    """
    if not 0 <= start < stop <= signal.header.frames:
        raise LatError(f"{signal.name}: frames {start} to {stop} are not within 0 to {signal.header.frames}")
    entry = {"op": "slice", "start_frame": start, "stop_frame": stop}
    header = timeline.cut(signal.header, start, stop)
    result = _step(
        signal,
        entry,
        lambda a, b: signal.read(a + start, b + start),
        lambda a, b: signed_levels(signal, a + start, b + start),
        header,
    )
    plain = stored(signal)
    return result if plain is None else replace(result, stored=lambda a, b: plain(a + start, b + start))


def shift(signal: Signal, frames: int) -> Lazy:
    """A signal that begins later, after silence; or, with negative frames, without its beginning.

    Raises:
        LatError: nothing is left.
    """
    header = timeline.shifted(signal.header, frames, signal.name)

    def moved(read: Read, start: int, stop: int) -> np.ndarray:
        silent = min(max(frames - start, 0), stop - start)
        if not silent:
            return read(start - frames, stop - frames)
        sound = read(0, max(stop - frames, 0))
        return np.concatenate([np.zeros((*sound.shape[:2], silent), np.float32), sound], axis=2)

    def moved_stored(start: int, stop: int) -> Stored:
        assert plain is not None
        silent = min(max(frames - start, 0), stop - start)
        if not silent:
            return plain(start - frames, stop - frames)
        sound = plain(0, max(stop - frames, 0))
        return joined([silence(header, signal.dtype, silent, sound.known), sound])

    plain = stored(signal)
    result = _step(
        signal,
        {"op": "shift", "frames": frames},
        lambda a, b: moved(signal.read, a, b),
        lambda a, b: moved(lambda x, y: signed_levels(signal, x, y), a, b),
        header,
    )
    return result if plain is None else replace(result, stored=moved_stored)


def concat(signals: Sequence[Signal], *, sample_rate: int | None = None) -> Lazy:
    """Signals one after the other; every one but the last takes whole frames. Mono ones are put on every channel.

    Exact for int8 where the parts have the same groups.

    Raises:
        IncompatibleError: they do not belong together.
        LatError: there are none.
    """
    parts = list(signals)
    if not parts:
        raise LatError("nothing to join", "name at least one .lat file")
    check_compatible([s.header for s in parts], _names(parts), sample_rate=sample_rate)
    dtype = _dtype(parts)
    header = replace(
        timeline.joined([_at_rate(s.header, sample_rate) for s in parts]), groups=_finest([s.header for s in parts])
    )
    starts = [0]
    for signal in parts:
        starts.append(starts[-1] + signal.header.frames)

    def pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """Part, and its frames from and to."""
        for i in range(bisect_right(starts, start) - 1, bisect_left(starts, stop)):
            yield i, max(start, starts[i]) - starts[i], min(stop, starts[i + 1]) - starts[i]

    def compute(start: int, stop: int) -> np.ndarray:
        return _join([_spread(parts[i].read(a, b), header.channels) for i, a, b in pieces(start, stop)])

    def levels(start: int, stop: int) -> np.ndarray:
        return _join([_spread(_levels(parts[i], a, b, header), header.channels) for i, a, b in pieces(start, stop)])

    def record() -> Entry:
        return _entry({"op": "concat"}, [source_record(s) for s in parts], sample_rate)

    result = Lazy(
        header,
        dtype,
        compute,
        levels,
        (record,),
        tags=common_tags([s.tags for s in parts]) if len(parts) > 1 else parts[0].tags,
        width=2 * max(width(s) for s in parts),
        seams=tuple(starts),
    )
    plain = [read for s in parts if _same_steps(s, dtype, header) and (read := stored(s)) is not None]
    if len(plain) < len(parts):
        return result
    return replace(
        result,
        stored=lambda start, stop: joined([plain[i](a, b).spread(header.channels) for i, a, b in pieces(start, stop)]),
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
    header = replace(header, groups=_sum_groups(parts))
    label = " and ".join(s.name or "latents" for s in parts[:2])

    def terms(start: int, stop: int) -> Iterator[tuple[Signal, float, int, int, int]]:
        """Operands that sound there: signal, gain, its frames from and to, and where they begin in the block."""
        for signal, factor, at in zip(parts, factors, places, strict=True):
            first, last = max(start, at), min(stop, at + signal.header.frames)
            if first < last:
                yield signal, factor, first - at, last - at, first - start

    def compute(start: int, stop: int) -> np.ndarray:
        total = np.zeros((*header.shape[:2], stop - start))
        for signal, factor, first, last, at in terms(start, stop):
            there = total[:, :, at : at + last - first]
            np.add(there, _times(signal.read(first, last), factor, signal.name), out=there)
        with np.errstate(over="ignore"):
            return _finite(total.astype(np.float32), label)

    def levels(start: int, stop: int) -> np.ndarray:
        shape = (header.channels, header.level_count, stop - start)
        operands = [  # what is multiplied by 0 is known
            (_levels(signal, first, last, header) * np.float32(factor), np.s_[:, :, at : at + last - first])
            for signal, factor, first, last, at in terms(start, stop)
            if factor != 0
        ]
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
        estimate = 1j * np.maximum(size, UNHEARD)
        return (first_sign * np.where(uncertain & ~np.isnan(size), estimate, size)).astype(np.complex64)

    def record() -> Entry:
        operands = [
            {**source_record(s), "gain": factor, **({"offset_frames": at} if at else {})}
            for s, factor, at in zip(parts, factors, places, strict=True)
        ]
        named = {"length": length} if isinstance(length, str) and length != "longest" else {}
        return _entry(entry or {"op": "mix", **named}, operands, sample_rate)

    held = 4 * header.channels * header.latent_dim + max(width(s) for s in parts)
    tags = common_tags([s.tags for s in parts])
    return Lazy(header, _dtype(parts), compute, levels, (record,), tags=tags, width=held)


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
        whole: The mixture.
        parts: What to take out of it.
        gains: A factor for each part; all 1 by default.
        offsets: The frame of `whole` at which each part begins.
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


def requantised(signal: Signal, groups: tuple[Group, ...] | None = None, dtype: str = "int8") -> Lazy:
    """A signal with other steps or in another storage type, rounded when it is written.

    Args:
        signal: The signal.
        groups: The groups of the result, of the same sizes and levels; by default the signal's.
        dtype: Storage type of the result.

    Raises:
        IncompatibleError: the groups have other sizes or levels, or there are none for int8.
    """
    header = replace(signal.header, groups=signal.header.groups if groups is None else groups)
    header.validate(signal.name or "latents")
    shape = _group_shape(header)
    if signal.header.groups and shape != _group_shape(signal.header):
        raise IncompatibleError(f"{signal.name or 'latents'}: the groups have other sizes", "use the model's own")
    if dtype == "int8" and not header.groups:
        raise IncompatibleError(f"{signal.name or 'latents'} has no groups for integers", "use --dtype float16")
    lazy = signal if isinstance(signal, Lazy) else None
    return Lazy(
        header,
        dtype,
        lambda a, b: signal.read(a, b),
        lambda a, b: _levels(signal, a, b, header),
        lazy.steps if lazy else (),
        lazy.origin if lazy else signal,
        signal.name,
        signal.tags,
        width(signal),
        stored=stored(signal) if header.groups == signal.header.groups and dtype == signal.dtype else None,
        seams=getattr(signal, "seams", ()),
    )


# --- which operands belong together


def check_compatible(
    headers: Sequence[Header], names: Sequence[str] | None = None, *, sample_rate: int | None = None
) -> None:
    """Checks that latents can be added.

    Args:
        headers: Their headers (or anything that has one: latents, open files).
        names: What error messages call them.
        sample_rate: Given where different sample rates are meant, Hz.

    Raises:
        IncompatibleError: naming two operands, what differs, and what to type next.
    """
    found = [getattr(each, "header", each) for each in headers]
    labels = list(names) if names is not None else [_label(each, i) for i, each in enumerate(headers)]
    for header, label in zip(found[1:], labels[1:], strict=True):
        _check_pair(found[0], labels[0], header, label, sample_rate)
    many = [i for i, header in enumerate(found) if header.channels > 1]
    for i in many[1:]:
        a, b = found[many[0]], found[i]
        if a.channels != b.channels:
            raise IncompatibleError(
                f"{labels[many[0]]} has {a.channels} channels, {labels[i]} has {b.channels}",
                "encode one of them again with --mono",
            )


def _check_pair(a: Header, name_a: str, b: Header, name_b: str, sample_rate: int | None) -> None:
    again = f"encode {name_b}'s audio again with --model {a.model}"
    if a.model_fingerprint != b.model_fingerprint:
        what = f"models {a.model} and {b.model}" if a.model != b.model else f"two versions of the model {a.model}"
        raise IncompatibleError(f"{name_a} and {name_b} come from {what}", again)
    for key in ("latent_dim", "latent_scale", "model_sample_rate", "samples_per_frame"):
        if getattr(a, key) != getattr(b, key):
            raise IncompatibleError(
                f"{name_a} and {name_b} differ in {key}: {getattr(a, key)} and {getattr(b, key)}", again
            )
    if a.groups and b.groups and _group_shape(a) != _group_shape(b):
        raise IncompatibleError(f"{name_a} and {name_b} differ in their groups of latent dimensions", again)
    if a.sample_rate != b.sample_rate and sample_rate is None:
        raise IncompatibleError(
            f"{name_a} is at {a.sample_rate} Hz, {name_b} at {b.sample_rate} Hz",
            f"add --sample-rate {a.sample_rate}",
        )


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
    chosen = headers[seconds.index(wanted)]
    base = replace(
        chosen, channels=max(h.channels for h in headers), model=min(h.model for h in headers)
    )  # names of one fingerprint may differ; the smallest does not depend on the order
    return _at_rate(base, sample_rate)


def check_gain(factor: float, signal: Signal) -> float:
    """A finite gain that float32 can hold.

    Raises:
        NonFiniteError: it is NaN, infinite or beyond float32.
    """
    value = float(factor)
    if not math.isfinite(value) or abs(value) > 3.4e38:
        raise NonFiniteError(f"{signal.name or 'latents'}: the gain is {value}", "use a finite number")
    return value


# --- groups of results


def _group_shape(header: Header) -> list[tuple[int, bool]]:
    """Size of each group, and whether it has a level."""
    found = layout(header.groups)
    return list(zip(found.sizes.tolist(), found.level.tolist(), strict=True))


def _sum_groups(parts: Sequence[Signal]) -> tuple[Group, ...]:
    """The groups of a sum: relative steps a quarter of the finest operand's, so that many sums in a row lose little."""
    return _finest([s.header for s in parts], [1.0 if _unrounded(s) else FINER for s in parts], grid=1)


def _finest(
    headers: Sequence[Header], finer: Sequence[float] | None = None, grid: int | None = None
) -> tuple[Group, ...]:
    """The finest steps among some headers, each divided by `finer`."""
    having = [i for i, header in enumerate(headers) if header.groups]
    if not having:
        return ()
    if finer is None and all(headers[i].groups == headers[having[0]].groups for i in having):
        return headers[having[0]].groups
    shape = layout(headers[having[0]].groups)
    finest = np.array(FINEST)[shape.level.astype(int)]

    def steps(i: int) -> np.ndarray:
        relative = layout(headers[i].groups).relative
        return np.minimum(relative, np.maximum(relative / (1.0 if finer is None else finer[i]), finest))

    relative = np.min([steps(i) for i in having], axis=0)
    grids = np.min([layout(headers[i].groups).grid for i in having], axis=0) if grid is None else [grid] * len(relative)
    rows = zip(
        shape.sizes.tolist(), relative.tolist(), list(grids), shape.level.tolist(), shape.slots.tolist(), strict=True
    )
    runs = [(len(list(same)), row) for row, same in groupby(rows)]
    return tuple(
        Group(count, size, step, int(each), level, 1 if count % slots else slots)
        for count, (size, step, each, level, slots) in runs
    )


def _unrounded(signal: Signal) -> bool:
    """Whether a signal is a result that was not rounded to its steps yet."""
    return isinstance(signal, Lazy) and signal.stored is None


def _same_steps(signal: Signal, dtype: str, header: Header) -> bool:
    """Whether a signal's stored frames mean the same under another header: levels are fractions of steps."""
    if signal.dtype != dtype:
        return False
    if dtype != "int8":
        return bool(signal.header.groups) == bool(header.groups)
    a, b = layout(signal.header.groups), layout(header.groups)
    return bool((a.relative[a.level] == b.relative[b.level]).all())


# --- small parts


def _at_rate(header: Header, sample_rate: int | None) -> Header:
    if sample_rate is None or sample_rate == header.sample_rate:
        return header
    other = replace(header, sample_rate=sample_rate)
    other.validate("--sample-rate")
    return other.with_length(Fraction(header.num_samples * sample_rate, header.sample_rate), header.frames)


def _step(signal: Signal, entry: Entry, compute: Read, levels: Read, header: Header | None = None) -> Lazy:
    """What is computed from one signal, with one more step in its history."""
    lazy = signal if isinstance(signal, Lazy) else None
    return Lazy(
        header or signal.header,
        signal.dtype,
        compute,
        levels,
        (*(lazy.steps if lazy else ()), entry),
        lazy.origin if lazy else signal,
        signal.name,
        signal.tags,
        width(signal),
    )


def _entry(given: Entry, operands: list[Entry], sample_rate: int | None) -> Entry:
    rate = {} if sample_rate is None else {"sample_rate": sample_rate}
    return {**given, "operands": operands, **rate}


def _levels(signal: Signal, start: int, stop: int, header: Header) -> np.ndarray:
    """Levels as a result with groups needs them: unknown where the signal has no groups."""
    if signal.header.level_count == header.level_count:
        return signed_levels(signal, start, stop)
    return signed(unknown((signal.header.channels, header.level_count, stop - start)))


def _times(block: np.ndarray, factor: float | np.ndarray, name: str) -> np.ndarray:
    if np.all(factor == 1.0):
        return block
    with np.errstate(over="ignore"):
        scaled = block * np.float32(factor)
    return scaled if np.all(np.abs(factor) <= 1) else _finite(scaled, name)


def _scaled(block: Stored, factors: float | np.ndarray, name: str) -> Stored:
    scaled = block.scaled(factors)
    if not (np.abs(scaled.scale) <= SCALE_MAX).all():  # type: ignore[arg-type]
        raise NonFiniteError(f"the result of {name or 'latents'} is beyond float32", "use smaller gains")
    return scaled


def _spread(block: np.ndarray, channels: int) -> np.ndarray:
    return block if block.shape[0] == channels else np.broadcast_to(block, (channels, *block.shape[1:]))


def _join(blocks: Sequence[np.ndarray]) -> np.ndarray:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=2)


def _finite(data: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(data).all():
        raise NonFiniteError(f"the result of {name or 'latents'} is beyond float32", "use smaller gains")
    return data


def _dtype(signals: Sequence[Signal]) -> str:
    """int8 if all are, float32 if any is, float16 otherwise."""
    found = {signal.dtype for signal in signals}
    return "float32" if "float32" in found else "float16" if "float16" in found else "int8"


def _names(signals: Sequence[Signal]) -> list[str]:
    return [s.name or f"operand {i + 1}" for i, s in enumerate(signals)]


def _label(operand: object, index: int) -> str:
    return getattr(operand, "name", "") or f"operand {index + 1}"
