"""Other people's packages, as oracles."""

import importlib
import os
from types import ModuleType

import pytest

REQUIRED = "LINCAE_REQUIRE_PEERS"  # set in CI: a test that lacks its oracle fails there, and skips elsewhere


def imported(module: str, package: str) -> ModuleType:
    """The module of a peer's package; where that is missing, the test skips, or fails where `REQUIRED` is set."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        reason = f"{package} is not installed ({e})"
        if os.environ.get(REQUIRED, "0") != "0":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
