"""Recipes: strict, with one line that says what to type instead."""

from pathlib import Path

import pytest
import yaml

from lincae_core.training.recipe import PACKAGE, as_yaml, load_recipe, parse_duration, parse_recipe, shipped_recipes
from lincae_formats.errors import LincaeError

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
PAPER = ("lin-cae", "m2l")
GOOD = {
    "name": "a", "model": {"family": "frame64"}, "data": {"folders": [{"path": "audio"}]}, "budget": {"steps": 5},
}  # fmt: skip


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
    loaded = load_recipe(path)
    assert loaded.name == path.stem
    assert all(f.path.is_absolute() for f in loaded.data.folders)


def test_there_are_all_recipes():
    assert {"frame-64", "frame-64-baseline", "lin-cae-small", "smoke", *PAPER} <= {p.stem for p in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_are_found_by_name(path, monkeypatch, tmp_path):
    """Relative folders of a recipe given by name belong to the working folder: its own may be inside site-packages."""
    monkeypatch.chdir(tmp_path)
    named, by_path = load_recipe(path.stem), load_recipe(path)
    assert named.model_copy(update={"data": by_path.data}) == by_path
    relative = [f["path"] for f in yaml.safe_load(path.read_text())["data"]["folders"] if ":" not in f["path"]]
    assert [f.path for f in named.data.folders if f.path.is_relative_to(tmp_path)] == [tmp_path / p for p in relative]


def test_a_file_of_that_name_comes_before_a_recipe_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smoke").write_text(yaml.safe_dump(GOOD))
    assert load_recipe("smoke").name == "a"


def test_the_smoke_recipe_trains_on_audio_that_comes_with_the_package():
    (folder,) = load_recipe("smoke").data.folders
    assert folder.path.is_relative_to(PACKAGE)
    assert len(list(folder.path.glob("*"))) >= 4


def test_recipes_are_found_in_the_installed_package_too(tmp_path, monkeypatch):
    """The wheel holds them inside lincae_core, a checkout beside it."""
    import lincae_core.training.recipe as module

    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(yaml.safe_dump(GOOD))
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    assert list(shipped_recipes()) == ["mine"]
    assert load_recipe("mine").name == "a"


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(LincaeError, match=r"fram-64: no such recipe; did you mean: lincae train frame-64$"):
        load_recipe("fram-64")
    with pytest.raises(LincaeError, match=r"xyz.yaml: no such recipe; recipes by name: .*frame-64, "):
        load_recipe("xyz.yaml")


def test_the_papers_recipes_differ_as_the_papers_models_do():
    lin, m2l = (load_recipe(name) for name in PAPER)
    assert lin.linearity.shrink_gains
    assert (lin.linearity.mixtures, lin.linearity.gains) == ("latent", "latent")
    assert (m2l.linearity.mixtures, m2l.linearity.gains, m2l.linearity.mixture_probability) == ("replace", "audio", 0.5)
    # the batch of 20 becomes 40 by its mixtures; the baseline has 40 at once
    assert (lin.data.batch, m2l.data.batch) == (20, 40)
    assert lin.model == m2l.model
    assert lin.optimiser == m2l.optimiser
    assert lin.consistency == m2l.consistency.model_copy(update={"step_exponent_end": 2})
    assert m2l.consistency.step_exponent_end == 3


def test_lin_cae_2_is_one_setting_away():
    """As the comment in lin-cae.yaml says."""
    settings = {"name": "lin-cae-2", "linearity.shrink_gains": "false"}
    assert all(f"--set {k}={v}" in (ROOT / "recipes" / "lin-cae.yaml").read_text() for k, v in settings.items())
    assert not load_recipe("lin-cae", settings).linearity.shrink_gains


def test_frame_64_and_its_baseline_differ_in_the_tricks_alone():
    ours, baseline = (load_recipe(n).model_dump() for n in ("frame-64", "frame-64-baseline"))
    assert {k for k in ours if ours[k] != baseline[k]} == {"name", "linearity"}
    assert {k for k, v in ours["linearity"].items() if baseline["linearity"][k] != v} == {"mixtures", "gains"}
    assert (ours["linearity"]["mixtures"], ours["linearity"]["gains"]) == ("latent", "latent")
    assert (baseline["linearity"]["mixtures"], baseline["linearity"]["gains"]) == ("audio", "audio")
    assert not ours["model"]["gain_equivariant"], "it would hide what the second trick does"
    assert ours["model"]["latent_dim"] == 64


def test_resolved_recipe_is_a_recipe(recipe, tmp_path):
    loaded = load_recipe(recipe())
    again = tmp_path / "again.yaml"
    again.write_text(as_yaml(loaded))
    assert load_recipe(again) == loaded


def test_folders_lie_beside_the_recipe(recipe, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    loaded = load_recipe(recipe(data={"folders": [{"path": "x/../audio"}, {"path": "/abs"}]}))
    assert [f.path for f in loaded.data.folders] == [tmp_path / "audio", Path("/abs")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budgit": 3}, ["budgit", "did you mean budget"]),
        ({"model": {"family": "frame64", "widht": 64}}, ["model.widht", "did you mean width"]),
        ({"batch": 3}, ["batch: unknown key", "did you mean data.batch"]),
        ({"learning_rate": 3}, ["learning_rate: unknown key", "did you mean optimiser.learning_rate"]),
        ({"optimizer": {"lr": 3}}, ["optimizer: unknown key", "did you mean optimiser"]),
        ({"model": {"family": "frame64", "base_channels": 64}}, ["model.base_channels"]),
        ({"model": {"family": "unet", "base_chanels": 64}}, ["model.base_chanels", "did you mean base_channels"]),
        ({"optimiser": {"learning_rat": 1}}, ["optimiser.learning_rat", "did you mean learning_rate"]),
        ({"linearity": {"mixture": "latent"}}, ["linearity.mixture", "did you mean mixtures"]),
        ({"data": {"folders": [{"path": "a", "fractoin": 1}]}}, ["data.folders.0.fractoin", "did you mean fraction"]),
    ],
)
def test_unknown_key_names_its_neighbour(recipe, changes, words):
    refused(recipe(**changes), "unknown key", "did you mean", *words)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"model": {"family": "frame64", "width": "wide"}},
            "line 8: model.width: must be a whole number, not 'wide'; ",
        ),
        ({"model": {"family": "frame64", "width": 4}}, "model.width: must be 8 or more, not 4"),
        ({"model": {"family": "frame64", "width": 1.5}}, "model.width: must be a whole number, not 1.5"),
        ({"model": {"family": "frame64", "kernel": 4}}, "odd"),
        ({"model": {"family": "wave"}}, "model.family: is missing or unknown; it must be one of frame, frame64, unet"),
        ({"model": {}}, "model.family: is missing or unknown; it must be one of frame, frame64, unet"),
        ({"model": {"family": "frame64", "sigma_min": 30.0}}, "sigma_min"),
        ({"model": {"family": "unet", "width": 64}}, "model.width"),
        ({"model": {"family": "unet", "frequency_only": [True] * 4}}, "three times false"),
        ({"model": {"family": "unet", "attention": [True]}}, "5 of attention"),
        ({"model": {"family": "unet", "heads": 7}}, "heads"),
        ({"model": {"family": "unet", "multipliers": [0, 1, 1, 1, 1]}}, "multipliers"),
        ({"model": {"family": "frame64", "alpha": float("nan")}}, "model.alpha"),
        ({"model": {"family": "unet", "sigma_max": float("inf")}}, "model.sigma_max"),
        ({"model": []}, "model: must be a mapping, one `key: value` a line, not a list"),
        ({"model": None}, "model: must be a mapping, one `key: value` a line, not empty"),
        ({"data": {"folders": []}}, "data.folders"),
        ({"data": {"folders": ["audio"]}}, "data.folders.0"),
        ({"data": {"folders": [{"path": "a", "fraction": 0}]}}, "fraction"),
        ({"data": {"folders": [{"path": "a"}], "crop_frames": 12}}, "crop_frames"),
        ({"data": {"folders": [{"path": "a"}], "held_out": 1.0}}, "held_out"),
        ({"linearity": {"gains": "both"}}, "linearity.gains"),
        ({"linearity": {"gain_low": 4}}, "linearity.gain_low: 4 is above gain_high, 3"),
        ({"linearity": {"gain_probability": 1.5}}, "linearity.gain_probability: must be 1 or less, not 1.5"),
        ({"linearity": {"shrink_gains": "maybe"}}, "linearity.shrink_gains: must be true or false, not 'maybe'"),
        ({"optimiser": {"learning_rate": -1}}, "optimiser.learning_rate: must be more than 0, not -1"),
        ({"optimiser": {"name": "sgd"}}, "optimiser.name: must be 'adamw' or 'radam', not 'sgd'"),
        ({"budget": {}}, "budget"),
        ({"budget": {"steps": 0}}, "budget.steps"),
        ({"budget": {"steps": 5, "time": "5m"}}, "either"),
        ({"budget": {"time": "soon"}}, "not a duration"),
        ({"report": {"checkpoint_every": "often"}}, "not a duration"),
        ({"report": {"validation_files": 0}}, "validation_files"),
        ({"name": "../../etc"}, "name"),
        ({"seed": -1}, "seed"),
        ({1: 2}, "1: unknown key"),
    ],
)
def test_wrong_values(recipe, changes, word):
    refused(recipe(yaml.safe_dump({**GOOD, **changes})), word)


