"""Audio from wherever it comes, in the shape of `AudioReader`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lincae_core.audio import resampled_length
from lincae_core.models.autoencoder import Autoencoder
from lincae_core.plan import Span
from lincae_core.transcode import AudioSource, decoded_blocks, resampled
from lincae_formats.signal import Signal


class AudioArray:
    """Audio in memory.

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
    """Latents as the audio that they decode to; decoded anew, in constant memory, whenever it is read.

    Args:
        model: the autoencoder that made them.
        latents: the latents.
        span: what to decode.
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
    """Audio at another rate.

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
