"""Opus at a given bitrate, the codec to beat at equal bytes. Its files cannot be added."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.system import System
from lincae_formats.errors import LincaeError

DEFAULT_KBPS = 12.0
LOWEST, HIGHEST = 6000, 256000  # bit/s per channel that libsndfile can be asked for
_RATE = 48000  # Hz, at which Opus works
_BLOCK = 1 << 16


@dataclass(frozen=True)
class Packets:
    """Encoded audio.

    Args:
        data: an Ogg/Opus file.
    """

    data: bytes


class Opus(System):
    """Opus by libsndfile.

    The bitrate is that of the file, Ogg's pages included: the audio is encoded once, then again with the request
    corrected by the size of the first result (by a third at most, as silence cannot be made larger).

    Args:
        kbps: bitrate per channel, kbit/s.

    Raises:
        LincaeError: this libsndfile has no Opus encoder.
    """

    kind = "codec"
    latent_rate = None
    linear = False

    def __init__(self, kbps: float = DEFAULT_KBPS) -> None:
        import soundfile

        if not available():
            version = soundfile.__libsndfile_version__
            raise LincaeError(f"no Opus encoder: libsndfile {version} lacks it", "pip install --upgrade soundfile")
        self.kbps = kbps
        self.name = f"opus-{kbps:g}"
        self.label = f"Opus {kbps:g}"
        self.version = f"libsndfile {soundfile.__libsndfile_version__}"
        self.fingerprint = f"opus:2:{kbps:g}:{self.version}"
        self.notes = f"Ogg/Opus by {self.version}, encoded twice to meet the bitrate; bytes are those of the files"

    def encode(self, audio: np.ndarray) -> Packets:
        """Audio ``[n]`` or ``[C, n]`` to an Ogg/Opus file in memory."""
        channels = np.atleast_2d(audio).astype(np.float32)
        channels = np.pad(channels, ((0, 0), (0, max(0, SAMPLE_RATE // 50 - channels.shape[1]))))  # one packet
        wanted = self.kbps * 1000
        data = _encoded(channels, wanted)
        came = 8 * len(data) * SAMPLE_RATE / channels.size
        return Packets(_encoded(channels, wanted * min(max(wanted / came, 2 / 3), 4 / 3)))

    def decode(self, latent: Packets, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to mono audio ``[num_samples]``."""
        return self.decoded(latent, num_samples)[0]

    def decoded(self, packets: Packets, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to audio ``[C, num_samples]``."""
        import soundfile

        # all at once: libsndfile's Opus decoder loses its state when it seeks
        audio, rate = soundfile.read(io.BytesIO(packets.data), dtype="float32", always_2d=True)
        audio = _resample(audio.T, rate, SAMPLE_RATE)[:, :num_samples]
        return np.pad(audio, ((0, 0), (0, num_samples - audio.shape[1])))

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` as one file with the bitrate of its channels together, decoded."""
        return self.decoded(self.encode(audio), audio.shape[1])

    def size(self, latent: Packets) -> int:
        """Bytes of the file."""
        return len(latent.data)


def available() -> bool:
    """Whether this libsndfile writes Opus at a chosen bitrate."""
    import soundfile

    return "OPUS" in soundfile.available_subtypes("OGG") and hasattr(soundfile.SoundFile, "compression_level")


def _encoded(audio: np.ndarray, bits: float) -> bytes:
    """Audio ``[C, n]`` as a file of so many bit/s per channel."""
    import soundfile

    level = min(max((HIGHEST - bits) / (HIGHEST - LOWEST), 0.0), 1.0)  # libsndfile's scale, 0 is the highest rate
    samples = _resample(audio, SAMPLE_RATE, _RATE).T
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", _RATE, samples.shape[1], format="OGG", subtype="OPUS", compression_level=level
    ) as out:
        for at in range(0, len(samples), _BLOCK):
            out.write(samples[at : at + _BLOCK])
    return file.getvalue()


def _resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    from lincae_core.audio import StreamResampler

    return StreamResampler(source, target, len(audio)).process(np.ascontiguousarray(audio, np.float32), last=True)
