"""How far apart two pieces of audio are: the evaluation's measures of two files of any length, in constant memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from lincae_core.evaluation import metrics
from lincae_core.evaluation.judges import Judges
from lincae_core.models.codec import AudioSource, ResampledAudio
from lincae_formats.errors import IncompatibleError


@dataclass(frozen=True)
class Comparison:
    """What was found, over the length that both have."""

    num_samples: int  # samples compared, per channel
    sample_rate: int  # Hz; that of the reference
    channels: str  # how channels were compared, in words, where the two have different numbers; else empty
    level_db: float  # RMS of the reference over all channels, dB below full scale; minus infinity for silence
    other_level_db: float  # likewise of the other
    equal: bool  # whether every sample is the same
    sdr_db: float  # `metrics.sdr`; NaN when both are silent
    # mss, tone, octaves_db, of stereo image_db, and the judges' scores where they were asked: each the mean over
    # segments of 10 s, NaN when the reference is silent. See `evaluation.metrics`.
    sound: dict[str, float] = field(default_factory=dict)


def compare(
    reference: AudioSource, other: AudioSource, names: tuple[str, str] = ("the first", "the second"), *,
    judges: bool = False, progress: Callable[[float, float], None] | None = None,
) -> Comparison:  # fmt: skip
    """Compares audio with a reference over the length that both have; the other is resampled where its rate differs.

    Args:
        reference: the original.
        other: the audio to judge. Mono is compared with every channel of the other one.
        names: what messages call them.
        judges: whether to ask the perceptual judges, of the mean of the channels.
        progress: called with seconds done and in all.

    Raises:
        IncompatibleError: different numbers of channels, neither of them 1.
        LincaeError: the judges are not installed.
    """
    counts = (reference.channels, other.channels)
    if counts[0] != counts[1] and 1 not in counts:
        raise IncompatibleError(
            f"{names[0]} has {counts[0]} channels, {names[1]} has {counts[1]}",
            "compare files with the same number of channels, or with mono",
        )
    panel = Judges() if judges else None
    rate = reference.sample_rate
    if other.sample_rate != rate:
        other = ResampledAudio(other, rate)
    length = min(reference.num_samples, other.num_samples)
    measured = {span.start for span in metrics.spans(length, rate)}
    sums, found, done = np.zeros(3), [], 0
    for a, b in zip(_pieces(reference, length), _pieces(other, length), strict=True):
        a, b = np.broadcast_arrays(a, b)
        difference = a.astype(np.float64) - b
        sums += [np.square(x, dtype=np.float64).sum() / len(a) for x in (a, b, difference)]
        if done in measured and not metrics.is_silent(a.mean(0)):
            found.append(_sound(a, b, rate, panel))
        done += a.shape[1]
        if progress:
            progress(done / rate, length / rate)
    channels = ""
    if counts[0] != counts[1]:
        mono, many = (0, 1) if counts[0] == 1 else (1, 0)
        channels = f"the one channel of {names[mono]} with each of the {counts[many]} of {names[many]}"
    keys = ["mss", "tone", "octaves_db", *(["image_db"] if max(counts) == 2 else []), *(_JUDGED if panel else [])]
    sound = {key: metrics.mean_heard(np.array([scores[key] for scores in found])) for key in keys}
    level, other_level = (10 * math.log10(power / length) if power else -math.inf for power in sums[:2])
    return Comparison(
        length, rate, channels, level, other_level, not sums[2], metrics.ratio_db(sums[0], sums[2]), sound
    )


_JUDGED = ("visqol", "zimtohrli", "notes", "stoi")


def _sound(reference: np.ndarray, other: np.ndarray, rate: int, panel: Judges | None) -> dict[str, float]:
    """Scores of one segment ``[C, n]``."""
    x, y = reference.mean(0, dtype=np.float32), other.mean(0, dtype=np.float32)
    found = {
        "mss": metrics.mss(y, x, rate),
        "tone": metrics.tone(y, x, rate),
        "octaves_db": metrics.octave_levels(y, x, rate),
    }
    if len(reference) == 2:
        found["image_db"] = metrics.stereo_image(other, reference, rate)
    return {**found, **panel.scores(y, x, rate, speech=True)} if panel else found


def _pieces(source: AudioSource, length: int) -> Iterator[np.ndarray]:
    """The first `length` samples of a source in stretches of 10 s, the last one shorter."""
    step = metrics.SEGMENT_SECONDS * source.sample_rate
    for start, piece in zip(range(0, length, step), metrics.regrouped(source.blocks(), step), strict=False):
        yield piece[:, : length - start]
