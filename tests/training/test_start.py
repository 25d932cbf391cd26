"""Whole trainings of the smallest recipe, unbroken, killed and resumed."""

import csv
import json
import math
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
import yaml
from safetensors import safe_open

from lincae_core.models.store import load
from lincae_core.training.data import load_clips
from lincae_core.training.loop import Processes, Trainer, drop_rows_after, learning_rate, locked, train
from lincae_core.training.recipe import load_recipe
from lincae_formats.errors import LincaeError

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "recipes" / "smoke.yaml"
FILES = {".lock", "recipe.yaml", "metrics.csv", "checkpoint.safetensors", "smoke.safetensors"}


def overrides(audio, **more):
    return {"data.folders.0.path": str(audio), **{k.replace("__", "."): str(v) for k, v in more.items()}}


def short(audio, steps=4, **more):
    return overrides(audio, budget__steps=steps, data__held_out=0, **more)


def rows(path):
    with open(path, newline="") as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def smoke(audio, tmp_path_factory):
    """The smoke recipe run to its end, and what it reported."""
    out, reports = tmp_path_factory.mktemp("smoke") / "run", []
    began, worked = time.monotonic(), time.process_time()
    weights = train(
        SMOKE,
        out,
        overrides=overrides(audio),
        device="cpu",
        report=lambda done, figures: reports.append((done, figures)),
    )
    # the time worked, not the wall clock: a busy machine must not fail the test
    assert time.process_time() - worked < 2 * 60, "a minute on 2 cores"
    return out, weights, reports, time.monotonic() - began


def test_everything_is_written(smoke):
    out, weights, reports, _ = smoke
    assert weights == out / "smoke.safetensors"
    assert {p.name for p in out.iterdir()} == FILES | {"validation.csv", "validation.png", "samples"}
    assert reports[-1][0] == 1
    assert reports[-1][1]["step"] == 30


def test_metrics(smoke):
    out, _, _, elapsed = smoke
    metrics = rows(out / "metrics.csv")
    assert all(math.isfinite(v) for row in metrics for v in row.values())
    assert all(row["loss"] > 0 and row["gradient_norm"] > 0 for row in metrics)
    assert [row["step"] for row in metrics] == sorted({row["step"] for row in metrics})
    assert metrics[-1]["progress"] == 1
    assert 0 < metrics[-1]["elapsed_s"] < elapsed


def test_validation(smoke):
    out = smoke[0]
    scores = rows(out / "validation.csv")
    assert scores[-1]["step"] == 30
    assert set(scores[0]) == {"step", "progress", "recon", "sdr", "hom", "add", "sep", "enc_hom", "enc_add"}
    assert all(math.isfinite(v) for row in scores for v in row.values())
    for name in ("0_original", "0_decoded", "0_sum", "0_separated"):
        x, rate = sf.read(out / "samples" / f"{name}.wav")
        assert (len(x), rate) == (2 * 44100, 44100)
        assert x.any()
    png = (out / "validation.png").read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    assert width >= 600
    assert height >= 300
    assert png.endswith(b"IEND\xaeB`\x82")


def test_weights_are_a_model(smoke):
    from lincae_core.models.codec import encode_array

    model = load(smoke[1], "cpu")
    assert (model.name, model.latent_dim) == ("smoke", 16)
    z = encode_array(model, np.random.default_rng(0).standard_normal((1, 44100)).astype(np.float32))
    assert z.shape == (1, 16, 11)
    assert np.isfinite(z).all()
    assert model.latent_scale != 1


def test_resolved_recipe_is_kept(smoke, audio):
    kept = yaml.safe_load((smoke[0] / "recipe.yaml").read_text())
    assert kept["data"]["folders"][0]["path"] == str(audio)
    assert kept["consistency"]["log_sigma_std"] == 2.0


@pytest.fixture(scope="module")
def four_steps(audio, tmp_path_factory):
    """The folder of a training of four steps."""
    return train(SMOKE, tmp_path_factory.mktemp("four") / "run", overrides=short(audio), device="cpu").parent


