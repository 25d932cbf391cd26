"""What libsndfile can write, as tables: extensions, subtypes, and the rates and channel counts each holds.

Everything is checked against these tables before any work, because libsndfile itself says too little
("Format not recognised") or, for Vorbis beyond its rates and channels, ends the process.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from lincae_formats.errors import UsageError

_PCM = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MAX_RATE = 2**31 - 1

INTEGER_SUBTYPES = frozenset({"PCM_U8", "PCM_S8", "PCM_16", "PCM_24", "PCM_32"})
BYTES_PER_SAMPLE = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}


@dataclass(frozen=True)
class WriteFormat:
    """One kind of file that can be written.

    Attributes:
        container: libsndfile's name of the container.
        subtypes: Sample formats allowed; the first is the default.
        max_channels: Most channels.
        max_rate: Highest sample rate, Hz.
        rates: The only sample rates allowed, Hz; empty when all up to `max_rate` are.
        max_bytes: Most bytes of samples; None when there is no limit.
    """

    container: str
    subtypes: tuple[str, ...]
    max_channels: int = 1024
    max_rate: int = _MAX_RATE
    rates: tuple[int, ...] = ()
    max_bytes: int | None = None

    def allows_rate(self, rate: int) -> bool:
        """Whether a file of this kind can say it has `rate` Hz."""
        return rate in self.rates if self.rates else 1 <= rate <= self.max_rate

    def nearest_rate(self, rate: int) -> int:
        """The allowed rate that loses least: the lowest above `rate`, else the highest."""
        rates = self.rates or (self.max_rate,)
        return min((r for r in rates if r >= rate), default=max(rates))


# 32-bit sizes; a MiB is left for the other chunks of the file.
_4_GIB = 2**32 - 2**20

WRITE_FORMATS = {
    "WAV": WriteFormat("WAV", (*_PCM, "PCM_U8"), max_bytes=_4_GIB),
    "W64": WriteFormat("W64", (*_PCM, "PCM_U8")),
    "RF64": WriteFormat("RF64", (*_PCM, "PCM_U8")),
    "AIFF": WriteFormat("AIFF", _PCM, max_bytes=_4_GIB // 2),
    "AU": WriteFormat("AU", _PCM, max_bytes=_4_GIB),
    "CAF": WriteFormat("CAF", _PCM),
    "FLAC": WriteFormat("FLAC", ("PCM_16", "PCM_24"), max_channels=8, max_rate=655350),
    "OGG": WriteFormat("OGG", ("VORBIS",), max_channels=255, max_rate=200000),
    "OPUS": WriteFormat("OGG", ("OPUS",), max_channels=255, rates=_OPUS_RATES),
    "MP3": WriteFormat("MP3", ("MPEG_LAYER_III",), max_channels=2, rates=_MP3_RATES),
}

WRITE_EXTENSIONS = {
    ".wav": "WAV", ".wave": "WAV", ".w64": "W64", ".rf64": "RF64",
    ".aif": "AIFF", ".aiff": "AIFF", ".au": "AU", ".caf": "CAF",
    ".flac": "FLAC", ".ogg": "OGG", ".oga": "OGG", ".opus": "OPUS", ".mp3": "MP3",
}  # fmt: skip

AUDIO_EXTENSIONS = frozenset(WRITE_EXTENSIONS) | {".aifc", ".snd"}
"""Lower-case extensions of the files taken from a folder."""

FFMPEG_EXTENSIONS = frozenset({
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".wma", ".wmv", ".asf", ".mkv", ".mka", ".webm", ".avi",
    ".ac3", ".eac3", ".dts", ".ape", ".wv", ".mpc", ".tta", ".amr", ".ra", ".rm", ".3gp", ".alac", ".weba",
})  # fmt: skip
"""Extensions of audio and video that libsndfile does not read but ffmpeg does."""


def find_format(name: str, path: str | os.PathLike[str] | None, format: str | None) -> WriteFormat:
    """The kind of file to write: the one named, else the one the path's extension says, else WAV.

    Args:
        name: What error messages call the target.
        path: The target; None for a stream.
        format: "WAV", "FLAC", "OGG", "OPUS", "MP3", ... in any case.

    Raises:
        UsageError: an unknown format or extension.
    """
    known = ", ".join(WRITE_FORMATS)
    if format is not None:
        if format.upper() not in WRITE_FORMATS:
            raise UsageError(f"cannot write {name}: unknown audio format {format!r}", f"use one of {known}")
        return WRITE_FORMATS[format.upper()]
    if path is None:
        return WRITE_FORMATS["WAV"]
    extension = Path(path).suffix.lower()
    if extension not in WRITE_EXTENSIONS:
        what = f"the extension {extension}" if extension else "no extension"
        raise UsageError(
            f"cannot write {name}: {what} names no audio format this program writes",
            "end the name in .wav, .flac, .ogg, .opus, .mp3, .aiff, .caf, .au, .w64 or .rf64",
        )
    return WRITE_FORMATS[WRITE_EXTENSIONS[extension]]


def check_writable(name: str, kind: WriteFormat, sample_rate: int, channels: int, subtype: str | None) -> str:
    """The subtype to write with, once everything about the file is known to be possible.

    Raises:
        UsageError: the subtype, the rate or the channel count is not possible in this kind of file.
    """
    shown = "OPUS" if kind.rates == _OPUS_RATES else kind.container
    subtype = (subtype or kind.subtypes[0]).upper()
    if subtype not in kind.subtypes:
        one_of = "one of " if len(kind.subtypes) > 1 else ""
        raise UsageError(
            f"cannot write {name}: {shown} does not hold {subtype}",
            f"use --subtype {one_of}{', '.join(kind.subtypes)}",
        )
    if channels < 1:
        raise UsageError(f"cannot write {name}: {channels} channels", "give at least one")
    if channels > kind.max_channels:
        other = "write a .wav" if kind.container != "WAV" and channels <= 1024 else "use fewer channels"
        raise UsageError(
            f"cannot write {name}: {shown} holds at most {kind.max_channels} channels, not {channels}", other
        )
    if not kind.allows_rate(sample_rate):
        rates = ", ".join(map(str, kind.rates)) if kind.rates else f"1 to {kind.max_rate}"
        raise UsageError(
            f"cannot write {name}: {shown} holds {rates} Hz, not {sample_rate}",
            f"add --sample-rate {kind.nearest_rate(sample_rate)}, or write a .wav",
        )
    return subtype
