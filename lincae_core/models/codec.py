"""Audio of any length to latents and back in constant memory, at the model's own sample rate.

A timeline is computed in stretches with context on both sides, so that the result does not depend on where it was cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

QUALITIES = ("low", "medium", "high", "exact")
DEFAULT_QUALITY = "medium"
STRETCH = 128  # latent frames computed at once (12 s): more leaves the CPU caches, less costs time for the context
MOST_AT_ONCE = 4  # stretches, which bounds memory
NETWORK_STRETCH = 192  # the same for the networks of `frame64` and `unet`

Item = TypeVar("Item")
Read = Callable[[int, int], np.ndarray]  # first frame, frame after the last -> [C, numbers, frames]


class Autoencoder:
    """A model with its weights on a device.

    Args:
        model: the module, a `FrameModel` or a `ConsistencyModel`.
        info: metadata of the weights: name, version, fingerprint.
        device: where to compute.

    Attributes:
        deterministic: whether the model decodes without noise and needs no level of the whole signal (`FrameModel`).
        reach: latent frames of context that a stretch needs on either side to be decoded.
    """

    def __init__(self, model: Any, info: dict[str, Any], device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.name: str = info["name"]
        self.version: str = info["version"]
        self.fingerprint: str = info["fingerprint"]
        self.config = model.config
        self.sample_rate: int = model.sample_rate
        self.samples_per_frame: int = model.samples_per_frame
        self.latent_dim: int = model.config.latent_dim
        self.latent_scale = float(getattr(model.config, "latent_scale", 1.0))
        self.deterministic = hasattr(model, "reach")
        self.stretch = STRETCH if self.deterministic else NETWORK_STRETCH // model.grid * model.grid
        self.context: int = 0 if self.deterministic else model.encoder_context
        self.reach: int = model.reach if self.deterministic else model.decoder_context

    def groups(self, quality: str) -> tuple[Any, ...]:
        """The groups of latent dimensions that share a quantiser step; none for models that store floats only."""
        return tuple(self.model.groups(quality)) if self.deterministic else ()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(iter(self.model.state_dict().values())).dtype

    @property
    def scales_signal(self) -> bool:
        """Whether the network sees every signal at one loudness, so that its whole level must be known beforehand."""
        return not self.deterministic and bool(self.config.gain_equivariant)

    def scale(self, rms: float) -> float:
        """Factor s of ``s E(x / s)`` for a signal of that RMS; 0 for silence, 1 where the model uses none."""
        if not self.scales_signal:
            return 1.0
        return rms / self.config.reference_rms if rms > 1e-12 else 0.0

    def encode_stretch(
        self, audio: Tensor, scales: np.ndarray, first: int, before: int, count: int, quality: str
    ) -> tuple[Tensor, Tensor | None]:
        """Audio around a stretch to its latents.

        Args:
            audio: ``[C, 4096 K + 2 margin]``.
            scales: of every channel, from `scale`.
            first: place on the timeline of the first of the K latent frames.
            before: latent frames of context at the start, to drop.
            count: latent frames to keep.
            quality: on which the levels of a `FrameModel` depend.

        Returns:
            Latents ``[C, latent_dim, count]``, and levels ``[C, GL, count]`` where the model gives any.
        """
        if self.deterministic:
            z, levels = self.model.encode(audio, quality)
            return z, levels
        return _stacked([
            self.model.encode_stretch(x, float(s), first, before, count)
            for x, s in zip(audio, scales, strict=True)
        ]), None  # fmt: skip

    def decode_stretch(
        self, z: Tensor, levels: Tensor | None, rms: np.ndarray, first: int, start: int, stop: int, frames: int,
        steps: int = 1, seed: int = 0,
    ) -> Tensor:  # fmt: skip
        """Latents around a stretch to its samples.

        Args:
            z: ``[C, latent_dim, K]`` from frame ``first`` on.
            levels: ``[C, GL, K]``, NaN where unknown; None: unknown everywhere, or a model without levels.
            rms: of the whole file's latents in every channel, for models that need it (`latent_rms`).
            first: place on the timeline of z's first frame.
            start: first frame of the stretch.
            stop: frame after its last.
            frames: latent frames in the whole file.
            steps: sampling steps.
            seed: of the noise.

        Returns:
            ``[C, 4096 (stop - start)]``.
        """
        ends = (start == 0, stop == frames)
        if self.deterministic:
            from torch.nn import functional as F

            # latents and levels are 0 beyond the file
            pad = (first - start + self.reach, stop + self.reach - first - z.shape[2])
            audio: Tensor = self.model.decode(
                F.pad(z, pad), None if levels is None else F.pad(levels, pad), start, ends
            )
            return audio
        return _stacked([
            self.model.decode_stretch(x, float(r), first, start - first, stop - start, ends, steps, seed)
            for x, r in zip(z, rms, strict=True)
        ])  # fmt: skip

    def spans(self, start: int, stop: int, frames: int, stretch: int = 0) -> Iterator[tuple[int, int, int, int]]:
        """The stretches in which frames ``start`` to ``stop`` of a file are decoded.

        Those of a deterministic model lie at fixed places and are computed whole, so that every decode makes the same
        calls and gives the same bits; the networks are slow, and decode only what is wanted.

        Yields:
            First frame to read, frame after the last to read, first frame of the stretch, frame after its last.
        """
        if self.deterministic:
            stretch = stretch or self.stretch
            for first in range(start // stretch * stretch, stop, stretch):
                last = min(first + stretch, frames)
                yield max(0, first - self.reach), min(frames, last + self.reach), first, last
            return
        grid = self.model.grid
        stretch = max((stretch or self.stretch) // grid, 1) * grid
        for first in range(start, stop, stretch):
            last = min(first + stretch, stop)
            # one more on either side for the STFT's overlap, then the whole of the windows that cover those
            low = max(0, (first - 1) // grid * grid - self.reach)
            yield low, min(frames, -(-(last + 1) // grid) * grid + self.reach), first, last


def _stacked(rows: list[Tensor]) -> Tensor:
    import torch

    return torch.stack(rows)


def _tensor(model: Autoencoder, data: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.require(data, np.float32, ["C", "W"])).to(model.device)


def _in_threads(model: Autoencoder, calls: Iterable[Callable[[], Item]]) -> Iterator[Item]:
    """Yields what the calls return, in their order.

    On a CPU a deterministic model computes several stretches at once, with as few threads each as there are: threads
    that share a stretch wait for each other, and for whoever reads and writes meanwhile.
    """
    import torch

    threads = torch.get_num_threads()
    if threads == 1 or not model.deterministic or model.device.type != "cpu":
        for call in calls:
            yield call()
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    workers = min(threads, MOST_AT_ONCE)
    waiting: deque[Future[Item]] = deque()
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(threads)


def encode_blocks(
    model: Autoencoder,
    blocks: Iterable[np.ndarray],
    scales: np.ndarray,
    num_samples: int,
    stretch: int = 0,
    quality: str = DEFAULT_QUALITY,
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Encodes audio given in blocks of any size.

    Args:
        model: the autoencoder.
        blocks: float32 ``[C, n]`` at the model's rate, in all ``num_samples`` samples.
        scales: of every channel, ``[C]`` (`signal_scales`).
        num_samples: length of the audio, samples at the model's rate.
        stretch: latent frames computed at once; 0 for the default.
        quality: on which the levels of a `FrameModel` depend.

    Yields:
        Latents float32 ``[C, latent_dim, k]``, in all ``ceil(num_samples / 4096)`` frames, and their levels
        ``[C, GL, k]`` where the model has any.
    """
    size, margin, context = model.samples_per_frame, model.model.margin, model.context
    grid = 1 if model.deterministic else model.model.grid
    stretch = max((stretch or model.stretch) // grid, 1) * grid
    total = -(-num_samples // size)

    def windows() -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray | None]]]:
        source = iter(blocks)
        held = np.zeros((len(scales), margin), np.float32)  # audio from sample `at` on; silence precedes sample 0
        at, ended = -margin, False
        for first in range(0, total, stretch):
            last = min(first + stretch, total)
            low, high = max(0, first - context), min(total, last + context)
            need = high * size + margin
            parts, have = [held], at + held.shape[1]
            while have < need and not ended:
                block = next(source, None)
                if block is None:
                    ended = True
                else:
                    parts.append(block)
                    have += block.shape[1]
            held = np.concatenate(parts, 1)
            drop = low * size - margin - at
            held, at = held[:, drop:], at + drop
            window = held[:, : need - at]
            if window.shape[1] < need - at:  # silence follows the end
                window = np.pad(window, ((0, 0), (0, need - at - window.shape[1])))
            yield partial(encoded, window, low, first - low, last - first)

    def encoded(window: np.ndarray, low: int, before: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        import torch

        with torch.inference_mode():
            z, levels = model.encode_stretch(_tensor(model, window), scales, low, before, count, quality)
            return z.cpu().numpy(), None if levels is None else levels.cpu().numpy()

    return _in_threads(model, windows())


def decode_range(
    model: Autoencoder, read: Read, frames: int, rms: np.ndarray, start: int, stop: int, *,
    levels: Read | None = None, steps: int = 1, seed: int = 0, stretch: int = 0,
) -> Iterator[np.ndarray]:  # fmt: skip
    """Decodes samples ``start`` to ``stop`` (exclusive, at the model's rate) of a file.

    A deterministic model gives the same bits whatever the range, the networks the same to float32 rounding.

    Args:
        model: the autoencoder.
        read: latents ``[C, latent_dim, n]`` of frames ``first`` to ``last`` (exclusive).
        frames: latent frames in the whole file.
        rms: of the whole file's latents in every channel, ``[C]`` (`latent_rms`).
        start: first sample.
        stop: sample after the last.
        levels: like ``read``, the levels ``[C, GL, n]``; without it they are unknown.
        steps: sampling steps.
        seed: of the noise.
        stretch: latent frames computed at once; 0 for the default.

    Yields:
        Audio float32 ``[C, n]``, in all ``stop - start`` samples.
    """
    size = model.samples_per_frame

    def decoded(z: np.ndarray, known: np.ndarray | None, low: int, first: int, last: int) -> np.ndarray:
        import torch

        with torch.inference_mode():
            beside = None if known is None else _tensor(model, known)
            audio = model.decode_stretch(_tensor(model, z), beside, rms, low, first, last, frames, steps, seed)
            return audio.cpu().numpy()[:, max(0, start - first * size) : stop - first * size]

    return _in_threads(
        model,
        (
            partial(
                decoded,
                read(low, high),
                levels(low, high) if levels and model.deterministic else None,
                low,
                first,
                last,
            )
            for low, high, first, last in model.spans(start // size, -(-stop // size), frames, stretch)
        ),
    )


def latent_rms(model: Autoencoder, blocks: Iterable[np.ndarray], channels: int) -> np.ndarray:
    """RMS of latents in blocks ``[C, latent_dim, n]`` for every channel, ``[C]`` float64; read only where needed."""
    total, count = np.zeros(channels), 0
    if model.deterministic:
        return np.ones(channels)
    for block in blocks:
        total += np.square(block, dtype=np.float64).sum((1, 2))
        count += block.shape[1] * block.shape[2]
    return np.sqrt(total / max(count, 1))


def signal_scales(model: Autoencoder, blocks: Iterable[np.ndarray], channels: int) -> np.ndarray:
    """`Autoencoder.scale` of audio in blocks ``[C, n]`` for every channel, ``[C]`` float64; read only where needed."""
    total, count = np.zeros(channels), 0
    if not model.scales_signal:
        return np.ones(channels)
    for block in blocks:
        total += np.square(block, dtype=np.float64).sum(1)
        count += block.shape[1]
    return np.array([model.scale(float(r)) for r in np.sqrt(total / max(count, 1))])


def encode_array(model: Autoencoder, audio: np.ndarray) -> np.ndarray:
    """Audio ``[C, n]`` at the model's rate to latents ``[C, latent_dim, ceil(n / 4096)]``."""
    scales = signal_scales(model, [audio], len(audio))
    return np.concatenate([z for z, _ in encode_blocks(model, [audio], scales, audio.shape[1])], 2)


def decode_array(
    model: Autoencoder, z: np.ndarray, num_samples: int, *, levels: np.ndarray | None = None, steps: int = 1,
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Latents ``[C, latent_dim, K]`` (and levels ``[C, GL, K]``) to audio ``[C, num_samples]`` at the model's rate."""
    known = None if levels is None else lambda a, b: levels[:, :, a:b]
    blocks = decode_range(
        model, lambda a, b: z[:, :, a:b], z.shape[2], latent_rms(model, [z], len(z)), 0, num_samples, levels=known,
        steps=steps, seed=seed,
    )  # fmt: skip
    return np.concatenate(list(blocks), 1)


def encode_tensor(model: Autoencoder, audio: Tensor, quality: str = DEFAULT_QUALITY) -> tuple[Tensor, Tensor | None]:
    """Audio ``[C, T]`` at the model's rate to latents ``[C, latent_dim, K]`` and levels, in one piece.

    Gradients flow through it; the level that a network's input is scaled by counts as a constant.
    """
    from torch.nn import functional as F

    size, margin = model.samples_per_frame, model.model.margin
    frames = -(-audio.shape[-1] // size)
    x = audio.to(model.device, model.dtype)
    padded = F.pad(x, (margin, frames * size + margin - x.shape[-1]))
    rms = x.detach().double().square().mean(-1).sqrt().cpu().numpy()
    scales = np.array([model.scale(float(r)) for r in rms])
    z, levels = model.encode_stretch(padded, scales, 0, 0, frames, quality)
    return z.to(audio.device), None if levels is None else levels.to(audio.device)


def decode_tensor(
    model: Autoencoder, z: Tensor, levels: Tensor | None = None, *, steps: int = 1, seed: int = 0
) -> Tensor:
    """Latents ``[C, latent_dim, K]`` to audio ``[C, 4096 K]`` on their device; gradients flow through it."""
    import torch

    frames = z.shape[2]
    x = z.to(model.device, model.dtype)
    known = None if levels is None else levels.to(model.device, model.dtype)
    rms = x.detach().double().square().mean((1, 2)).sqrt().cpu().numpy()
    parts = []
    for low, high, first, last in model.spans(0, frames, frames):
        beside = None if known is None else known[:, :, low:high]
        parts.append(model.decode_stretch(x[:, :, low:high], beside, rms, low, first, last, frames, steps, seed))
    return torch.cat(parts, 1).to(z.device)
