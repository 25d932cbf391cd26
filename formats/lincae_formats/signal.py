"""Signals: latents that are read block by block, from files, from memory, or computed as they are read.

The rounding rule, the decoding rule and the error bound of integers are in SPEC.md, section "Integers".
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from .errors import NonFiniteError, OverflowFloat16Error
from .header import Entry, Group, Header, bounded

DTYPES = {"int8": "<i1", "float16": "<f2", "float32": "<f4"}  # numpy's names of the storage types
FLOAT16_MAX = 65504.0
SCALE_MAX = 2.0**100  # so that integer * step * scale is always a finite float32
LARGEST = 127  # of the integers
FLOOR_DB = -45.0  # a group's step is not finer than that of the whole frame, this many dB lower
UNIT = 4  # step codes per octave
ZERO_DB = 192  # the code of the step 1
UNHEARD = 1e-30  # the smallest uncertain level, which is not 0
STEPS = np.exp2((np.arange(256) - ZERO_DB) / UNIT).astype(np.float32)  # step of each code
STEPS[0] = 0.0
_SMALLEST = 2.0 ** (-ZERO_DB / UNIT)  # levels whose steps would be smaller are 0
_MOST_FRAMES = 4096
_MOST_NUMBERS = 1 << 21  # in memory at once, over all operands: 8 MB


# --- blocks of frames


class Layout(NamedTuple):
    """Groups, one by one, in arrays `[G]`: dimensions, relative steps (float64), grids, which have a level, slots."""

    sizes: np.ndarray
    relative: np.ndarray
    grid: np.ndarray
    level: np.ndarray
    slots: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First dimension of each group."""
        return np.cumsum(self.sizes) - self.sizes


@functools.lru_cache(maxsize=256)
def layout(groups: tuple[Group, ...]) -> Layout:
    """The groups of all runs, one by one."""
    rows = [(g.size, g.relative_step, g.grid, g.level, g.slots) for g in groups for _ in range(g.count)]
    columns = zip(*rows, strict=True) if rows else [()] * 5
    return Layout(*(np.array(c, t) for c, t in zip(columns, (int, float, int, bool, int), strict=True)))


def runs(groups: tuple[Group, ...], numbers: np.ndarray) -> Iterator[tuple[Group, np.ndarray, slice]]:
    """Each run, a view `[C, count, size, n]` of its dimensions in `[C, D, n]`, and which of all groups are its own."""
    channels, _, frames = numbers.shape
    group = dim = 0
    for run in groups:
        own, end = slice(group, group + run.count), dim + run.count * run.size
        yield run, numbers[:, dim:end].reshape(channels, run.count, run.size, frames), own
        group, dim = own.stop, end


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """Some frames, as they are stored or as they were computed; not to be written to.

    Attributes:
        data: `[C, D, n]`: int8 with steps and scale, or float16 or float32 with levels.
        steps: For int8: the step codes, uint8 `[C, G, n]`.
        scale: For int8: a factor for every number of a frame, float32 `[C, n]`.
        levels: For floats: levels `[C, GL, n]`, float32 as `Signal.levels` or complex64 as `signed` gives them.
        known: For int8: whether the levels are known; they are uncertain otherwise.
    """

    data: np.ndarray
    steps: np.ndarray | None = None
    scale: np.ndarray | None = None
    levels: np.ndarray | None = None
    known: bool = True

    @property
    def frames(self) -> int:
        """Number of frames, n."""
        return int(self.data.shape[2])

    def each(self, change: Callable[[np.ndarray], np.ndarray]) -> "Block":
        """A block of other frames or channels: every array changed in the same way."""
        steps, scale, levels = (None if a is None else change(a) for a in (self.steps, self.scale, self.levels))
        return Block(change(self.data), steps, scale, levels, self.known)

    def cut(self, start: int, stop: int) -> "Block":
        """The frames `[start, stop)` of these, as views."""
        return self if (start, stop) == (0, self.frames) else self.each(lambda array: array[..., start:stop])

    def spread(self, channels: int) -> "Block":
        """One channel as `channels` equal ones; more than one as they are."""
        if len(self.data) == channels:
            return self
        return self.each(lambda array: np.broadcast_to(array, (channels, *array.shape[1:])))

    def silence(self, frames: int) -> "Block":
        """Frames of silence of the same kind."""
        silent = self.each(lambda array: np.zeros((*array.shape[:-1], frames), array.dtype))
        return silent if silent.scale is None else replace(silent, scale=np.ones_like(silent.scale))

    def scaled(self, factors: float | np.ndarray, name: str) -> "Block":
        """The block times a factor, or factors `[n]` or `[C, 1]`; of integers only the scale changes.

        Raises:
            NonFiniteError: the result is beyond float32.
        """
        if np.all(factors == 1.0):
            return self
        by = np.asarray(factors, np.float32)
        with np.errstate(over="ignore"):
            if self.scale is not None:
                result = replace(self, scale=self.scale * by)
                fits = bool((np.abs(result.scale) <= SCALE_MAX).all())  # type: ignore[arg-type]
            else:
                by = np.atleast_2d(by)[:, None]
                levels = np.where(by == 0, np.complex64(0), self.signed_levels(()) * by)  # silence is known
                result = Block(self.values() * by, levels=levels)
                fits = bool(np.all(np.abs(by) <= 1)) or bool(np.isfinite(result.data).all())
        if not fits:
            raise NonFiniteError(f"the result of {name or 'latents'} is beyond float32", "use smaller gains")
        return result

    def values(self, groups: tuple[Group, ...] = ()) -> np.ndarray:
        """The numbers as float32 `[C, D, n]`: integer * (step * scale), or the floats themselves."""
        if self.steps is None or self.scale is None:
            return self.data.astype(np.float32, copy=False)
        with np.errstate(under="ignore"):
            factors = STEPS.take(self.steps) * self.scale[:, None, :]
            result = self.data.astype(np.float32, order="C")
            for _, numbers, own in runs(groups, result):
                numbers *= factors[:, own, None, :]
        return result

    def signed_levels(self, groups: tuple[Group, ...]) -> np.ndarray:
        """The levels `[C, GL, n]`, see `signed`: step * scale / relative step, or as stored."""
        if self.steps is None or self.scale is None:
            return unknown_levels(len(self.data), 0, self.frames) if self.levels is None else signed(self.levels)
        lay = layout(groups)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            levels = STEPS.take(self.steps[:, lay.level]) / lay.relative[lay.level, None].astype(np.float32)
            levels *= self.scale[:, None, :]
        if self.known:
            return levels
        return np.where(levels < 0, -1j, 1j) * np.maximum(np.abs(levels), UNHEARD).astype(np.complex64)


