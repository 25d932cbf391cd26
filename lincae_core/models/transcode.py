"""Audio files at any rate to `.lat` files and back in constant memory, and what lies between: spans and sources.

Importing this module imports no torch: what a command will write is known before a model is loaded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from lincae_core.audio import (
    AudioReader,
    AudioWriter,
    StreamResampler,
    output_rate,
    resample_context,
    resampled_length,
)
from lincae_core.audio.write import INTEGER_SUBTYPES
from lincae_core.models.codec import (
    DEFAULT_QUALITY,
    QUALITIES,
    Autoencoder,
    decode_range,
    encode_blocks,
    latent_rms,
    signal_scales,
)
from lincae_formats import Header, LatReader, LatWriter, signal
from lincae_formats.errors import IncompatibleError, LincaeError, UsageError
from lincae_formats.signal import Signal

ATTEMPTS = 6  # to encode a file of quality `low` again
SMALLEST = 64  # times smaller than 16-bit PCM is a file of quality `low`: where it is not, it is rounded more coarsely
SHORTEST = 5.0  # s of audio for which that is promised

Progress = Callable[[float, float], None]  # seconds done, seconds in all


class AudioSource(Protocol):
    """Audio that can be read more than once; `lincae_core.audio.AudioReader` is one."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def channels(self) -> int:
        """Channels in every block."""

    @property
    def num_samples(self) -> int:
        """Samples per channel."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields float32 ``[C, n]``, in all `num_samples` samples; every call begins at the first."""


class AudioArray:
    """Audio in memory as an `AudioSource`.

    Args:
        audio: ``[C, n]`` float32, finite.
        sample_rate: Hz.
    """

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        self._audio = audio
        self.sample_rate = sample_rate
        self.channels, self.num_samples = audio.shape

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields all of it."""
        yield self._audio


class DecodedAudio:
    """Latents as the audio that they decode to, an `AudioSource`; decoded anew whenever it is read.

    Args:
        model: the autoencoder that made them.
        latents: the latents.
        span: the part to decode.
        steps: sampling steps.
        seed: of the noise.
    """

    def __init__(self, model: Autoencoder, latents: Signal, span: Span, *, steps: int = 1, seed: int = 0) -> None:
        self._model, self._latents, self._span = model, latents, span
        self._steps, self._seed = steps, seed
        self.sample_rate, self.num_samples = span.rate, span.num_samples
        self.channels = latents.header.channels

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields float32 ``[C, n]``."""
        return decoded_blocks(self._model, self._latents, self._span, steps=self._steps, seed=self._seed)