@pytest.mark.parametrize("key", ["name", "model", "data", "budget"])
def test_missing_sections(recipe, key):
    refused(recipe(yaml.safe_dump({k: v for k, v in GOOD.items() if k != key})), f"{key}: is missing")


@pytest.mark.parametrize("content", ["- a\n- b\n", "", "just text", "3"])
def test_no_mapping(recipe, content):
    refused(recipe(content), "a recipe is a mapping")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("a: [1, 2", "not valid YAML"),
        ("a: b: c", "not valid YAML"),
        ("\t- x", "not valid YAML"),
        ("{[1]: 2}", "a key must be a word"),
        ("!!python/object/apply:os.system [ls]", "unknown tag"),
        ("name: a\nname: b", "line 2: name is defined twice"),
        (b"\x80\xff\0", "not text in UTF-8"),
        (b"RIFF\0\0WAVE", "not valid YAML"),
    ],
)
def test_no_yaml(recipe, content, word):
    refused(recipe(content), word)


def test_unreadable(tmp_path):
    refused(tmp_path / "none.yaml", "no such recipe")
    refused(tmp_path, "is not a file")


def test_overrides(recipe):
    overrides = {
        "model.width": "64",
        "optimiser.learning_rate": "3e-4",
        "data.folders.0.path": "/other",
        "linearity.shrink_gains": "true",
        "name": "b",
        "budget.steps": "1e2",
    }
    loaded = load_recipe(recipe(), overrides)
    assert loaded.model.width == 64
    assert loaded.optimiser.learning_rate == 3e-4
    assert loaded.data.folders[0].path == Path("/other")
    assert loaded.linearity.shrink_gains is True
    assert (loaded.name, loaded.budget.steps) == ("b", 100)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("model.widht", "64", "a.yaml: model.widht: unknown key; did you mean width"),
        ("modle.width", "64", "did you mean model"),
        ("model.width", "wide", "model.width"),
        ("model.width", "[1", "not valid YAML"),
        ("data.folders.7.path", "x", "--set data.folders.7.path"),
        ("data.folders.x", "x", "--set data.folders.x"),
        ("name.x.y", "1", "--set name.x.y"),
        ("", "1", "unknown key"),
    ],
)
def test_wrong_overrides(recipe, key, value, word):
    refused(recipe(), word, overrides={key: value})


