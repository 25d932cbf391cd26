"""Which latents belong together, and one line that says why the others do not."""

from collections.abc import Sequence

from .errors import IncompatibleError
from .header import Header
from .latents import Latents


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


def _label(operand: object, index: int) -> str:
    return getattr(operand, "name", "") or f"operand {index + 1}"
