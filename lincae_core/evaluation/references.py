"""The systems that ours is compared with: the audio itself, Opus, the best exactly linear codec, Stable Audio's VAE."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from scipy.fft import dct
from scipy.sparse.linalg import eigsh

from lincae_core.audio import StreamResampler
from lincae_core.evaluation.dataset import SAMPLE_RATE, Track, find_material
from lincae_core.evaluation.protocols import System
from lincae_core.models.store import PUBLISHED, choose_device
from lincae_formats.errors import LincaeError

# Opus
DEFAULT_KBPS = 12.0
LOWEST, HIGHEST = 6000, 256000  # bit/s per channel that libsndfile can be asked for
_OPUS_RATE = 48000  # Hz
_BLOCK = 1 << 16
# KLT
SAMPLES_PER_FRAME = 4096
NUMBERS = 64  # per frame of that many samples
MDCT_HOP = 1024  # samples of an MDCT frame; four are stacked. Sizes from 128 to 4096 gave much the same MSS
FIT_SECONDS = 60.0  # of each track, enough for a covariance
# Stable Audio
STABLE_AUDIO = "stable-audio-vae"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
STRETCH = 128  # latent frames computed at once
CONTEXT = 32  # latent frames beside them; the network reaches about 10 to each side


class Identity(System):
    """The audio itself in float32: the best that any codec can do, and a check of the protocols."""

    name, label, kind = "identity", "Identity", "anchor"
    version, fingerprint, notes = "1", "identity:1", "the audio itself as float32"
    latent_rate = float(SAMPLE_RATE)
    bytes_per_second = 4.0 * SAMPLE_RATE

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """A copy of the audio ``[n]``."""
        return audio.astype(np.float32)

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """The first samples of the latent ``[n]``."""
        return latent[:num_samples].astype(np.float32)


class Opus(System):
    """Opus by libsndfile, the codec to beat at equal bytes. Its files cannot be added.

    The bitrate, kbit/s per channel, is that of the file, Ogg's pages included: the audio is encoded once, then again
    with the request corrected by the size of the first result (by a third at most, as silence cannot be made larger).

    Raises:
        LincaeError: this libsndfile has no Opus encoder.
    """

    kind, latent_rate, linear = "codec", None, False

    def __init__(self, kbps: float = DEFAULT_KBPS) -> None:
        if not opus_available():
            version = soundfile.__libsndfile_version__
            raise LincaeError(f"no Opus encoder: libsndfile {version} lacks it", "pip install --upgrade soundfile")
        self.kbps = kbps
        self.name, self.label = f"opus-{kbps:g}", f"Opus {kbps:g}"
        self.version = f"libsndfile {soundfile.__libsndfile_version__}"
        self.fingerprint = f"opus:2:{kbps:g}:{self.version}"
        self.notes = f"Ogg/Opus by {self.version}, encoded twice to meet the bitrate; bytes are those of the files"

    def encode(self, audio: np.ndarray) -> bytes:
        """Audio ``[n]`` or ``[C, n]`` to an Ogg/Opus file in memory."""
        channels = np.atleast_2d(audio).astype(np.float32)
        channels = np.pad(channels, ((0, 0), (0, max(0, SAMPLE_RATE // 50 - channels.shape[1]))))  # one packet
        wanted = self.kbps * 1000
        came = 8 * len(_opus(channels, wanted)) * SAMPLE_RATE / channels.size
        return _opus(channels, wanted * min(max(wanted / came, 2 / 3), 4 / 3))

    def decode(self, latent: bytes, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to mono audio ``[num_samples]``."""
        return self.decoded(latent, num_samples)[0]

    def decoded(self, file: bytes, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to audio ``[C, num_samples]``."""
        # all at once: libsndfile's Opus decoder loses its state when it seeks
        audio, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
        audio = _resample(audio.T, rate, SAMPLE_RATE)[:, :num_samples]
        return np.pad(audio, ((0, 0), (0, num_samples - audio.shape[1])))

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` as one file with the bitrate of its channels together, decoded."""
        return self.decoded(self.encode(audio), audio.shape[1])

    def size(self, latent: bytes) -> int:
        """Bytes of the file."""
        return len(latent)


def opus_available() -> bool:
    """Whether this libsndfile writes Opus at a chosen bitrate."""
    return "OPUS" in soundfile.available_subtypes("OGG") and hasattr(soundfile.SoundFile, "compression_level")


def _opus(audio: np.ndarray, bits: float) -> bytes:
    """Audio ``[C, n]`` as a file of so many bit/s per channel."""
    level = min(max((HIGHEST - bits) / (HIGHEST - LOWEST), 0.0), 1.0)  # libsndfile's scale, 0 is the highest rate
    return ogg(_resample(audio, SAMPLE_RATE, _OPUS_RATE), _OPUS_RATE, "OPUS", compression_level=level)


def ogg(audio: np.ndarray, sample_rate: int, subtype: str, **options: Any) -> bytes:
    """Audio ``[C, n]`` as an Ogg file: VORBIS or OPUS. Written in blocks: libsndfile crashes on long writes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", sample_rate, len(audio), format="OGG", subtype=subtype, **options) as out:
        for at in range(0, audio.shape[1], _BLOCK):
            out.write(audio[:, at : at + _BLOCK].T)
    return file.getvalue()


def _resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    return StreamResampler(source, target, len(audio)).process(np.ascontiguousarray(audio, np.float32), last=True)


class Klt(System):
    """Karhunen-Loeve transform of stacked MDCT frames: what linearity costs without learning.

    Encoder and decoder are a matrix ``[4096, 64]`` of orthonormal columns and its transpose, exactly linear both ways,
    to float32 rounding. Bytes are counted as float16.
    """

    name, label, kind, version = "klt", "KLT", "anchor", "2"
    fingerprint = f"klt:2:{MDCT_HOP}:{NUMBERS}:{FIT_SECONDS:g}"
    notes = f"exactly linear: {NUMBERS} principal components of four MDCT frames of {MDCT_HOP} samples"
    latent_rate = NUMBERS * SAMPLE_RATE / SAMPLES_PER_FRAME
    bytes_per_second = 2 * latent_rate

    def __init__(self, basis: np.ndarray) -> None:
        self.basis = basis.astype(np.float32)

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[n]`` to ``[frames, 64]``."""
        return stacked(audio) @ self.basis

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """``[frames, 64]`` to audio ``[num_samples]``."""
        return imdct((latent @ self.basis.T).reshape(-1, MDCT_HOP), num_samples)


class KltOfOthers(Klt):
    """`Klt` with a basis fitted on other audio than the track it is tested on; `for_track` gives the codec.

    The first 60 s of every stem and mixture are used; files that cannot be read are left out.

    Args:
        tracks: what to fit on, less the track that is tested.
        source: what the tracks are, for the notes.
        where: the same in a word, for name and label.
    """

    def __init__(self, tracks: Sequence[Track], source: str, where: str = "") -> None:
        self.tracks = list(tracks)
        self.name = f"{Klt.name}-{where}" if where else Klt.name
        self.label = f"{Klt.label}, fitted on {where or 'the other tracks'}"
        keys = json.dumps([[track.name, track.key()] for track in self.tracks])
        self.fingerprint = f"{Klt.fingerprint}:{hashlib.sha256(keys.encode()).hexdigest()}"
        self.notes = f"{Klt.notes}, fitted on {source}"
        self._total: np.ndarray | None = None
        self._fitted: dict[tuple[str, ...], Klt] = {}  # by the names of the tracks left out

    def for_track(self, track: Track) -> Klt:
        """The transform fitted on all the audio but this track's.

        Raises:
            LincaeError: there is no other audio, or it is silent or cannot be read.
        """
        mine = {path.resolve() for path in track.files.values()}
        own = [t for t in self.tracks if mine & {path.resolve() for path in t.files.values()}]
        if len(own) == len(self.tracks):
            raise _alone(track)
        names = tuple(t.name for t in own)
        if names not in self._fitted:
            self._total = covariance(_signals(self.tracks)) if self._total is None else self._total
            self._fitted = {names: Klt(principal_vectors(self._total - covariance(_signals(own)), NUMBERS))}
        return self._fitted[names]

    def close(self) -> None:
        """Frees the covariance."""
        self._total, self._fitted = None, {}


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
    frames = mdct(audio, MDCT_HOP)
    return np.pad(frames, ((0, -len(frames) % (SAMPLES_PER_FRAME // MDCT_HOP)), (0, 0))).reshape(-1, SAMPLES_PER_FRAME)


def covariance(signals: Iterable[np.ndarray]) -> np.ndarray:
    """Sum of ``v v^T`` over the vectors of all signals, at two offsets, ``[4096, 4096]`` float64; no mean removed."""
    total = np.zeros((SAMPLES_PER_FRAME, SAMPLES_PER_FRAME))
    for audio in signals:
        for offset in (0, SAMPLES_PER_FRAME // 2):
            if len(audio) > offset:
                vectors = stacked(audio[offset:])
                total += vectors.T @ vectors
    return total


def principal_vectors(matrix: np.ndarray, count: int) -> np.ndarray:
    """The leading eigenvectors of a symmetric matrix ``[n, n]``, ``[n, count]``.

    Raises:
        LincaeError: the matrix is zero (silent audio).
    """
    scale = float(np.abs(matrix).max())
    if not scale:
        raise LincaeError("klt: all the audio to fit it on is silent", "give other music: --model klt:DIR")
    start = np.random.default_rng(0).standard_normal(len(matrix))
    vectors: np.ndarray = eigsh(matrix / scale, count, which="LA", v0=start, tol=1e-4)[1]
    return vectors[:, ::-1]  # eigsh sorts them in ascending order


def mdct(audio: np.ndarray, hop: int) -> np.ndarray:
    """MDCT with a sine window of two hops; orthonormal (Princen and Bradley, 1986; Malvar, 1990).

    ``X[f, k] = sqrt(2/M) sum_n w[n] x[f M + n - M] cos(pi/M (n + 1/2 + M/2) (k + 1/2))``, M the hop (even): the DCT-IV
    of the block folded about a quarter and three quarters of its length. Audio ``[n]``, surrounded by zeros, gives
    float32 ``[ceil(n / hop) + 1, hop]``.
    """
    frames = -(-len(audio) // hop) + 1
    padded = np.pad(audio.astype(np.float64), (hop, frames * hop - len(audio)))
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop] * _window(hop)
    a, b, c, d = np.split(blocks, 4, axis=1)
    return dct(np.hstack([-c[:, ::-1] - d, a - b[:, ::-1]]), 4, norm="ortho").astype(np.float32)


def imdct(coefficients: np.ndarray, num_samples: int) -> np.ndarray:
    """The inverse of `mdct`: coefficients ``[frames, hop]`` to audio ``[num_samples]``, at most (frames - 1) hop."""
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


class StableAudioVae(System):
    """The VAE of Stable Audio Open, diffusers' AutoencoderOobleck: stereo at 44.1 kHz, 64 numbers per 2048 samples.

    Mono audio goes to both channels, and the mean of both outputs is taken. The latent is the mode of the posterior,
    so nothing is random. Long audio is computed in stretches with more context than the network's reach.

    Args:
        folder: with `config.json` and `diffusion_pytorch_model.safetensors`.
        device: auto, cpu or cuda.

    Raises:
        LincaeError: the weights or diffusers are not installed, or the config is damaged.
    """

    name, label, kind = STABLE_AUDIO, PUBLISHED[STABLE_AUDIO].label, "model"
    notes = "stereo VAE, given mono audio on both channels; mode of the posterior; bytes counted as float16"

    def __init__(self, folder: Path, device: str = "auto") -> None:
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            hint = f"get it: lincae models pull {STABLE_AUDIO}"
            raise LincaeError(f"no model {STABLE_AUDIO!r}: {folder} lacks its files", hint)
        try:
            import diffusers
        except ImportError:
            raise LincaeError(f"{STABLE_AUDIO} needs the package diffusers", "pip install 'lincae[eval]'") from None
        self._again = f"get it again: lincae models pull {STABLE_AUDIO}"
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            self._hop = int(np.prod(config["downsampling_ratios"]))
            self._channels = int(config["audio_channels"])
            self.latent_rate = int(config["decoder_input_channels"]) * SAMPLE_RATE / self._hop
        except (ValueError, KeyError, TypeError, OSError):
            raise LincaeError(f"{folder / CONFIG}: not a config of AutoencoderOobleck", self._again) from None
        digest = hashlib.sha256((folder / CONFIG).read_bytes())
        with open(folder / WEIGHTS, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        self.bytes_per_second = 2 * self.latent_rate
        self.version = f"diffusers {diffusers.__version__}"
        self.fingerprint = f"sha256:{digest.hexdigest()}"
        self._folder, self._device = folder, device

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[n]`` to latents ``[64, ceil(n / 2048)]``."""
        hop, frames = self._hop, -(-len(audio) // self._hop)
        padded = np.pad(audio.astype(np.float32), (0, frames * hop - len(audio)))

        def encode(vae: Any, low: int, high: int) -> Any:
            x = torch.from_numpy(padded[low * hop : high * hop]).to(vae.device)
            return vae.encode(x.expand(1, self._channels, -1)).latent_dist.mode()[0]

        return self._in_stretches(encode, frames, 1)

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """Latents to audio ``[num_samples]``, the mean of the channels."""

        def decode(vae: Any, low: int, high: int) -> Any:
            z = torch.from_numpy(np.ascontiguousarray(latent[:, low:high], np.float32)).to(vae.device)
            return vae.decode(z[None]).sample[0].mean(0)

        return self._in_stretches(decode, latent.shape[1], self._hop)[:num_samples]

    def _in_stretches(self, compute: Callable[[Any, int, int], Any], frames: int, hop: int) -> np.ndarray:
        """Computes stretches of latent frames; keeps them without their context, `hop` values a frame."""
        vae, parts = self._vae, []
        with torch.inference_mode():
            for first in range(0, frames, STRETCH):
                low, last = max(0, first - CONTEXT), min(first + STRETCH, frames)
                found = compute(vae, low, min(last + CONTEXT, frames))[..., (first - low) * hop : (last - low) * hop]
                parts.append(found.float().cpu().numpy())
        return np.concatenate(parts, -1)

    def close(self) -> None:
        """Frees the weights."""
        vars(self).pop("_vae", None)

    @cached_property
    def _vae(self) -> Any:
        from diffusers import AutoencoderOobleck

        # low_cpu_mem_usage would need another package, and its loader warns of torch's future
        options = {"local_files_only": True, "use_safetensors": True, "low_cpu_mem_usage": False}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                vae = AutoencoderOobleck.from_pretrained(str(self._folder), **options)
        except Exception as e:  # diffusers raises many types for a damaged file
            reason = f"{type(e).__name__}: {e}".splitlines()[0]
            raise LincaeError(f"{self._folder}: cannot load its weights ({reason})", self._again) from None
        return vae.to(choose_device(self._device)).eval()
