"""Frames as they are stored: float16, float32, or 8-bit integers with a step per group, channel and frame.

The rounding rule, the decoding rule and the error bound are in SPEC.md, section "Integers".
"""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .header import Group, Header

DTYPES = {"int8": "<i1", "float16": "<f2", "float32": "<f4"}  # numpy's names of the storage types
SCALE_MAX = 2.0**100  # so that integer * step * scale is always a finite float32
LARGEST = 127  # of the integers
FLOOR_DB = -45.0  # a group's step is not finer than that of the whole frame, this many dB lower
UNIT = 4  # step codes per octave
ZERO_DB = 192  # the code of the step 1
UNHEARD = 1e-30  # the smallest uncertain level, which is not 0
_BLOCK = 1 << 16  # numbers converted at a time, to stay in the cache

STEPS = np.exp2((np.arange(256) - ZERO_DB) / UNIT).astype(np.float32)  # step of each code
STEPS[0] = 0.0
_SMALLEST = 2.0 ** (-ZERO_DB / UNIT)  # levels whose steps would be smaller are 0


@dataclass(frozen=True)
class Layout:
    """Groups, one by one.

    Attributes:
        sizes: Dimensions of each group, int `[G]`.
        starts: First dimension of each, int `[G]`.
        relative: Relative steps, float64 `[G]`.
        grid: Grids of the step codes, int `[G]`.
        level: Which groups have a level, bool `[G]`.
        slots: Slots of the run of each, int `[G]`.
    """

    sizes: np.ndarray
    starts: np.ndarray
    relative: np.ndarray
    grid: np.ndarray
    level: np.ndarray
    slots: np.ndarray


@functools.lru_cache(maxsize=256)
def layout(groups: tuple[Group, ...]) -> Layout:
    """The groups of all runs, one by one."""
    counts = [group.count for group in groups]

    def each(values: Sequence[float], dtype: type) -> np.ndarray:
        return np.repeat(np.array(values, dtype=dtype), counts)

    sizes = each([group.size for group in groups], int)
    return Layout(
        sizes,
        np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int),
        each([group.relative_step for group in groups], float),
        each([group.grid for group in groups], int),
        each([group.level for group in groups], bool),
        each([group.slots for group in groups], int),
    )