def test_a_path_on_the_command_line_belongs_to_the_working_folder(recipe, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    path = recipe(data={"folders": [{"path": "a"}, {"path": "b"}]})
    for overrides in ({"data.folders.0.path": "in"}, {"data.folders": "[{path: in}, {path: c}]"}):
        assert load_recipe(path, overrides).data.folders[0].path == elsewhere / "in"
    assert load_recipe(path, {"data.folders.0.path": "in"}).data.folders[1].path == tmp_path / "b"
    given = load_recipe(path, folders=[Path("x"), Path("/y")]).data.folders
    assert [(f.path, f.fraction) for f in given] == [(elsewhere / "x", 1), (Path("/y"), 1)]


def test_a_budget_on_the_command_line_replaces_one_of_the_other_kind(recipe):
    assert load_recipe(recipe(), {"budget.time": "5m"}).budget.seconds == 300
    assert load_recipe(recipe(budget={"time": "5m"}), {"budget.steps": "7"}).budget.steps == 7


def test_a_recipe_of_text_alone(tmp_path):
    loaded = parse_recipe(yaml.safe_dump(GOOD).encode(), "<stdin>", tmp_path)
    assert loaded.data.folders[0].path == tmp_path / "audio"
    with pytest.raises(LincaeError, match=r"^<stdin>: more than 256 KiB"):
        parse_recipe(b"#" * (2 << 20), "<stdin>", tmp_path)


def test_budget_replaces_the_recipes(recipe):
    loaded = load_recipe(recipe(), budget="25m")
    assert (loaded.budget.seconds, loaded.budget.steps) == (1500, None)
    refused(recipe(), "not a duration", budget="a while")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("25m", 1500), ("1h30m", 5400), (" 2m5s ", 125), ("1.5", 1.5)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "0", "-5m", "5d", "1m1h", "nan", "1e9", "5 m"])
def test_wrong_durations(text):
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"augment": {"low_pas": 0.5}}, "did you mean low_pass"),
    ],
)
def test_augmentation_is_checked_too(recipe, changes, words):
    refused(recipe(**changes), words)


@pytest.mark.parametrize("word", ["on", "off", "auto"])
def test_on_and_off_mean_what_they_say(recipe, word):
    text = yaml.safe_dump(GOOD) + f"compile: {word}\n"
    assert load_recipe(recipe(text)).compile == word
    assert load_recipe(recipe(), {"compile": word}).compile == word