def joined(blocks: Sequence[Block], axis: int = -1) -> Block:
    """Blocks of one kind, one after the other: frames, or with axis 0 channels."""
    if len(blocks) == 1:
        return blocks[0]

    def join(name: str) -> np.ndarray | None:
        arrays = [getattr(block, name) for block in blocks]
        return None if arrays[0] is None else np.concatenate(arrays, axis=axis)

    data = np.concatenate([block.data for block in blocks], axis=axis)
    return Block(data, join("steps"), join("scale"), join("levels"), all(block.known for block in blocks))


def unknown_levels(channels: int, count: int, frames: int) -> np.ndarray:
    """Levels of which none is known, float32 `[channels, count, frames]`."""
    return np.full((channels, count, frames), np.nan, np.float32)


def signed(levels: np.ndarray) -> np.ndarray:
    """Levels for arithmetic, complex64: known ones are real, uncertain ones imaginary, unknown ones NaN.

    A real factor may then multiply them; its sign says that the latents are inverted. Where all are known, float32
    may stand for complex64. In files they are known from 0 on, uncertain where negative (-0.0 too), unknown where NaN.
    """
    if np.iscomplexobj(levels):
        return levels
    uncertain, unknown = np.signbit(levels), np.isnan(levels)
    if not (uncertain | unknown).any():
        return levels
    estimates = 1j * np.maximum(np.abs(levels), UNHEARD)
    return np.where(uncertain & ~unknown, estimates, levels).astype(np.complex64)


def unsigned(levels: np.ndarray) -> np.ndarray:
    """The levels that `signed` was made of, float32, whether the latents are inverted or not."""
    size = np.abs(levels).astype(np.float32)
    size[np.isnan(size)] = np.nan  # one NaN of the many
    return np.where((levels.imag != 0) & ~np.isnan(size), -size, size)


# --- rounding