@dataclass(frozen=True, eq=False, slots=True)
class Stored:
    """Some frames in their storage type.

    Attributes:
        data: `[C, D, n]`, little-endian int8, float16 or float32.
        steps: For int8: the step codes, uint8 `[C, G, n]`.
        scale: For int8: a factor for every number of a frame, float32 `[C, n]`.
        bands: For floats with level groups: levels, float32 `[C, GL, n]`; negative where uncertain, NaN where unknown.
        known: For int8: whether the levels are known; they are uncertain otherwise.
    """

    data: np.ndarray
    steps: np.ndarray | None = None
    scale: np.ndarray | None = None
    bands: np.ndarray | None = None
    known: bool = True

    @property
    def frames(self) -> int:
        """Number of frames, n."""
        return int(self.data.shape[2])

    def cut(self, start: int, stop: int) -> "Stored":
        """The frames `[start, stop)` of these, as views."""
        if start == 0 and stop == self.frames:
            return self
        return replace(
            self,
            data=self.data[:, :, start:stop],
            steps=None if self.steps is None else self.steps[:, :, start:stop],
            scale=None if self.scale is None else self.scale[:, start:stop],
            bands=None if self.bands is None else self.bands[:, :, start:stop],
        )

    def scaled(self, factors: float | np.ndarray) -> "Stored":
        """Integers times a factor, or one factor per frame `[n]`: only the scale changes. Only for int8."""
        assert self.scale is not None
        with np.errstate(over="ignore"):
            return replace(self, scale=self.scale * np.asarray(factors, dtype=np.float32))

    def spread(self, channels: int) -> "Stored":
        """One channel as `channels` equal ones; more than one as they are."""
        if self.data.shape[0] == channels:
            return self

        def wide(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else np.broadcast_to(array, (channels, *array.shape[1:]))

        return replace(
            self,
            data=np.broadcast_to(self.data, (channels, *self.data.shape[1:])),
            steps=wide(self.steps),
            scale=wide(self.scale),
            bands=wide(self.bands),
        )

    def values(self, groups: tuple[Group, ...] = ()) -> np.ndarray:
        """The numbers as float32 `[C, D, n]`: integer * (step * scale), or the floats themselves."""
        if self.steps is None or self.scale is None:
            return widen(self.data)
        with np.errstate(under="ignore"):
            factors = STEPS.take(self.steps) * self.scale[:, None, :]
            result = self.data.astype(np.float32, order="C")
            for _, numbers, own in runs(groups, result):
                numbers *= factors[:, own, None, :]
        return result

    def signed_levels(self, groups: tuple[Group, ...]) -> np.ndarray:
        """The levels `[C, GL, n]`, see `signed`: step * scale / relative step, or as stored."""
        channels, _, frames = self.data.shape
        if self.steps is None or self.scale is None:
            count = sum(run.count for run in groups if run.level)
            return signed(unknown((channels, count, frames)) if self.bands is None else self.bands)
        having, at = [np.empty((channels, 0, frames), np.float32)], 0
        for run in groups:
            if run.level:
                having.append((STEPS / np.float32(run.relative_step)).take(self.steps[:, at : at + run.count]))
            at += run.count
        levels = having[-1] if len(having) == 2 else np.concatenate(having, axis=1)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            levels *= self.scale[:, None, :]
        if self.known:
            return levels
        return np.where(levels < 0, -1j, 1j) * np.maximum(np.abs(levels), UNHEARD).astype(np.complex64)


def runs(groups: tuple[Group, ...], numbers: np.ndarray) -> Iterator[tuple[Group, np.ndarray, slice]]:
    """Each run, a view `[C, count, size, n]` of its dimensions in `[C, D, n]`, and which of all groups are its own."""
    channels, _, frames = numbers.shape
    group = dim = 0
    for run in groups:
        own, end = slice(group, group + run.count), dim + run.count * run.size
        yield run, numbers[:, dim:end].reshape(channels, run.count, run.size, frames), own
        group, dim = own.stop, end


def joined(parts: Sequence[Stored]) -> Stored:
    """Frames of one storage type, one after the other."""
    if len(parts) == 1:
        return parts[0]

    def join(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
        there = [array for array in arrays if array is not None]
        return np.concatenate(there, axis=-1) if len(there) == len(parts) else None

    return Stored(
        np.concatenate([part.data for part in parts], axis=2),
        join([part.steps for part in parts]),
        join([part.scale for part in parts]),
        join([part.bands for part in parts]),
        all(part.known for part in parts),
    )


def silence(header: Header, dtype: str, frames: int, known: bool = True) -> Stored:
    """Frames of silence in a storage type."""
    channels, dims, _ = header.shape
    data = np.zeros((channels, dims, frames), DTYPES[dtype])
    if dtype == "int8":
        steps = np.zeros((channels, header.group_count, frames), np.uint8)
        return Stored(data, steps, np.ones((channels, frames), np.float32), known=known)
    return Stored(data, bands=np.zeros((channels, header.level_count, frames), np.float32))


def signed(levels: np.ndarray) -> np.ndarray:
    """Levels for arithmetic, complex64: known ones are real, uncertain ones imaginary, unknown ones NaN.

    A real factor may then multiply them; its sign says that the latents are inverted. Where all are known, float32
    may stand for complex64.

    Args:
        levels: As signals and files tell them: known from 0 on, uncertain where negative (-0.0 too), unknown where NaN.
    """
    uncertain = np.signbit(levels) & ~np.isnan(levels)
    return np.where(uncertain, 1j * np.maximum(np.abs(levels), UNHEARD), levels).astype(np.complex64)


def unsigned(levels: np.ndarray) -> np.ndarray:
    """The levels that `signed` was made of, float32, whether the latents are inverted or not."""
    size = np.abs(levels).astype(np.float32)
    size[np.isnan(size)] = np.nan  # one NaN of the many
    return np.where((levels.imag != 0) & ~np.isnan(size), -size, size)


def unknown(shape: tuple[int, ...]) -> np.ndarray:
    """Levels that are not known: NaN."""
    return np.full(shape, np.nan, np.float32)


def quantised(values: np.ndarray, levels: np.ndarray | None, groups: tuple[Group, ...]) -> Stored:
    """Rounds latents to integers by the rule of SPEC.md.

    Args:
        values: Finite floats `[C, D, n]`.
        levels: Levels `[C, GL, n]` as `signed` gives them; None: all unknown.
        groups: The groups.
    """
    lay = layout(groups)
    z = values.astype(np.float64, order="C")
    rms, peak = np.empty((2, z.shape[0], len(lay.sizes), z.shape[2]))  # [C, G, n] each
    for run, numbers, own in runs(groups, z):
        np.maximum(numbers.max(axis=2), -numbers.min(axis=2), out=peak[:, own])
        rms[:, own] = np.sqrt(np.square(numbers).sum(axis=2) / run.size) if run.size > 1 else peak[:, own]
    plain = ~lay.level
    if plain.any():
        sizes = lay.sizes[plain, None]
        whole = np.sqrt((rms[:, plain] ** 2 * sizes).sum(axis=1, keepdims=True) / sizes.sum())
        rms[:, plain] = np.maximum(rms[:, plain], whole * 10.0 ** (FLOOR_DB / 20.0))
    if levels is None:
        levels = signed(unknown((len(z), int(lay.level.sum()), z.shape[2])))
    size = np.abs(levels)
    rms[:, lay.level] = np.where(np.isnan(size), rms[:, lay.level], size)
    known = np.zeros(rms.shape, bool)
    known[:, lay.level] = ~np.isnan(levels) & (levels.imag == 0 if np.iscomplexobj(levels) else True)
    peak[known] = 0.0  # the step tells the level: numbers beyond 127 steps are clipped
    target, least = lay.relative[:, None] * rms, peak / LARGEST
    smallest = np.where(lay.level, _SMALLEST, np.finfo(np.float64).tiny)[:, None]
    codes, exponent = _codes(target, least, lay.grid[:, None], np.maximum(target, least) < smallest)
    steps = codes.astype(np.uint8)
    scale = np.exp2(exponent).astype(np.float32)  # [C, n]
    factors = (STEPS.take(steps) * scale[:, None, :]).astype(np.float64)
    factors[steps == 0] = np.inf  # silence: 0
    for _, numbers, own in runs(groups, z):
        numbers /= factors[:, own, None, :]
    np.rint(z, out=z)
    integers = np.clip(z, -LARGEST, LARGEST, out=z).astype(np.int8)
    for run, numbers, own in runs(groups, integers):
        if not run.level:
            steps[:, own] *= numbers.any(axis=2)
    side = levels.real + levels.imag if np.iscomplexobj(levels) else levels
    below = side < 0
    if below.any():
        flipped = below.any(axis=1) & ~np.any(side > 0, axis=1)  # [C, n]
        scale = np.where(flipped, -scale, scale)
        integers = np.where(flipped[:, None, :], -integers, integers)
    return Stored(integers, steps, scale, known=bool(known[:, lay.level].all()))


def _codes(
    target: np.ndarray, least: np.ndarray, grid: np.ndarray, silent: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The step codes 0 to 255 `[C, G, n]`, and the power of two of each frame's scale `[C, n]`.

    Args:
        target: The steps wanted, to be rounded to the nearest code of the grid.
        least: The smallest steps that will do.
        grid: Codes are multiples of it.
        silent: Where the code is 0.
    """
    with np.errstate(divide="ignore"):
        codes = np.rint((UNIT * np.log2(target) + ZERO_DB) / grid)
        coarser = least > target * np.exp2(-1.5 * grid / UNIT)  # elsewhere the wanted code is large enough
        if coarser.any():
            needed = np.ceil((UNIT * np.log2(least) + ZERO_DB) / grid - 1e-9)
            np.maximum(codes, needed, out=codes, where=coarser)
    codes = np.maximum(codes, 1, out=codes) * grid
    codes[silent] = 0
    # Frames whose steps go beyond code 255 move the excess to the scale, in octaves.
    exponent = np.maximum(0, np.ceil((codes.max(axis=1) - 255) / UNIT))
    if exponent.any():
        codes = np.where(silent, 0, np.maximum(codes - UNIT * exponent[:, None, :], 1))
    return codes, exponent


def differences(codes: np.ndarray, groups: tuple[Group, ...]) -> np.ndarray:
    """Step codes `[C, G, n]` as they are stored: each less the one before it in time, modulo 256; the first as it is.

    In time the slots of a frame come one after the other, then those of the next frame.
    """
    result = codes.copy()
    for now, stored in zip(_slots(codes, groups), _slots(result, groups), strict=True):
        stored[:, :, 1:] -= now[:, :, :-1]
        stored[:, :, 0, 1:] -= now[:, :, -1, :-1]
    return result


def accumulated(stored: np.ndarray, groups: tuple[Group, ...]) -> np.ndarray:
    """The step codes `[C, G, n]` of stored differences."""
    result = stored.copy()
    for codes in _slots(result, groups):
        for slot in range(1, codes.shape[2]):
            codes[:, :, slot] += codes[:, :, slot - 1]
        codes[..., 1:] += np.cumsum(codes[:, :, -1:, :-1], axis=-1, dtype=np.uint8)
    return result


def _slots(codes: np.ndarray, groups: tuple[Group, ...]) -> Iterator[np.ndarray]:
    """Views `[C, count / slots, slots, n]` of the codes `[C, G, n]` of each run."""
    at = 0
    for run in groups:
        yield codes[:, at : at + run.count].reshape(len(codes), run.count // run.slots, run.slots, codes.shape[2])
        at += run.count


def widen(stored: np.ndarray) -> np.ndarray:
    """float32 of finite float16 numbers, of the same shape; float32 as it is.

    numpy's own conversion gives the same bits, one number at a time. These are whole-array operations on the bits,
    after Fabian Giesen's "half to float done quic(ker)", and five times as fast. Infinities and NaNs come out as finite
    numbers: check first, with `all_finite`.
    """
    if stored.dtype != np.dtype("<f2"):
        return stored.astype(np.float32, copy=False)
    wide = np.empty(stored.shape, np.float32)
    bits, result = np.ascontiguousarray(stored).reshape(-1).view("<i2"), wide.reshape(-1).view(np.int32)
    for at in range(0, bits.size, _BLOCK):
        part = result[at : at + _BLOCK]
        part[:] = bits[at : at + _BLOCK]  # the sign fills the upper half
        part <<= 13
        part &= np.int32(-0x70002000)  # one sign bit of four, and an exponent that is 112 too small
        number = part.view(np.float32)
        number *= np.float32(2.0**112)  # exact, for subnormals too
    return wide


def all_finite(stored: np.ndarray) -> bool:
    """Whether there are neither infinities nor NaNs among float16 or float32 numbers; True for integers."""
    if stored.dtype == np.dtype("i1"):
        return True
    if stored.dtype != np.dtype("<f2"):
        return bool(np.isfinite(stored).all())
    exponents = np.ascontiguousarray(stored).view("<u2") & np.uint16(0x7C00)
    return not bool((exponents == 0x7C00).any())


class Fingerprint:
    """The SHA-256 by which a history names an operand; it grows with the frames that are read.

    Chunk of time after chunk of time, it takes every channel's latents, then steps, scale and levels, as SPEC.md says.

    Attributes:
        frames: How many frames were hashed so far, from the beginning.

    Args:
        header: Header of the latents.
    """

    def __init__(self, header: Header) -> None:
        self.frames = 0
        self._all = header.frames
        self._chunk = header.chunk_frames
        self._hash = hashlib.sha256()

    def feed(self, start: int, block: Stored) -> None:
        """Takes frames from `start` on; whole chunks, each of them the next. Others are ignored."""
        if start != self.frames:
            return
        for at in range(0, block.frames, self._chunk):
            part = block.cut(at, min(at + self._chunk, block.frames))
            for array in (part.data, part.steps, part.scale, part.bands):
                if array is not None and array.size:
                    self._hash.update(np.ascontiguousarray(array).data)
        self.frames += block.frames

    @property
    def complete(self) -> bool:
        """Whether every frame was hashed."""
        return self.frames == self._all

    def __str__(self) -> str:
        """`sha256:` and 64 hexadecimal digits, of what was hashed so far."""
        return "sha256:" + self._hash.hexdigest()
