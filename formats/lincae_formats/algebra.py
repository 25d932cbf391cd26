"""Mixing is addition, volume is multiplication: latents in, latents out, float32, nothing rounded in between.

`lazy` has the same for files that are larger than the memory, and says what each argument means.
"""

from collections.abc import Sequence

from . import lazy, timeline
from .curve import Fade, Gain
from .latents import Latents


def mix(
    operands: Sequence[Latents],
    gains: Sequence[float] | None = None,
    *,
    offsets: Sequence[float] | None = None,
    length: str = "longest",
    sample_rate: int | None = None,
) -> Latents:
    """The sum of `gain * operand`, each from its offset on: seconds, rounded to frames.

    Mono operands are added to every channel; shorter ones are followed by silence. The order of the operands
    does not change one bit of the result's data.

    Args:
        operands: One or more.
        gains: One finite factor each; all 1 by default.
        offsets: Where each begins in the result, s; all 0 by default.
        length: `longest`, `shortest` or `first`: the operand whose end is the result's.
        sample_rate: Rate of the result, Hz, where the operands' rates differ; nothing is resampled, for
            latents share one timeline.

    Raises:
        IncompatibleError: the operands do not belong together.
        NonFiniteError: a gain is NaN or infinite, or the result leaves float32.
        LatError: no operands, another number of gains or offsets, or an unknown `length`.
    """
    frames = None
    if offsets is not None:
        frames = [timeline.offset(z.header, s, z.label).frame for z, s in zip(operands, offsets, strict=False)]
        frames += [0] * (len(offsets) - len(frames))
    return lazy.mix(operands, gains, offsets=frames, length=length, sample_rate=sample_rate).collect()


def subtract(whole: Latents, parts: Sequence[Latents], *, sample_rate: int | None = None) -> Latents:
    """`whole` minus every part, as long as `whole`.

    Raises:
        IncompatibleError: the operands do not belong together, or a part has more channels than `whole`.
        LatError: no parts.
    """
    return lazy.subtract(whole, parts, sample_rate=sample_rate).collect()


def gain(latents: Latents, by: float | Gain) -> Latents:
    """`by` times the latents: a factor, which may be 0 or negative, or a `Curve`.

    Raises:
        NonFiniteError: the factor is NaN or infinite, or the result leaves float32.
    """
    return lazy.gain(latents, by).collect()


def fade(latents: Latents, *, fade_in: float = 0.0, fade_out: float = 0.0, shape: str = "linear") -> Latents:
    """The latents, rising from silence and falling to silence, s; see `Fade`.

    Raises:
        LatError: a time or shape that is none.
    """
    return lazy.gain(latents, Fade(latents.duration, fade_in, fade_out, shape)).collect()


def shift(latents: Latents, seconds: float) -> Latents:
    """The latents, later by some silence, or earlier without their beginning; rounded to frames.

    Raises:
        LatError: nothing is left, or it is no time.
    """
    return lazy.shift(latents, timeline.offset(latents.header, seconds, latents.label).frame).collect()


def concat(parts: Sequence[Latents], *, sample_rate: int | None = None) -> Latents:
    """Latents one after the other; every part but the last takes whole frames, so up to 93 ms of silence follow.

    Raises:
        IncompatibleError: they do not belong together.
        LatError: there are none.
    """
    return lazy.concat(parts, sample_rate=sample_rate).collect()
