"""Several processes that train together, one for each GPU, started by torchrun."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from lincae_core.models.store import choose_device
from lincae_formats.errors import LincaeError

PATIENCE = timedelta(hours=2)  # how long the others wait for the first, which alone validates


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Args:
        device: where this one computes.
        rank: its number, from 0. The first writes all files.
        count: how many there are.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    def wrapped(self, loss: nn.Module) -> Any:
        """A module whose backward pass averages the gradients of all processes."""
        if self.count == 1:
            return loss
        devices = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(loss, device_ids=devices, broadcast_buffers=False)

    def summed(self, values: list[float]) -> list[float]:
        """The sum over all processes of each value; waits for the others."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(total)
        return list(total.tolist())


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone.

    Args:
        device: auto, cpu, cuda or cuda:N; with several processes each takes the GPU of its number on its machine.

    Raises:
        LincaeError: no such device, or the processes do not find each other.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if count > 1 and device == "auto" and torch.cuda.is_available():
        device = "cuda"
    if count > 1 and device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', rank)}"
    where = choose_device(device)
    if count == 1:
        yield Processes(where)
        return
    if where.type == "cuda":
        torch.cuda.set_device(where)
    try:
        torch.distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as e:
        reason = str(e).partition("\n")[0][:200]
        raise LincaeError(
            f"process {rank} of {count} cannot join the others ({reason})",
            "start them together: torchrun --nproc-per-node N -m lincae_cli train RECIPE",
        ) from None
    try:
        yield Processes(where, rank, count)
    finally:
        torch.distributed.destroy_process_group()
