"""Checkpoints of the paper's systems on disk, read without executing anything and made lincae weights."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lincae_core.models.hub import PUBLISHED
from lincae_core.models.published import convert
from lincae_core.models.registry import ModelInfo, check_target, read_info
from lincae_core.models.unet import UnetConfig
from lincae_core.models.weights import load_weights, save_weights
from lincae_formats.atomic import atomic_path
from lincae_formats.errors import LincaeError

LATENT_SCALE = {"lin-cae": 33.0, "lin-cae-2": 40.0, "m2l": 15.0, "music2latent": 1 / 0.06}
KWARGS = ("frontend", "generator", "diffusion")  # the Lin-CAE authors' files `<part>_kwargs_last.yaml`

# What the authors' generator can be told, and what this network is; other values make another network.
_FIXED = {
    "hop": 512, "data_channels": 2, "use_fourier": False, "normalization": True, "frequency_scaling": True,
    "pre_normalize_downsampling_encoder": True, "pre_normalize_2d_to_1d": True, "padding_mode": "zeros",
    "bottleneck_layers": None,
}  # fmt: skip
_FREE = {
    "base_channels": "base_channels", "multipliers_list": "multipliers", "attention_list": "attention",
    "freq_downsample_list": "frequency_only", "heads": "heads", "bottleneck_base_channels": "bottleneck_channels",
    "bottleneck_channels": "latent_dim", "num_bottleneck_layers": "bottleneck_blocks",
    "cond_channels": "condition_channels", "sigma_min": "sigma_min", "sigma_max": "sigma_max",
    "sigma_data": "sigma_data",
}  # fmt: skip
_IGNORED = {"dropout_rate", "min_res_dropout", "init_as_zero", "activation_bottleneck", "fourier_scale", "_target_"}


@dataclass(frozen=True)
class Origin:
    """Where weights came from, for their card.

    Args:
        source: file or hub repository.
        version: of the weights.
        license: of the weights.
    """

    source: str
    version: str = "1"
    license: str = "unknown"


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint: a state dict, or one under `gen_state_dict` or `state_dict`.

    Nothing in the file is executed: safetensors, or `torch.load(weights_only=True)`.

    Raises:
        LincaeError: the file cannot be read, or holds anything but tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickles; what matters is whether it can be read
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as e:
        raise LincaeError(f"{path}: cannot read the checkpoint ({e.strerror})") from None
    except Exception as e:  # damaged archives and refused pickles raise whatever their reader does
        if _was_saved_by_torch(path) and ("weights_only" in str(e) or "Unsupported" in str(e)):
            raise LincaeError(
                f"{path}: holds code or objects, not weights alone; it was not read",
                "save its state_dict() alone: torch.save(model.state_dict(), FILE)",
            ) from None
        raise LincaeError(f"{path}: not a checkpoint, or a damaged one ({type(e).__name__})", "get it again") from None
    for key in ("gen_state_dict", "state_dict"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(k, str) for k in state):
        raise LincaeError(f"{path}: not a checkpoint: it holds no named tensors", "name the file of the weights")
    return dict(state)


def _was_saved_by_torch(path: Path) -> bool:
    """Whether a file begins as a ZIP archive does or as a pickle; text, audio and the like do not."""
    with open(path, "rb") as file:
        return file.read(2).startswith((b"PK", b"\x80"))


def config_from_kwargs(kwargs: Mapping[str, Mapping[str, Any]], latent_scale: float, source: str) -> UnetConfig:
    """The config that the Lin-CAE authors' three YAML files describe.

    Args:
        kwargs: `frontend`, `generator` and `diffusion`, each the content of its file.
        latent_scale: factor on the latents.
        source: the files, for messages.

    Raises:
        LincaeError: they describe another network than Music2Latent's.
    """

    def refuse(what: str) -> LincaeError:
        return LincaeError(f"{source}: {what}, which is not Music2Latent's network", "it cannot be imported")

    fields: dict[str, Any] = {"latent_scale": latent_scale}
    generator = dict(kwargs.get("generator") or {})
    # the class takes 256 where nothing is said, every published model says 512
    for key, value in {"hop": 256, **generator}.items():
        if key in _FIXED and value != _FIXED[key]:
            raise refuse(f"the generator has {key} {value}")
        if key in _FREE:
            fields[_FREE[key]] = value
        elif key not in _FIXED and key not in _IGNORED | {
            "layers_list",
            "layers_list_encoder",
            "attention_list_encoder",
        }:
            raise refuse(f"the generator has {key}")
    for name in ("attention", "frequency_only"):
        if name in fields:
            fields[name] = [bool(v) for v in fields[name]]
    layers = list(generator.get("layers_list", [2] * 5))
    if len(set(layers)) != 1:
        raise refuse(f"the generator has layers_list {layers}")
    fields["blocks"] = layers[0]
    if set(generator.get("layers_list_encoder", [1])) != {1}:
        raise refuse(f"the generator has layers_list_encoder {generator['layers_list_encoder']}")
    frontend = dict(kwargs.get("frontend") or {})
    for key, wanted in (("hop_size", 512), ("n_fft_factor", 4)):
        if frontend.get(key, wanted) != wanted:
            raise refuse(f"the frontend has {key} {frontend[key]}")
    fields["alpha"] = frontend.get("alpha_rescale", 0.65)
    fields["beta"] = frontend.get("beta_rescale", 0.34)
    fields |= {
        k: v for k, v in (kwargs.get("diffusion") or {}).items() if k in ("sigma_min", "sigma_max", "sigma_data")
    }
    try:
        return UnetConfig(**fields)
    except (TypeError, ValueError) as e:
        raise refuse(str(e)) from None


def read_kwargs(paths: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """The content of the authors' YAML files by part; LincaeError where one is no mapping."""
    content = {}
    for part, path in paths.items():
        try:
            content[part] = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as e:
            raise LincaeError(f"{path}: cannot be read as YAML ({type(e).__name__})", "get it again") from None
        if not isinstance(content[part], dict):
            raise LincaeError(f"{path}: not a list of settings", "get it again")
    return content


