"""What is measured of one system on one track: the Lin-CAE paper's protocols (arXiv 2510.23530, section 4), and sound.

With E the encoder, D the decoder, x a signal, m the mixture, s_i its stems (m is their sum), a a gain:

- reconstruction: D(E(x)) against x;
- decoder homogeneity: D(a E(m)) against a m, over the gains;
- decoder additivity: D(E(s_1) + ... + E(s_k)) against s_1 + ... + s_k, for k = 2, 3, 4 and all;
- encoder homogeneity: ||E(a m) - a E(m)|| / ||a E(m)||, over the gains;
- encoder additivity: ||E(m) - sum_i E(s_i)|| / ||sum_i E(s_i)||;
- oracle source separation: D(E(m) - E(m - s_i)) against s_i;
- stereo, where the files are stereo: the mixture's image, and three cases with an exact answer.
"""

from __future__ import annotations

import io
import operator
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np

from lincae_core.audio import AudioWriter, read_audio
from lincae_core.evaluation import metrics
from lincae_core.evaluation.dataset import SAMPLE_RATE, Audio, Track
from lincae_core.evaluation.judges import Judges
from lincae_formats import Latents
from lincae_formats.errors import LincaeError

GAINS = (0.25, 0.5, 0.75, 1.5)
HALF = 0.5  # the gain of which an excerpt is kept
FLOAT = "FLOAT"
SUBTYPES = ("PCM_16", "PCM_24", FLOAT)
VOCALS = "vocals"

Latent = Any  # where `linear`: has +, - and a factor, as an array or `Latents`; else opaque
Metric = Callable[[np.ndarray, np.ndarray, str], np.ndarray]  # of estimate, truth, device: a value per segment
Heard = tuple[str, str, np.ndarray, np.ndarray]  # operation (recon, half, sum, sep), target, estimate, truth


