"""The optional judges: what they say of known damage, and of their packages that are not installed."""

import importlib.util
import math

import numpy as np
import pytest
from eval_helpers import RATE, write_track

from lincae_core.evaluation import judges as module
from lincae_core.evaluation.dataset import find_tracks
from lincae_core.evaluation.judges import PACKAGES, Judges
from lincae_core.evaluation.references import Identity
from lincae_core.evaluation.results import Settings, evaluate
from lincae_formats.errors import LincaeError

INSTALLED = all(importlib.util.find_spec(name) for name in PACKAGES)


def melody(seconds=4):
    """Eight notes of a scale, half a second each, with decaying partials."""
    t = np.arange(RATE // 2) / RATE
    tones = [220 * 2 ** (k / 12) for k in (0, 2, 4, 5, 7, 9, 11, 12)]
    notes = [sum(np.exp(-4 * t * h) * np.sin(2 * np.pi * f * h * t) / h for h in (1, 2, 3)) for f in tones]
    return (0.2 * np.concatenate(notes))[: seconds * RATE].astype(np.float32)


def test_a_missing_package_is_one_line_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "zimtohrli" else True)
    with pytest.raises(LincaeError) as caught:
        evaluate(tmp_path, [], [], tmp_path / "out", Settings(judges=True))
    assert "zimtohrli" in str(caught.value)
    assert "visqol" not in str(caught.value)
    assert "pip install 'lincae[judges]' && pip install --no-deps basic-pitch" in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.skipif(not INSTALLED, reason="the judges' packages are not installed")
def test_judges_prefer_the_better_signal_and_print_nothing(capfd, tmp_path):
    judges, x = Judges(), melody()
    rng = np.random.default_rng(0)
    good, bad = (x + level * rng.standard_normal(len(x)).astype(np.float32) for level in (0.002, 0.1))
    same, better, worse = (judges.scores(y.astype(np.float32), x, RATE, speech=True) for y in (x, good, bad))
    assert set(same) == {"visqol", "zimtohrli", "notes", "stoi"}
    assert same["notes"] == 1
    assert same["visqol"] > 4.5
    assert same["zimtohrli"] > 4.5
    for judge in same:
        assert same[judge] >= better[judge] >= worse[judge], judge
    other = np.roll(x.reshape(-1, RATE // 2), 3, axis=0).ravel()
    assert judges.notes(other, x, RATE) < 0.5, "the same notes at other times"
    assert math.isnan(judges.notes(x, np.zeros_like(x), RATE)), "no notes in the original"
    write_track(tmp_path / "data" / "A", 1.0, ("drums", "vocals"))
    results, failures = evaluate(
        tmp_path / "data", find_tracks(tmp_path / "data"), [Identity()], tmp_path / "out", Settings(judges=True)
    )
    assert not failures
    found = {(m["measure"], m["metric"], m["target"]): m["mean"] for m in results["measures"]}
    assert found["recon", "zimtohrli", "mixture"] > 4.5
    assert ("sep", "stoi", "vocals") in found or ("sep", "zimtohrli", "vocals") in found
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
