"""Tracks to evaluate on, short enough for a test."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from eval_helpers import write_track


@pytest.fixture(scope="module", autouse=True)
def small_work(one_thread):
    """Measuring short tracks is work too small to share."""


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """Two tracks of 1.5 s: one with four stems, one without bass."""
    folder = tmp_path_factory.mktemp("tracks")
    write_track(folder / "Apple & Pear", seed=1)
    write_track(folder / "Quince", names=("drums", "other", "vocals"), seed=2)
    return folder