class System(ABC):
    """A codec of audio at 44.1 kHz. Constructing one is cheap: weights are loaded at the first `encode`."""

    name: str  # short; unique within a comparison
    label: str  # what tables call it
    kind: str  # model (learned, with latents), codec or anchor
    version: str  # of the weights or the library
    fingerprint: str  # differs when results may differ
    notes: str  # one sentence for the tables' notes
    latent_rate: float | None  # numbers a second of mono audio; None without latents
    bytes_per_second: float | None = None  # of mono audio; None where it is measured by `size`
    linear: bool = True  # whether latents can be added, subtracted and scaled

    @abstractmethod
    def encode(self, audio: np.ndarray) -> Latent:
        """Mono audio float32 ``[n]``, n > 0, to its latent."""

    @abstractmethod
    def decode(self, latent: Latent, num_samples: int) -> np.ndarray:
        """A latent to mono audio float32 ``[num_samples]``."""

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` encoded and decoded, ``[C, n]``; here channel by channel."""
        return np.stack([self.decode(self.encode(channel), len(channel)) for channel in audio])

    def size(self, latent: Latent) -> int | None:
        """Bytes of the file that holds what `encode` returned last; None where `bytes_per_second` says it."""
        del latent
        return None

    def for_track(self, track: Track) -> System:
        """The system for one track; another one only where it is fitted on the other tracks."""
        del track
        return self

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Frees the weights, which are loaded again when needed."""


def _by_segments(measure: Callable[[np.ndarray, np.ndarray], float]) -> Metric:
    return lambda estimate, truth, _: metrics.by_segments(measure, estimate, truth, SAMPLE_RATE)


METRICS: dict[str, Metric] = {
    "mss": lambda estimate, truth, device: metrics.mss_segments(estimate, truth, SAMPLE_RATE, device),
    "sdr": _by_segments(metrics.sdr),
    "si_sdr": _by_segments(metrics.si_sdr),
}
SOUND: dict[str, Metric] = {  # of reconstruction and separation alone
    "tone": _by_segments(lambda y, x: metrics.tone(y, x, SAMPLE_RATE)),
    "octaves": _by_segments(lambda y, x: metrics.octave_levels(y, x, SAMPLE_RATE)),
}


@dataclass(frozen=True)
class Measure:
    """Values of one measure on one track."""

    measure: str  # recon, hom, add2, add3, add4, add, sep, enc_hom, enc_add or stereo
    metric: str  # of METRICS and SOUND, a judge's, error (relative L2); image, dual_mono, hard_panned, antiphase (dB)
    target: str  # mixture, sum, or a stem
    values: list[float]  # one for each segment that is not silent; errors and stereo have one a track


@dataclass
class Session:
    """A system at work on one track: what is needed twice is encoded once."""

    system: System
    audio: Audio
    device: str = "cpu"  # where torch computes distances
    subtype: str = FLOAT  # how decoded audio is rounded before it is measured (`as_written`)
    judges: Judges | None = None
    heard: list[Heard] = field(default_factory=list)  # what was decoded, for listening
    seconds_encode: float = 0.0  # of the mixture
    seconds_decode: float = 0.0
    size: int | None = None
    _latents: dict[str, Latent] = field(default_factory=dict)

    def signal(self, target: str) -> np.ndarray:
        """The mixture or a stem, ``[n]``."""
        return self.audio.mixture if target == "mixture" else self.audio.stems[target]

    def latent(self, target: str) -> Latent:
        """E(x) of the mixture or a stem; that of the mixture is timed."""
        if target not in self._latents:
            if target == "mixture":  # loads the weights, which is not timed
                self.system.decode(self.system.encode(self.audio.mixture[:SAMPLE_RATE]), 1)
            began = time.perf_counter()
            self._latents[target] = self.system.encode(self.signal(target))
            if target == "mixture":
                self.seconds_encode = time.perf_counter() - began
                self.size = self.system.size(self._latents[target])
        return self._latents[target]

    def decode(self, latent: Latent) -> np.ndarray:
        """D(z), as long as the track, rounded as in a file; the first is that of the mixture, which is timed."""
        began = time.perf_counter()
        audio = self.system.decode(latent, len(self.audio.mixture))
        self.seconds_decode = self.seconds_decode or time.perf_counter() - began
        return as_written(audio, self.subtype, self.system.name)

    def scores(
        self, measure: str, target: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]], *, sound: bool = False
    ) -> Iterator[Measure]:
        """Every metric of (estimate, truth) pairs by segments; a segment's value is its mean over the pairs.

        With `sound` also those of `SOUND`, and the judges' scores of the mixture and the vocals.
        """
        for metric, function in ({**METRICS, **SOUND} if sound else METRICS).items():
            table = np.stack([function(estimate, truth, self.device) for estimate, truth in pairs])
            heard = ~np.isnan(table).all(0)  # a segment that is silent at one gain may not be at another
            yield Measure(measure, metric, target, [float(v) for v in np.nanmean(table[:, heard], 0)])
        if not sound or self.judges is None or target not in ("mixture", VOCALS):
            return
        ((estimate, truth),) = pairs
        found: dict[str, list[float]] = {}
        for span in metrics.spans(len(truth), SAMPLE_RATE):
            if not metrics.is_silent(truth[span]):
                scores = self.judges.scores(estimate[span], truth[span], SAMPLE_RATE, speech=target == VOCALS)
                for judge, value in scores.items():
                    found.setdefault(judge, []).extend([] if np.isnan(value) else [value])
        yield from (Measure(measure, judge, target, values) for judge, values in found.items())


def measure_track(session: Session, gains: Sequence[float] = GAINS) -> list[Measure]:
    """All the protocols that the system and the track allow; `gains` are those of the homogeneity.

    A system without arithmetic of latents is only reconstructed; additivity needs two stems, stereo stereo files. A
    silent mixture has no relative errors, as a silent segment has no distance.
    """
    found = list(reconstruction(session))
    if session.system.linear:
        stems, heard = len(session.audio.stems) > 1, not metrics.is_silent(session.audio.mixture)
        found += homogeneity(session, gains)
        found += [encoder_homogeneity(session, gains)] if heard else []
        found += additivity(session) if stems else []
        found += [encoder_additivity(session)] if heard and stems else []
        found += separation(session) if stems else []
    return [m for m in [*found, *stereo(session)] if m.values]


def reconstruction(session: Session) -> Iterator[Measure]:
    """D(E(x)) against x, of the mixture and of every stem."""
    for target in ("mixture", *session.audio.stems):
        estimate, truth = session.decode(session.latent(target)), session.signal(target)
        if target == "mixture":
            session.heard.append(("recon", target, estimate, truth))
        yield from session.scores("recon", target, [(estimate, truth)], sound=True)


def homogeneity(session: Session, gains: Sequence[float]) -> Iterator[Measure]:
    """D(a E(m)) against a m; a segment's value is its mean over the gains."""
    mixture, latent = session.audio.mixture, session.latent("mixture")
    estimates = {a: session.decode(float(a) * latent) for a in dict.fromkeys([*gains, HALF])}
    session.heard.append(("half", "mixture", estimates[HALF], np.float32(HALF) * mixture))
    yield from session.scores("hom", "mixture", [(estimates[a], np.float32(a) * mixture) for a in gains])


def additivity(session: Session) -> Iterator[Measure]:
    """D(E(s_1) + ... + E(s_k)) against the sum of the first k stems, k = 2, 3, 4; and of all, against the mixture."""
    stems = list(session.audio.stems)
    for k in range(2, len(stems) + 1):
        estimate = session.decode(_sum([session.latent(s) for s in stems[:k]]))
        truth = session.audio.mixture if k == len(stems) else _sum([session.signal(s) for s in stems[:k]])
        found = list(session.scores(f"add{k}", "sum", [(estimate, truth)]))
        yield from found
    session.heard.append(("sum", "mixture", estimate, truth))
    yield from (Measure("add", m.metric, "mixture", m.values) for m in found)


def separation(session: Session) -> Iterator[Measure]:
    """Oracle source separation: D(E(m) - E(m - s)) against s, of every stem."""
    stems = session.audio.stems
    for target, stem in stems.items():
        accompaniment = session.system.encode(session.audio.mixture - stem)
        estimate = session.decode(session.latent("mixture") - accompaniment)
        if target == (VOCALS if VOCALS in stems else list(stems)[-1]):
            session.heard.append(("sep", target, estimate, stem))
        yield from session.scores("sep", target, [(estimate, stem)], sound=True)


def encoder_homogeneity(session: Session, gains: Sequence[float]) -> Measure:
    """||E(a m) - a E(m)|| / ||a E(m)||, the mean over the gains."""
    mixture, latent = session.audio.mixture, session.latent("mixture")
    errors = [relative_error(session.system.encode(np.float32(a) * mixture), float(a) * latent) for a in gains]
    return Measure("enc_hom", "error", "mixture", [float(np.mean(errors))])


def encoder_additivity(session: Session) -> Measure:
    """||E(m) - sum_i E(s_i)|| / ||sum_i E(s_i)||."""
    total = _sum([session.latent(s) for s in session.audio.stems])
    return Measure("enc_add", "error", "mixture", [relative_error(session.latent("mixture"), total)])


def stereo(session: Session) -> Iterator[Measure]:
    """How stereo comes back, of the first 10 s that are not silent; nothing for mono files.

    The image is `metrics.stereo_image`; the cases are those of `stereo_leaks`.
    """
    audio = session.audio.stereo
    parts = [] if audio is None else [audio[:, s] for s in metrics.spans(audio.shape[1], SAMPLE_RATE)]
    part = next((p for p in parts if not metrics.is_silent(p)), None)
    if part is not None:
        image = metrics.stereo_image(session.system.roundtrip(part), part, SAMPLE_RATE)
        for case, level in {"image": image, **stereo_leaks(session.system, part.mean(0))}.items():
            yield Measure("stereo", case, "mixture", [level])


def stereo_leaks(system: System, mono: np.ndarray) -> dict[str, float]:
    """Levels in dB, at best -100, of what should be silent after coding audio ``[n]`` in stereo.

    On both channels (dual mono) the side against the middle; on one channel (hard-panned) the other one; with opposite
    signs (antiphase) the middle against the side.
    """

    def against(leak: np.ndarray, signal: np.ndarray) -> float:
        found = metrics.ratio_db(float(leak @ leak), float(signal @ signal))
        return -metrics.LIMIT_DB if np.isnan(found) else found

    both, one, opposite = (
        system.roundtrip(np.stack([mono, np.float32(factor) * mono])).astype(np.float64) for factor in (1, 0, -1)
    )
    return {
        "dual_mono": against(both[0] - both[1], both[0] + both[1]),
        "hard_panned": against(one[1], one[0]),
        "antiphase": against(opposite[0] + opposite[1], opposite[0] - opposite[1]),
    }


def as_written(audio: np.ndarray, subtype: str, name: str) -> np.ndarray:
    """What one reads of audio ``[n]`` that `lincae decode` wrote as WAV: rounding shows in quiet passages.

    The subtype is one of `SUBTYPES`, of which FLOAT changes nothing; messages name the system.

    Raises:
        LincaeError: the audio holds NaN or infinity.
    """
    if not np.isfinite(audio).all():
        raise LincaeError(f"{name}: what it decoded holds NaN or infinity", "leave it out, or check its weights")
    if subtype == FLOAT:
        return audio
    file = io.BytesIO()
    with AudioWriter(file, SAMPLE_RATE, 1, format="WAV", subtype=subtype) as writer:
        writer.write(audio[None])
    return read_audio(io.BytesIO(file.getvalue()))[0]


def relative_error(latent: Latent, reference: Latent) -> float:
    """``||z - r|| / ||r||``, L2 over all numbers, of arrays or `Latents`."""
    z, r = (np.asarray(v.data if isinstance(v, Latents) else v, np.float64) for v in (latent, reference))
    return float(np.linalg.norm(z - r)) / max(float(np.linalg.norm(r)), 1e-12)


def _sum(parts: Sequence[Latent]) -> Latent:
    return reduce(operator.add, parts)
