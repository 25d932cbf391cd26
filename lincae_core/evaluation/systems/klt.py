"""The best exactly linear codec at 64 numbers per 4096 samples: what linearity costs without learning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE, Track, find_material
from lincae_core.evaluation.systems.system import System
from lincae_formats.errors import LincaeError

SPAN = 4096  # samples per latent frame
NUMBERS = 64  # per latent frame
HOP = 1024  # samples of an MDCT frame; four are stacked. Sizes from 128 to 4096 gave much the same MSS
FIT_SECONDS = 60.0  # of each track, enough for a covariance
FINGERPRINT = f"klt:2:{HOP}:{NUMBERS}:{FIT_SECONDS:g}"


class Klt(System):
    """Karhunen-Loeve transform of stacked MDCT frames: encoder and decoder are a matrix and its transpose.

    Exactly linear both ways, to float32 rounding. Bytes are counted as float16.

    Args:
        basis: ``[4096, 64]``, orthonormal columns.
    """

    name = "klt"
    label = "KLT (exactly linear)"
    kind = "anchor"
    version = "2"
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
    """`Klt` with a basis fitted on other audio than the track it is tested on.

    Args:
        tracks: what to fit on, less the track that is tested. The first 60 s of every stem and mixture are used; files
            that cannot be read are left out.
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
            LincaeError: there is no other audio, or it is silent or cannot be read.
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
        raise NotImplementedError("use for_track")

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """Not without a track: see `for_track`."""
        raise NotImplementedError("use for_track")

    def close(self) -> None:
        """Frees the covariance."""
        self._total = self._whole = None


def fitted_on(tracks: Sequence[Track], folder: Path | None) -> KltOfOthers:
    """The KLT of a folder's audio, or of the tracks other than the one tested.

    Raises:
        LincaeError: no audio in the folder, or there are no other tracks.
    """
    if folder is not None:
        return KltOfOthers(find_material(folder), f"the audio in {folder}", folder.resolve().name)
    if len(tracks) < 2:
        raise _alone(tracks[0])
    return KltOfOthers(tracks, "the other tracks' stems and mixtures")


def stacked(audio: np.ndarray) -> np.ndarray:
    """Audio ``[n]`` to vectors of 4096 MDCT coefficients each, ``[frames, 4096]``; zeros follow the end."""
    frames = mdct(audio, HOP)
    count = SPAN // HOP
    return np.pad(frames, ((0, -len(frames) % count), (0, 0))).reshape(-1, SPAN)


def covariance(signals: Iterable[np.ndarray]) -> np.ndarray:
    """Sum of ``v v^T`` over the vectors of all signals, at two offsets, ``[4096, 4096]`` float64; no mean removed."""
    total = np.zeros((SPAN, SPAN))
    for audio in signals:
        for offset in (0, SPAN // 2):
            if len(audio) > offset:
                vectors = stacked(audio[offset:])
                total += vectors.T @ vectors
    return total


def principal_vectors(matrix: np.ndarray, count: int) -> np.ndarray:
    """The leading eigenvectors of a symmetric matrix ``[n, n]``, ``[n, count]``.

    Raises:
        LincaeError: the matrix is zero (silent audio).
    """
    from scipy.sparse.linalg import eigsh

    scale = float(np.abs(matrix).max())
    if not scale:
        raise LincaeError("klt: all the audio to fit it on is silent", "give other music: --model klt:DIR")
    start = np.random.default_rng(0).standard_normal(len(matrix))
    vectors: np.ndarray = eigsh(matrix / scale, count, which="LA", v0=start, tol=1e-4)[1]
    return vectors[:, ::-1]  # eigsh sorts them in ascending order


def mdct(audio: np.ndarray, hop: int) -> np.ndarray:
    """MDCT with a sine window of two hops; orthonormal (Princen and Bradley, 1986; Malvar, 1990).

    ``X[f, k] = sqrt(2/M) sum_n w[n] x[f M + n - M] cos(pi/M (n + 1/2 + M/2) (k + 1/2))``, M the hop: the DCT-IV of
    the block folded about a quarter and three quarters of its length.

    Args:
        audio: ``[n]``.
        hop: M, samples; even.

    Returns:
        float32 ``[ceil(n / hop) + 1, hop]``; zeros surround the audio.
    """
    from scipy.fft import dct

    frames = -(-len(audio) // hop) + 1
    padded = np.pad(audio.astype(np.float64), (hop, frames * hop - len(audio)))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop] * _window(hop)
    a, b, c, d = np.split(blocks, 4, axis=1)
    return dct(np.hstack([-c[:, ::-1] - d, a - b[:, ::-1]]), 4, norm="ortho").astype(np.float32)


def imdct(coefficients: np.ndarray, num_samples: int) -> np.ndarray:
    """The inverse of `mdct`: coefficients ``[frames, hop]`` to audio ``[num_samples]``, at most (frames - 1) hop."""
    from scipy.fft import dct

    frames, hop = coefficients.shape
    first, second = np.split(dct(coefficients.astype(np.float64), 4, norm="ortho"), 2, axis=1)
    blocks = np.hstack([second, -second[:, ::-1], -first[:, ::-1], -first]) * _window(hop)
    out = np.zeros((frames + 1, hop))
    out[:-1] += blocks[:, :hop]
    out[1:] += blocks[:, hop:]
    return out.ravel()[hop : hop + num_samples].astype(np.float32)


def _window(hop: int) -> np.ndarray:
    return np.sin(np.pi * (np.arange(2 * hop) + 0.5) / (2 * hop))


def _alone(track: Track) -> LincaeError:
    return LincaeError(f"klt: there is no track but {track.name} to fit it on", "name other music: --model klt:DIR")


def _signals(tracks: Sequence[Track]) -> Iterator[np.ndarray]:
    for track in tracks:
        try:
            audio = track.load(FIT_SECONDS)
        except LincaeError:
            continue  # reported where the track is measured
        yield from audio.stems.values()
        yield audio.mixture
