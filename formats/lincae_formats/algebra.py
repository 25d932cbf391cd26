"""Mixing is addition, volume is multiplication: float32 in, float32 out, nothing rounded in between."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from . import history
from .errors import IncompatibleError, LatError, NonFiniteError
from .header import Header
from .latents import Latents

LENGTHS = ("longest", "shortest", "first")


def mix(
    operands: Sequence[Latents],
    gains: Sequence[float] | None = None,
    *,
    length: str = "longest",
    sample_rate: int | None = None,
) -> Latents:
    """The sum of `gain * operand`.

    Mono operands are added to every channel; shorter ones are followed by silence. The order of the operands
    does not change one bit of the result's data.

    Args:
        operands: One or more.
        gains: One finite factor each; all 1 by default.
        length: `longest`, `shortest` or `first`: the operand whose length the result has.
        sample_rate: Rate of the result, Hz, where the operands' rates differ; nothing is resampled, for
            latents share one timeline.

    Raises:
        IncompatibleError: the operands do not belong together.
        NonFiniteError: a gain is NaN or infinite, or the result leaves float32.
        LatError: no operands, another number of gains, or an unknown `length`.
    """
    return _combine("mix", operands, gains, length, sample_rate)


def subtract(whole: Latents, parts: Sequence[Latents], *, sample_rate: int | None = None) -> Latents:
    """`whole` minus every part, as long as `whole`.

    Raises:
        IncompatibleError: the operands do not belong together, or a part has more channels than `whole`.
        LatError: no parts.
    """
    if not parts:
        raise LatError("nothing to subtract", "name at least one part")
    for part in parts:
        if part.channels > whole.channels:
            raise IncompatibleError(
                f"{part.label} has {part.channels} channels, {whole.label} has {whole.channels}",
                "encode the parts with --mono",
            )
    return _combine("subtract", [whole, *parts], [1.0] + [-1.0] * len(parts), "first", sample_rate)


def gain(latents: Latents, factor: float) -> Latents:
    """`factor * latents`; the factor may be 0 or negative.

    Raises:
        NonFiniteError: the factor is NaN or infinite, or the result leaves float32.
    """
    factor = _check_gain(factor, latents)
    data = _finite(_scale(latents.data, factor), latents.label)
    entry = {"op": "gain", "factor": factor}
    return replace(latents, data=data, history=history.bounded([*latents.history, entry]))


def check_compatible(
    operands: Sequence[Latents] | Sequence[Header],
    names: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
) -> None:
    """Checks that latents can be added.

    Args:
        operands: Latents or headers.
        names: What messages call them.
        sample_rate: Given where different sample rates are meant, Hz.

    Raises:
        IncompatibleError: naming two operands, what differs, and what to type next.
    """
    labels = list(names) if names is not None else [_label(operand, i) for i, operand in enumerate(operands)]
    headers = [operand.header if isinstance(operand, Latents) else operand for operand in operands]
    for header, label in zip(headers[1:], labels[1:], strict=True):
        _check_pair(headers[0], labels[0], header, label, sample_rate)
    many = [i for i, header in enumerate(headers) if header.channels > 1]
    for i in many[1:]:
        a, b = headers[many[0]], headers[i]
        if a.channels != b.channels:
            raise IncompatibleError(
                f"{labels[many[0]]} has {a.channels} channels, {labels[i]} has {b.channels}",
                "encode one of them again with --mono",
            )


def _check_pair(a: Header, name_a: str, b: Header, name_b: str, sample_rate: int | None) -> None:
    again = f"encode {name_b}'s audio again with --model {a.model}"
    if a.model_fingerprint != b.model_fingerprint:
        what = f"models {a.model} and {b.model}" if a.model != b.model else f"two versions of the model {a.model}"
        raise IncompatibleError(f"{name_a} and {name_b} come from {what}", again)
    for key in ("latent_dim", "latent_scale", "model_sample_rate", "samples_per_frame"):
        if getattr(a, key) != getattr(b, key):
            raise IncompatibleError(
                f"{name_a} and {name_b} differ in {key}: {getattr(a, key)} and {getattr(b, key)}", again
            )
    if a.sample_rate != b.sample_rate and sample_rate is None:
        raise IncompatibleError(
            f"{name_a} is at {a.sample_rate} Hz, {name_b} at {b.sample_rate} Hz",
            f"add --sample-rate {a.sample_rate}",
        )


def _combine(
    op: str, operands: Sequence[Latents], gains: Sequence[float] | None, length: str, sample_rate: int | None
) -> Latents:
    operands = list(operands)
    factors = [1.0] * len(operands) if gains is None else list(gains)
    if not operands:
        raise LatError("nothing to mix", "name at least one .lat file")
    if len(factors) != len(operands):
        raise LatError(f"{len(operands)} operands but {len(factors)} gains")
    if length not in LENGTHS:
        raise LatError(f"length is {length!r}", f"use one of {', '.join(LENGTHS)}")
    factors = [_check_gain(factor, z) for factor, z in zip(factors, operands, strict=True)]
    check_compatible(operands, sample_rate=sample_rate)
    header = _result_header(operands, length, sample_rate)
    data = _sum([_fit(_scale(z.data, f), header.frames) for z, f in zip(operands, factors, strict=True)], header)
    entry: dict[str, Any] = {
        "op": op,
        "operands": [_record(z, f) for z, f in zip(operands, factors, strict=True)],
    }
    if length != "longest" and op == "mix":
        entry["length"] = length
    if sample_rate is not None:
        entry["sample_rate"] = sample_rate
    return Latents(
        data=_finite(data, " and ".join(z.label for z in operands[:2])),
        header=header,
        history=history.bounded([entry]),
        dtype="float16" if all(z.dtype == "float16" for z in operands) else "float32",
    )


def _result_header(operands: Sequence[Latents], length: str, sample_rate: int | None) -> Header:
    headers = [z.header for z in operands]
    seconds = [Fraction(h.num_samples, h.sample_rate) for h in headers]
    wanted = {"longest": max(seconds), "shortest": min(seconds), "first": seconds[0]}[length]
    chosen = headers[seconds.index(wanted)]
    base = replace(
        chosen, channels=max(h.channels for h in headers), model=min(h.model for h in headers)
    )  # names of one fingerprint may differ; the least does not depend on the order
    if sample_rate is None or sample_rate == chosen.sample_rate:
        return base
    base = replace(base, sample_rate=sample_rate)
    base.validate("--sample-rate")
    return base.with_length(Fraction(chosen.num_samples * sample_rate, chosen.sample_rate), chosen.frames)


def _sum(terms: list[np.ndarray], header: Header) -> np.ndarray:
    # Two terms commute exactly; more are added in an order that depends only on their contents.
    if len(terms) > 2:
        terms = sorted(terms, key=lambda t: (t.shape, hashlib.blake2b(t.data, digest_size=16).digest()))
    total = np.zeros(header.shape, dtype=np.float64)
    for term in terms:
        total[:, :, : term.shape[2]] += term
    with np.errstate(over="ignore"):
        return total.astype(np.float32)


def _scale(data: np.ndarray, factor: float) -> np.ndarray:
    if factor == 1.0:
        return data
    with np.errstate(over="ignore", invalid="ignore"):
        return data * np.float32(factor)


def _fit(data: np.ndarray, frames: int) -> np.ndarray:
    return np.ascontiguousarray(data[:, :, :frames])


def _check_gain(factor: float, latents: Latents) -> float:
    value = float(factor)
    if not math.isfinite(value) or abs(value) > 3.4e38:
        raise NonFiniteError(f"{latents.label}: the gain is {value}", "use a finite number")
    return value


def _finite(data: np.ndarray, label: str) -> np.ndarray:
    if not np.isfinite(data).all():
        raise NonFiniteError(f"the result of {label} is beyond float32", "use smaller gains")
    return data


def _record(latents: Latents, factor: float) -> dict[str, Any]:
    return {
        "name": latents.name,
        "fingerprint": latents.fingerprint,
        "gain": factor,
        "history": list(latents.history),
    }


def _label(operand: object, index: int) -> str:
    return getattr(operand, "name", "") or f"operand {index + 1}"
