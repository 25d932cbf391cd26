"""Hostile recipes: refused in one line, with the settings given on the command line too."""

import io

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yaml_tricks import KEYS, LAUGHS, NESTED, VALUES

from lincae_core.training.recipe import Recipe, load_recipe
from lincae_formats import LincaeError

GOOD = {"name": "x", "model": {"family": "frame64"}, "data": {"folders": [{"path": "."}]}, "budget": {"steps": 1}}
LIMITS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def load(folder, data, overrides=None):
    """A recipe, or None where it was refused in one line."""
    path = folder / "recipe.yaml"
    path.write_bytes(data)
    try:
        recipe = load_recipe(path, overrides)
    except LincaeError as e:
        message = str(e)
        assert "\n" not in message
        assert message.startswith(str(path))
        return None
    assert isinstance(recipe, Recipe)
    return recipe


def test_the_good_one_is_good(tmp_path):
    assert load(tmp_path, yaml.safe_dump(GOOD).encode()) is not None


@LIMITS
@given(change=st.dictionaries(KEYS, VALUES, max_size=4))
def test_any_values_for_any_keys(tmp_path, change):
    stream = io.StringIO()
    yaml.safe_dump({**GOOD, **change}, stream, allow_unicode=True)
    load(tmp_path, stream.getvalue().encode(errors="surrogatepass"))


@LIMITS
@given(
    text=st.text(alphabet=st.sampled_from(list("abn:-?[]{}&*!|>'\"%@`#,\n \t01.~<=\\\0\x85\u2028\ud800")), max_size=60)
)
def test_any_text(tmp_path, text):
    load(tmp_path, text.encode(errors="surrogatepass"))
    load(tmp_path, yaml.safe_dump(GOOD).encode(), {text[:5]: text[5:]})


@LIMITS
@given(
    key=st.lists(KEYS | st.sampled_from(["0", "1", "-1", "99", ""]), max_size=4).map(".".join),
    value=st.text(max_size=20),
)
def test_any_setting(tmp_path, key, value):
    load(tmp_path, yaml.safe_dump(GOOD).encode(), {key: value})


TRICKS = {
    "nested deeply": NESTED,
    "a billion laughs": LAUGHS,
    "laughs for a name": LAUGHS + b"name: *a29\ndata: *a29\nbudget: *a29\n",
    "itself": b"&a [*a]",
    "itself in a mapping": b"name: &a {x: *a}\ndata: *a\nbudget: *a\n",
    "a program": b"!!python/object/apply:os.system ['echo hacked > hacked']",
    "a number of 5000 digits": b"seed: " + b"9" * 5000,
    "no timestamp": b"name: !!timestamp x",
    "no date": b"name: 2001-99-99",
    "no integer": b"name: !!int ''",
    "no boolean": b"name: !!bool perhaps",
    "no float": b"name: !!float x",
    "no text": b"name: !!binary '*'",
    "a key that is a list": b"? [a]\n: b",
    "keys that are numbers": b"1: 2\n3: 4",
    "two documents": b"--- {}\n--- {}",
    "latin-1": b"name: \xe9",
    "utf-16": "name: x".encode("utf-16"),
    "NUL": b"name: x\0",
    "no end": b"name: 'x",
    "2 MB": b"#" * 2_000_000,
    "a list": b"- name",
    "nothing": b"",
    "infinite": b"name: x\nmodel: {family: unet}\ndata: {folders: [{path: ., fraction: .inf}]}\nbudget: {steps: 1}",
    "a time without end": b"name: x\nmodel: {family: unet}\ndata: {folders: [{path: .}]}\n"
    b"budget: {time: 99999999999999999999999999999999h}",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks(tmp_path, monkeypatch, trick):
    monkeypatch.chdir(tmp_path)
    found = load(tmp_path, TRICKS[trick])
    assert found is None or trick == "a time without end"
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.yaml"]


def test_what_is_no_recipe_file(tmp_path):
    for path in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(LincaeError):
            load_recipe(path)