@pytest.fixture
def trained(four_steps, tmp_path):
    """A copy of that folder, to spoil."""
    return Path(shutil.copytree(four_steps, tmp_path / "run"))


def test_rerun_of_a_finished_training_gives_the_same_weights(audio, tmp_path, trained):
    first = (trained / "smoke.safetensors").read_bytes()
    assert train(SMOKE, trained, overrides=short(audio), device="cpu").read_bytes() == first
    elsewhere = train(SMOKE, tmp_path / "b", overrides=short(audio), device="cpu").read_bytes()
    assert elsewhere == first
    assert train(SMOKE, tmp_path / "c", overrides=short(audio, seed=1), device="cpu").read_bytes() != first
    assert {p.name for p in (tmp_path / "b").iterdir()} == FILES


@pytest.mark.parametrize(
    ("mixtures", "gains"), [("audio", "audio"), ("none", "none"), ("latent", "audio"), ("audio", "latent")]
)
def test_the_tricks_can_be_left_out(audio, tmp_path, mixtures, gains):
    changes = short(audio, linearity__mixtures=mixtures, linearity__gains=gains, optimiser__name="radam")
    train(SMOKE, tmp_path, overrides=changes, device="cpu")
    assert math.isfinite(rows(tmp_path / "metrics.csv")[-1]["loss"])


def test_wall_clock_budget_ends_on_time(audio, tmp_path):
    changes = overrides(audio, data__held_out=0)
    path = train(SMOKE, tmp_path, overrides=changes, budget="2s", device="cpu")
    last = rows(tmp_path / "metrics.csv")[-1]
    assert last["progress"] == 1
    assert 2 <= last["elapsed_s"] < 8
    # the last step began after the row before it, which on a slow machine is long before the end
    before = max(rows(tmp_path / "metrics.csv")[-2]["progress"], 0.1)
    assert last["learning_rate"] <= 1.01 * learning_rate(before, 1e-3, 1e-6, 0.1), "annealed"
    assert load(path, "cpu").name == "smoke"


def refused(out, audio, *words, **more):
    with pytest.raises(LincaeError) as caught:
        train(SMOKE, out, overrides=short(audio, **more), device="cpu")
    text = str(caught.value)
    assert "\n" not in text
    for word in ("checkpoint.safetensors", "--no-resume", *words):
        assert word in text


def test_checkpoint_of_another_recipe(audio, trained):
    kept = (trained / "checkpoint.safetensors").read_bytes()
    refused(trained, audio, "another recipe", optimiser__learning_rate=2e-3)
    refused(trained, audio, "another recipe", model__width=40)
    assert (trained / "checkpoint.safetensors").read_bytes() == kept
    train(SMOKE, trained, overrides=short(audio, report__validation_files=3), device="cpu")  # changes no weights


@pytest.mark.parametrize("keep", [0, 7, 0.5, -1])
def test_truncated_checkpoint(audio, trained, keep):
    fresh = (trained / "smoke.safetensors").read_bytes()
    path = trained / "checkpoint.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else keep])
    refused(trained, audio, "damaged")
    if keep == 0.5:
        again = train(SMOKE, trained, resume=False, overrides=short(audio), device="cpu")
        assert again.read_bytes() == fresh
        assert rows(trained / "metrics.csv")[0]["step"] <= 4
        assert len({row["step"] for row in rows(trained / "metrics.csv")}) == len(rows(trained / "metrics.csv"))


def test_not_resuming_starts_anew(audio, tmp_path, trained):
    changes = short(audio, 6, seed=5)
    anew = train(SMOKE, trained, resume=False, overrides=changes, device="cpu").read_bytes()
    assert anew == train(SMOKE, tmp_path / "b", overrides=changes, device="cpu").read_bytes()
    assert rows(trained / "metrics.csv")[-1]["step"] == 6


CHILD = """
import sys
from pathlib import Path
from lincae_core.training.loop import train
overrides = dict(a.split("=", 1) for a in sys.argv[3:])
train(Path(sys.argv[1]), Path(sys.argv[2]), overrides=overrides, device="cpu")
"""


