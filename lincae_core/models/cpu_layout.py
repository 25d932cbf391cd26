"""How images ``[B, C, T, F]`` lie in memory and are convolved: the quickest way of each device, with one result.

While a CPU infers, every channel is a plane of its own. Convolutions of kernel 3x3 then go through NNPACK: its
Winograd transform (arXiv 1509.09308) multiplies 5 times less than the direct way, and differs from it by 1e-5 of the
largest value. Everywhere else channels lie innermost (channels last), which suits GPUs and training. What no gradient
needs is overwritten, for a process pays for fresh memory page by page.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_POINTS = 1024  # points of a plane below which transforming the weights costs more than it saves


@cache
def _nnpack() -> bool:
    return bool(torch._nnpack_available())


def planar(x: Tensor) -> bool:
    """Whether this is inference in float32 on a CPU, by a PyTorch that has NNPACK."""
    return _inference(x) and _nnpack()


def _inference(x: Tensor) -> bool:
    cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return cpu and torch.is_inference_mode_enabled()


def with_mlp(x: Tensor, h: Tensor, up: nn.Linear, down: nn.Linear) -> Tensor:
    """``x + down(gelu(up(h)))``; on a CPU in two calls of oneDNN, which apply what follows a product at once."""
    if not (_inference(x) and torch.backends.mkldnn.is_available()):
        return x + down(F.gelu(up(h), approximate="tanh"))
    linear = torch.ops.mkldnn._linear_pointwise
    out: Tensor = linear.binary(linear(h, up.weight, up.bias, "gelu", [], "tanh"), x, down.weight, down.bias, "add")
    return out


def laid_out(x: Tensor) -> Tensor:
    """The image in the memory format that suits."""
    return x.contiguous(memory_format=torch.contiguous_format if planar(x) else torch.channels_last)


def added(x: Tensor, y: Tensor) -> Tensor:
    """``x + y``; ``x`` must be the caller's own, for it is overwritten where no gradient is wanted."""
    return x + y if _kept(x, y) else x.add_(y)


def scaled(x: Tensor, y: Tensor | float) -> Tensor:
    """``x * y``; ``x`` must be the caller's own, for it is overwritten where no gradient is wanted."""
    return x * y if _kept(x, y) else x.mul_(y)


def activated(norm: nn.Module, x: Tensor) -> Tensor:
    """``SiLU(norm(x))``."""
    return F.silu(norm(x), inplace=not torch.is_grad_enabled())


def convolved(conv: nn.Conv1d | nn.Conv2d, x: Tensor, shift: Tensor | None = None) -> Tensor:
    """A convolution of stride 1 that keeps the size, of images or sequences, plus ``shift`` [B, C] everywhere."""
    if x.ndim == 4 and x[0, 0].numel() >= FEW_POINTS and planar(x):
        shifts = _bias(conv).expand(len(x), -1) if shift is None else _bias(conv) + shift
        # one image at a time: of several at once, NNPACK computes another, much slower way
        parts = [
            torch._nnpack_spatial_convolution(image, conv.weight, bias, [n // 2 for n in conv.kernel_size])
            for image, bias in zip(x.split(1), shifts, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)
    h = conv(x)
    return h if shift is None else added(h, shift.view(*shift.shape, *[1] * (x.ndim - 2)))


def mixed(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of kernel 1, of images or sequences."""
    if not isinstance(conv, nn.Conv2d) or not planar(x):
        return conv(x)
    weight = conv.weight[:, :, 0, 0].expand(x.shape[2], -1, -1)  # [T, C', C]
    out = x.new_empty(len(x), conv.out_channels, *x.shape[2:])
    for image, result in zip(x, out, strict=True):  # the channels of one time after the other: pieces that fit a cache
        torch.bmm(weight, image.transpose(0, 1), out=result.transpose(0, 1))
    return out.add_(_bias(conv)[:, None, None])


def quadrupled(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Nearest neighbours, four frequencies for one, then a convolution of kernel (1, 5): ``[B, C', T, 4 F]``.

    The four outputs between the middles of two neighbours depend on those two alone, so a convolution of kernel 2 gives
    them, with 2/5 of the multiplications and no repeated inputs.
    """
    taps = conv.weight
    sides = [torch.stack([part.sum(-1) for part in taps.split([4 - i, 1 + i], -1)], -1) for i in range(4)]
    kernel = torch.cat(sides).contiguous(memory_format=torch.channels_last)  # [4 C', C, 1, 2]
    between = F.conv2d(x, kernel, _bias(conv).repeat(4), padding=(0, 1)).unflatten(1, (4, -1))  # [B, 4, C', T, F + 1]
    return between.permute(0, 2, 3, 4, 1).flatten(3)[..., 2:-2]


def _bias(conv: nn.Conv1d | nn.Conv2d) -> Tensor:
    return conv.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias


def _kept(x: Tensor, y: Tensor | float) -> bool:
    """Whether ``x`` must stay as it is: autograd may need it, or it cannot hold the result."""
    return torch.is_grad_enabled() or torch.result_type(x, y) != x.dtype
