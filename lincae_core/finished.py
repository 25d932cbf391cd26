"""Whether a file that is there already is what a command would write: then a batch need not write it again.

No model is loaded for it. What a file does not say cannot be checked: the seed and the steps a decode was made with.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NoReturn

from lincae_core.audio import AudioReader
from lincae_core.audio import check_writable, find_format
from lincae_core.models.store import ModelInfo
from lincae_core.models.transcode import Span, encode_history
from lincae_formats import LatReader, TargetExistsError
from lincae_formats.errors import LincaeError


def check_encoded(info: ModelInfo, source: str, target: str, *, mono: bool, dtype: str) -> float:
    """Checks that `target` is the whole encoding of `source`; reads both.

    Args:
        info: the model.
        source: audio file.
        target: `.lat` file that exists.
        mono: whether the channels are averaged.
        dtype: float16 or float32, as stored.

    Returns:
        The length of the audio, s.

    Raises:
        TargetExistsError: it is damaged, or something else; says what.
        LincaeError: the source cannot be read.
    """
    _check_age(source, target)
    with AudioReader(source, mono=mono) as audio, _damage(target), LatReader(target) as lat:
        header = lat.header
        if header.model_fingerprint != info.fingerprint:
            same = "another version of " if header.model == info.name else ""
            _refuse(target, f"comes from {same}the model {header.model}, not {info.name}")
        if list(lat.history) != encode_history(audio.name, info.name):
            _refuse(target, f"was not encoded from {source}")
        found = header.channels, header.sample_rate, header.num_samples
        _compare(target, source, found, (audio.channels, audio.sample_rate, audio.num_samples))
        if lat.dtype != dtype:
            _refuse(target, f"holds {lat.dtype}, not {dtype}")
        for block in lat.blocks():
            del block  # reading is the check
        return audio.duration


def check_decoded(
    channels: int, span: Span, source: str, target: str, format: str | None, subtype: str | None
) -> float:
    """Checks that `target` can be the decoded audio of a span of `source`, and reads it whole.

    Args:
        channels: of the audio.
        span: its rate and length.
        source: `.lat` file.
        target: audio file that exists.
        format, subtype: as for `AudioWriter`.

    Returns:
        The length of the audio, s.

    Raises:
        TargetExistsError: it is damaged, or something else; says what.
        UsageError: format, subtype, rate and channels do not go together.
    """
    wanted = check_writable(target, find_format(target, target, format), span.rate, channels, subtype)
    _check_age(source, target)
    with _damage(target), AudioReader(target) as audio:
        found = audio.channels, audio.sample_rate, audio.num_samples
        _compare(target, source, found, (channels, span.rate, span.num_samples))
        if audio.subtype != wanted:
            _refuse(target, f"holds {audio.subtype}, not {wanted}")
        for block in audio.blocks():
            del block  # reading is the check
        return audio.duration


def _check_age(source: str, target: str) -> None:
    if os.stat(source).st_mtime_ns > os.stat(target).st_mtime_ns:
        _refuse(target, f"is older than {source}")


def _compare(target: str, source: str, found: tuple[int, int, int], wanted: tuple[int, int, int]) -> None:
    for what, a, b in zip(("channels", "Hz", "samples"), found, wanted, strict=True):
        if a != b:
            _refuse(target, f"has {a} {what}, and {source} makes {b}")


@contextlib.contextmanager
def _damage(target: str) -> Iterator[None]:
    try:
        yield
    except TargetExistsError:
        raise
    except LincaeError as e:
        _refuse(target, f"is no whole result: {e.message}")


def _refuse(target: str, what: str) -> NoReturn:
    raise TargetExistsError(f"{target} exists already and {what}", "add --force to overwrite it, or move it away")
