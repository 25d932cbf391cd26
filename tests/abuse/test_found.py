"""What fuzzing found, and the inputs that it kept because each ran other code: refused in a line for ever, or read."""

import tarfile
from pathlib import Path

import pytest

from lincae_core.arrangement.load import load
from lincae_core.training.recipe import load_recipe
from lincae_formats import LincaeError, read_lat

FOUND = Path(__file__).parents[1] / "fuzz" / "found"
CORPUS = FOUND.with_name("corpus")


def read_arrangement(path):
    return load(path.read_bytes().decode("utf-8-sig", errors="replace"), path.name)


def read_recipe(path):
    """A recipe, of which a setting may follow a NUL, as in tests/fuzz/fuzz_recipe.py."""
    text, _, setting = path.read_bytes().partition(b"\0")
    alone = path.with_name("recipe.yaml") if setting else path
    if setting:
        alone.write_bytes(text)
    key, _, value = setting.decode(errors="replace").partition("=")
    return load_recipe(alone, {key: value} if setting else None)


READ = {"arrangement": read_arrangement, "recipe": read_recipe, "lat": read_lat}


@pytest.mark.parametrize("path", sorted(FOUND.iterdir()), ids=lambda path: path.name)
def test_findings_of_the_fuzzers_are_refused_in_a_line(path):
    with pytest.raises(LincaeError) as caught:
        READ[path.name.split("-")[0]](path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", READ)
def test_the_corpora_of_the_fuzzers_are_read_or_refused_in_a_line(kind, tmp_path):
    path, read, refused = tmp_path / "input", 0, []
    with tarfile.open(CORPUS / f"{kind}.tar.xz") as corpus:
        for member in filter(tarfile.TarInfo.isfile, corpus):
            path.write_bytes(corpus.extractfile(member).read())
            try:
                READ[kind](path)
                read += 1
            except LincaeError as e:
                refused.append(str(e))
    assert read, "the seeds are good"
    assert len(refused) > 20
    assert [error for error in refused if "\n" in error] == []
