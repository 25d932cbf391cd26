"""Encoding and decoding of any length in constant memory: a timeline is walked in stretches with context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from lincae_core.models.autoencoder import Autoencoder
from lincae_core.models.frontend import LEAD

STRETCH = 192  # latent frames computed at once (17.8 s): more costs memory, less costs time for the context

ReadLatents = Callable[[int, int], np.ndarray]


def encode_blocks(
    model: Autoencoder,
    blocks: Iterable[np.ndarray],
    levels: np.ndarray,
    num_samples: int,
    stretch: int = STRETCH,
) -> Iterator[np.ndarray]:
    """Encodes audio given in blocks of any size.

    Args:
        model: the autoencoder.
        blocks: float32 ``[C, n]`` at the model's rate, in all ``num_samples`` samples.
        levels: level s of every channel, ``[C]`` (`Autoencoder.level` of the whole signal's RMS).
        num_samples: length of the audio, samples at the model's rate.
        stretch: latent frames computed at once.

    Yields:
        Latents float32 ``[C, latent_dim, k]``, in all ``ceil(num_samples / 4096)`` frames.
    """
    size, context, stretch = model.samples_per_frame, model.model.encoder_context, _aligned(model, stretch)
    total = -(-num_samples // size)
    channels = len(levels)
    source = iter(blocks)
    held = np.zeros((channels, LEAD), np.float32)  # audio from sample `at` on; nothing lies before sample 0
    at, ended = -LEAD, False
    for first in range(0, total, stretch):
        last = min(first + stretch, total)
        low, high = max(0, first - context), min(total, last + context)
        need = high * size + LEAD
        parts, have = [held], at + held.shape[1]
        while have < need and not ended:
            block = next(source, None)
            if block is None:
                ended = True
            else:
                parts.append(block)
                have += block.shape[1]
        held = np.concatenate(parts, 1)
        drop = low * size - LEAD - at
        held, at = held[:, drop:], at + drop
        window = held[:, : need - at]
        window = np.pad(window, ((0, 0), (0, need - at - window.shape[1])))  # silence follows the end
        yield np.stack(
            [model.encode_stretch(window[c], float(levels[c]), low, first - low, last - first) for c in range(channels)]
        )


def decode_range(
    model: Autoencoder, read: ReadLatents, frames: int, levels: np.ndarray, start: int, stop: int, *,
    steps: int = 1, seed: int = 0, stretch: int = STRETCH,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Decodes samples ``start`` to ``stop`` (exclusive, at the model's rate) of a file.

    The same samples come out whatever the range and the stretch, to float32 rounding.

    Args:
        model: the autoencoder.
        read: gives latents ``[C, latent_dim, n]`` of frames ``first`` to ``last`` (exclusive).
        frames: latent frames in the whole file.
        levels: RMS of the whole file's latents in every channel, ``[C]`` (`latent_levels`).
        start: first sample.
        stop: sample after the last.
        steps: sampling steps.
        seed: of the noise.
        stretch: latent frames computed at once.

    Yields:
        Audio float32 ``[C, n]``, in all ``stop - start`` samples.
    """
    size, context, stretch = model.samples_per_frame, model.model.decoder_context, _aligned(model, stretch)
    end, grid = -(-stop // size), model.model.grid
    for first in range(start // size, end, stretch):
        last = min(first + stretch, end)
        # one more on either side for the STFT's overlap, then the whole of the windows that answer for those
        low = max(0, (first - 1) // grid * grid - context)
        high = min(frames, -(-(last + 1) // grid) * grid + context)
        z = read(low, high)
        audio = np.stack(
            [
                model.decode_stretch(
                    z[c],
                    float(levels[c]),
                    c,
                    low,
                    first - low,
                    last - first,
                    (first == 0, last == frames),
                    steps,
                    seed,
                )
                for c in range(len(levels))
            ]
        )
        yield audio[:, max(0, start - first * size) : stop - first * size]


def _aligned(model: Autoencoder, stretch: int) -> int:
    """A stretch that ends where windows do, so that none is computed twice."""
    return max(stretch // model.model.grid, 1) * model.model.grid


def latent_levels(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """RMS of latents given in blocks ``[C, latent_dim, n]``, one per channel ``[C]`` float64."""
    total: np.ndarray | float = 0.0
    count = 0
    for block in blocks:
        total = total + np.square(block, dtype=np.float64).sum((1, 2))
        count += block.shape[1] * block.shape[2]
    return np.sqrt(np.asarray(total) / max(count, 1))


def audio_levels(model: Autoencoder, blocks: Iterable[np.ndarray], channels: int) -> np.ndarray:
    """Level s of every channel of audio given in blocks ``[C, n]``, ``[C]`` float64."""
    total, count = np.zeros(channels), 0
    if not model.config.gain_equivariant:
        return np.ones(channels)
    for block in blocks:
        total += np.square(block, dtype=np.float64).sum(1)
        count += block.shape[1]
    return np.array([model.level(float(r)) for r in np.sqrt(total / max(count, 1))])


def encode_array(model: Autoencoder, audio: np.ndarray) -> np.ndarray:
    """Audio ``[C, n]`` at the model's rate to latents ``[C, latent_dim, ceil(n / 4096)]``."""
    levels = audio_levels(model, [audio], len(audio))
    return np.concatenate(list(encode_blocks(model, [audio], levels, audio.shape[1])), 2)


def decode_array(model: Autoencoder, z: np.ndarray, num_samples: int, *, steps: int = 1, seed: int = 0) -> np.ndarray:
    """Latents ``[C, latent_dim, K]`` to audio ``[C, num_samples]`` at the model's rate."""
    blocks = decode_range(
        model,
        lambda a, b: z[:, :, a:b],
        z.shape[2],
        latent_levels([z]),
        0,
        num_samples,
        steps=steps,
        seed=seed,
    )
    return np.concatenate(list(blocks), 1)
