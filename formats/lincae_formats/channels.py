"""Channel operations: mono, pan, mid and side, sox's remix notation.

A matrix has a row for each output channel and a column for each input channel. Latents are linear, so that it means the
same for them as for audio.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from .algebra import as_float32, check_gain, estimated, step
from .errors import LatError
from .header import MAX_CHANNELS, Header, from_decibels, parse_factor, parse_gain, without_gain_tags
from .signal import Block, Lazy, Signal, layout, runs

Matrix = list[list[float]]
Builder = Callable[[int], Matrix]

_STEREO = {
    "swap": [[0.0, 1.0], [1.0, 0.0]],
    "mid-side": [[0.5, 0.5], [0.5, -0.5]],
    "left-right": [[1.0, 1.0], [1.0, -1.0]],
}
# One input of sox's remix: a channel or a range, and a volume: v0.5 is a factor, p-6 decibels, i inverts (i-6 too).
_INPUT = re.compile(r"(?:(\d{1,3})?(-)(\d{1,3})?|(\d{1,3}))(?:([vpi])([+-]?(?:\d+\.?\d*|\.\d+))?)?", re.ASCII)


def remix(signal: Signal, matrix: Sequence[Sequence[float]]) -> Lazy:
    """A signal with other channels, each a sum of its channels times factors.

    Rows with a single factor are exact for int8: integers are copied, the scale changes.

    Args:
        signal: The signal.
        matrix: A row for each channel of the result, a column for each of the signal's channels.

    Raises:
        LatError: the matrix has another number of columns, or no row.
        NonFiniteError: a factor is NaN or infinite; on reading: the result is beyond float32.
    """
    rows = [[check_gain(factor, signal) for factor in row] for row in matrix]
    channels = signal.header.channels
    if not rows or any(len(row) != channels for row in rows):
        raise LatError(f"{signal.label}: the matrix is not for {channels} channels")
    header = replace(signal.header, channels=len(rows))
    header.validate(signal.label)
    weights = np.array(rows)
    single = bool((np.count_nonzero(weights, axis=1) <= 1).all())
    chosen = np.abs(weights).argmax(axis=1)
    factors = weights[np.arange(len(rows)), chosen]

    def compute(start: int, stop: int) -> Block:
        block = signal.block(start, stop)
        if single:
            return block.each(lambda array: array[chosen]).scaled(factors[:, None], signal.name)
        numbers, levels = block.values(signal.header.groups), block.signed_levels(signal.header.groups)
        summed = _summed_levels(signal.header, weights, numbers, np.abs(levels))
        data = as_float32(np.tensordot(weights, numbers.astype(np.float64), 1), signal.label)
        return Block(data, levels=estimated(summed, (levels.imag != 0).any(axis=0)))

    return step(
        signal,
        {"op": "channels", "matrix": rows},
        compute,
        header,
        tags=signal.tags if is_permutation(rows) else without_gain_tags(signal.tags),
        width=signal.width + 2 * header.channels * header.latent_dim,
        rounded=single and signal.rounded and (signal.dtype == "int8" or bool((factors == 1).all())),
        seams=signal.seams,
    )


def _summed_levels(header: Header, weights: np.ndarray, numbers: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Levels of sums of channels: sqrt(sum over i, j of w_i L_i w_j L_j r_ij).

    The channels of a recording are rarely independent. How far two of them agree in a band, r_ij, is the correlation of
    the band's numbers in a frame; where these were all rounded to zero, that of the numbers without a level.
    """
    block = numbers.astype(np.float64)
    channels, _, frames = block.shape
    lay = layout(header.groups)
    overall, _ = _correlation(block[:, np.repeat(~lay.level, lay.sizes)][:, None])
    for i in range(channels):
        for j in range(channels):  # channels that are equal in all they have are one
            same = (block[i] == block[j]).all(axis=0) & (levels[i] == levels[j]).all(axis=0)
            overall[i, j, 0, same] = 1.0
    found, band = np.zeros((len(weights), levels.shape[1], frames)), 0
    for run, own, _ in runs(header.groups, block):
        if not run.level:
            continue
        shape, end = (channels, run.count // run.slots, run.slots, frames), band + run.count
        alike, certain = _correlation(own.reshape(*shape[:2], -1, frames))
        alike = np.where(certain, alike, overall)
        level = levels[:, band:end].astype(np.float64).reshape(shape)
        for row, result in zip(weights, found, strict=True):
            weighted = row[:, None, None, None] * level
            power = np.einsum("ibsk,ijbk,jbsk->bsk", weighted, alike, weighted, optimize=True)
            result[band:end] = np.sqrt(np.maximum(power, 0)).reshape(run.count, frames)
        band = end
    return found.astype(np.float32)


def _correlation(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Correlations `[C, C, B, n]` of each two channels of `[C, B, numbers, n]`, and where neither is silent."""
    norm = np.sqrt(np.square(numbers).sum(axis=2, keepdims=True))
    unit = np.divide(numbers, norm, out=np.zeros_like(numbers), where=norm > 0)
    found = np.einsum("ibdk,jbdk->ijbk", unit, unit, optimize=True)
    sounds = norm[:, :, 0] > 0
    itself = np.arange(len(numbers))
    found[itself, itself] = 1.0
    return found, sounds[:, None] & sounds[None]


def matrix_builder(kind: str, value: str = "") -> Builder:
    """Makes the function that gives the matrix for a number of input channels.

    Args:
        kind: `mono`, `swap`, `pick`, `gains`, `pan`, `balance`, `mid-side`, `left-right` or `remix`.
        value: Its argument as text: `2,1`, `0dB,-3dB`, `-0.5`, `1,2 2i`.

    Raises:
        ValueError: the argument is wrong; says what it is not. The function raises it for files with too few channels.
    """
    if kind in ("mono", "pick", "remix"):
        outputs = ["-"] if kind == "mono" else value.split()
        if kind == "pick":
            outputs = [word.strip() for word in value.split(",")]
            if not all(re.fullmatch(r"[1-9]\d{0,2}", word, re.ASCII) for word in outputs):
                raise ValueError("is not a list of channels such as 1,2")
        if not 1 <= len(outputs) <= MAX_CHANNELS:
            raise ValueError(f"is not 1 to {MAX_CHANNELS} output channels")
        rows = [_parse_output(output) for output in outputs]
        return lambda channels: [_weights(row, channels) for row in rows]
    if kind == "gains":
        try:
            gains = [parse_gain(word) for word in value.split(",")]
        except ValueError:
            raise ValueError("is not a list of gains such as 0dB,-3dB") from None
        wanted = f"not {len(gains)}: give a gain for each"
        return lambda channels: _if(channels == len(gains), channels, wanted, np.diag(gains).tolist())
    if kind in ("pan", "balance"):
        try:
            place = parse_factor(value)
        except ValueError:
            place = math.nan
        if not -1 <= place <= 1:
            raise ValueError("is not a position from -1 (left) to 1 (right)")
        if kind == "pan":
            return lambda channels: pan(place, channels)
        matrix = [[min(1.0, 1 - place), 0.0], [0.0, min(1.0, 1 + place)]]
    elif kind in _STEREO:
        matrix = _STEREO[kind]
    else:
        raise ValueError(f"{kind!r} is not a channel operation")
    return lambda channels: _if(channels == 2, channels, "not two", matrix)


def pan(place: float, channels: int = 1) -> Matrix:
    """The matrix that places mono or stereo between left and right at constant power.

    The algorithm of the Web Audio API's StereoPannerNode (https://www.w3.org/TR/webaudio/#stereopanner-algorithm).

    Args:
        place: -1 is left, 0 the centre (mono: -3 dB in both channels), 1 is right.
        channels: 1 or 2.

    Raises:
        ValueError: another number of channels.
    """
    part = (place + 1) / 2 if channels == 1 else place + 1 if place <= 0 else place
    angle = part * (math.pi / 2)
    left, right = round(math.cos(angle), 15), round(math.sin(angle), 15)  # 0 and 1 at hard left and right
    if channels == 1:
        return [[left], [right]]
    matrix = [[1.0, left], [0.0, right]] if place <= 0 else [[left, 0.0], [right, 1.0]]
    return _if(channels == 2, channels, "pan is for one or two", matrix)


def is_permutation(matrix: Matrix) -> bool:
    """Whether every output channel is one input channel, unchanged or inverted."""
    return all(sorted(map(abs, row)) == [*([0.0] * (len(row) - 1)), 1.0] for row in matrix)


def _if(fits: bool, channels: int, wanted: str, matrix: Matrix) -> Matrix:
    """The matrix, where it fits the channels."""
    if not fits:
        raise ValueError(f"has {channels} channel{'s' if channels > 1 else ''}, {wanted}")
    return matrix


# First and last channel, None for all; factor, None for none given.
_Input = tuple[int | None, int | None, float | None]


def _parse_output(text: str) -> list[_Input]:
    """One output channel of sox's remix notation."""
    found: list[_Input] = []
    for word in text.split(","):
        match = _INPUT.fullmatch(word)
        if not match:
            raise ValueError(f"has the part {word!r}, which is not a channel such as 1, 1-3, 1v0.5 or 2i")
        low, dash, high, single, kind, number = match.groups()
        factor: float | None = None
        if kind == "v":
            factor = float(number if number is not None else 1)
        elif kind:
            factor = from_decibels(float(number or 0)) * (-1 if kind == "i" else 1)
        first, last = (low, high) if dash else (single, single)
        found.append((None if first is None else int(first), None if last is None else int(last), factor))
    return found


def _weights(inputs: list[_Input], channels: int) -> list[float]:
    """The factors of the input channels of an output; averaged where no factor is given, as sox does."""
    row, count = [0.0] * channels, 0
    for first, last, factor in inputs:
        low, high = 1 if first is None else first, channels if last is None else last
        if first == last == 0:
            continue  # 0 is a silent channel
        if not 1 <= low <= high:
            raise ValueError(f"cannot be remixed: {low}-{high} is not a range of channels")
        _if(high <= channels, channels, f"none with number {high}", [])
        for i in range(low - 1, high):
            row[i] += 1.0 if factor is None else factor
            count += 1
    average = count and all(factor is None for _, _, factor in inputs)
    return [factor / count for factor in row] if average else row
