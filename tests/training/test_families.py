"""The paper's network through the same trainer, with and without the tricks."""

import csv
import math

import numpy as np
import pytest
import torch

from lincae_core.models.codec import decode_array, encode_array
from lincae_core.models.store import load, read_info
from lincae_core.training.loop import train

TINY = {
    "family": "unet", "base_channels": 8, "multipliers": [1, 1, 1, 1, 1], "blocks": 1, "bottleneck_channels": 16,
    "bottleneck_blocks": 1, "condition_channels": 16, "heads": 2,
}  # fmt: skip


def run(audio, out, recipe, **sections):
    import yaml

    content = {
        "name": "tiny", "data": {"folders": [{"path": str(audio)}], "batch": 2, "held_out": 0}, "budget": {"steps": 3},
        "report": {"validate_times": 0}, **sections,
    }  # fmt: skip
    path = out / "tiny.yaml"
    path.write_text(yaml.safe_dump({**content, **recipe}))
    return train(path, out / "run", device="cpu")


def losses(out):
    with open(out / "run" / "metrics.csv") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "linearity",
    [
        {"mixtures": "latent", "gains": "latent"},
        {"mixtures": "replace", "gains": "audio"},
    ],
    ids=["lin-cae", "m2l"],
)
def test_a_small_unet_trains_and_works(audio, tmp_path, linearity):
    consistency = {"draw": "index", "step_exponent_start": 1, "step_exponent_end": 2}
    optimiser = {"name": "radam", "clip_norm": None}
    data = {"folders": [{"path": str(audio)}], "batch": 2, "held_out": 0, "loudness": "original"}
    path = run(audio, tmp_path, {"model": TINY, "linearity": linearity, "data": data}, consistency=consistency,
               optimiser=optimiser)  # fmt: skip
    assert all(math.isfinite(v) for v in losses(tmp_path))
    info = read_info(path)
    assert info.family == "unet"
    assert info.config["base_channels"] == 8
    model = load(path, "cpu")
    assert any(np.any(p.detach().numpy() != 0) for p in model.model.denoiser.output.parameters()), "it learned"
    x = np.random.default_rng(0).normal(0, 0.1, (1, 30_000)).astype(np.float32)
    z = encode_array(model, x)
    assert z.shape == (1, 64, 8)
    assert np.isfinite(decode_array(model, z, 30_000)).all()
    assert info.config["latent_scale"] > 1, "measured at the export, for latents of unit variance"


def test_a_gpu_may_get_another_batch(audio, tmp_path):
    from lincae_core.training.data import load_clips
    from lincae_core.training.loop import Processes, Trainer
    from lincae_core.training.recipe import Recipe

    clips, _ = load_clips([(audio, 1.0)], 0.1, 34304, 0)
    data = {"folders": [{"path": str(audio)}], "batch": 3, "batch_gpu": 40}
    trainer = Trainer(
        Recipe.model_validate({"name": "a", "data": data, "budget": {"steps": 1}, "model": TINY}), clips, tmp_path,
        Processes(torch.device("cpu")),
    )  # fmt: skip
    assert trainer.batch == 3
    trainer.device = torch.device("cuda")
    assert trainer.batch == 40
