"""Whole files: audio to `.lat` and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lincae_core.audio import AudioReader, AudioWriter, StreamResampler, resample_context, resampled_length
from lincae_core.models.autoencoder import Autoencoder
from lincae_core.stream import audio_levels, decode_range, encode_blocks, latent_levels
from lincae_formats import Header, LatReader, LatWriter
from lincae_formats.errors import IncompatibleError, LincaeError, UsageError

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
        header = Header(
            sample_rate=reader.sample_rate, num_samples=reader.num_samples, model_sample_rate=model.sample_rate,
            samples_per_frame=model.samples_per_frame, model=model.name, model_fingerprint=model.fingerprint,
            latent_scale=model.latent_scale, channels=reader.channels, latent_dim=model.latent_dim,
        )  # fmt: skip
        history = [{"op": "encode", "source": Path(reader.name).name, "model": model.name}]
        with LatWriter(target, header, dtype=dtype, history=history, overwrite=overwrite) as writer:
            # the level is the whole signal's, so the file is read twice
            levels = audio_levels(model, reader.blocks(), reader.channels)
            length = resampled_length(reader.num_samples, reader.sample_rate, model.sample_rate)
            done = 0
            for z in encode_blocks(model, _resampled(reader, model.sample_rate), levels, length):
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


def _resampled(reader: AudioReader, rate: int) -> Iterator[np.ndarray]:
    resampler = StreamResampler(reader.sample_rate, rate, reader.channels)
    for block in reader.blocks():
        yield resampler.process(block)
    yield resampler.process(np.zeros((reader.channels, 0), np.float32), last=True)


def decode_file(
    model: Autoencoder, source: str | Path | BinaryIO, target: str | Path | BinaryIO, *, start: float | None = None,
    end: float | None = None, steps: int = 1, seed: int = 0, subtype: str | None = None, format: str | None = None,
    sample_rate: int | None = None, overwrite: bool = False, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """Decodes a `.lat` file, or the part of it from `start` to `end`, in constant memory.

    A part has exactly the samples that the whole has there: seconds are rounded to the nearest sample, not to frames.

    Args:
        model: the autoencoder; must be the one the file was made with.
        source: `.lat` file or stream.
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
    with LatReader(source) as reader:
        header = reader.header
        name = reader.name
        check_model(model, header, name)
        rate = sample_rate or header.sample_rate
        total = header.num_samples if rate == header.sample_rate else round(header.duration * rate)
        total = max(total, 1)
        first, last = _range(start, end, total, rate, header.duration, name)
        length = last - first
        with AudioWriter(
            target,
            rate,
            header.channels,
            format=format,
            subtype=subtype,
            overwrite=overwrite,
            num_samples=length,
        ) as writer:
            levels = latent_levels(reader.blocks())
            inside = resampled_length(header.num_samples, header.sample_rate, model.sample_rate)
            low, high, skip = resample_context(model.sample_rate, rate).span(first, last)
            blocks = decode_range(
                model, reader.read, header.frames, levels, min(low, inside - 1), min(high, inside),
                steps=steps, seed=seed,
            )  # fmt: skip
            left = length
            for block in _resample_blocks(blocks, model.sample_rate, rate, header.channels):
                drop = min(skip, block.shape[1])
                skip -= drop
                part = block[:, drop : drop + left]
                writer.write(part)
                left -= part.shape[1]
                if progress:
                    progress((length - left) / rate, length / rate)
            if left:  # at most a sample of rounding between two rates
                writer.write(np.zeros((header.channels, left), np.float32))
            clipped = writer
        return Report(length / rate, time.monotonic() - began, length, header.channels, rate, clipped.clipped)


def _resample_blocks(blocks: Iterator[np.ndarray], source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    resampler = StreamResampler(source, target, channels)
    for block in blocks:
        yield resampler.process(block)
    yield resampler.process(np.zeros((channels, 0), np.float32), last=True)


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


def _range(
    start: float | None, end: float | None, total: int, rate: int, duration: float, name: str
) -> tuple[int, int]:
    first = 0 if start is None else round(start * rate)
    last = total if end is None else min(round(end * rate), total)
    if first < 0 or first >= total or last <= first:
        shown = f"{start or 0:g} to {duration if end is None else end:g} s"
        raise UsageError(f"{name}: {shown} is not within its {duration:.6g} s", "check --start and --end")
    return first, last
