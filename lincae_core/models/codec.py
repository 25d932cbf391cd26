"""Audio to latents and back, in memory and in files: any length and rate, in constant memory.

A timeline is computed in stretches with context on both sides, so that the result does not depend on where it was cut.
Importing this module imports no torch: what a command will write is known before a model is loaded.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, TypeVar

import numpy as np

from lincae_core.audio import (
    AudioReader,
    AudioWriter,
    output_rate,
    resample_context,
    resampled_length,
    stream_resampler,
)
from lincae_core.audio.write import INTEGER_SUBTYPES
from lincae_core.models import DEFAULT_QUALITY, QUALITIES, filterbank, frame_groups
from lincae_formats import Header, LatReader, LatWriter, signal
from lincae_formats.errors import IncompatibleError, LincaeError, UsageError
from lincae_formats.signal import Signal

if TYPE_CHECKING:
    from concurrent.futures import Future

    import torch
    from torch import Tensor

STRETCH = 128  # latent frames computed at once (12 s): more leaves the CPU caches, less costs time for the context
MOST_AT_ONCE = 4  # stretches, which bounds memory
MOST_IN_BATCH = 32  # stretches of several files, on a GPU
FILES_ON_GPU = 16  # read at once, so that there are stretches for a batch
NETWORK_STRETCH = 192  # the same for the networks of `frame64` and `unet`

ATTEMPTS = 6  # to encode a file of quality `low` again
SMALLEST = 64  # times smaller than 16-bit PCM is a file of quality `low`: where it is not, it is rounded more coarsely
SHORTEST = 5.0  # s of audio for which that is promised

Item = TypeVar("Item")
Read = Callable[[int, int], np.ndarray]  # first frame, frame after the last -> [C, numbers, frames]
Progress = Callable[[float, float], None]  # seconds done, seconds in all


class FrameEncoder:
    """The encoder of a `frame` model on the CPU: a filterbank, for which neither weights nor torch are loaded.

    It has of `Autoencoder` what encoding needs.

    Args:
        info: metadata of the weights: name, version, fingerprint.
    """

    deterministic = True
    scales_signal, latent_scale = False, 1.0
    context, grid, stretch, margin = 0, 1, STRETCH, filterbank.MARGIN
    sample_rate, samples_per_frame, latent_dim = filterbank.SAMPLE_RATE, filterbank.FRAME, filterbank.LATENT_DIM
    groups = staticmethod(frame_groups)

    def __init__(self, info: dict[str, Any]) -> None:
        self.name: str = info["name"]
        self.version: str = info["version"]
        self.fingerprint: str = info["fingerprint"]
        self.on_cpu = filterbank.Filterbank()

    def scale(self, _rms: float) -> float:
        """1: the filterbank is linear."""
        return 1.0

    def encode_window(
        self, audio: np.ndarray, _scales: np.ndarray, _first: int, _before: int, _count: int, quality: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `Autoencoder.encode_window`."""
        return self.on_cpu.encode(audio, quality)


