"""docs/method.md: every function that it names exists."""

import re
from importlib import import_module
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`((?:models|training|evaluation)\.\w+(?:\.\w+)*)`", PAGE)))


@pytest.mark.parametrize("name", NAMES)
def test_what_the_page_names_exists(name):
    package, module, *attributes = name.split(".")
    found = import_module(f"lincae_core.{package}.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)


def test_the_page_names_the_steps_of_the_method():
    assert {"training.method.mix", "training.method.draw_gains", "training.method.consistency_loss"} <= set(NAMES)


def test_recipes_that_the_page_names_exist():
    from lincae_core.training.recipe import shipped_recipes

    names = set(re.findall(r"^lincae train (\S+)", PAGE, re.MULTILINE))
    assert names
    assert names <= shipped_recipes().keys()
