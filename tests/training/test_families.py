"""Both families through the one trainer, with and without the tricks, from fresh and from given weights."""

import csv
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lincae_core.models.families import build
from lincae_core.models.frame import FRAME
from lincae_core.models.registry import load, read_info
from lincae_core.models.weights import load_weights
from lincae_core.stream import decode_array, encode_array
from lincae_core.training.initial import start_from
from lincae_core.training.run import train
from lincae_formats.errors import LincaeError

TINY = {
    "family": "unet", "base_channels": 8, "multipliers": [1, 1, 1, 1, 1], "blocks": 1, "bottleneck_channels": 16,
    "bottleneck_blocks": 1, "condition_channels": 16, "heads": 2,
}  # fmt: skip


LINEAR = {
    "width": 32, "latent_width": 32, "denoiser_blocks": 1, "decoder_latent_blocks": 1, "linear_path": True,
    "encoder_network": False,
}  # fmt: skip


def run(audio, out, recipe, **sections):
    import yaml

    content = {
        "name": "tiny", "data": {"folders": [{"path": str(audio)}], "batch": 2, "held_out": 0}, "budget": {"steps": 4},
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
        {"mixtures": "latent", "gains": "latent", "sources": 3, "differences": 0.5, "agreement": 1.0},
        {"mixtures": "replace", "gains": "audio"},
    ],
    ids=["lin-cae", "more", "m2l"],
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


def test_unit_variance_latents(audio, tmp_path):
    info = read_info(run(audio, tmp_path, {"model": TINY}))
    assert info.config["latent_scale"] > 1


def test_starting_from_weights(audio, tmp_path):
    """At a learning rate of 0 training gives back what it started from."""
    frozen = {"learning_rate": 1e-30, "final_learning_rate": 0, "weight_decay": 0}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    small = {"width": 32, "latent_width": 32, "denoiser_blocks": 1}
    first = run(audio, tmp_path / "a", {"model": small})
    again = run(audio, tmp_path / "b", {"model": small, "initial": str(first), "seed": 5}, optimiser=frozen)
    before, after = load_file(first), load_file(again)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_a_larger_network_begins_as_the_one_it_grows_from(audio, tmp_path):
    """New blocks and new inputs add nothing at first: the same latents are decoded to the same audio."""
    source = run(audio, tmp_path, {"model": LINEAR, "linear_start": {"probes": 8}})
    grown = build("frame", {**LINEAR, "denoiser_blocks": 2, "decoder_latent_blocks": 3, "power_spans": [3, 9]}).eval()
    start_from(grown, str(source))
    before, _ = load_weights(source)
    z, noise = torch.randn(1, 12, 64), torch.randn(1, 96, FRAME)
    with torch.no_grad():
        was = before.denoise(noise, torch.tensor([1.0]), before.decoder(z))
        now = grown.denoise(noise, torch.tensor([1.0]), grown.decoder(z))
    assert torch.allclose(now, was, atol=1e-6)
    beside = build("frame", {**LINEAR, "encoder_network": True}).eval()
    start_from(beside, str(source))
    with torch.no_grad():
        assert torch.allclose(beside.encoder(noise), before.encoder(noise), atol=1e-6)
    with pytest.raises(LincaeError, match="another shape"):  # what is smaller cannot do what it did
        start_from(build("frame", {**LINEAR, "decoder_latent_blocks": 0}), str(source))


def test_new_probes_for_old_weights(audio, tmp_path):
    frozen = {"learning_rate": 1e-30, "final_learning_rate": 0, "weight_decay": 0}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    source = run(audio, tmp_path / "a", {"model": LINEAR, "linear_start": {"probes": 8}})
    start = {"probes": 8, "length": 2048, "places": 4, "renew_probes": True}
    again = run(
        audio, tmp_path / "b", {"model": LINEAR, "initial": str(source), "linear_start": start}, optimiser=frozen
    )
    before, after = load_file(source)["encoder.linear.weight"], load_file(again)["encoder.linear.weight"]
    assert torch.equal(before[:56], after[:56])
    assert not torch.allclose(before[56:], after[56:])


@pytest.mark.parametrize(("initial", "words"), [("frame", "another shape"), ("fram", "no model 'fram'")])
def test_weights_that_do_not_fit(audio, tmp_path, initial, words):
    with pytest.raises(LincaeError, match=words):
        run(audio, tmp_path, {"model": TINY, "initial": initial})


def test_a_gpu_may_get_another_batch(audio, tmp_path):
    from lincae_core.training.data import load_clips
    from lincae_core.training.loop import Trainer
    from lincae_core.training.recipe import Recipe

    clips, _ = load_clips([(audio, 1.0)], 0.1, 34304, 0)
    data = {"folders": [{"path": str(audio)}], "batch": 3, "batch_gpu": 40}
    trainer = Trainer(
        Recipe.model_validate({"name": "a", "data": data, "budget": {"steps": 1}, "model": TINY}), clips, tmp_path,
        torch.device("cpu"),
    )  # fmt: skip
    assert trainer.batch == 3
    trainer.device = torch.device("cuda")
    assert trainer.batch == 40