class ResampledAudio:
    """Audio at another rate, an `AudioSource`.

    Args:
        audio: the audio.
        sample_rate: Hz.
    """

    def __init__(self, audio: AudioSource, sample_rate: int) -> None:
        self._audio = audio
        self.sample_rate = sample_rate
        self.channels = audio.channels
        self.num_samples = resampled_length(audio.num_samples, audio.sample_rate, sample_rate)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yields float32 ``[C, n]``."""
        return resampled(self._audio.blocks(), self._audio.sample_rate, self.sample_rate, self.channels)


def resampled(blocks: Iterator[np.ndarray], source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """Yields blocks ``[C, n]`` at `source` Hz as blocks ``[C, m]`` at `target` Hz."""
    resampler = StreamResampler(source, target, channels)
    for block in blocks:
        yield resampler.process(block)
    yield resampler.process(np.zeros((channels, 0), np.float32), last=True)


class Span(NamedTuple):
    """A part of decoded audio.

    Attributes:
        first: First sample.
        last: Sample after the last.
        rate: Hz.
    """

    first: int
    last: int
    rate: int

    @property
    def num_samples(self) -> int:
        """Its length, samples."""
        return self.last - self.first


def decoded_span(
    header: Header, name: str, start: float | None = None, end: float | None = None, sample_rate: int | None = None
) -> Span:
    """The samples from `start` to `end`, rounded to the nearest sample, not to frames.

    Args:
        header: of the latents.
        name: of the latents, for messages.
        start: beginning, s.
        end: end, s; beyond the audio it is the end of the audio.
        sample_rate: rate of the result, Hz; by default that of the audio that was encoded.

    Raises:
        UsageError: the range is not within the audio.
    """
    rate = sample_rate or header.sample_rate
    total = header.num_samples if rate == header.sample_rate else max(1, round(header.duration * rate))
    first = 0 if start is None else round(start * rate)
    last = total if end is None else min(round(end * rate), total)
    if first < 0 or first >= total or last <= first:
        shown = f"{start or 0:g} {'s and later' if end is None else f'to {end:g} s'}"
        raise UsageError(f"{name}: {shown} is not within its {header.duration:.6g} s", "choose a part within it")
    return Span(first, last, rate)


def encode_history(source: str, model: str) -> list[dict[str, str]]:
    """The history of a file that was encoded: from which audio file, by which model."""
    return [{"op": "encode", "source": Path(source).name, "model": model}]


def encoded_header(model: Autoencoder, source: AudioSource, quality: str | None = None, coarser: float = 1.0) -> Header:
    """The header of a source's latents.

    Args:
        model: the autoencoder.
        source: the audio.
        quality: `low`, `medium`, `high` or `exact`; by default the model's own.
        coarser: factor on the relative steps of the groups without levels.

    Raises:
        UsageError: the model has no such quality.
    """
    facts: dict[str, Any] = {
        "sample_rate": source.sample_rate, "num_samples": source.num_samples, "model_sample_rate": model.sample_rate,
        "samples_per_frame": model.samples_per_frame, "model": model.name, "model_fingerprint": model.fingerprint,
        "latent_scale": model.latent_scale, "channels": source.channels, "latent_dim": model.latent_dim,
    }  # fmt: skip
    if quality is not None and quality not in QUALITIES:
        raise UsageError(f"unknown quality {quality!r}", f"use one of {', '.join(QUALITIES)}")
    groups = model.groups(quality or DEFAULT_QUALITY)
    if quality not in (None, "exact") and not groups:
        raise UsageError(f"model {model.name} has no quality {quality}: it stores floats", "leave --quality out")
    if coarser != 1:
        groups = tuple(g if g.level else replace(g, relative_step=g.relative_step * coarser) for g in groups)
    return Header(**facts, groups=groups) if groups else Header(**facts)


def storage_type(model: Autoencoder, quality: str | None = None, dtype: str | None = None) -> str:
    """How a model's latents are stored: `int8` where it has groups, else `float16`; `exact` is `float32`.

    Raises:
        UsageError: integers for a model without groups, or a quality beside a float type.
    """
    if dtype == "int8" and not model.deterministic:
        raise UsageError(f"model {model.name} stores floats only", "use --dtype float16 or float32")
    if dtype in ("float16", "float32"):
        if quality not in (None, "exact"):
            raise UsageError(f"--quality {quality} is for integers, not {dtype}", "leave --dtype or --quality out")
        return dtype
    if model.deterministic:
        return "float32" if quality == "exact" else "int8"  # float16 would leave noise 60 dB below what is subtracted
    return "float16"


def encoded_blocks(
    model: Autoencoder, source: AudioSource, quality: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields a source's latents in order, as `encode_blocks` does, in constant memory.

    The source is read twice where the model needs the level of the whole signal.
    """
    scales = signal_scales(model, source.blocks(), source.channels)
    length = resampled_length(source.num_samples, source.sample_rate, model.sample_rate)
    blocks = resampled(source.blocks(), source.sample_rate, model.sample_rate, source.channels)
    return encode_blocks(model, blocks, scales, length, quality=quality or DEFAULT_QUALITY)


