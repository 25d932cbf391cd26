"""Fuzzes the training recipe's parser: every text is refused with a LincaeError or becomes a Recipe."""

import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lincae_core.training.recipe", "lincae_core.yaml_schema", "yaml"]):
    from lincae_core.training.recipe import Recipe, load_recipe

from common import fuzz, one_line

from lincae_formats import LincaeError

ROOT = Path(__file__).parents[2]
FOLDER = Path(tempfile.mkdtemp(prefix="lincae-fuzz-"))


def one(data: bytes) -> None:
    """Loads a recipe from a file, with what follows a NUL as a setting's key and value."""
    text, _, setting = data.partition(b"\0")
    path = FOLDER / "recipe.yaml"
    path.write_bytes(text)
    key, _, value = setting.decode(errors="replace").partition("=")
    try:
        assert isinstance(load_recipe(path, {key: value} if setting else None), Recipe)
    except LincaeError as e:
        one_line(e)


def seeds() -> dict[str, bytes]:
    """The recipes that ship, and a setting for one of them."""
    found = {path.name: path.read_bytes() for path in (ROOT / "recipes").glob("*.yaml")}
    found["set"] = found["smoke.yaml"] + b"\0model.width=256"
    found["tags"] = b"name: !!int 1\nseed: !!timestamp 2001-01-01\ndata: &a [*a, !!set {x}]\n<<: {a: 1}\n? [k]\n: v\n"
    return found


if __name__ == "__main__":
    fuzz(one, seeds(), 4096)
