"""Recipes: strict, with one line that says what to type instead."""

from pathlib import Path

import pytest
import yaml

from lincae_core.training.recipe import load_recipe, parse_duration
from lincae_core.training.run import resolve
from lincae_formats.errors import LincaeError

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PAPER = ("lin-cae", "lin-cae-2", "m2l")
GOOD = {"name": "a", "data": {"folders": [{"path": "audio"}]}, "budget": {"steps": 5}}


@pytest.fixture
def recipe(tmp_path):
    def write(content=None, **changes):
        path = tmp_path / "a.yaml"
        text = content if content is not None else yaml.safe_dump({**GOOD, **changes})
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
        return path

    return write


def refused(path, *words, overrides=None, budget=None):
    with pytest.raises(LincaeError) as caught:
        load_recipe(path, overrides, budget)
    text = str(caught.value)
    assert "\n" not in text
    for word in (path.name, *words):
        assert word in text


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_that_ship(path):
    loaded, text = resolve(path)
    assert loaded.name == path.stem
    assert yaml.safe_load(text)["model"]["family"] == ("unet" if path.stem in PAPER else "frame")
    assert all(f.path.is_absolute() for f in loaded.data.folders)


def test_there_are_all_recipes():
    assert {"frame", "frame-nonlinear", "smoke", *PAPER} <= {p.stem for p in RECIPES}


def test_the_papers_recipes_differ_as_the_papers_models_do():
    lin, lin2, m2l = (resolve(p)[0] for name in PAPER for p in RECIPES if p.stem == name)
    assert lin.linearity.shrink_gains
    assert not lin2.linearity.shrink_gains
    assert lin.linearity.model_copy(update={"shrink_gains": False}) == lin2.linearity
    assert (m2l.linearity.mixtures, m2l.linearity.gains, m2l.linearity.mixture_probability) == ("replace", "audio", 0.5)
    # the batch of 20 becomes 40 by its mixtures; the baseline has 40 at once
    assert (lin.data.batch, lin2.data.batch, m2l.data.batch) == (20, 20, 40)
    assert lin.model == lin2.model == m2l.model
    assert lin.optimiser == lin2.optimiser == m2l.optimiser
    assert lin.consistency == lin2.consistency == m2l.consistency.model_copy(update={"step_exponent_end": 2})
    assert m2l.consistency.step_exponent_end == 3


def test_the_ablation_differs_by_the_tricks_and_the_network_that_needs_them():
    frame, plain = (load_recipe(ROOT / "recipes" / f"{n}.yaml").model_dump() for n in ("frame", "frame-nonlinear"))
    assert {k for k in frame if frame[k] != plain[k]} == {"name", "model", "linearity"}
    assert {k for k, v in frame["model"].items() if plain["model"][k] != v} == {"encoder_network"}
    assert plain["model"]["encoder_network"], "without a network it would be linear whatever it learned from"
    assert (frame["linearity"]["mixtures"], frame["linearity"]["gains"]) == ("latent", "latent")
    assert (plain["linearity"]["mixtures"], plain["linearity"]["gains"]) == ("audio", "audio")


def test_resolved_recipe_is_a_recipe(recipe, tmp_path):
    loaded, text = resolve(recipe())
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert load_recipe(again) == loaded


def test_folders_lie_beside_the_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    loaded = load_recipe(recipe(data={"folders": [{"path": "x/../audio"}, {"path": "/abs"}]}))
    assert [f.path for f in loaded.data.folders] == [tmp_path / "audio", Path("/abs")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budgit": 3}, ["budgit", "`budget`"]),
        ({"model": {"widht": 64}}, ["model.widht", "`width`"]),
        ({"model": {"family": "unet", "base_chanels": 64}}, ["model.base_chanels", "`base_channels`"]),
        ({"optimiser": {"learning_rat": 1}}, ["optimiser.learning_rat", "`learning_rate`"]),
        ({"linearity": {"mixture": "latent"}}, ["linearity.mixture", "`mixtures`"]),
        ({"data": {"folders": [{"path": "a", "fractoin": 1}]}}, ["data.folders.0.fractoin", "`fraction`"]),
    ],
)
def test_unknown_key_names_its_neighbour(recipe, changes, words):
    refused(recipe(**changes), "unknown key", "did you mean", *words)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"model": {"width": "wide"}}, "model.width"),
        ({"model": {"width": 4}}, "model.width"),
        ({"model": {"kernel": 4}}, "odd"),
        ({"model": {"family": "wave"}}, "model.family"),
        ({"model": {"sigma_min": 30.0}}, "sigma_min"),
        ({"model": {"family": "unet", "width": 64}}, "model.width"),
        ({"model": {"family": "unet", "frequency_only": [True] * 4}}, "three times false"),
        ({"model": {"family": "unet", "attention": [True]}}, "5 of attention"),
        ({"model": {"family": "unet", "heads": 7}}, "heads"),
        ({"model": {"family": "unet", "multipliers": [0, 1, 1, 1, 1]}}, "multipliers"),
        ({"model": {"alpha": float("nan")}}, "model.alpha"),
        ({"model": []}, "model"),
        ({"model": None}, "model"),
        ({"data": {"folders": []}}, "data.folders"),
        ({"data": {"folders": ["audio"]}}, "data.folders.0"),
        ({"data": {"folders": [{"path": "a", "fraction": 0}]}}, "fraction"),
        ({"data": {"folders": [{"path": "a"}], "crop_frames": 12}}, "crop_frames"),
        ({"data": {"folders": [{"path": "a"}], "held_out": 1.0}}, "held_out"),
        ({"linearity": {"gains": "both"}}, "linearity.gains"),
        ({"linearity": {"differences": 0.5, "gains": "audio"}}, "differences"),
        ({"linearity": {"agreement": 1.0}}, "differences"),
        ({"linearity": {"sources": 1}}, "sources"),
        ({"linearity": {"gain_probability": 1.5}}, "gain_probability"),
        ({"optimiser": {"learning_rate": -1}}, "learning_rate"),
        ({"optimiser": {"name": "sgd"}}, "optimiser.name"),
        ({"budget": {}}, "budget"),
        ({"budget": {"steps": 0}}, "budget.steps"),
        ({"budget": {"steps": 5, "time": "5m"}}, "either"),
        ({"budget": {"time": "soon"}}, "no time"),
        ({"report": {"checkpoint_every": "often"}}, "no time"),
        ({"report": {"validation_files": 0}}, "validation_files"),
        ({"name": "../../etc"}, "name"),
        ({"seed": -1}, "seed"),
        ({1: 2}, "`1`"),
    ],
)
def test_wrong_values(recipe, changes, word):
    refused(recipe(yaml.safe_dump({**GOOD, **changes})), word)