class Autoencoder:
    """A model with its weights on a device.

    Args:
        model: the module, a `FrameModel` or a `ConsistencyModel`.
        info: metadata of the weights: name, version, fingerprint.
        device: where to compute.

    Attributes:
        deterministic: whether the model decodes without noise and needs no level of the whole signal (`FrameModel`).
        grid: latent frames of which a stretch must hold a multiple.
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
        self.grid: int = 1 if self.deterministic else model.grid
        self.stretch = STRETCH if self.deterministic else NETWORK_STRETCH // self.grid * self.grid
        self.context: int = 0 if self.deterministic else model.encoder_context
        self.reach: int = model.reach if self.deterministic else model.decoder_context
        self.margin: int = model.margin

    @cached_property
    def on_cpu(self) -> Any:
        """The filterbank that encodes, where the model is a `FrameModel` on a CPU; decoding needs none."""
        cpu = self.device.type == "cpu" and hasattr(self.model, "numpy_encoder")
        return self.model.numpy_encoder() if cpu else None

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

    def encode_window(
        self, audio: np.ndarray, scales: np.ndarray, first: int, before: int, count: int, quality: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `encode_stretch`, from array to arrays."""
        if self.on_cpu:
            encoded: tuple[np.ndarray, np.ndarray | None] = self.on_cpu.encode(audio, quality)
            return encoded
        import torch

        with torch.inference_mode():
            z, levels = self.encode_stretch(to_tensor(self, audio), scales, first, before, count, quality)
            return z.cpu().numpy(), None if levels is None else levels.cpu().numpy()

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
        import torch

        if self.deterministic:
            z, levels = self.model.encode(audio, quality)
            return z, levels
        rows = zip(audio, scales, strict=True)
        return torch.stack([self.model.encode_stretch(x, float(s), first, before, count) for x, s in rows]), None

    def decode_window(
        self, z: np.ndarray, levels: np.ndarray | None, rms: np.ndarray, first: int, start: int, stop: int, frames: int,
        steps: int = 1, seed: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """As `decode_stretch`, from arrays to array."""
        import torch

        with torch.inference_mode():
            beside = None if levels is None else to_tensor(self, levels)
            audio = self.decode_stretch(to_tensor(self, z), beside, rms, first, start, stop, frames, steps, seed)
            return audio.cpu().numpy()

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
        import torch
        from torch.nn import functional as F

        if self.deterministic:
            # latents and levels are 0 beyond the file
            pad = (first - start + self.reach, stop + self.reach - first - z.shape[2])
            beside = None if levels is None else F.pad(levels, pad)
            audio: Tensor = self.model.decode(F.pad(z, pad), beside, start, [_ends(start, stop, frames)] * len(z))
            return audio
        ends = (start == 0, stop == frames)
        place = (first, start - first, stop - start, ends, steps, seed)
        return torch.stack([self.model.decode_stretch(x, float(r), *place) for x, r in zip(z, rms, strict=True)])

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
        grid = self.grid
        stretch = max((stretch or self.stretch) // grid, 1) * grid
        for first in range(start, stop, stretch):
            last = min(first + stretch, stop)
            # one more on either side for the STFT's overlap, then the whole of the windows that cover those
            low = max(0, (first - 1) // grid * grid - self.reach)
            yield low, min(frames, -(-(last + 1) // grid) * grid + self.reach), first, last


class Batched(Autoencoder):
    """A `FrameModel` for several threads: what they encode or decode at the same time is one batch on the device.

    While a batch is computed, the stretches of other files gather for the next one, so nothing waits for others to
    come. Results equal those of one file at a time within 1e-5 of full scale: sums are in another order.

    Args:
        model: the autoencoder.
        most: stretches in a batch, which bounds memory.
    """

    def __init__(self, model: Autoencoder, most: int = MOST_IN_BATCH) -> None:
        from concurrent.futures import ThreadPoolExecutor

        vars(self).update(vars(model))
        self._most = most
        self._waiting: deque[tuple[Callable[[list[Any]], list[Any]], str, Any, Future[Any]]] = deque()
        self._device = ThreadPoolExecutor(1)

    def encode_window(
        self, audio: np.ndarray, scales: np.ndarray, first: int, before: int, count: int, quality: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """As `Autoencoder.encode_window`."""
        found: tuple[np.ndarray, np.ndarray | None] = self._do(self._encoded, (audio, count, quality), quality)
        return found

    def decode_window(
        self, z: np.ndarray, levels: np.ndarray | None, rms: np.ndarray, first: int, start: int, stop: int, frames: int,
        steps: int = 1, seed: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """As `Autoencoder.decode_window`."""
        found: np.ndarray = self._do(self._decoded, (z, levels, first, start, stop, frames))
        return found

    def _do(self, work: Callable[[list[Any]], list[Any]], item: Any, kind: str = "") -> Any:
        from concurrent.futures import Future

        future: Future[Any] = Future()
        self._waiting.append((work, kind, item, future))
        self._device.submit(self._next)
        return future.result()

    def _next(self) -> None:
        """Computes what is waiting: as many as are of one kind, at most a batch."""
        if not self._waiting:
            return
        work, kind = self._waiting[0][:2]
        batch: list[tuple[Any, Future[Any]]] = []
        while self._waiting and len(batch) < self._most and self._waiting[0][:2] == (work, kind):
            batch.append(self._waiting.popleft()[2:])
        try:
            results = work([item for item, _ in batch])
        except BaseException as e:
            if len(batch) == 1:
                batch[0][1].set_exception(e)
                return
            results = []
        for item, future in batch[len(results) :]:  # a batch may not fit into memory where its items do
            try:
                future.set_result(work([item])[0])
            except BaseException as e:
                future.set_exception(e)
        for (_, future), result in zip(batch, results, strict=False):
            future.set_result(result)

    def _encoded(self, items: list[tuple[np.ndarray, int, str]]) -> list[tuple[np.ndarray, np.ndarray | None]]:
        counts = [count for _, count, _ in items]
        audio = _stacked([x for x, _, _ in items], [0] * len(items), max(x.shape[1] for x, _, _ in items))
        z, levels = super().encode_window(audio, np.ones(len(audio)), 0, 0, max(counts), items[0][2])
        cuts = np.cumsum([len(x) for x, _, _ in items])[:-1]
        parts = np.split(z, cuts), [None] * len(items) if levels is None else np.split(levels, cuts)
        return [
            (a[..., :count], None if b is None else b[..., :count]) for a, b, count in zip(*parts, counts, strict=True)
        ]

    def _decoded(self, items: list[tuple[np.ndarray, np.ndarray | None, int, int, int, int]]) -> list[np.ndarray]:
        import torch

        width = max(stop - start for *_, start, stop, _ in items) + 2 * self.reach
        # latents and levels are 0 beyond the file
        places = [low - start + self.reach for _, _, low, start, _, _ in items]
        z = _stacked([item[0] for item in items], places, width)
        levels = None
        known = next((item[1] for item in items if item[1] is not None), None)
        if known is not None:
            blank = np.full((1, known.shape[1], width), np.nan, np.float32)
            beside = [blank.repeat(len(item[0]), 0) if item[1] is None else item[1] for item in items]
            starts = [0 if item[1] is None else at for item, at in zip(items, places, strict=True)]
            levels = to_tensor(self, _stacked(beside, starts, width))
        channels = [len(item[0]) for item in items]
        firsts = np.repeat([start for *_, start, _, _ in items], channels)
        ends = [_ends(*place) for x, _, _, *place in items for _ in x]
        with torch.inference_mode():
            first = torch.from_numpy(firsts).to(self.device)
            audio = self.model.decode(to_tensor(self, z), levels, first, ends).cpu().numpy()
        sizes = [(stop - start) * self.samples_per_frame for *_, start, stop, _ in items]
        return [x[:, :n] for x, n in zip(np.split(audio, np.cumsum(channels)[:-1]), sizes, strict=True)]


def batched(model: Any) -> Any:
    """The model for several threads: `Batched` where it is a `FrameModel` on a GPU, else itself.

    On a CPU a batch of short files is not faster than one after the other (within a tenth: bench/short_files.py).
    """
    gpu = getattr(model, "device", None) is not None and model.device.type != "cpu"
    return Batched(model) if gpu and model.deterministic else model


def _ends(start: int, stop: int, frames: int) -> tuple[bool, int]:
    """Whether a stretch begins where its signal does, and its frame after the signal's last; 0 if that is not in it."""
    return start == 0, stop - start if stop == frames else 0


def _stacked(parts: Sequence[np.ndarray], places: Sequence[int], width: int) -> np.ndarray:
    """Arrays ``[C, ..., n]`` below each other, each from its place on, zeros beside: ``[sum of C, ..., width]``."""
    whole = np.zeros((sum(map(len, parts)), *parts[0].shape[1:-1], width), np.float32)
    at = 0
    for part, place in zip(parts, places, strict=True):
        whole[at : at + len(part), ..., place : place + part.shape[-1]] = part
        at += len(part)
    return whole


Encoder = Autoencoder | FrameEncoder


def to_tensor(model: Autoencoder, data: np.ndarray) -> Tensor:
    """An array as a float32 tensor on the model's device."""
    import torch

    return torch.from_numpy(np.require(data, np.float32, ["C", "W"])).to(model.device)


def _in_threads(
    calls: Iterable[Callable[[], Item]], workers: int, start: Callable[[], None] = lambda: None
) -> Iterator[Item]:
    """Yields what the calls return, in their order; several are done at once, in threads that begin with `start`."""
    if workers == 1:
        yield from (call() for call in calls)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: deque[Future[Item]] = deque()
    with ThreadPoolExecutor(workers, initializer=start) as pool:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _in_torch_threads(model: Autoencoder, calls: Iterable[Callable[[], Item]]) -> Iterator[Item]:
    """`_in_threads` for a deterministic model on a CPU, with as few of torch's threads each as there are.

    Threads that share a stretch wait for each other, and for whoever reads and writes meanwhile.
    """
    import torch

    threads = torch.get_num_threads()
    workers = min(threads, MOST_AT_ONCE) if model.deterministic and model.device.type == "cpu" else 1
    try:
        yield from _in_threads(calls, workers, partial(torch.set_num_threads, threads // workers))
    finally:
        torch.set_num_threads(threads)


def _cores() -> int:
    """Cores that this process may use: `OMP_NUM_THREADS`, as torch has it, or those that the system gives it."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdecimal() and int(said) > 0:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def encode_blocks(
    model: Encoder,
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
    size, margin, context = model.samples_per_frame, model.margin, model.context
    stretch = max((stretch or model.stretch) // model.grid, 1) * model.grid
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
            yield partial(model.encode_window, window, scales, low, first - low, last - first, quality)

    return _in_threads(windows(), min(_cores(), MOST_AT_ONCE) if model.on_cpu or isinstance(model, Batched) else 1)


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
        audio = model.decode_window(z, known, rms, low, first, last, frames, steps, seed)
        return audio[:, max(0, start - first * size) : stop - first * size]

    return _in_torch_threads(
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


def signal_scales(model: Encoder, blocks: Iterable[np.ndarray], channels: int) -> np.ndarray:
    """`Autoencoder.scale` of audio in blocks ``[C, n]`` for every channel, ``[C]`` float64; read only where needed."""
    total, count = np.zeros(channels), 0
    if not model.scales_signal:
        return np.ones(channels)
    for block in blocks:
        total += np.square(block, dtype=np.float64).sum(1)
        count += block.shape[1]
    return np.array([model.scale(float(r)) for r in np.sqrt(total / max(count, 1))])


def encode_array(model: Encoder, audio: np.ndarray) -> np.ndarray:
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


def resampled(
    blocks: Iterator[np.ndarray], source: int, target: int, channels: int, device: torch.device | None = None
) -> Iterator[np.ndarray]:
    """Yields blocks ``[C, n]`` at `source` Hz as blocks ``[C, m]`` at `target` Hz; see `stream_resampler`."""
    resampler = stream_resampler(source, target, channels, device)
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


def encoded_header(model: Encoder, source: AudioSource, quality: str | None = None, coarser: float = 1.0) -> Header:
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


def storage_type(model: Encoder, quality: str | None = None, dtype: str | None = None) -> str:
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
    model: Encoder, source: AudioSource, quality: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """Yields a source's latents in order, as `encode_blocks` does, in constant memory.

    The source is read twice where the model needs the level of the whole signal.
    """
    scales = signal_scales(model, source.blocks(), source.channels)
    length = resampled_length(source.num_samples, source.sample_rate, model.sample_rate)
    device = getattr(model, "device", None)
    blocks = resampled(source.blocks(), source.sample_rate, model.sample_rate, source.channels, device)
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
    for block in resampled(blocks, model.sample_rate, span.rate, header.channels, model.device):
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
    model: Encoder, source: str | Path | BinaryIO, target: str | Path | BinaryIO, *, mono: bool = False,
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
    model: Encoder, reader: AudioReader, target: str | Path | BinaryIO, quality: str | None, dtype: str,
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
