"""Opus at a given bitrate, the codec to beat at equal bytes. Its files cannot be added."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
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
    """Opus by libsndfile, or by ffmpeg where libsndfile lacks it.

    The bitrate is that of the file, Ogg's pages included: the audio is encoded once, then again with the request
    corrected by the size of the first result (by a third at most, as silence cannot be made larger).

    Args:
        kbps: bitrate per channel, kbit/s.
        backend: `libsndfile` or `ffmpeg`; by default the first that is installed.

    Raises:
        LincaeError: neither is installed.
    """

    kind = "codec"
    latent_rate = None
    linear = False

    def __init__(self, kbps: float = DEFAULT_KBPS, backend: str | None = None) -> None:
        self.kbps = kbps
        backend = backend or next((b for b, installed in BACKENDS.items() if installed()), None)
        if backend is None:
            raise LincaeError("no Opus encoder: libsndfile lacks it and ffmpeg is not installed", "install ffmpeg")
        self._coder, self._decoder = _CODERS[backend]
        self.name = f"opus-{kbps:g}"
        self.label = f"Opus {kbps:g}"
        self.version = _version(backend)
        self.fingerprint = f"opus:2:{kbps:g}:{self.version}"
        self.notes = f"Ogg/Opus by {self.version}, encoded twice to meet the bitrate; bytes are those of the files"

    def encode(self, audio: np.ndarray) -> Packets:
        """Audio ``[n]`` or ``[C, n]`` to an Ogg/Opus file in memory."""
        channels = np.atleast_2d(audio).astype(np.float32)
        channels = np.pad(channels, ((0, 0), (0, max(0, SAMPLE_RATE // 50 - channels.shape[1]))))  # one packet
        wanted = self.kbps * 1000 * len(channels)
        data = self._coder(channels, wanted)
        came = 8 * len(data) * SAMPLE_RATE / channels.shape[1]
        return Packets(self._coder(channels, wanted * min(max(wanted / came, 2 / 3), 4 / 3)))

    def decode(self, latent: Packets, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to mono audio ``[num_samples]``."""
        return self.decoded(latent, 1, num_samples)[0]

    def roundtrip(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[C, n]`` as one file with the bitrate of its channels together, decoded."""
        return self.decoded(self.encode(audio), *audio.shape)

    def size(self, latent: Packets) -> int:
        """Bytes of the file."""
        return len(latent.data)

    def decoded(self, packets: Packets, channels: int, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to audio ``[channels, num_samples]``."""
        audio = self._decoder(packets.data, channels)[:, :num_samples]
        return np.pad(audio, ((0, 0), (0, num_samples - audio.shape[1])))


def sndfile_has_opus() -> bool:
    """Whether this libsndfile writes Opus at a chosen bitrate."""
    import soundfile

    return "OPUS" in soundfile.available_subtypes("OGG") and hasattr(soundfile.SoundFile, "compression_level")


def ffmpeg_has_opus() -> bool:
    """Whether an ffmpeg with libopus is installed."""
    if shutil.which("ffmpeg") is None:
        return False
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True, check=False)
    return "libopus" in listed.stdout


def _version(backend: str) -> str:
    if backend == "libsndfile":
        import soundfile

        return f"libsndfile {soundfile.__libsndfile_version__}"
    done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[0:3:2]) or "ffmpeg"


def _encode_sndfile(audio: np.ndarray, bits: float) -> bytes:
    import soundfile

    # libsndfile's scale: 0 is 256 kbit/s a channel, 1 is 6
    level = min(max((HIGHEST - bits / len(audio)) / (HIGHEST - LOWEST), 0.0), 1.0)
    samples = _resample(audio, SAMPLE_RATE, _RATE).T
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", _RATE, samples.shape[1], format="OGG", subtype="OPUS", compression_level=level
    ) as out:
        for at in range(0, len(samples), _BLOCK):
            out.write(samples[at : at + _BLOCK])
    return file.getvalue()


def _decode_sndfile(data: bytes, channels: int) -> np.ndarray:
    import soundfile

    del channels
    # all at once: libsndfile's Opus decoder loses its state when it seeks
    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return _resample(audio.T, rate, SAMPLE_RATE)


def _encode_ffmpeg(audio: np.ndarray, bits: float) -> bytes:
    raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", str(len(audio)), "-i", "-"]
    opus = ["-c:a", "libopus", "-b:a", str(round(bits)), "-application", "audio", "-f", "ogg", "-"]
    return _ffmpeg([*raw, *opus], audio.T.astype("<f4").tobytes())


def _decode_ffmpeg(data: bytes, channels: int) -> np.ndarray:
    out = _ffmpeg(["-i", "-", "-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", str(channels), "-"], data)
    return np.frombuffer(out, "<f4").reshape(-1, channels).T.astype(np.float32)


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise LincaeError(f"opus: ffmpeg failed ({reason})", "leave Opus out, or update ffmpeg")
    return done.stdout


def _resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    from lincae_core.audio import StreamResampler

    return StreamResampler(source, target, len(audio)).process(np.ascontiguousarray(audio, np.float32), last=True)


# libsndfile first: it comes with soundfile, so figures agree between machines with ffmpeg and without
BACKENDS: dict[str, Callable[[], bool]] = {"libsndfile": sndfile_has_opus, "ffmpeg": ffmpeg_has_opus}
_CODERS: dict[str, tuple[Callable[[np.ndarray, float], bytes], Callable[[bytes, int], np.ndarray]]] = {
    "libsndfile": (_encode_sndfile, _decode_sndfile),
    "ffmpeg": (_encode_ffmpeg, _decode_ffmpeg),
}