@pytest.mark.parametrize("key", ["name", "data", "budget"])
def test_missing_sections(recipe, key):
    refused(recipe(yaml.safe_dump({k: v for k, v in GOOD.items() if k != key})), f"`{key}`")


@pytest.mark.parametrize("content", ["- a\n- b\n", "", "just text", "3"])
def test_no_mapping(recipe, content):
    refused(recipe(content), "a recipe is a mapping")


@pytest.mark.parametrize(
    "content",
    [
        "a: [1, 2",
        "a: b: c",
        "\t- x",
        "{[1]: 2}",
        "!!python/object/apply:os.system [ls]",
        b"\x80\xff\0",
        b"RIFF\0\0WAVE",
    ],
)
def test_no_yaml(recipe, content):
    refused(recipe(content), "not valid YAML")


def test_unreadable(tmp_path):
    refused(tmp_path / "none.yaml", "cannot read the recipe")
    refused(tmp_path, "cannot read the recipe")


def test_overrides(recipe):
    overrides = {
        "model.width": "64",
        "optimiser.learning_rate": "3e-4",
        "data.folders.0.path": "/other",
        "linearity.shrink_gains": "true",
        "name": "b",
        "budget.steps": "7",
    }
    loaded = load_recipe(recipe(), overrides)
    assert loaded.model.width == 64
    assert loaded.optimiser.learning_rate == 3e-4
    assert loaded.data.folders[0].path == Path("/other")
    assert loaded.linearity.shrink_gains is True
    assert (loaded.name, loaded.budget.steps) == ("b", 7)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("model.widht", "64", "`width`"),
        ("modle.width", "64", "`model`"),
        ("model.width", "wide", "model.width"),
        ("model.width", "[1", "not a YAML value"),
        ("data.folders.7.path", "x", "--set data.folders.7.path"),
        ("data.folders.x", "x", "--set data.folders.x"),
        ("name.x.y", "1", "--set name.x.y"),
        ("", "1", "unknown key"),
    ],
)
def test_wrong_overrides(recipe, key, value, word):
    refused(recipe(), word, overrides={key: value})


def test_budget_replaces_the_recipes(recipe):
    loaded = load_recipe(recipe(), budget="25m")
    assert (loaded.budget.seconds, loaded.budget.steps) == (1500, None)
    refused(recipe(), "no time", budget="a while")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("25m", 1500), ("1h30m", 5400), ("0.5h", 1800), (" 2m5s ", 125), ("1.5", 1.5)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-5m", "5d", "1m1h", "nan", "1e9", "5 m"])
def test_wrong_durations(text):
    with pytest.raises(ValueError, match="no time"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"consistency": {"share": 0}}, "nothing to learn"),
        ({"consistency": {"weight": 0}}, "nothing to learn"),
        ({"model": {"encoder_network": False}}, "linear_path or encoder_network"),
        ({"model": {"linear_path": True, "latent_dim": 8}}, "linear_start.probes must be fewer"),
        ({"linear_start": {"low": 9000, "high": 800}}, "linear_start.low must be below"),
        ({"augment": {"low_pas": 0.5}}, "did you mean `low_pass`"),
        ({"decoded": {"spectral": -1}}, "decoded.spectral"),
    ],
)
def test_parts_beyond_the_paper_are_checked_too(recipe, changes, words):
    refused(recipe(**changes), words)


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_on_and_off_mean_what_they_say(recipe, word):
    text = yaml.safe_dump(GOOD) + f"compile: {word}\n"
    assert load_recipe(recipe(text)).compile == word
    assert load_recipe(recipe(), {"compile": word}).compile == word
