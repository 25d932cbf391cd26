"""The Lin-CAE paper's protocols (arXiv 2510.23530, section 4), on one track with one system.

With E the encoder, D the decoder, x a signal, m the mixture, s_i its stems (m is their sum), a a gain:

- reconstruction: D(E(x)) against x;
- decoder homogeneity: D(a E(m)) against a m, over the gains;
- decoder additivity: D(E(s_1) + ... + E(s_k)) against s_1 + ... + s_k, for k = 2, 3, 4 and all;
- encoder homogeneity: ||E(a m) - a E(m)|| / ||a E(m)||, over the gains;
- encoder additivity: ||E(m) - sum_i E(s_i)|| / ||sum_i E(s_i)||;
- oracle source separation: D(E(m) - E(m - s_i)) against s_i.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Audio
from lincae_core.evaluation.mss import mss_segments
from lincae_core.evaluation.sdr import by_segments, sdr, si_sdr
from lincae_core.evaluation.segments import is_silent
from lincae_core.evaluation.systems.base import Latent, System
from lincae_core.evaluation.written import FLOAT, as_written

GAINS = (0.25, 0.5, 0.75, 1.5)
HALF = 0.5  # the gain one can listen to
METRICS: dict[str, Callable[[np.ndarray, np.ndarray, str], np.ndarray]] = {
    "mss": lambda y, x, device: mss_segments(y, x, SAMPLE_RATE, device),
    "sdr": lambda y, x, _: by_segments(sdr, y, x, SAMPLE_RATE),
    "si_sdr": lambda y, x, _: by_segments(si_sdr, y, x, SAMPLE_RATE),
}

Keep = Callable[[str, str, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class Measure:
    """Values of one measure on one track.

    Args:
        measure: recon, hom, add2, add3, add4, add, sep, enc_hom or enc_add.
        metric: mss, sdr, si_sdr, or error (relative L2).
        target: mixture, sum, or a stem.
        values: of every segment that is not silent; errors have one value a track.
    """

    measure: str
    metric: str
    target: str
    values: list[float]


@dataclass
class Session:
    """A system at work on one track: what is encoded and decoded twice is computed once.

    Args:
        system: the system.
        audio: the track.
        device: where torch computes distances.
        subtype: what decoded audio is measured as (`as_written`).
    """

    system: System
    audio: Audio
    device: str = "cpu"
    subtype: str = FLOAT
    seconds_encode: float = 0.0
    seconds_decode: float = 0.0
    size: int | None = None
    _latents: dict[str, Latent] = field(default_factory=dict)

    def signal(self, target: str) -> np.ndarray:
        """The mixture or a stem, ``[n]``."""
        return self.audio.mixture if target == "mixture" else self.audio.stems[target]

    def latent(self, target: str) -> Latent:
        """E(x) of the mixture or a stem."""
        if target not in self._latents:
            if target == "mixture":  # weights that load with the first audio are not counted
                self.system.decode(self.system.encode(self.audio.mixture[:SAMPLE_RATE]), 1)
            began = time.perf_counter()
            self._latents[target] = self.system.encode(self.signal(target))
            if target == "mixture":
                self.seconds_encode = time.perf_counter() - began
                self.size = self.system.size(self._latents[target])
        return self._latents[target]

    def decode(self, latent: Latent) -> np.ndarray:
        """D(z), as long as the track, as a file holds it."""
        return self._written(self.system.decode(latent, len(self.audio.mixture)))

    def scores(self, measure: str, target: str, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Iterator[Measure]:
        """Every metric of estimates and truths, by segments; a segment's value is its mean over the pairs."""
        for metric, function in METRICS.items():
            table = np.stack([function(estimate, truth, self.device) for estimate, truth in pairs])
            heard = ~np.isnan(table).all(0)  # a segment that is silent at one gain may not be at another
            yield Measure(measure, metric, target, [float(v) for v in np.nanmean(table[:, heard], 0)])

    def decode_mixture(self) -> np.ndarray:
        """D(E(m)), timed."""
        latent = self.latent("mixture")
        began = time.perf_counter()
        audio = self.system.decode(latent, len(self.audio.mixture))
        self.seconds_decode = time.perf_counter() - began
        return self._written(audio)

    def _written(self, audio: np.ndarray) -> np.ndarray:
        return as_written(audio, self.subtype, self.system.name)