def install(state: Mapping[str, Tensor], config: UnetConfig, name: str, origin: Origin, *, force: bool) -> ModelInfo:
    """Writes a published network's weights and a card among the user's models; returns what `resolve` will.

    Raises:
        LincaeError: the weights do not fit the config, the name is taken, or the folder cannot be written.
    """
    target = check_target(name, force)
    tensors = convert(state, config, origin.source)
    content = config.to_dict()
    try:
        mark = save_weights(
            tensors, content, target, name=name, version=origin.version, license=origin.license,
            dtype=torch.float32, overwrite=force,
        )  # fmt: skip
        card = (
            f"# {name} {origin.version}\n\nFrom {origin.source}; made safetensors by lincae, its numbers unchanged.\n\n"
            f"- Fingerprint: `{mark}`\n- Family `unet` (Music2Latent's network), float32\n"
            f"- Latents are scaled by {config.latent_scale:.6g}\n- Licence of the weights: {origin.license}\n"
        )
        with atomic_path(target.with_suffix(".md"), overwrite=True) as temporary:
            Path(temporary).write_text(card, encoding="utf-8")
    except OSError as e:
        raise LincaeError(f"{target.parent}: cannot write there ({e.strerror})", "set LINCAE_MODELS") from None
    return read_info(target)


def import_file(
    path: Path, family: str | None = None, name: str | None = None, scale: float | None = None, *, force: bool = False
) -> ModelInfo:
    """Makes a weights file on disk one of the user's models.

    Args:
        path: lincae weights, or a checkpoint of Music2Latent's network (`.pth`, `.pt`, `.safetensors`); the Lin-CAE
            authors' `*_kwargs_last.yaml` beside it are taken into account.
        family: `unet` for a checkpoint; not needed for lincae weights.
        name: of the model; by default that in the file, that of the published folder it lies in, or the file's own.
        scale: factor on the latents; by default the published one of that name, else of that folder, else 1.
        force: replace a model of that name.

    Raises:
        LincaeError: the file is no such thing, or the name is taken.
    """
    if path.is_dir():
        raise LincaeError(f"{path}: a folder", "name the checkpoint in it")
    if not path.is_file():
        raise LincaeError(f"{path}: no such file", f"see: ls {path.parent}")
    info = _lincae_info(path)
    if info is not None:
        if family not in (None, info.family):
            raise LincaeError(f"{path}: weights of family {info.family}", f"type --as {info.family}, or leave it out")
        if name not in (None, info.name) or scale is not None:
            raise LincaeError(f"{path}: is {info.name} already, with its own scale", "leave out --name and --scale")
        load_weights(path)  # checks everything
        target = check_target(info.name, force)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(target, overwrite=force) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as e:
            raise LincaeError(f"{target.parent}: cannot write there ({e.strerror})", "set LINCAE_MODELS") from None
        return read_info(target)
    if family is None:
        raise LincaeError(f"{path}: not lincae weights", "for a checkpoint of Music2Latent's network: --as unet")
    if family != "unet":
        raise LincaeError(f"{path}: no checkpoint can be imported as {family}", "type --as unet")
    known = published_name(path)
    name = name or known or re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._") or "imported"
    check_target(name, force)
    factor = scale if scale is not None else LATENT_SCALE.get(name, LATENT_SCALE.get(known, 1.0))
    beside = {part: path.with_name(f"{part}_kwargs_last.yaml") for part in KWARGS}
    if beside["generator"].is_file():
        kwargs = read_kwargs({k: v for k, v in beside.items() if v.is_file()})
        config = config_from_kwargs(kwargs, factor, str(beside["generator"]))
    else:
        config = UnetConfig(latent_scale=factor)
    return install(read_state(path), config, name, Origin(str(path)), force=force)


def published_name(path: Path) -> str:
    """The name of the published weights whose folder on the hub, such as `0a3afbec_weights`, a file lies in; or ''."""
    folder = path.resolve().parent.name
    return next((n for n, p in PUBLISHED.items() if n in LATENT_SCALE and f"{folder}/{path.name}" == p.files[0]), "")


def _lincae_info(path: Path) -> ModelInfo | None:
    try:
        return read_info(path)
    except LincaeError:
        return None
