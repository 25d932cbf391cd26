"""Opus at a given bitrate, the codec to beat at equal bytes. It has no arithmetic of latents."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.base import System
from lincae_formats.errors import LincaeError

SAME_BYTES = 2 * 64 * SAMPLE_RATE / 4096  # bytes a second of a float16 `.lat` file of one channel
RATE = 48000  # Hz, the rate Opus works at
LOWEST, HIGHEST = 6000, 256000  # bit/s of one channel that libsndfile can ask for
_BLOCK = 1 << 16

Coder = Callable[[np.ndarray, float], bytes]


@dataclass(frozen=True)
class Packets:
    """Encoded audio.

    Args:
        data: an Ogg/Opus file.
    """

    data: bytes


class Opus(System):
    """Opus through libsndfile, or through ffmpeg where libsndfile lacks it.

    The bitrate is that of the file, Ogg's pages included: Opus is asked once, then again with the request corrected by
    what came out (by a third at most, as silence cannot be made larger).

    Args:
        kbps: bitrate, kbit/s; by default the bytes of our latents in float16, 11.025 kbit/s.
        backend: `libsndfile` or `ffmpeg`; by default the first that is there.

    Raises:
        LincaeError: neither is there.
    """

    kind = "codec"
    latent_rate = None
    bytes_per_second = None
    linear = False

    def __init__(self, kbps: float | None = None, backend: str | None = None) -> None:
        self.kbps = SAME_BYTES * 8 / 1000 if kbps is None else kbps
        backend = backend or next((b for b, there in BACKENDS.items() if there()), None)
        if backend is None:
            raise LincaeError("no Opus encoder: libsndfile lacks it and ffmpeg is not installed", "install ffmpeg")
        self.name = "opus" if kbps is None else f"opus-{kbps:g}"
        self.label = f"Opus, {self.kbps:.3g} kbit/s"
        self.version = _version(backend)
        self.fingerprint = f"opus:1:{self.kbps:g}:{self.version}"
        self.notes = (
            f"Ogg/Opus by {self.version}, mono, encoded twice to meet the bitrate; bytes are those of the files"
        )
        self._backend = backend

    def encode(self, audio: np.ndarray) -> Packets:
        """Audio ``[n]`` to an Ogg/Opus file in memory."""
        coder = _encode_sndfile if self._backend == "libsndfile" else _encode_ffmpeg
        audio = np.pad(audio, (0, max(0, SAMPLE_RATE // 50 - len(audio))))  # one packet at least
        wanted = self.kbps * 1000
        data = coder(audio, wanted)
        came = 8 * len(data) * SAMPLE_RATE / len(audio)
        return Packets(coder(audio, wanted * min(max(wanted / came, 2 / 3), 4 / 3)))

    def decode(self, latent: Packets, num_samples: int) -> np.ndarray:
        """An Ogg/Opus file to audio ``[num_samples]``."""
        decoder = _decode_sndfile if self._backend == "libsndfile" else _decode_ffmpeg
        audio = decoder(latent.data)[:num_samples]
        return np.pad(audio, (0, num_samples - len(audio)))

    def size(self, latent: Packets) -> int:
        """Bytes of the file."""
        return len(latent.data)


def sndfile_has_opus() -> bool:
    """Whether this libsndfile writes Opus at a bitrate one can choose."""
    import soundfile

    return "OPUS" in soundfile.available_subtypes("OGG") and hasattr(soundfile.SoundFile, "compression_level")


def ffmpeg_has_opus() -> bool:
    """Whether there is an ffmpeg with libopus."""
    if shutil.which("ffmpeg") is None:
        return False
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-encoders"], capture_output=True, text=True, check=False)
    return "libopus" in listed.stdout


# libsndfile first: it comes with soundfile, so figures agree between machines with ffmpeg and without.
BACKENDS: dict[str, Callable[[], bool]] = {"libsndfile": sndfile_has_opus, "ffmpeg": ffmpeg_has_opus}


def _version(backend: str) -> str:
    if backend == "libsndfile":
        import soundfile

        return f"libsndfile {soundfile.__libsndfile_version__}"
    done = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[0:3:2]) or "ffmpeg"


def _encode_sndfile(audio: np.ndarray, bits: float) -> bytes:
    import soundfile

    # libsndfile's scale: 0 is 256 kbit/s a channel, 1 is 6.
    level = min(max((HIGHEST - bits) / (HIGHEST - LOWEST), 0.0), 1.0)
    samples = _resample(audio, SAMPLE_RATE, RATE)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", RATE, 1, format="OGG", subtype="OPUS", compression_level=level) as out:
        for at in range(0, len(samples), _BLOCK):
            out.write(samples[at : at + _BLOCK])
    return file.getvalue()


def _decode_sndfile(data: bytes) -> np.ndarray:
    import soundfile

    audio, rate = soundfile.read(io.BytesIO(data), dtype="float32")  # all at once: its decoder forgets when it seeks
    return _resample(audio, rate, SAMPLE_RATE)


def _encode_ffmpeg(audio: np.ndarray, bits: float) -> bytes:
    raw = ["-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-"]
    opus = ["-c:a", "libopus", "-b:a", str(round(bits)), "-application", "audio", "-f", "ogg", "-"]
    return _ffmpeg([*raw, *opus], audio.astype("<f4").tobytes())


def _decode_ffmpeg(data: bytes) -> np.ndarray:
    out = _ffmpeg(["-i", "-", "-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-"], data)
    return np.frombuffer(out, "<f4").astype(np.float32)


def _ffmpeg(arguments: list[str], data: bytes) -> bytes:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise LincaeError(f"opus: ffmpeg failed ({reason})", "leave Opus out, or update ffmpeg")
    return done.stdout


def _resample(audio: np.ndarray, source: int, target: int) -> np.ndarray:
    from lincae_core.audio import StreamResampler

    return StreamResampler(source, target, 1).process(audio[None].astype(np.float32), last=True)[0]
