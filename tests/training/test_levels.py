"""The `frame` model through the trainer: its own step, its own sections."""

import csv
import math

import pytest
import torch
import yaml

from lincae_core.models.store import load_weights
from lincae_core.training.levels import on_grid
from lincae_core.training.loop import step_for, train
from lincae_core.training.method import LinCaeStep
from lincae_core.training.recipe import Recipe, as_yaml, load_recipe
from lincae_formats.errors import LincaeError


def recipe(audio, **sections):
    return {
        "name": "small", "model": {"family": "frame"}, "budget": {"steps": 1},
        "data": {"folders": [{"path": str(audio)}], "batch": 1, "held_out": 0}, **sections,
    }  # fmt: skip


@pytest.mark.slow
def test_it_trains_and_exports(audio, tmp_path):
    chosen = Recipe.model_validate(recipe(audio))
    assert not isinstance(step_for(chosen), LinCaeStep)
    weights = train(chosen, tmp_path, device="cpu")
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"plain_db", "sum_db", "difference_db", "exact_db"} <= rows[0].keys()
    assert all(math.isfinite(float(v)) for row in rows for v in row.values())
    model, info = load_weights(weights)
    assert (model.config.family, info["name"]) == ("frame", "small")


def test_sections_of_other_families_are_refused_and_left_out(audio, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(recipe(audio, linearity={"gains": "audio"})))
    with pytest.raises(LincaeError, match="linearity: is not used for models of the family frame; leave it out"):
        load_recipe(path)
    path.write_text(yaml.safe_dump(recipe(audio)))
    text = as_yaml(load_recipe(path))
    assert not {"linearity", "consistency"} & yaml.safe_load(text).keys()
    path.write_text(text)
    assert as_yaml(load_recipe(path)) == text


def test_steps_lie_on_their_grid():
    steps = on_grid(torch.tensor([0.0, 1.0, 1.1, 1.3, 5.0]), torch.tensor(2.0))
    assert steps.tolist() == pytest.approx([0, 1, 1, 2**0.5, 2**2.5])