def decoded_blocks(
    model: Autoencoder, source: Signal, span: Span, *, steps: int = 1, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields the audio of a span, float32 ``[C, n]``, in constant memory: the samples that the whole has there.

    Args:
        model: the autoencoder that made the latents.
        source: the latents: in memory, an open file, or computed as they are read.
        span: the part to decode, from `decoded_span`.
        steps: sampling steps.
        seed: of the noise.

    Raises:
        IncompatibleError: the latents come from another model.
    """
    header = source.header
    check_model(model, header, source.name)
    rms = latent_rms(model, signal.blocks(source), header.channels)
    inside = resampled_length(header.num_samples, header.sample_rate, model.sample_rate)
    low, high, skip = resample_context(model.sample_rate, span.rate).span(span.first, span.last)
    blocks = decode_range(
        model, source.read, header.frames, rms, min(low, inside - 1), min(high, inside),
        levels=source.levels if model.deterministic else None, steps=steps, seed=seed,
    )  # fmt: skip
    left = span.num_samples
    for block in resampled(blocks, model.sample_rate, span.rate, header.channels):
        drop = min(skip, block.shape[1])
        skip -= drop
        part = block[:, drop : drop + left]
        left -= part.shape[1]
        yield part
    if left:  # at most a sample of rounding between two rates
        yield np.zeros((header.channels, left), np.float32)


def check_model(model: Autoencoder, header: Header, name: str) -> None:
    """IncompatibleError unless the latents were made by this very model."""
    if header.model_fingerprint != model.fingerprint:
        raise IncompatibleError(
            f"{name} was made with model {header.model!r} ({header.model_fingerprint[:15]}...), "
            f"not with {model.name!r} ({model.fingerprint[:15]}...)",
            "leave --model out, or name the weights it was made with",
        )
    if (header.latent_dim, header.model_sample_rate, header.samples_per_frame) != (
        model.latent_dim, model.sample_rate, model.samples_per_frame,
    ):  # fmt: skip
        raise LincaeError(f"{name}: its header contradicts model {model.name!r}", "encode the audio again")


@dataclass(frozen=True)
class Report:
    """Result of encoding or decoding a file.

    Args:
        seconds: length of the audio, s.
        elapsed: time it took, s.
        num_samples: length of the audio, samples.
        channels: channels.
        sample_rate: rate of the audio, Hz.
        clipped: samples above full scale (decode to formats that are not made for them).
        kept: whether the file holds those samples all the same (MP3, Vorbis, Opus), so that players will clip them.
        warnings: what the user should know of the source, such as that the file was cut short.
    """

    seconds: float
    elapsed: float
    num_samples: int
    channels: int
    sample_rate: int
    clipped: int = 0
    kept: bool = False
    warnings: tuple[str, ...] = ()


def encode_file(
    model: Autoencoder, source: str | Path | BinaryIO, target: str | Path | BinaryIO, *, mono: bool = False,
    quality: str | None = None, dtype: str | None = None, overwrite: bool = False, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Encodes an audio file of any length and rate in constant memory.

    Args:
        model: the autoencoder.
        source: audio file or stream.
        target: `.lat` file or stream.
        mono: average the channels.
        quality: `low`, `medium`, `high` or `exact`; by default the model's own.
        dtype: `int8`, `float16` or `float32`; by default what the quality says.
        overwrite: replace an existing target.
        progress: called with seconds done and in all.

    Raises:
        LincaeError: the source cannot be read, or the target cannot be written.
    """
    began = time.monotonic()
    stored = storage_type(model, quality, dtype)
    with AudioReader(source, mono=mono) as reader:
        _encode(model, reader, target, quality, stored, 1.0, overwrite, progress)
        if quality == "low" and isinstance(target, (str, os.PathLike)) and reader.duration >= SHORTEST:
            header, coarser = encoded_header(model, reader, quality), 1.0
            most = 2 * reader.num_samples * reader.channels // SMALLEST
            rounded = header.channels * header.frames * sum(g.count * g.size for g in header.groups if not g.level)
            for _ in range(ATTEMPTS):
                excess = os.path.getsize(target) - most
                if excess <= 0:
                    break
                coarser *= 1.01 * 2 ** (8 * excess / rounded)  # twice the step is one bit less for each number
                _encode(model, reader, target, quality, stored, coarser, True, None)
        return Report(
            reader.duration, time.monotonic() - began, reader.num_samples, reader.channels, reader.sample_rate,
            warnings=reader.warnings,
        )  # fmt: skip


def _encode(
    model: Autoencoder, reader: AudioReader, target: str | Path | BinaryIO, quality: str | None, dtype: str,
    coarser: float, overwrite: bool, progress: Progress | None,
) -> None:  # fmt: skip
    header = encoded_header(model, reader, quality, coarser)
    history = encode_history(reader.name, model.name)
    with LatWriter(target, header, dtype=dtype, history=history, tags=reader.tags, overwrite=overwrite) as writer:
        done = 0
        for z, levels in encoded_blocks(model, reader, quality):
            writer.append(z, levels)
            done += z.shape[2]
            if progress:
                seconds = done * model.samples_per_frame / model.sample_rate
                progress(min(seconds, reader.duration), reader.duration)


def decode_file(
    model: Autoencoder, source: str | Path | BinaryIO | LatReader, target: str | Path | BinaryIO, *,
    start: float | None = None, end: float | None = None, steps: int = 1, seed: int = 0, subtype: str | None = None,
    format: str | None = None, sample_rate: int | None = None, overwrite: bool = False,
    progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Decodes a `.lat` file, or the part of it from `start` to `end`, in constant memory.

    A part has exactly the samples that the whole has there: seconds are rounded to the nearest sample, not to frames.

    Args:
        model: the autoencoder; must be the one the file was made with.
        source: `.lat` file or stream, or one that is open.
        target: audio file or stream.
        start: beginning, s.
        end: end, s.
        steps: sampling steps.
        seed: of the noise.
        subtype: sample format, `PCM_16` where the container has it.
        format: container, where no file name says it.
        sample_rate: rate of the audio, Hz; by default the file's own, or the nearest that the container holds.
        overwrite: replace an existing target.
        progress: called with seconds done and in all.

    Raises:
        LincaeError: the source cannot be read, belongs to another model, or the target cannot be written.
        UsageError: a range outside the audio, or a format that cannot hold it.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        reader = source if isinstance(source, LatReader) else stack.enter_context(LatReader(source))
        check_model(model, reader.header, reader.name)
        path = target if isinstance(target, (str, os.PathLike)) else None
        rate = sample_rate or output_rate(path, format, reader.header.sample_rate)
        span = decoded_span(reader.header, reader.name, start, end, rate)
        seconds, channels = span.num_samples / span.rate, reader.header.channels
        made = AudioWriter(
            target, span.rate, channels, format=format, subtype=subtype, overwrite=overwrite,
            num_samples=span.num_samples, tags=reader.tags,
        )  # fmt: skip
        writer = stack.enter_context(made)
        for block in decoded_blocks(model, reader, span, steps=steps, seed=seed):
            writer.write(block)
            if progress:
                progress(writer.num_samples / span.rate, seconds)
    return Report(seconds, time.monotonic() - began, span.num_samples, channels, span.rate, writer.clipped,
                  writer.subtype not in INTEGER_SUBTYPES)  # fmt: skip
