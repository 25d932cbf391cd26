"""Weights on disk: safetensors with the model's config and name in the metadata."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lincae_core.models.families import FAMILIES, Model, build
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError


def fingerprint(tensors: dict[str, Tensor], config: dict[str, Any]) -> str:
    """SHA-256 over the canonical config and every tensor's name, dtype, shape and bytes: `sha256:<hex>`."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{list(tensor.shape)}".encode())
        digest.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"


def save_weights(
    tensors: dict[str, Tensor], config: dict[str, Any], path: Path, *, name: str, version: str, license: str,
    dtype: torch.dtype = torch.float16, overwrite: bool = True,
) -> str:  # fmt: skip
    """Writes weights atomically; returns their fingerprint.

    Args:
        tensors: the state dict.
        config: the family and the fields of its config.
        path: target.
        name: name of the model.
        version: version of the weights.
        license: SPDX name of the weights' licence.
        dtype: what the weights are stored as.
        overwrite: whether an existing file is replaced.

    Raises:
        TargetExistsError: the file exists and ``overwrite`` is false.
    """
    half = {k: v.detach().to("cpu", dtype).contiguous() for k, v in tensors.items()}
    mark = fingerprint(half, config)
    info: dict[str, Any] = {"name": name, "version": version, "license": license, "config": config, "fingerprint": mark}
    info["parameters"] = sum(v.numel() for v in half.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path, overwrite=overwrite) as temporary:
        Path(temporary).write_bytes(save(half, {"lincae": json.dumps(info, sort_keys=True)}))
    return mark


def load_weights(path: Path, *, check: bool = True) -> tuple[Model, dict[str, Any]]:
    """Reads weights as a float32 model in evaluation mode, and their metadata.

    Raises:
        LincaeError: the file is no lincae weights, of an unknown family, or damaged.
    """
    try:
        with safe_open(str(path), "pt") as file:
            info = json.loads((file.metadata() or {})["lincae"])
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        family = dict(info["config"])["family"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as e:
        raise LincaeError(f"{path}: not a lincae weights file ({type(e).__name__})", "see lincae models list") from None
    if family not in FAMILIES:
        raise LincaeError(f"{path}: weights of family {family!r}, which this version does not know", "upgrade lincae")
    if check and fingerprint(tensors, info["config"]) != info["fingerprint"]:
        raise LincaeError(f"{path}: the weights do not match their fingerprint", "get the file again")
    try:
        model = build(info["config"])
        model.load_state_dict({k: v.float() for k, v in tensors.items()})
    except (TypeError, RuntimeError, ValueError) as e:
        raise LincaeError(f"{path}: weights and config do not fit ({str(e).splitlines()[0][:120]})") from None
    return model.eval(), info
