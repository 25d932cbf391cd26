"""`lincae train`: recipes by name, by file and from a pipe; what it says while it trains and at the end."""

import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from cli_helpers import ROOT, environment, lincae, ok, refused

SMOKE = (ROOT / "recipes" / "smoke.yaml").read_bytes()
SHORT = ["--set", "data.folders.0.path=music", "--set", "data.held_out=0", "--device", "cpu"]


@pytest.fixture
def folder(tmp_path):
    """A folder with music in it."""
    (tmp_path / "music").mkdir()
    for i in range(2):
        noise = 0.1 * np.random.default_rng(i).standard_normal(44100 * 8)
        sf.write(tmp_path / "music" / f"{i}.wav", noise, 44100)
    return tmp_path


def test_a_recipe_from_stdin_is_resolved_as_from_a_file_of_the_working_folder(folder):
    (folder / "smoke.yaml").write_bytes(SMOKE)
    wanted = ok("train", "smoke.yaml", "--dry-run", *SHORT, cwd=folder)
    assert str(folder / "music").encode() in wanted
    assert ok("train", "-", "--dry-run", *SHORT, cwd=folder, stdin=SMOKE) == wanted
    # What is printed is a recipe too, and the same one.
    assert ok("train", "-", "--dry-run", cwd="/", stdin=wanted) == wanted
    assert sorted(p.name for p in folder.iterdir()) == ["music", "smoke.yaml"]


@pytest.mark.slow
def test_it_trains_and_goes_on_where_it_stopped(folder):
    (folder / "smoke.yaml").write_bytes(SMOKE)
    steps = ["--set", "budget.steps=2"]
    piped = lincae("train", "-", "-o", "piped", *SHORT, *steps, cwd=folder, stdin=SMOKE)
    assert piped.returncode == 0, piped.stderr.decode()
    assert piped.stdout == b"piped/smoke.safetensors\n"
    named = lincae("train", "smoke.yaml", "-o", "named", *SHORT, *steps, cwd=folder)
    assert named.returncode == 0, named.stderr.decode()
    for file in ("smoke.safetensors", "recipe.yaml"):
        assert (folder / "piped" / file).read_bytes() == (folder / "named" / file).read_bytes()
    again = lincae("train", "-", "-o", "piped", *SHORT, *steps, cwd=folder, stdin=SMOKE)
    assert again.returncode == 0, again.stderr.decode()
    assert b"resumed at step 2" in again.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["music", "named", "piped", "smoke.yaml"]


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (b"", "<stdin>: a recipe is a mapping"),
        (b"\xff\xfe", "<stdin>: not text in UTF-8"),
        (SMOKE + b"colour: red\n", "<stdin>: "),
    ],
    ids=["nothing", "no text", "an unknown key"],
)
def test_a_wrong_recipe_from_stdin_is_one_line(folder, recipe, complaint):
    done = lincae("train", "-", cwd=folder, stdin=recipe)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert line.startswith(f"lincae: error: {complaint}")
    assert [p.name for p in folder.iterdir()] == ["music"]


@pytest.mark.slow
def test_a_recipe_from_an_endless_stream_is_refused(folder):
    program = [sys.executable, "-m", "lincae_cli", "train", "-"]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        done = subprocess.run(program, cwd=folder, env=environment(), stdin=yes.stdout, capture_output=True, timeout=60)
        yes.kill()
    assert done.returncode == 1
    assert b"<stdin>: more than 256 KiB" in done.stderr


def test_a_recipe_that_is_not_there_is_told(folder):
    assert "none.yaml: no such recipe" in refused(1, "train", "none.yaml", cwd=folder)


def test_a_recipe_by_name_trains_on_a_folder_of_the_working_folder(cli, folder):
    """`lincae train smoke --data music`, and the end says what was made and what to type next."""
    command = ["train", "smoke", "--data", "music", "--set", "budget.steps=2", "--set", "data.held_out=0"]
    code, out, err = cli.run(*command, "--device", "cpu")
    assert (code, out) == (0, "runs/smoke/smoke.safetensors\n"), err
    lines = err.splitlines()
    assert lines[0] == "lincae train: 0:16 of audio in 2 files; 0 files held out"
    progress = r"lincae train: 100\.0 %  step 2  loss \S+  \S+ s of audio per s  0:\d\d done, 0:00 left"
    assert re.fullmatch(progress, lines[-3])
    assert re.fullmatch(r"lincae train: smoke: 2 steps in 0:\d\d, loss \S+", lines[-2])
    assert lines[-1] == "lincae train: to use it: lincae encode FILE --model runs/smoke/smoke.safetensors"
    assert not any("{" in line for line in lines)
    assert "smoke: trained already" in cli.run(*command)[2]


def test_validation_is_told_in_words(cli, folder):
    for i in range(2, 8):
        shutil.copy(folder / "music" / "0.wav", folder / "music" / f"{i}.wav")
    code, _, err = cli.run("train", "smoke", "--data", "music", "--set", "budget.steps=1", "--device", "cpu")
    assert code == 0, err
    (line,) = [line for line in err.splitlines() if "validation" in line]
    assert re.fullmatch(r"lincae train: validation at step 1: recon \S+, sdr \S+, hom \S+, add .*", line)


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ("batch=3", "smoke: batch: unknown key; did you mean data.batch"),
        ("optimizer.lr=1", "optimizer: unknown key; did you mean optimiser"),
        ("optimiser.lr=1", "optimiser.lr: unknown key; known here: beta1, beta2, clip_norm, "),
        ("data.batch=none", "data.batch: must be a whole number, not 'none'"),
    ],
)
def test_a_wrong_setting_is_told_with_what_to_type(cli, setting, hint):
    assert hint in cli.refused(1, "train", "smoke", "--set", setting, "--dry-run")


def test_a_missing_gpu_is_told(cli):
    """`--device cuda:N` is a device, here one that is not there."""
    import torch

    number = torch.cuda.device_count() + 7
    line = cli.refused(1, "train", "smoke", "--device", f"cuda:{number}")
    assert "use --device" in line


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_pipe_in_the_folder_does_not_hang(folder, signal_name):
    os.mkfifo(folder / "music" / "x.wav")
    command = [sys.executable, "-m", "lincae_cli", "train", "smoke", "--data", "music", "--budget", "1h",
               "--set", "data.held_out=0",               "--device", "cpu"]  # fmt: skip
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        lines = []
        for line in running.stderr:
            lines.append(line)
            if " step " in line:
                running.send_signal(getattr(signal, signal_name))
                break
        lines += list(running.stderr)
        assert running.wait(60) == {"SIGTERM": 143, "SIGINT": 130}[signal_name]
    assert any("left out: 1 special file" in line for line in lines)
    assert any(line.startswith("lincae train: stopped at step ") for line in lines)
    assert (folder / "runs" / "smoke" / "checkpoint.safetensors").is_file()
