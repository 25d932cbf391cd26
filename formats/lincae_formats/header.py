"""What a `.lat` file says about its latents, and the integer arithmetic of its timeline."""

import math
import re
from dataclasses import dataclass, replace
from fractions import Fraction

from .errors import HeaderError, ShapeError

FORMAT = "lincae-lat"
FORMAT_VERSION = "1.1"
MAJOR = 1

MAX_CHANNELS = 64
MAX_LATENT_DIM = 4096
RATE_RANGE = (100, 10_000_000)  # Hz
MAX_SAMPLES = 2**48
MAX_SAMPLES_PER_FRAME = 2**20
MAX_TEXT = 255  # bytes of UTF-8 in `model` and `writer`
CHUNK_FRAMES = 256

_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Header:
    """The root attributes and the shape of one `.lat` file.

    Attributes:
        sample_rate: Rate of the audio, Hz.
        num_samples: Exact length of the audio at `sample_rate`, samples.
        model: Name of the model that encoded it.
        model_fingerprint: `sha256:` and 64 hexadecimal digits.
        channels: Audio channels.
        latent_dim: Numbers per channel and frame.
        model_sample_rate: Rate the latent timeline counts in, Hz.
        samples_per_frame: Samples at `model_sample_rate` that one frame covers.
        latent_scale: Factor the model's raw latents were multiplied by.
    """

    sample_rate: int
    num_samples: int
    model: str
    model_fingerprint: str
    channels: int = 1
    latent_dim: int = 64
    model_sample_rate: int = 44100
    samples_per_frame: int = 4096
    latent_scale: float = 1.0

    @property
    def frames(self) -> int:
        """Number of frames: ceil(num_samples * model_sample_rate / (sample_rate * samples_per_frame))."""
        return -(-self.num_samples * self.model_sample_rate // (self.sample_rate * self.samples_per_frame))

    @property
    def duration(self) -> float:
        """Length of the audio, s."""
        return self.num_samples / self.sample_rate

    @property
    def frame_samples(self) -> Fraction:
        """Samples at `sample_rate` that one frame covers, exactly."""
        return Fraction(self.samples_per_frame * self.sample_rate, self.model_sample_rate)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(channels, latent_dim, frames)`."""
        return self.channels, self.latent_dim, self.frames

    @property
    def chunk_frames(self) -> int:
        """Frames per chunk: the even split of the frames over ceil(frames / 256) chunks."""
        return chunk_frames(self.frames)

    def with_length(self, samples: Fraction, frames: int) -> "Header":
        """This header with the whole length nearest above `samples` that makes exactly `frames` frames."""
        least = math.floor((frames - 1) * self.frame_samples) + 1
        whole = max(least, min(math.ceil(samples), math.floor(frames * self.frame_samples)))
        return replace(self, num_samples=whole)

    def validate(self, name: str = "header") -> None:
        """Checks types and ranges.

        Args:
            name: What to call it in a message: the file.

        Raises:
            HeaderError: an attribute is ill-typed or out of range.
            ShapeError: the number of channels or the latent dimension is out of range.
        """
        low, high = RATE_RANGE
        _check_int(name, "sample_rate", self.sample_rate, low, high)
        _check_int(name, "num_samples", self.num_samples, 1, MAX_SAMPLES)
        _check_int(name, "model_sample_rate", self.model_sample_rate, low, high)
        _check_int(name, "samples_per_frame", self.samples_per_frame, 1, MAX_SAMPLES_PER_FRAME)
        if self.frame_samples < 1:
            raise HeaderError(f"{name}: a frame covers less than one sample at {self.sample_rate} Hz")
        check_text(name, "model", self.model)
        if not isinstance(self.model_fingerprint, str) or not _FINGERPRINT.fullmatch(self.model_fingerprint):
            raise HeaderError(f"{name}: model_fingerprint is not 'sha256:' and 64 hexadecimal digits")
        scale = self.latent_scale
        if type(scale) is not float or not (math.isfinite(scale) and scale > 0):
            raise HeaderError(f"{name}: latent_scale must be a finite float above 0, not {scale!r}")
        for label, value, most in (
            ("channels", self.channels, MAX_CHANNELS),
            ("latent_dim", self.latent_dim, MAX_LATENT_DIM),
        ):
            if type(value) is not int or not 1 <= value <= most:
                raise ShapeError(f"{name}: {label} is {value!r}, must be 1 to {most}")


def chunk_frames(frames: int) -> int:
    """Frames per chunk for `frames` frames, at most 256 and with less than one wasted frame per chunk."""
    return -(-frames // -(-frames // CHUNK_FRAMES))


def check_text(name: str, attribute: str, value: object) -> None:
    """Raises HeaderError unless `value` is 1 to 255 bytes of printable text."""
    if not isinstance(value, str) or not value.isprintable() or not 1 <= len(value.encode()) <= MAX_TEXT:
        raise HeaderError(f"{name}: {attribute} must be 1 to {MAX_TEXT} bytes of printable text")


def _check_int(name: str, attribute: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise HeaderError(f"{name}: {attribute} is {value!r}, must be an integer from {low} to {high}")
