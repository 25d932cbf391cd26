"""Audio at any rate to latents and back, block by block, wherever it comes from: files, pipes or arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from lincae_core.audio import StreamResampler, resample_context, resampled_length
from lincae_core.models.autoencoder import Autoencoder
from lincae_core.plan import Span
from lincae_core.stream import audio_levels, decode_range, encode_blocks, latent_levels
from lincae_formats import Header, signal
from lincae_formats.errors import IncompatibleError, LincaeError
from lincae_formats.signal import Signal


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


def encoded_header(model: Autoencoder, source: AudioSource) -> Header:
    """The header of a source's latents."""
    return Header(
        sample_rate=source.sample_rate, num_samples=source.num_samples, model_sample_rate=model.sample_rate,
        samples_per_frame=model.samples_per_frame, model=model.name, model_fingerprint=model.fingerprint,
        latent_scale=model.latent_scale, channels=source.channels, latent_dim=model.latent_dim,
    )  # fmt: skip


def encoded_blocks(model: Autoencoder, source: AudioSource) -> Iterator[np.ndarray]:
    """Yields a source's latents in order, float32 ``[C, latent_dim, k]``, in constant memory.

    The level is the whole signal's, so the source is read twice.
    """
    levels = audio_levels(model, source.blocks(), source.channels)
    length = resampled_length(source.num_samples, source.sample_rate, model.sample_rate)
    blocks = resampled(source.blocks(), source.sample_rate, model.sample_rate, source.channels)
    return encode_blocks(model, blocks, levels, length)


def decoded_blocks(
    model: Autoencoder, source: Signal, span: Span, *, steps: int = 1, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yields the audio of a span, float32 ``[C, n]``, in constant memory: exactly the samples the whole has there.

    Args:
        model: the autoencoder that made the latents.
        source: the latents: in memory, an open file, or computed as they are read.
        span: what to decode, from `decoded_span`.
        steps: sampling steps.
        seed: of the noise.

    Raises:
        IncompatibleError: the latents come from another model.
    """
    header = source.header
    check_model(model, header, source.name)
    levels = latent_levels(signal.blocks(source))
    inside = resampled_length(header.num_samples, header.sample_rate, model.sample_rate)
    low, high, skip = resample_context(model.sample_rate, span.rate).span(span.first, span.last)
    blocks = decode_range(
        model, source.read, header.frames, levels, min(low, inside - 1), min(high, inside), steps=steps, seed=seed
    )
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


def resampled(blocks: Iterator[np.ndarray], source: int, target: int, channels: int) -> Iterator[np.ndarray]:
    """Yields blocks ``[C, n]`` at `source` Hz as blocks ``[C, m]`` at `target` Hz."""
    resampler = StreamResampler(source, target, channels)
    for block in blocks:
        yield resampler.process(block)
    yield resampler.process(np.zeros((channels, 0), np.float32), last=True)
