"""Checkpoints of Music2Latent and Lin-CAE, read without executing anything and converted to lincae weights."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from lincae_core.models.store import KWARGS, PUBLISHED, ModelInfo, check_target, load_weights, read_info, save_weights
from lincae_core.models.unet import UnetConfig, UnetModel
from lincae_formats.errors import LincaeError
from lincae_formats.files import atomic_path

# Settings of the authors' generator that this network has fixed; with other values it is another network.
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
        elif key not in {*_FIXED, *_IGNORED, "layers_list", "layers_list_encoder", "attention_list_encoder"}:
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
    factor = scale if scale is not None else _scale(name) or _scale(known) or 1.0
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
    return next((n for n, p in PUBLISHED.items() if p.scale and f"{folder}/{path.name}" == p.files[0]), "")


def _scale(name: str) -> float | None:
    return PUBLISHED[name].scale if name in PUBLISHED else None


def _lincae_info(path: Path) -> ModelInfo | None:
    try:
        return read_info(path)
    except LincaeError:
        return None


_BLOCK = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
_ATTENTION = {"norm": "att.norm", "qkv": "att.mha.in_proj_", "output": "att.mha.out_proj"}


def convert(state: Mapping[str, Tensor], config: UnetConfig, source: str) -> dict[str, Tensor]:
    """The state dict of `UnetModel` from a published one.

    Args:
        state: names as in Music2Latent's network, with or without ``generator.`` before them; the Lin-CAE authors'
            ``frontend.window`` is not needed.
        config: shape of the network.
        source: the file, for messages.

    Raises:
        LincaeError: a name is missing or left over, or a tensor has another shape.
    """
    theirs = {k.removeprefix("generator."): v for k, v in state.items() if k != "frontend.window"}
    with torch.device("meta"):  # names and shapes alone
        ours = UnetModel(config).state_dict()
    names = dict(_names(config))
    missing = sorted(v for k, v in names.items() if k in ours and v not in theirs)
    surplus = sorted(theirs.keys() - set(names.values()))
    if missing or surplus:
        what = f"lacks {missing[0]}" if missing else f"has {surplus[0]}, which Music2Latent's network does not have"
        more = len(missing) + len(surplus) - 1
        raise LincaeError(f"{source}: not these weights: it {what}" + (f" (and {more} more)" if more else ""))
    out = {}
    for name, tensor in ours.items():
        given = theirs[names[name]]
        if not isinstance(given, Tensor) or not given.is_floating_point():
            raise LincaeError(f"{source}: {names[name]} is no tensor of floating-point numbers")
        turned = given.transpose(2, 3) if given.ndim == 4 and tensor.ndim == 4 else given  # [.., T, F] here
        if name == "encoder.frequency_gain":
            turned = turned.reshape(-1)
        if turned.shape != tensor.shape:
            raise LincaeError(
                f"{source}: {names[name]} has shape {list(given.shape)}, where this network has {list(tensor.shape)}",
                "weights of another configuration cannot be imported",
            )
        if not bool(torch.isfinite(given).all()):
            raise LincaeError(f"{source}: {names[name]} holds values that are not finite", "get the file again")
        out[name] = turned.detach().float().contiguous()
    return out


def _names(c: UnetConfig) -> Iterator[tuple[str, str]]:
    """Pairs of our parameters' names and the published ones."""
    levels = len(c.multipliers)
    yield from _layer("encoder.input", "encoder.conv_inp")
    yield "encoder.frequency_gain", "encoder.gain.scale"
    for i in range(levels):
        yield from _block(f"encoder.blocks.{i}", f"encoder.down_layers.{2 * i}")
        for part, name in (("conv", "c"), ("norm", "norm")):
            if i < levels - 1:
                yield from _layer(f"encoder.down.{i}.{part}", f"encoder.down_layers.{2 * i + 1}.{name}")
    yield from _layer("encoder.norm_image", "encoder.prenorm_1d_to_2d")
    yield from _layer("encoder.flatten", "encoder.bottleneck_layers.0")
    for i in range(c.bottleneck_blocks):
        yield from _block(f"encoder.bottleneck.{i}", f"encoder.bottleneck_layers.{i + 1}")
        yield from _block(f"decoder.bottleneck.{i}", f"decoder.bottleneck_layers.{i}")
    yield from _layer("encoder.norm_out", "encoder.norm_out")
    yield from _layer("encoder.output", "encoder.conv_out")
    yield from _layer("decoder.input", "decoder.conv_inp")
    yield from _layer("decoder.unflatten", "decoder.conv_out_bottleneck")
    for i in range(levels):  # theirs are counted from the lowest level up
        place = 2 * (levels - 1 - i)
        yield from _block(f"decoder.blocks.{i}", f"decoder.up_layers.{place}")
        if i:
            yield from _layer(f"decoder.up.{i - 1}.conv", f"decoder.up_layers.{place + 1}.c")
    for ours, theirs, count in (("level", "emb_proj", 2), ("scale_in", "scale_inp", 3), ("scale_out", "scale_out", 3)):
        for i in range(count):
            yield from _layer(f"denoiser.{ours}.{2 * i}", f"{theirs}.{2 * i}")
    yield from _layer("denoiser.input", "conv_inp")
    stride = 2 * c.blocks + 1  # a level is `blocks` pairs of 1x1 convolution and block, then its resampling
    for i in range(levels):
        for ours, theirs, level in (("descent", "down_layers", i), ("ascent", "up_layers", levels - 1 - i)):
            for k in range(c.blocks):
                at = level * stride + 2 * k
                yield from _layer(f"denoiser.{ours}.{i}.cross.{k}", f"{theirs}.{at}")
                yield from _block(f"denoiser.{ours}.{i}.blocks.{k}", f"{theirs}.{at + 1}")
        if i < levels - 1:
            yield from _layer(f"denoiser.down.{i}.conv", f"down_layers.{i * stride + stride - 1}.c")
            place = (levels - 2 - i) * stride + stride - 1
            yield from _layer(f"denoiser.up.{i}.conv", f"up_layers.{place}.c")
    yield from _layer("denoiser.cross_out", "conv_decoded")
    yield from _layer("denoiser.norm_out", "norm_out")
    yield from _layer("denoiser.output", "conv_out")


def _layer(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for kind in ("weight", "bias"):
        yield f"{ours}.{kind}", theirs + (kind if theirs.endswith("_") else f".{kind}")


def _block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    """A residual block with everything that one can have."""
    for mine, name in {**_BLOCK, "level": "proj_emb", "shortcut": "res_conv"}.items():
        yield from _layer(f"{ours}.{mine}", f"{theirs}.{name}")
    for mine, name in _ATTENTION.items():
        yield from _layer(f"{ours}.attention.{mine}", f"{theirs}.{name}")
