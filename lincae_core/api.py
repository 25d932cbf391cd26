"""The Python interface, as small as the command line. `import lincae_core as lincae`; docs/api.md shows all of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np

from lincae_core.audio import AudioReader
from lincae_core.models import DEFAULT_QUALITY
from lincae_core.models.codec import (
    FILES_ON_GPU,
    AudioArray,
    AudioSource,
    Autoencoder,
    Report,
    batched,
    decode_array,
    decode_file,
    decode_tensor,
    decoded_blocks,
    decoded_span,
    encode_file,
    encode_history,
    encode_tensor,
    encoded_blocks,
    encoded_header,
    storage_type,
)
from lincae_core.models.store import DEFAULT_MODEL
from lincae_core.models.store import load as load_autoencoder
from lincae_formats import Latents, LatReader, collect
from lincae_formats.errors import NonFiniteError, ShapeError, UsageError
from lincae_formats.header import MAX_CHANNELS
from lincae_formats.signal import Signal

if TYPE_CHECKING:
    from torch import Tensor

PathLike = str | os.PathLike[str]


def load(model: PathLike = DEFAULT_MODEL, device: str = "auto") -> Model:
    """Loads a model.

    Args:
        model: Its name (see `lincae models list`) or its weights file.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        LincaeError: there is no such model or device.
    """
    return Model(load_autoencoder(os.fspath(model), device))


class Model:
    """A model: audio to latents and back. From `load`.

    Attributes:
        name: Its name.
        fingerprint: `sha256:` and 64 hexadecimal digits, over its weights and config.
        sample_rate: Rate it works at, Hz; audio at other rates is resampled.
        samples_per_frame: Samples at that rate that one latent frame covers.
        latent_dim: Numbers per channel and latent frame.
        autoencoder: The network on its device.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        """Wraps a network that is loaded."""
        self.autoencoder = autoencoder
        self.name = autoencoder.name
        self.fingerprint = autoencoder.fingerprint
        self.sample_rate = autoencoder.sample_rate
        self.samples_per_frame = autoencoder.samples_per_frame
        self.latent_dim = autoencoder.latent_dim

    def __repr__(self) -> str:
        """Name and device."""
        return f"<lincae model {self.name} on {self.autoencoder.device}>"

    def encode(
        self, audio: PathLike | Any, sample_rate: int | None = None, *, mono: bool = False,
        quality: str | None = None, dtype: str | None = None,
    ) -> Latents:  # fmt: skip
        """Encodes an audio file or an array.

        Args:
            audio: A file, or floats ``[C, n]`` or ``[n]`` (numpy, or a tensor on the CPU), full scale at 1.
            sample_rate: Rate of an array, Hz; by default the model's own. A file states its rate itself.
            mono: Average the channels.
            quality: low, medium, high or exact: how the latents are rounded when they are written; by default the
                model's own. In memory they are float32.
            dtype: int8, float16 or float32: their storage type; by default what the quality says.

        Returns:
            Latents ``[C, latent_dim, frames]``, as long as the audio to the sample.

        Raises:
            LincaeError: the file cannot be read.
            UsageError: an array of another shape or type, or a rate for a file.
        """
        if isinstance(audio, (str, os.PathLike)):
            if sample_rate is not None:
                raise UsageError(f"{os.fspath(audio)} states its sample rate itself", "leave sample_rate out")
            with AudioReader(audio, mono=mono) as reader:
                return self._encode(reader, os.path.basename(reader.name), quality, dtype, reader.tags)
        array = _checked(audio)
        _check_rate(sample_rate)
        if mono:
            array = array.mean(axis=0, keepdims=True, dtype=np.float32)
        return self._encode(AudioArray(array, sample_rate or self.sample_rate), "", quality, dtype, {})

    def decode(
        self, latents: Signal | PathLike | np.ndarray | Tensor, *, start: float | None = None,
        end: float | None = None, steps: int = 1, seed: int = 0, sample_rate: int | None = None, levels: Any = None,
    ) -> Any:  # fmt: skip
        """Decodes latents, a `.lat` file, or an array or tensor of latents.

        A part has exactly the samples that the whole has there. An array or tensor is decoded whole, at the model's
        rate, to `samples_per_frame` samples for every frame; a tensor's result lies on the tensor's device, and
        gradients flow through it.

        Args:
            latents: Latents, an open file (`open_lat`), a path, or numbers ``[C, latent_dim, K]`` or
                ``[B, C, latent_dim, K]``.
            start: Beginning, s.
            end: End, s.
            steps: Sampling steps, for models that sample.
            seed: Of the noise, for models that sample: the same seed gives the same audio.
            sample_rate: Rate of the result, Hz; by default that of the audio that was encoded.
            levels: Levels of an array or tensor, ``[..., GL, K]``, where they are known.

        Returns:
            float32 ``[C, n]``, or ``[B, C, n]`` for a batch; a tensor for a tensor.

        Raises:
            IncompatibleError: another model made the latents.
            ShapeError: an array of another shape.
            NonFiniteError: an array holds NaN or infinity.
            UsageError: the range is not within the audio.
        """
        _check_rate(sample_rate)
        if isinstance(latents, (str, os.PathLike)):
            with LatReader(latents) as reader:
                return self.decode(reader, start=start, end=end, steps=steps, seed=seed, sample_rate=sample_rate)
        if isinstance(latents, np.ndarray) or not hasattr(latents, "header"):
            if (start, end, sample_rate) != (None, None, None):
                raise UsageError("an array is decoded whole, at the model's rate", "leave start, end, sample_rate out")
            return self._decode_numbers(latents, levels, steps, seed)
        source = cast(Signal, latents)
        span = decoded_span(source.header, source.name or "latents", start, end, sample_rate)
        blocks = decoded_blocks(self.autoencoder, source, span, steps=steps, seed=seed)
        return np.concatenate(list(blocks), axis=1)

    def encode_many(
        self, audio: Iterable[PathLike | Any], sample_rate: int | None = None, **options: Any
    ) -> list[Latents]:
        """Encodes many files or arrays, as `encode` does each; on a GPU they share batches.

        Args:
            audio: Files or arrays.
            sample_rate: Rate of the arrays, Hz.
            **options: mono, quality, dtype: as for `encode`.

        Returns:
            Latents in the same order; on a GPU equal to those of `encode` within 1e-5 of full scale.
        """
        return self._many(lambda model, each: model.encode(each, sample_rate, **options), audio)

    def decode_many(self, latents: Iterable[Signal | PathLike | np.ndarray], **options: Any) -> list[np.ndarray]:
        """Decodes many, as `decode` does each, with its options; on a GPU they share batches.

        Returns:
            Audio in the same order; on a GPU equal to that of `decode` within 1e-5 of full scale.
        """
        return self._many(lambda model, each: model.decode(each, **options), latents)

    def encode_tensor(self, audio: Tensor, quality: str = DEFAULT_QUALITY) -> tuple[Tensor, Tensor | None]:
        """Encodes a tensor at the model's rate in one piece; gradients flow through it.

        Args:
            audio: ``[..., T]`` float32, on any device.
            quality: on which the levels depend; `exact` has none.

        Returns:
            Latents ``[..., latent_dim, ceil(T / samples_per_frame)]``, and levels ``[..., GL, K]`` where the model has
            any; on the tensor's device.
        """
        z, levels = encode_tensor(self.autoencoder, audio.reshape(-1, audio.shape[-1]), quality)
        shape = audio.shape[:-1]
        return z.unflatten(0, shape) if shape else z[0], levels if levels is None else levels.unflatten(0, shape)

    def encode_file(
        self, audio: PathLike, lat: PathLike, *, mono: bool = False, quality: str | None = None,
        dtype: str | None = None, overwrite: bool = False,
    ) -> Report:  # fmt: skip
        """Encodes a file of any length to a `.lat` file, in constant memory.

        Raises:
            TargetExistsError: the target exists, and `overwrite` is false.
            LincaeError: a file cannot be read or written.
        """
        return encode_file(
            self.autoencoder, os.fspath(audio), os.fspath(lat), mono=mono, quality=quality, dtype=dtype,
            overwrite=overwrite,
        )  # fmt: skip

    def decode_file(self, lat: PathLike, audio: PathLike, *, overwrite: bool = False, **options: Any) -> Report:
        """Decodes a `.lat` file of any length to an audio file, in constant memory.

        Args:
            lat: The `.lat` file.
            audio: The audio file; its extension chooses the format.
            overwrite: Replace a file that exists.
            **options: start, end, steps, seed, sample_rate, subtype, format: as for `codec.decode_file`.

        Raises:
            TargetExistsError: the target exists, and `overwrite` is false.
            LincaeError: a file cannot be read or written.
        """
        return decode_file(self.autoencoder, os.fspath(lat), os.fspath(audio), overwrite=overwrite, **options)

    def _many(self, work: Callable[[Model, Any], Any], items: Iterable[Any]) -> list[Any]:
        together = batched(self.autoencoder)
        if together is self.autoencoder:
            return [work(self, item) for item in items]
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(FILES_ON_GPU) as pool:
            return list(pool.map(partial(work, Model(together)), items))

    def _encode(
        self, source: AudioSource, name: str, quality: str | None, dtype: str | None, tags: dict[str, str]
    ) -> Latents:
        stored = storage_type(self.autoencoder, quality, dtype)
        header = encoded_header(self.autoencoder, source, quality)
        parts = list(encoded_blocks(self.autoencoder, source, quality))
        levels = [part for _, part in parts if part is not None]
        return Latents(
            np.concatenate([z for z, _ in parts], axis=2),
            header,
            history=tuple(encode_history(name or "array", self.name)),
            tags=tags,
            dtype=stored,
            name=name,
            band_levels=np.concatenate(levels, axis=2) if levels else None,
        )

    def _decode_numbers(self, latents: Any, levels: Any, steps: int, seed: int) -> Any:
        if not hasattr(latents, "ndim"):
            kind = type(latents).__name__
            raise UsageError(f"cannot decode a {kind}", "give Latents, a path, an array or a tensor")
        shape = tuple(latents.shape)
        if latents.ndim not in (3, 4) or shape[-2] != self.latent_dim or 0 in shape:
            raise ShapeError(
                f"cannot decode an array of shape {shape}",
                f"give [channels, {self.latent_dim}, frames], or a batch of such arrays",
            )
        if isinstance(latents, np.ndarray) and not np.isfinite(latents).all():
            raise NonFiniteError("the array holds NaN or infinity", "give finite numbers")
        batch = latents.ndim == 4
        items, known = (latents, levels) if batch else (latents[None], None if levels is None else levels[None])
        rows = [(item, None if known is None else known[i]) for i, item in enumerate(items)]
        if isinstance(latents, np.ndarray):
            samples = shape[-1] * self.samples_per_frame
            arrays = [decode_array(self.autoencoder, z, samples, levels=v, steps=steps, seed=seed) for z, v in rows]
            return np.stack(arrays) if batch else arrays[0]
        import torch

        tensors = [decode_tensor(self.autoencoder, z, v, steps=steps, seed=seed) for z, v in rows]
        return torch.stack(tensors) if batch else tensors[0]