def as_stored(block: Block, dtype: str, groups: tuple[Group, ...], name: str = "latents") -> Block:
    """A block in a storage type: the one rounding of results, before they are written.

    Raises:
        NonFiniteError: NaN or infinity, or a number beyond float32.
        OverflowFloat16Error: a number that float16 cannot hold.
    """
    if block.steps is not None:
        return block
    with np.errstate(over="ignore"):
        data = block.data.astype("<f2" if dtype == "float16" else "<f4", copy=False)
    if not np.isfinite(data).all():
        peak = float(np.abs(block.data.astype(np.float64)).max())
        if not math.isfinite(peak):
            raise NonFiniteError(f"{name}: NaN or infinity among the latents to write")
        if dtype != "float16":
            raise NonFiniteError(f"{name}: a latent of {peak:.6g} is beyond float32")
        what = f"{name}: a latent of {peak:.6g} is beyond float16 ({FLOAT16_MAX:.0f})"
        raise OverflowFloat16Error(what, "lower the gain, or encode with --dtype float32")
    if dtype == "int8":
        return quantised(data, block.signed_levels(groups), groups)
    levels = block.levels
    return Block(data, levels=unsigned(levels) if levels is not None and np.iscomplexobj(levels) else levels)


def quantised(values: np.ndarray, levels: np.ndarray | None, groups: tuple[Group, ...]) -> Block:
    """Rounds finite floats `[C, D, n]` to integers by the rule of SPEC.md.

    Levels `[C, GL, n]` are as `signed` gives them, or float32 where all are known; None: all unknown.
    """
    lay = layout(groups)
    if levels is None:
        levels = signed(unknown_levels(len(values), int(lay.level.sum()), values.shape[2]))
    if len(values) > 1:  # one channel at a time stays in the cache
        return joined([quantised(values[[c]], levels[[c]], groups) for c in range(len(values))], axis=0)
    z = values.astype(np.float64, order="C")
    target, least = np.zeros((2, 1, len(lay.sizes), z.shape[2]))  # RMS and peak, then steps, [1, G, n] each
    for run, numbers, own in runs(groups, z):
        if not run.level or np.iscomplexobj(levels):  # known levels need neither
            peak = np.abs(numbers[:, :, 0]) if run.size == 1 else np.maximum(numbers.max(2), -numbers.min(2))
            target[:, own] = peak if run.size == 1 else np.sqrt(np.square(numbers).sum(axis=2) / run.size)
            least[:, own] = peak / LARGEST
    size, band = np.abs(levels), np.flatnonzero(lay.level)
    known = ~np.isnan(size) & (levels.imag == 0)
    target[:, band] = np.where(np.isnan(size), target[:, band], size)
    least[:, band] = np.where(known, 0.0, least[:, band])  # numbers beyond 127 steps are clipped
    plain = ~lay.level
    if plain.any():
        rms, sizes = target[:, plain], lay.sizes[plain, None]
        whole = np.sqrt((rms**2 * sizes).sum(axis=1, keepdims=True) / sizes.sum())
        target[:, plain] = np.maximum(rms, whole * 10.0 ** (FLOOR_DB / 20.0))
    target *= lay.relative[:, None]
    codes, exponent = _codes(target, least, lay)
    steps, scale = codes.astype(np.uint8), np.exp2(exponent).astype(np.float32)  # [1, G, n], [1, n]
    factors = (STEPS.take(steps) * scale[:, None, :]).astype(np.float64)
    np.copyto(factors, np.inf, where=steps == 0)  # silence: 0
    for run, numbers, own in runs(groups, z):
        numbers /= factors[:, own, None, :]
        np.rint(numbers, out=numbers)
        if run.level:
            np.clip(numbers, -LARGEST, LARGEST, out=numbers)
    integers = z.astype(np.int8)
    for run, numbers, own in runs(groups, integers):
        if not run.level:
            steps[:, own] *= numbers.any(axis=2)
    side = levels.real + levels.imag
    below = side < 0
    if below.any():
        flipped = below.any(axis=1) & ~np.any(side > 0, axis=1)  # [1, n]
        scale = np.where(flipped, -scale, scale)
        integers = np.where(flipped[:, None, :], -integers, integers)
    return Block(integers, steps, scale, known=bool(known.all()))


def _codes(target: np.ndarray, least: np.ndarray, lay: Layout) -> tuple[np.ndarray, np.ndarray]:
    """The codes, 0 to 255, of the wanted steps `[C, G, n]` rounded to the grid, but of at least the smallest steps.

    And the power of two of each frame's scale `[C, n]`.
    """
    grid = lay.grid[:, None]
    silent = np.maximum(target, least) < np.where(lay.level, _SMALLEST, np.finfo(np.float64).tiny)[:, None]
    coarser = least > target * np.exp2(-1.5 * grid / UNIT)  # elsewhere the wanted code is large enough
    with np.errstate(divide="ignore"):
        codes = np.rint((UNIT * np.log2(target) + ZERO_DB) / grid)
        if coarser.any():
            needed = np.ceil((UNIT * np.log2(least) + ZERO_DB) / grid - 1e-9)
            np.maximum(codes, needed, out=codes, where=coarser)
    codes = np.maximum(codes, 1, out=codes) * grid
    np.copyto(codes, 0, where=silent)
    # Frames whose steps go beyond code 255 move the excess to the scale, in octaves.
    exponent = np.maximum(0, np.ceil((codes.max(axis=1) - 255) / UNIT))
    if exponent.any():
        codes = np.where(silent, 0, np.maximum(codes - UNIT * exponent[:, None, :], 1))
    return codes, exponent