def child(out, changes):
    path = os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    arguments = [f"{k}={v}" for k, v in changes.items()]
    return subprocess.Popen([sys.executable, "-c", CHILD, str(SMOKE), str(out), *arguments], env=environment)


def state(folder):
    """Step and tensors of the checkpoint in a folder; step 0 where there is none."""
    try:
        with safe_open(str(folder / "checkpoint.safetensors"), "np") as file:
            step = json.loads(file.metadata()["progress"])["step"]
            return step, {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        return 0, {}


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_gives_the_weights_of_an_unbroken_run(audio, tmp_path):
    steps = 100
    changes = short(audio, steps, report__checkpoint_every="0.05s")
    unbroken = child(tmp_path / "a", changes)
    out = tmp_path / "b"
    killed = child(out, changes)
    moments = random.Random(0)
    limit, enough = time.monotonic() + 120, moments.randrange(1, 50)
    while state(out)[0] < enough:
        assert killed.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.1))
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, "it had ended before"
    assert not (out / "smoke.safetensors").exists()
    resumed = child(out, changes)
    assert resumed.wait(120) == 0
    assert unbroken.wait(120) == 0
    assert (out / "smoke.safetensors").read_bytes() == (tmp_path / "a" / "smoke.safetensors").read_bytes()
    (step, tensors), (other_step, others) = state(tmp_path / "a"), state(out)
    assert step == other_step == steps
    assert tensors.keys() == others.keys()
    assert all(np.array_equal(v, others[k]) for k, v in tensors.items())


@pytest.fixture
def trainer(audio, tmp_path):
    recipe = load_recipe(SMOKE, short(audio, 20))
    clips, _ = load_clips([(f.path, f.fraction) for f in recipe.data.folders], 0.1, 9728, 0.0)
    return lambda: Trainer(recipe, clips, tmp_path, Processes(torch.device("cpu")))


def test_checkpoint_restores_everything(trainer):
    first, second = trainer(), trainer()
    for _ in range(5):
        first.step()
    first.state.elapsed = 12.5
    first.save()
    for _ in range(3):
        second.step()
    second.resume()
    assert second.state == first.state
    assert second.state.step == 5
    model = second.model.state_dict()
    assert all(torch.equal(v, model[k]) for k, v in first.model.state_dict().items())
    assert all(torch.equal(v, second.ema[k]) for k, v in first.ema.items())
    for one, other in zip(first.model.parameters(), second.model.parameters(), strict=True):
        ours, theirs = first.optimiser.state[one], second.optimiser.state[other]
        assert ours.keys() == theirs.keys() >= {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert first.step() == second.step()


def test_rows_after_the_checkpoint_and_torn_rows_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n10,1.0\n20,0.9\n30,0.8\n4")
    drop_rows_after(path, 20)
    assert path.read_text() == "step,loss\n10,1.0\n20,0.9\n"


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_where_torch_cannot_compile_training_goes_on_without(audio, tmp_path, four_steps, monkeypatch, caplog, where):
    from torch._dynamo.exc import TorchDynamoException

    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            raise TorchDynamoException("no compiler\nmany lines")

    def compiled(function):
        def run(*batch):
            if where == "forward":
                raise TorchDynamoException("no compiler\nmany lines")
            loss, figures = function(*batch)
            return Broken.apply(loss), figures

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    weights = train(SMOKE, tmp_path / "compiled", overrides=short(audio, compile="on"), device="cpu")
    messages = [r.getMessage() for r in caplog.records if "compile" in r.message]
    assert messages == ["torch.compile failed, training goes on without it: no compiler"]
    assert weights.read_bytes() == (four_steps / "smoke.safetensors").read_bytes()


def test_two_trainings_do_not_share_a_folder(audio, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with locked(out), pytest.raises(LincaeError, match="another training writes there"):
        train(SMOKE, out, overrides=short(audio), device="cpu")
    assert [p.name for p in out.iterdir()] == [".lock"]
    assert train(SMOKE, out, overrides=short(audio), device="cpu").is_file()
