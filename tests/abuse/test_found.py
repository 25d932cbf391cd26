"""What fuzzing found: every file in tests/fuzz/found is refused in a line for ever."""

from pathlib import Path

import pytest

from lincae_core.arrangement.load import load
from lincae_core.training.recipe import load_recipe
from lincae_formats import LincaeError, read_lat

FOUND = Path(__file__).parents[1] / "fuzz" / "found"
READ = {"arrangement": lambda path: load(path.read_text(), path.name), "recipe": load_recipe, "lat": read_lat}


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_findings_of_the_fuzzers_are_refused_in_a_line(path):
    with pytest.raises(LincaeError) as caught:
        READ[path.name.split("-")[0]](path)
    assert "\n" not in str(caught.value)
