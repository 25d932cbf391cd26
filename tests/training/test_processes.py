"""Several processes that train together do what one process does with the whole batch."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open

from lincae_core.models.store import build
from lincae_core.training.data import load_clips
from lincae_core.training.loop import Processes, Trainer, joined, step_for, train
from lincae_core.training.recipe import Recipe
from lincae_formats.errors import LincaeError

ROOT = Path(__file__).parents[2]
FOLDERS = os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {**os.environ, "PYTHONPATH": FOLDERS, "OMP_NUM_THREADS": "1"}
SMALL = {"family": "frame64", "latent_dim": 8, "width": 16, "latent_width": 16, "denoiser_blocks": 1}


def recipe(linearity=None, **data):
    return Recipe.model_validate(
        {
            "name": "a", "model": SMALL, "budget": {"steps": 1}, "linearity": linearity or {},
            "data": {"folders": [{"path": "/none"}], "crop_frames": 8, "batch": 6, **data},
        }
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize(
    ("mixtures", "gains"),
    [("latent", "latent"), ("latent", "audio"), ("audio", "audio"), ("audio", "latent"), ("replace", "audio"),
     ("none", "none")],
)  # fmt: skip
def test_the_parts_of_a_batch_have_the_loss_and_gradients_of_the_whole(mixtures, gains, count):
    chosen = recipe({"mixtures": mixtures, "gains": gains})
    torch.manual_seed(0)
    model, how = build(chosen.model.to_dict()), step_for(chosen)
    generator = torch.Generator().manual_seed(1)
    crops = 0.1 * torch.randn(6, how.crop_samples, generator=generator)
    draws = how.draw(model, crops, 0.3, generator)

    def gradients(loss):
        model.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten().double() for p in model.parameters()])

    whole = how.loss(model, crops, draws)[0]
    wanted = gradients(whole)
    parts = [how.loss(model, *how.share(crops, draws, rank, count))[0] for rank in range(count)]
    assert float(sum(parts).detach()) / count == pytest.approx(float(whole.detach()), rel=1e-4)
    found = sum(gradients(part) for part in parts) / count
    assert float((found - wanted).norm() / wanted.norm()) < 1e-4


def test_a_batch_that_cannot_be_shared_is_refused(audio, tmp_path):
    clips, _ = load_clips([(audio, 1.0)], 0.1, 9728, 0)
    with pytest.raises(LincaeError, match=r"batch of 6 cannot be shared by 4 processes; .*data\.batch=8"):
        Trainer(recipe(), clips, tmp_path, Processes(torch.device("cpu"), 1, 4))


def test_a_process_that_finds_no_others_is_told(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LincaeError, match=r"process 0 of 2 cannot join the others .*torchrun"), joined("cpu"):
        pass


def state(out):
    with safe_open(str(out / "checkpoint.safetensors"), "np") as file:
        return json.loads(file.metadata()["progress"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118


@pytest.fixture
def two(audio, tmp_path):
    """The smoke recipe for 40 steps, and torchrun with two processes of it."""
    content = yaml.safe_load((ROOT / "recipes" / "smoke.yaml").read_text())
    content["data"] |= {"folders": [{"path": str(audio)}], "held_out": 0}
    content |= {"budget": {"steps": 40}, "precision": "float32", "report": {"checkpoint_every": "0.01s"}}
    path = tmp_path / "smoke.yaml"
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m",
               "lincae_cli", "train", str(path), "--device", "cpu", "-o", str(tmp_path / "two")]  # fmt: skip
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:  # fmt: skip
        yield path, running
        running.terminate()


def same_weights(one, other):
    (ours, mine), (theirs, others) = state(one), state(other)
    assert ours["step"] == theirs["step"] == 40
    for key, value in mine.items():
        if key.startswith(("model/", "ema/")):
            difference = np.linalg.norm(value - others[key]) / max(np.linalg.norm(value), 1e-3)
            assert difference < 1e-5, key


@pytest.mark.slow
def test_two_processes_train_what_one_does(two, tmp_path):
    path, running = two
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert out == f"{tmp_path}/two/smoke.safetensors\n"
    assert err.count("lincae train: smoke: 40 steps") == 1
    train(path, tmp_path / "one", device="cpu")
    same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_one_process_resumes_what_two_began(two, tmp_path):
    path, running = two
    checkpoint, limit = tmp_path / "two" / "checkpoint.safetensors", time.monotonic() + 120
    while not checkpoint.exists() and running.poll() is None and time.monotonic() < limit:
        time.sleep(0.005)
    running.terminate()  # torchrun tells its processes
    running.communicate(timeout=120)
    assert 1 <= state(tmp_path / "two")[0]["step"] < 40, "stopped in the middle"
    for name in ("one", "two"):
        train(path, tmp_path / name, device="cpu")
    same_weights(tmp_path / "one", tmp_path / "two")


class Pair(Processes):
    """One of two processes that does both's work: the sums over both are known without the other."""

    def wrapped(self, loss):
        return loss

    def summed(self, values):
        *figures, seconds = values
        assert seconds == 0 or self.rank == 0, "the first one's clock counts for all"
        return [*(2 * figure for figure in figures), 0.5]


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_writes_and_its_clock_ends_all(audio, tmp_path, rank):
    clips, _ = load_clips([(audio, 1.0)], 0.1, 9 * 4096, 0)
    chosen = recipe()
    chosen = chosen.model_copy(update={"budget": type(chosen.budget).model_validate({"time": "2s"})})
    trainer = Trainer(chosen, clips, tmp_path, Pair(torch.device("cpu"), rank, 2))
    trainer.run([])
    assert (trainer.state.step, trainer.state.elapsed) == (4, 2.0)
    written = {"metrics.csv", "checkpoint.safetensors", "a.safetensors"}
    assert {path.name for path in tmp_path.iterdir()} == (written if rank == 0 else set())


@pytest.mark.slow
def test_two_processes_end_a_budget_of_time_together(two, tmp_path):
    _, running = two
    running.terminate()
    running.communicate(timeout=120)
    command = [*running.args[:-1], str(tmp_path / "timed"), "--budget", "3s"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path}/timed/smoke.safetensors\n"
    progress = state(tmp_path / "timed")[0]
    assert progress["elapsed"] >= 3
    assert progress["step"] >= 1
