"""Audio files to float32 blocks `[channels, samples]` and back, and resampling of streams."""

from .formats import AUDIO_EXTENSIONS
from .reader import AudioReader
from .resample import ResampleContext, StreamResampler, resample_context, resampled_length
from .writer import AudioWriter

__all__ = [
    "AUDIO_EXTENSIONS",
    "AudioReader",
    "AudioWriter",
    "ResampleContext",
    "StreamResampler",
    "resample_context",
    "resampled_length",
]
