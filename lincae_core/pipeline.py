"""Whole files: audio to `.lat` and back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lincae_core.audio import AudioReader, AudioWriter
from lincae_core.models.autoencoder import Autoencoder
from lincae_core.plan import decoded_span, encode_history
from lincae_core.transcode import check_model, decoded_blocks, encoded_blocks, encoded_header
from lincae_formats import LatReader, LatWriter

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Report:
    """What was done.

    Args:
        seconds: length of the audio, s.
        elapsed: time it took, s.
        num_samples: length of the audio, samples.
        channels: channels.
        sample_rate: rate of the audio, Hz.
        clipped: values clipped (decode to integers only).
    """

    seconds: float
    elapsed: float
    num_samples: int
    channels: int
    sample_rate: int
    clipped: int = 0


def encode_file(
    model: Autoencoder, source: str | Path | BinaryIO, target: str | Path | BinaryIO, *, mono: bool = False,
    dtype: str = "float16", overwrite: bool = False, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Encodes an audio file of any length and rate in constant memory.

    Args:
        model: the autoencoder.
        source: audio file or stream.
        target: `.lat` file or stream.
        mono: average the channels.
        dtype: float16 or float32, as stored.
        overwrite: replace an existing target.
        progress: called with seconds done and in all.

    Raises:
        LincaeError: the source cannot be read, or the target not be written.
    """
    began = time.monotonic()
    with AudioReader(source, mono=mono) as reader:
        header = encoded_header(model, reader)
        history = encode_history(reader.name, model.name)
        with LatWriter(target, header, dtype=dtype, history=history, overwrite=overwrite) as writer:
            done = 0
            for z in encoded_blocks(model, reader):
                writer.append(z)
                done += z.shape[2]
                if progress:
                    progress(
                        min(done * model.samples_per_frame / model.sample_rate, reader.duration),
                        reader.duration,
                    )
        return Report(
            reader.duration, time.monotonic() - began, reader.num_samples, reader.channels, reader.sample_rate
        )


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
        source: `.lat` file, stream, or an open reader, which stays open.
        target: audio file or stream.
        start: beginning, s.
        end: end, s.
        steps: sampling steps.
        seed: of the noise.
        subtype: libsndfile's subtype (PCM_16, PCM_24, FLOAT).
        format: container, where the target has no extension.
        sample_rate: rate of the result, Hz; by default that of the audio that was encoded.
        overwrite: replace an existing target.
        progress: called with seconds done and in all.

    Raises:
        LincaeError: the source cannot be read, belongs to another model, or the target cannot be written.
        UsageError: a range outside the audio, or a format that cannot hold it.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        reader = source if isinstance(source, LatReader) else stack.enter_context(LatReader(source))
        channels = reader.header.channels
        check_model(model, reader.header, reader.name)
        span = decoded_span(reader.header, reader.name, start, end, sample_rate)
        seconds = span.num_samples / span.rate
        writer = stack.enter_context(
            AudioWriter(
                target,
                span.rate,
                channels,
                format=format,
                subtype=subtype,
                overwrite=overwrite,
                num_samples=span.num_samples,
            )
        )
        for block in decoded_blocks(model, reader, span, steps=steps, seed=seed):
            writer.write(block)
            if progress:
                progress(writer.num_samples / span.rate, seconds)
    return Report(seconds, time.monotonic() - began, span.num_samples, channels, span.rate, writer.clipped)
