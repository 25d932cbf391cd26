"""Choice of the device to compute on."""

from __future__ import annotations

import torch

from lincae_formats.errors import LincaeError, UsageError


def choose_device(name: str = "auto") -> torch.device:
    """`auto` (a GPU if there is one), `cpu` or `cuda`.

    Raises:
        UsageError: an unknown name.
        LincaeError: cuda was asked for and is not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {name!r}", "use --device auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise LincaeError("no CUDA device is available", "use --device cpu")
    use_gpu = name == "cuda" or (name == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_gpu else "cpu")
