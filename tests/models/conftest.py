"""The tiny model, loaded."""

import pytest


@pytest.fixture(scope="session")
def tiny(tiny_model):
    from lincae_core.models.registry import load

    return load(tiny_model, "cpu")
