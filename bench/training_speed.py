"""Training steps of a recipe beside the machine's matrix-product peak: audio a second, FLOPs, share of the peak.

python bench/training_speed.py --recipe recipes/frame.yaml [--device cuda]
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lincae_core.models.device import choose_device
from lincae_core.models.frontend import HOP
from lincae_core.training.data import Clips
from lincae_core.training.loop import Trainer
from lincae_core.training.recipe import load_recipe

CLIPS, CLIP_SECONDS = 20, 20


def main() -> None:
    """Measures and writes training_speed.json."""
    options = common.parser(__doc__)
    options.add_argument("--recipe", type=Path, default=common.ROOT / "recipes" / "frame.yaml")
    options.add_argument("--steps", type=int, default=12, help="steps that count")
    options.add_argument("--device", default="auto")
    options.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    options.add_argument("--batch", type=int, help="in place of the recipe's")
    a = options.parse_args()
    if a.quick:
        a.steps = 2
    device = choose_device(a.device)
    figures: common.Figures = {
        "recipe": a.recipe.name, "device": device.type, "threads": torch.get_num_threads(),
        "peak_gflop_s": {p: peak(device, p) for p in a.precisions}, "rows": [],
    }  # fmt: skip
    for precision in a.precisions:
        print(precision, file=sys.stderr)
        figures["rows"].append(measure(a.recipe, precision, a.steps, device, a.batch, figures["peak_gflop_s"]))
    common.save("training_speed", figures, a.results)


def measure(
    recipe: Path, precision: str, steps: int, device: torch.device, batch: int | None, peaks: dict[str, float]
) -> common.Figures:
    """Steps of a fresh training on noise."""
    overrides = {"precision": precision, "report.validate_times": "0"}
    if batch is not None:
        overrides |= {"data.batch": str(batch), "data.batch_gpu": str(batch)}
    resolved = load_recipe(recipe, overrides)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(resolved, noise(), Path(folder), device)
        with FlopCounterMode(display=False) as counter:
            trainer.step()
        gflop = counter.get_total_flops() / 1e9
        for _ in range(2):
            trainer.step()
        began = time.perf_counter()
        for _ in range(steps):
            trainer.step()
        spent = (time.perf_counter() - began) / steps
    seconds = trainer.batch * resolved.data.crop_frames * HOP / common.SAMPLE_RATE
    rate = gflop / spent
    return {
        "precision": precision, "batch": trainer.batch, "crop_frames": resolved.data.crop_frames,
        "s_per_step": round(spent, 4), "gflop_per_step": round(gflop, 1), "audio_s_per_s": round(seconds / spent, 2),
        "gflop_s": round(rate, 1), "share_of_peak": round(rate / peaks[precision], 3),
    }  # fmt: skip


def peak(device: torch.device, precision: str) -> float:
    """GFLOP/s of a product of two 2048 x 2048 matrices: the best of ten."""
    a, b = (torch.randn(2048, 2048, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    best = float("inf")
    for _ in range(12):
        began = time.perf_counter()
        torch.nn.functional.linear(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return round(2 * 2048**3 / best / 1e9, 1)


def noise() -> Clips:
    """Generated clips, at the loudness that training audio is brought to."""
    n = CLIP_SECONDS * common.SAMPLE_RATE
    audio = np.random.default_rng(0).normal(0, 6000, CLIPS * n).clip(-32768, 32767).astype(np.int16)
    start = torch.arange(CLIPS) * n
    gain = torch.full((CLIPS,), 0.1 / 6000)
    return Clips(torch.from_numpy(audio), start, torch.full((CLIPS,), n), gain, torch.ones(CLIPS), ("noise",) * CLIPS)


if __name__ == "__main__":
    main()
