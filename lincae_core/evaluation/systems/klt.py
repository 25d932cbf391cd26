"""The best exactly linear codec at the same compression: what linearity costs without learning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Track
from lincae_core.evaluation.systems.base import System
from lincae_core.evaluation.systems.mdct import imdct, mdct
from lincae_formats.errors import LincaeError

SPAN = 4096  # samples that one latent frame stands for
NUMBERS = 64  # per latent frame
# MDCT frames of 1024 samples, four of them stacked. Of 128 to 4096 samples, weighted by frequency and not, this was
# as good as any by MSS (1.65 on three tracks, each with the basis of the other two; 4096: 1.67) and best by SDR.
HOP = 1024
FIT_SECONDS = 60.0  # of each track: enough for a covariance, and bounded on a whole data set
FINGERPRINT = f"klt:1:{HOP}:{NUMBERS}:{FIT_SECONDS:g}"


class Klt(System):
    """Karhunen-Loeve transform of stacked MDCT frames: encoder and decoder are one matrix and its transpose.

    Encoding is exactly linear, and so is decoding, to float32 rounding. Latents stay float32; their bytes are counted
    as the float16 of a `.lat` file.

    Args:
        basis: ``[4096, 64]``, orthonormal columns.
    """

    name = "klt"
    label = "KLT (exactly linear)"
    kind = "anchor"
    version = "1"
    fingerprint = FINGERPRINT
    notes = f"{NUMBERS} principal components of {SPAN // HOP} MDCT frames of {HOP} samples"
    latent_rate = NUMBERS * SAMPLE_RATE / SPAN
    bytes_per_second = 2 * latent_rate

    def __init__(self, basis: np.ndarray) -> None:
        self.basis = basis.astype(np.float32)

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[n]`` to ``[frames, 64]``."""
        return stacked(audio) @ self.basis

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """``[frames, 64]`` to audio ``[num_samples]``."""
        return imdct((latent @ self.basis.T).reshape(-1, HOP), num_samples)


class KltOfOthers(System):
    """`Klt` whose basis is fitted on other audio than the track it is tried on.

    Args:
        tracks: what to fit on; the track that is tested is left out where it is among them. The first 60 s of
            every stem and mixture are used, and files that cannot be read are left out.
        source: what the tracks are, for the notes.
        where: the same in a word, for name and label.
    """

    kind, version = Klt.kind, Klt.version
    latent_rate, bytes_per_second = Klt.latent_rate, Klt.bytes_per_second

    def __init__(self, tracks: Sequence[Track], source: str, where: str = "") -> None:
        self.tracks = list(tracks)
        self.name = f"{Klt.name}-{where}" if where else Klt.name
        self.label = f"{Klt.label}, fitted on {where or 'the other tracks'}"
        keys = json.dumps([[track.name, track.key()] for track in self.tracks])
        self.fingerprint = f"{FINGERPRINT}:{hashlib.sha256(keys.encode()).hexdigest()}"
        self.notes = f"{Klt.notes}, fitted on {source}"
        self._total: np.ndarray | None = None
        self._whole: Klt | None = None

    def for_track(self, track: Track) -> Klt:
        """The transform fitted on all the audio but this track's.

        Raises:
            LincaeError: there is no other audio, or it cannot be read.
        """
        mine = {path.resolve() for path in track.files.values()}
        own = [t for t in self.tracks if mine & {path.resolve() for path in t.files.values()}]
        if len(own) == len(self.tracks):
            raise _alone(track)
        if self._total is None:
            self._total = covariance(_signals(self.tracks))
        if own:
            return Klt(principal_vectors(self._total - covariance(_signals(own)), NUMBERS))
        if self._whole is None:
            self._whole = Klt(principal_vectors(self._total, NUMBERS))
        return self._whole

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Not without a track: see `for_track`."""
        raise NotImplementedError("ask for_track for the transform of a track")

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """Not without a track: see `for_track`."""
        raise NotImplementedError("ask for_track for the transform of a track")

    def close(self) -> None:
        """Drops the covariance."""
        self._total = self._whole = None


def stacked(audio: np.ndarray) -> np.ndarray:
    """Audio ``[n]`` to vectors of 4096 MDCT coefficients each, ``[frames, 4096]``; silence follows the end."""
    frames = mdct(audio, HOP)
    count = SPAN // HOP
    return np.pad(frames, ((0, -len(frames) % count), (0, 0))).reshape(-1, SPAN)


def covariance(signals: Iterable[np.ndarray]) -> np.ndarray:
    """Sum of ``v v^T`` over the vectors of all signals, at two offsets, ``[4096, 4096]`` float64; no mean is taken."""
    total, held, rows = np.zeros((SPAN, SPAN)), [np.zeros((0, SPAN), np.float32)], 0
    for vectors in (stacked(audio[offset:]) for audio in signals for offset in (0, SPAN // 2) if len(audio) > offset):
        held.append(vectors)
        rows += len(vectors)
        if rows >= SPAN:  # adding up the products costs as much as so many rows
            total += _product(held)
            held, rows = held[:1], 0
    return total + _product(held)


def _product(parts: list[np.ndarray]) -> np.ndarray:
    vectors = np.concatenate(parts)
    return vectors.T @ vectors


def principal_vectors(matrix: np.ndarray, count: int, iterations: int = 12) -> np.ndarray:
    """The leading eigenvectors of a symmetric matrix ``[n, n]``, ``[n, count]``, by subspace iteration.

    Halko, Martinsson and Tropp, "Finding structure with randomness", 2011, algorithm 4.4, with a fixed seed.

    Raises:
        LincaeError: the matrix is zero (silent audio).
    """
    scale = float(np.abs(matrix).max())
    if scale == 0:
        raise LincaeError("klt: all the audio to fit it on is silent", "give other music: --model klt:DIR")
    a = (matrix / scale).astype(np.float32)
    q = np.random.default_rng(0).standard_normal((len(a), min(len(a), count + 32)), np.float32)
    for _ in range(iterations):
        q = np.linalg.qr(a @ q)[0]
    _, rotation = np.linalg.eigh(q.T @ a @ q)  # ascending
    return np.linalg.qr(q @ rotation[:, : -count - 1 : -1])[0]


def _alone(track: Track) -> LincaeError:
    hint = "give a folder of other music: --model klt:DIR"
    return LincaeError(f"klt: there is no track but {track.name} to fit it on", hint)


def _signals(tracks: Sequence[Track]) -> Iterator[np.ndarray]:
    for track in tracks:
        try:
            audio = track.load(FIT_SECONDS)
        except LincaeError:
            continue  # a bad file must not stop the rest; where it is measured, it is reported
        yield from audio.stems.values()
        yield audio.mixture


def fitted_on(tracks: Sequence[Track], folder: Path | None) -> KltOfOthers:
    """The KLT of a folder's audio, or of the tracks other than the one tested.

    Raises:
        LincaeError: no audio in the folder, or there are no other tracks.
    """
    if folder is None:
        if len(tracks) < 2:
            raise _alone(tracks[0])
        return KltOfOthers(tracks, "the other tracks' stems and mixtures")
    from lincae_core.evaluation.dataset import find_audio

    return KltOfOthers(find_audio(folder), f"the audio in {folder}", folder.resolve().name)
