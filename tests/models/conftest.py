"""The tiny model, loaded; makes the helpers importable whatever the import mode."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny(tiny_model):
    from lincae_core.models.store import load

    return load(tiny_model, "cpu")