def differences(codes: np.ndarray, groups: tuple[Group, ...]) -> np.ndarray:
    """Step codes `[C, G, n]` as they are stored: each less the one before it in time, modulo 256."""
    return _in_time(codes, groups, lambda ordered: np.diff(ordered, prepend=np.zeros_like(ordered[..., :1])))


def accumulated(stored: np.ndarray, groups: tuple[Group, ...]) -> np.ndarray:
    """The step codes `[C, G, n]` of stored differences."""
    return _in_time(stored, groups, lambda ordered: np.cumsum(ordered, axis=-1, dtype=np.uint8))


def _in_time(codes: np.ndarray, groups: tuple[Group, ...], change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Changes codes `[C, G, n]` in the order of time: the slots of a frame, then those of the next one."""
    parts, at, (channels, _, frames) = [], 0, codes.shape
    for run in groups:
        slots = codes[:, at : at + run.count].reshape(channels, -1, run.slots, frames)
        changed = change(slots.swapaxes(2, 3).reshape(*slots.shape[:2], -1))
        parts.append(changed.reshape(channels, -1, frames, run.slots).swapaxes(2, 3).reshape(channels, -1, frames))
        at += run.count
    return np.concatenate(parts, axis=1)


class Fingerprint:
    """The SHA-256 by which a history names an operand; it grows with the frames that are read.

    Chunk of time after chunk of time, it takes every channel's latents, then steps, scale and levels, as SPEC.md says.

    Attributes:
        frames: How many frames were hashed so far, from the beginning.
    """

    def __init__(self) -> None:
        from hashlib import sha256  # loads OpenSSL, which headers do without

        self.frames, self._hash = 0, sha256()

    def feed(self, start: int, chunk: Block) -> None:
        """Takes the chunk of frames from `start` on, unless it is not the next."""
        if start == self.frames:
            for array in (chunk.data, chunk.steps, chunk.scale, chunk.levels):
                if array is not None and array.size:
                    self._hash.update(np.ascontiguousarray(array).data)
            self.frames += chunk.frames

    def __str__(self) -> str:
        return "sha256:" + self._hash.hexdigest()


# --- signals


class Signal:
    """Latents in memory, an open file, or a result that is computed when it is read: the base of all.

    Attributes:
        header: Shape, length, model and groups.
        dtype: Storage type: `int8`, `float16` or `float32`.
        name: What error messages and histories call it.
        tags: Title, artist and so on.
        history: What was done, oldest first. Ask after the last read: it may need every frame.
        fingerprint: The hash by which histories name it, see `Fingerprint`; empty for a result that is not stored.
        rounded: Whether its blocks are in the storage type: nothing has to be rounded.
        width: Numbers in memory for one frame of it.
        seams: Boundaries of operands: frames that one read should not cross.
    """

    header: Header
    dtype: str
    name: str
    tags: Mapping[str, str]
    history: Sequence[Entry]
    fingerprint: str
    rounded: bool = True
    seams: tuple[int, ...] = ()

    def block(self, start_frame: int, stop_frame: int) -> Block:
        """Frames `[start_frame, stop_frame)` as they are stored, or computed and not rounded yet."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """See above."""
        return self.header.channels * self.header.latent_dim

    @property
    def label(self) -> str:
        """The name, or a word for what has none."""
        return self.name or "latents"

    def read(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Frames `[start_frame, stop_frame)` as float32 `[channels, latent_dim, n]`."""
        stop = self.header.frames if stop_frame is None else stop_frame
        return self.block(start_frame, stop).values(self.header.groups)

    def levels(self, start_frame: int = 0, stop_frame: int | None = None) -> np.ndarray:
        """Levels of the same frames, float32 `[channels, GL, n]`: negative where uncertain, NaN where unknown."""
        stop = self.header.frames if stop_frame is None else stop_frame
        return unsigned(self.block(start_frame, stop).signed_levels(self.header.groups))


@dataclass(frozen=True, eq=False)
class Lazy(Signal):
    """A result that is computed as it is read: hours of it take no more memory than seconds.

    Attributes:
        compute: The frames `[start, stop)`; never asked for frames outside the signal.
        steps: What was done since `origin`, oldest first: entries, or functions that give one after the last read.
        origin: What it is made from, where that is a single file or piece of latents.
        copies: An open file whose chunks and steps hold the same integers; only the scale differs.
        scale: With `copies`: the scale of the frames `[start, stop)`, float32 `[C, n]`.
    """

    header: Header
    dtype: str
    compute: Callable[[int, int], Block]
    steps: tuple[Entry | Callable[[], Entry], ...] = ()
    origin: Signal | None = None
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    width: int = 0
    rounded: bool = False
    seams: tuple[int, ...] = ()
    copies: Signal | None = None
    scale: Callable[[int, int], np.ndarray] | None = None
    fingerprint = ""

    @property
    def history(self) -> Sequence[Entry]:  # type: ignore[override]
        """The origin's history and the steps, within the format's limit."""
        return bounded([*(() if self.origin is None else self.origin.history), *self.entries])

    @property
    def entries(self) -> list[Entry]:
        """The steps."""
        return [step() if callable(step) else step for step in self.steps]

    def block(self, start_frame: int, stop_frame: int) -> Block:
        """Computes frames `[start_frame, stop_frame)`."""
        return self.compute(start_frame, stop_frame)


def block_frames(signal: Signal) -> int:
    """Frames to read at a time, so that memory does not depend on the length; whole chunks where they fit."""
    frames = max(16, min(_MOST_FRAMES, _MOST_NUMBERS // signal.width))
    chunk = signal.header.chunk_frames
    return frames - frames % chunk if frames > chunk else frames


def blocks(signal: Signal, frames: int | None = None) -> Iterator[np.ndarray]:
    """All frames in order, float32 `[channels, latent_dim, n]`, in constant memory; `frames` at a time where given."""
    for start, stop in spans([signal], frames):
        yield signal.read(start, stop)


def spans(signals: Sequence[Signal], frames: int | None = None) -> Iterator[tuple[int, int]]:
    """The blocks `(start, stop)` in which to read signals side by side, to the end of the longest."""
    size = frames or min(block_frames(signal) for signal in signals)
    start = 0
    for end in sorted({end for signal in signals for end in (*signal.seams, signal.header.frames)}):
        for begin in range(start, end, size):
            yield begin, min(begin + size, end)
        start = max(start, end)


def source_record(signal: Signal) -> Entry:
    """What a history says of an operand: `name`, `fingerprint` and `history` of the file, and the `steps` since."""
    if not isinstance(signal, Lazy):
        return {"name": signal.name, "fingerprint": signal.fingerprint, "history": list(signal.history)}
    if signal.origin is None:
        return {"name": signal.name, "history": signal.entries}
    record = source_record(signal.origin)
    return {**record, "steps": signal.entries} if signal.steps else record


class Meter(Signal):
    """A signal that passes another one on and measures its root mean square. Read every frame once.

    A gain of x dB moves the level by x dB. 0 dB is unit variance, about that of music at the level that models are
    trained at. Between different pieces of music it follows loudness only roughly.
    """

    def __init__(self, source: Signal) -> None:
        self._source = source
        self._sum, self._count = 0.0, 0
        self._most, self._loudest = -1.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def block(self, start_frame: int, stop_frame: int) -> Block:
        """Frames `[start_frame, stop_frame)` of the source."""
        block = self._source.block(start_frame, stop_frame)
        if block.frames:
            numbers = block.values(self.header.groups)
            power = np.square(numbers, dtype=np.float64).sum(axis=(0, 1))  # of each frame
            self._sum += float(power.sum())
            self._count += numbers.size
            loudest = int(power.argmax())
            if power[loudest] > self._most:
                self._most, self._loudest = float(power[loudest]), start_frame + loudest
        return block

    def read_all(self) -> "Meter":
        """Reads and measures everything, in constant memory."""
        for start, stop in spans([self]):
            self.block(start, stop)
        return self

    @property
    def rms(self) -> float:
        """Root mean square of what was read."""
        return math.sqrt(self._sum / self._count) if self._count else 0.0

    @property
    def decibels(self) -> float:
        """The root mean square in dB; minus infinity for silence."""
        return decibels(self.rms)

    @property
    def loudest(self) -> float:
        """Where the loudest frame begins, s."""
        return float(self._loudest * self.header.frame_seconds)


def decibels(ratio: float) -> float:
    """20 log10 of a ratio of 0 or more."""
    return 20.0 * math.log10(ratio) if ratio > 0 else -math.inf
