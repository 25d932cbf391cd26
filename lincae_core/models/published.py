"""Weights as others published them: their names and layout, made ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from lincae_core.models.unet import UnetConfig, UnetModel
from lincae_formats.errors import LincaeError

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
