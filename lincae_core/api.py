"""The Python interface, as small as the command line. `import lincae_core as lincae`; docs/api.md shows all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from lincae_core.audio import AudioReader
from lincae_core.models.codec import Autoencoder
from lincae_core.models.store import DEFAULT_MODEL
from lincae_core.models.store import load as load_autoencoder
from lincae_core.models.transcode import (
    AudioArray,
    AudioSource,
    decode_file,
    decoded_blocks,
    decoded_span,
    encode_file,
    encode_history,
    encoded_blocks,
    encoded_header,
)
from lincae_formats import Latents, LatReader
from lincae_formats.errors import UsageError
from lincae_formats.header import MAX_CHANNELS
from lincae_formats.signal import Signal

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
    """A model: audio in, latents out, and back. From `load`.

    Attributes:
        name: Its name.
        fingerprint: `sha256:` and 64 hexadecimal digits: which weights it has.
        sample_rate: Rate it works at, Hz; audio at other rates is resampled.
        samples_per_frame: Samples at that rate that one latent frame covers.
        latent_dim: Numbers per channel and frame.
        autoencoder: The networks.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        """Wraps networks that are loaded."""
        self.autoencoder = autoencoder
        self.name = autoencoder.name
        self.fingerprint = autoencoder.fingerprint
        self.sample_rate = autoencoder.sample_rate
        self.samples_per_frame = autoencoder.samples_per_frame
        self.latent_dim = autoencoder.latent_dim

    def __repr__(self) -> str:
        """What it is and where it computes."""
        return f"<lincae model {self.name} on {self.autoencoder.device}>"

    def encode(
        self, audio: PathLike | Any, sample_rate: int | None = None, *, mono: bool = False, dtype: str = "float16"
    ) -> Latents:
        """Encodes an audio file or an array.

        Args:
            audio: A file, or floats ``[C, n]`` or ``[n]`` (numpy, or a tensor on the CPU), full scale at 1.
            sample_rate: Rate of an array, Hz; by default the model's own. A file says its rate itself.
            mono: Average the channels.
            dtype: float16 or float32: how the latents are stored when they are written. In memory they are float32.

        Returns:
            Latents ``[C, latent_dim, frames]``, as long as the audio to the sample.

        Raises:
            LincaeError: the file cannot be read.
            UsageError: an array of another shape or type, or a rate for a file.
        """
        if isinstance(audio, (str, os.PathLike)):
            if sample_rate is not None:
                raise UsageError(f"{os.fspath(audio)} says its sample rate itself", "leave sample_rate out")
            with AudioReader(audio, mono=mono) as reader:
                return self._encode(reader, Path(reader.name).name, dtype)
        array = _checked(audio)
        if mono:
            array = array.mean(axis=0, keepdims=True, dtype=np.float32)
        return self._encode(AudioArray(array, sample_rate or self.sample_rate), "", dtype)

    def decode(
        self, latents: Signal | PathLike, *, start: float | None = None, end: float | None = None, steps: int = 1,
        seed: int = 0, sample_rate: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Decodes latents, or a `.lat` file.

        A part has exactly the samples that the whole has there.

        Args:
            latents: Latents, an open file (`open_lat`), or a path.
            start: Beginning, s.
            end: End, s.
            steps: Sampling steps.
            seed: Of the noise: the same seed gives the same audio.
            sample_rate: Rate of the result, Hz; by default that of the audio that was encoded.

        Returns:
            float32 ``[C, n]``.

        Raises:
            IncompatibleError: another model made the latents.
            UsageError: the range is not within the audio.
        """
        if isinstance(latents, (str, os.PathLike)):
            with LatReader(latents) as reader:
                return self.decode(
                    reader, start=start, end=end, steps=steps, seed=seed, sample_rate=sample_rate
                )  # fmt: skip
        span = decoded_span(latents.header, latents.name or "latents", start, end, sample_rate)
        blocks = decoded_blocks(self.autoencoder, latents, span, steps=steps, seed=seed)
        return np.concatenate(list(blocks), axis=1)

    def encode_file(
        self, audio: PathLike, lat: PathLike, *, mono: bool = False, dtype: str = "float16", overwrite: bool = False
    ) -> None:
        """Encodes a file of any length to a `.lat` file, in constant memory.

        Raises:
            TargetExistsError: the target exists, and `overwrite` is false.
            LincaeError: a file cannot be read or written.
        """
        encode_file(self.autoencoder, os.fspath(audio), os.fspath(lat), mono=mono, dtype=dtype, overwrite=overwrite)

    def decode_file(self, lat: PathLike, audio: PathLike, *, overwrite: bool = False, **options: Any) -> None:
        """Decodes a `.lat` file of any length to an audio file, in constant memory.

        Args:
            lat: The `.lat` file.
            audio: The audio file; its extension says what kind.
            overwrite: Replace a file that exists.
            **options: start, end, steps, seed, sample_rate, subtype, format: as for `pipeline.decode_file`.

        Raises:
            TargetExistsError: the target exists, and `overwrite` is false.
            LincaeError: a file cannot be read or written.
        """
        decode_file(self.autoencoder, os.fspath(lat), os.fspath(audio), overwrite=overwrite, **options)

    def _encode(self, source: AudioSource, name: str, dtype: str) -> Latents:
        blocks = list(encoded_blocks(self.autoencoder, source))
        return Latents(
            np.concatenate(blocks, axis=2),
            encoded_header(self.autoencoder, source),
            history=tuple(encode_history(name or "array", self.name)),
            dtype=dtype,
            name=name,
        )


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
        return Latents(self.read(), self.header, self.history, self.tags, self.dtype, self.name)

    def __getitem__(self, span: slice) -> Latents:
        """The part from `span.start` to `span.stop` seconds, rounded to frames; nothing else is read.

        Raises:
            LatError: the part is empty, or not within the audio.
        """
        from lincae_formats import algebra, timeline
        from lincae_formats.errors import LatError

        if not isinstance(span, slice) or span.step is not None:
            raise LatError(f"{self.name}: slice by seconds, for example [12.5:20.0]")
        return algebra.cut(self, *timeline.span(self.header, span.start, span.stop, self.name)).collect()


def open_lat(path: PathLike) -> LatFile:
    """Opens a `.lat` file without reading its latents.

    Raises:
        LatError: it is no whole `.lat` file.
    """
    return LatFile(path)
