"""Audio files to float32 blocks `[channels, samples]` and back, and resampling of streams."""

from .read import AUDIO_EXTENSIONS, SNDFILE_EXTENSIONS, AudioReader, Found, find_audio, printable, read_audio
from .resample import ResampleContext, StreamResampler, resample_context, resampled_length, stream_resampler
from .write import WRITE_EXTENSIONS, AudioWriter, find_format, output_rate

__all__ = [
    "AUDIO_EXTENSIONS",
    "SNDFILE_EXTENSIONS",
    "WRITE_EXTENSIONS",
    "AudioReader",
    "AudioWriter",
    "Found",
    "ResampleContext",
    "StreamResampler",
    "find_audio",
    "find_format",
    "output_rate",
    "printable",
    "read_audio",
    "resample_context",
    "resampled_length",
    "stream_resampler",
]