def _check_rate(sample_rate: int | None) -> None:
    if sample_rate is not None and sample_rate < 1:
        raise UsageError(f"a sample rate of {sample_rate} Hz", "give 1 or more")


def _checked(audio: Any) -> np.ndarray:
    array = np.asarray(audio)
    if array.ndim == 1:
        array = array[None]
    if array.ndim != 2 or not array.size:
        raise UsageError(f"audio has shape {np.shape(audio)}", "give [channels, samples] or [samples]")
    if len(array) > MAX_CHANNELS:
        hint = "give [channels, samples]: audio.T" if array.shape[1] <= MAX_CHANNELS else "give fewer channels"
        raise UsageError(f"audio has {len(array)} channels, at most {MAX_CHANNELS} are allowed", hint)
    if array.dtype.kind != "f":
        raise UsageError(f"audio holds {array.dtype}", "give floats with full scale at 1: audio / 32768 for int16")
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UsageError("audio holds NaN or infinity, or more than float32 can", "repair it")
    return array


class LatFile(LatReader):
    """An open `.lat` file: its header and history are there at once, its latents when they are asked for.

    A context manager, and a signal: `Model.decode` and the functions of `lincae_formats.algebra` take it as it is.
    """

    def __enter__(self) -> Self:
        """The open file."""
        return self

    @property
    def duration(self) -> float:
        """Length of the audio, s."""
        return self.header.duration

    def latents(self) -> Latents:
        """All of it in memory."""
        return collect(self)

    def __getitem__(self, span: slice) -> Latents:
        """The part from `span.start` to `span.stop` seconds, rounded to frames; nothing else is read.

        Raises:
            LatError: the part is empty, or not within the audio.
        """
        from lincae_formats import algebra, collect
        from lincae_formats.errors import LatError

        if not isinstance(span, slice) or span.step is not None:
            raise LatError(f"{self.name}: slice by seconds, for example [12.5:20.0]")
        return collect(algebra.cut(self, *self.header.span(span.start, span.stop, self.name)))


def open_lat(path: PathLike) -> LatFile:
    """Opens a `.lat` file without reading its latents.

    Raises:
        LatError: it is no whole `.lat` file.
    """
    return LatFile(path)
