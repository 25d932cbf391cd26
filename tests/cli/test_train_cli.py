"""`lincae train -`: a recipe from a pipe is the same recipe."""

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


def test_it_trains_and_goes_on_where_it_stopped(folder):
    (folder / "smoke.yaml").write_bytes(SMOKE)
    steps = ["--set", "budget.steps=2"]
    piped = lincae("train", "-", "--out", "piped", *SHORT, *steps, cwd=folder, stdin=SMOKE)
    assert piped.returncode == 0, piped.stderr.decode()
    assert piped.stdout == b"piped/smoke.safetensors\n"
    named = lincae("train", "smoke.yaml", "--out", "named", *SHORT, *steps, cwd=folder)
    assert named.returncode == 0, named.stderr.decode()
    for file in ("smoke.safetensors", "recipe.yaml"):
        assert (folder / "piped" / file).read_bytes() == (folder / "named" / file).read_bytes()
    again = lincae("train", "-", "--out", "piped", *SHORT, *steps, cwd=folder, stdin=SMOKE)
    assert again.returncode == 0, again.stderr.decode()
    assert b"goes on from step 2" in again.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["music", "named", "piped", "smoke.yaml"]


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (b"", "<stdin>: a recipe is a mapping"),
        (b"name: [", "<stdin>: not valid YAML"),
        (b"\xff\xfe", "<stdin>: not valid YAML"),
        (SMOKE + b"colour: red\n", "<stdin>: "),
        (b"x" * (3 << 20), "<stdin>: a recipe of more than"),
    ],
    ids=["nothing", "no YAML", "no text", "an unknown key", "3 MB"],
)
def test_a_wrong_recipe_from_stdin_is_one_line(folder, recipe, complaint):
    done = lincae("train", "-", cwd=folder, stdin=recipe)
    (line,) = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert line.startswith(f"lincae: error: {complaint}")
    assert ".lincae-recipe" not in line
    assert [p.name for p in folder.iterdir()] == ["music"]


def test_a_recipe_from_an_endless_stream_is_refused(folder):
    program = [sys.executable, "-m", "lincae_cli", "train", "-"]
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes:
        done = subprocess.run(program, cwd=folder, env=environment(), stdin=yes.stdout, capture_output=True, timeout=60)
        yes.kill()
    assert done.returncode == 1
    assert b"<stdin>: a recipe of more than" in done.stderr


def test_a_recipe_that_is_not_there_is_told(folder):
    assert "none.yaml: no such recipe" in refused(1, "train", "none.yaml", cwd=folder)