def measure_track(session: Session, gains: Sequence[float] = GAINS, keep: Keep | None = None) -> list[Measure]:
    """All the protocols that the system and the track allow.

    A system without arithmetic of latents is reconstructed only; additivity needs two stems. A silent
    mixture has no relative errors, as a silent segment has no distance.

    Args:
        session: the system and the track.
        gains: of the homogeneity.
        keep: called with operation (recon, half, sum, sep), target, estimate and truth, for listening.
    """
    found = list(reconstruction(session, keep))
    if session.system.linear:
        heard = not is_silent(session.audio.mixture)
        found += homogeneity(session, gains, keep)
        if heard:
            found.append(encoder_homogeneity(session, gains))
        if len(session.audio.stems) > 1:
            found += additivity(session, keep)
            if heard:
                found.append(encoder_additivity(session))
            found += separation(session, keep)
    return [m for m in found if m.values]


def reconstruction(session: Session, keep: Keep | None = None) -> Iterator[Measure]:
    """D(E(x)) against x, of the mixture and of every stem."""
    for target in ("mixture", *session.audio.stems):
        estimate = session.decode_mixture() if target == "mixture" else session.decode(session.latent(target))
        if keep and target == "mixture":
            keep("recon", target, estimate, session.signal(target))
        yield from session.scores("recon", target, [(estimate, session.signal(target))])


def homogeneity(session: Session, gains: Sequence[float], keep: Keep | None = None) -> Iterator[Measure]:
    """D(a E(m)) against a m; a segment's value is its mean over the gains."""
    mixture, latent = session.audio.mixture, session.latent("mixture")
    pairs = [(session.decode(np.float32(a) * latent), np.float32(a) * mixture) for a in gains]
    if keep:
        half = pairs[list(gains).index(HALF)][0] if HALF in gains else session.decode(np.float32(HALF) * latent)
        keep("half", "mixture", half, np.float32(HALF) * mixture)
    yield from session.scores("hom", "mixture", pairs)


def additivity(session: Session, keep: Keep | None = None) -> Iterator[Measure]:
    """D(E(s_1) + ... + E(s_k)) against the sum of the first k stems, k = 2, 3, 4; and of all, against the mixture."""
    stems = list(session.audio.stems)
    for k in range(2, len(stems) + 1):
        latent = _sum([session.latent(s) for s in stems[:k]])
        truth = session.audio.mixture if k == len(stems) else _sum([session.signal(s) for s in stems[:k]])
        estimate = session.decode(latent)
        found = list(session.scores(f"add{k}", "sum", [(estimate, truth)]))
        yield from found
        if k == len(stems):
            if keep:
                keep("sum", "mixture", estimate, truth)
            yield from (Measure("add", m.metric, "mixture", m.values) for m in found)


def separation(session: Session, keep: Keep | None = None) -> Iterator[Measure]:
    """Oracle source separation: D(E(m) - E(m - s)) against s, of every stem."""
    mixture = session.audio.mixture
    for target, stem in session.audio.stems.items():
        accompaniment = session.system.encode(mixture - stem)
        estimate = session.decode(session.latent("mixture") - accompaniment)
        if keep and target == ("vocals" if "vocals" in session.audio.stems else list(session.audio.stems)[-1]):
            keep("sep", target, estimate, stem)
        yield from session.scores("sep", target, [(estimate, stem)])


def encoder_homogeneity(session: Session, gains: Sequence[float]) -> Measure:
    """||E(a m) - a E(m)|| / ||a E(m)||, the mean over the gains."""
    mixture, latent = session.audio.mixture, session.latent("mixture")
    errors = [relative_error(session.system.encode(np.float32(a) * mixture), np.float32(a) * latent) for a in gains]
    return Measure("enc_hom", "error", "mixture", [float(np.mean(errors))])


def encoder_additivity(session: Session) -> Measure:
    """||E(m) - sum E(s_i)|| / ||sum E(s_i)||."""
    total = _sum([session.latent(s) for s in session.audio.stems])
    return Measure("enc_add", "error", "mixture", [relative_error(session.latent("mixture"), total)])


def relative_error(latent: np.ndarray, reference: np.ndarray) -> float:
    """``||z - r|| / ||r||``, L2 over all numbers."""
    z, r = np.asarray(latent, np.float64), np.asarray(reference, np.float64)
    return float(np.linalg.norm(z - r)) / max(float(np.linalg.norm(r)), 1e-12)


def _sum(parts: Sequence[Latent]) -> Latent:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
