"""The tiny model, loaded; makes the helpers importable whatever the import mode."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tiny(tiny_model):
    from lincae_core.models.store import load

    return load(tiny_model, "cpu")


def pytest_collection_modifyitems(items):
    """Marks the tests that need the public packages, and those that run networks of their full size."""
    for item in items:
        names = set(getattr(item, "fixturenames", ()))
        if names & {"tiny_checkpoint", "hub", "checkpoint", "pair"} or item.path.name == "test_parity.py":
            item.add_marker(pytest.mark.peers)
        if "pair" in names:
            item.add_marker(pytest.mark.slow)
