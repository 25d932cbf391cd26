"""A run is kept part by part: what was measured is taken again, what changed is measured anew."""

import json
import os
import shutil

import numpy as np
import pytest
import soundfile as sf
from eval_helpers import RATE, Affine, Counting, music, write_track

from lincae_core.evaluation import results as module
from lincae_core.evaluation.dataset import Audio, find_tracks
from lincae_core.evaluation.references import Identity
from lincae_core.evaluation.results import Settings, excerpt, safe_name
from lincae_formats.errors import LincaeError

PER_TRACK = {"A": 1 + 1 + 2 + 4 + 2, "B": 1 + 1 + 2 + 4 + 2}  # warm-up, mixture, stems, gains, accompaniments


@pytest.fixture
def data(tmp_path):
    for seed, name in enumerate(("A", "B")):
        write_track(tmp_path / "data" / name, 0.5, ("drums", "vocals"), seed)
    return tmp_path / "data"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def evaluate(data, out, *systems, settings=None, **kwargs):
    return module.evaluate(data, find_tracks(data), systems, out, settings or Settings(), device="cpu", **kwargs)


def encoded(data, out, **kwargs):
    """How many signals a run encoded."""
    system = Counting()
    _, failures = evaluate(data, out, system, **kwargs)
    assert not failures
    return system.count


def test_a_run(data, out):
    lines = []
    results, failures = evaluate(data, out, Identity(), Affine(), say=lines.append)
    assert failures == []
    assert results["data"] | {"path": ""} == {
        "path": "", "tracks": ["A", "B"], "seconds": 1.0, "sample_rate": RATE, "channels": "mono",
    }  # fmt: skip
    assert [s["name"] for s in results["systems"]] == ["identity", "affine"]
    assert lines == ["identity, A (1 of 4)", "identity, B (2 of 4)", "affine, A (3 of 4)", "affine, B (4 of 4)"]
    recon = [m for m in results["measures"] if (m["measure"], m["metric"]) == ("recon", "sdr")]
    assert {(m["system"], m["target"]) for m in recon} >= {("identity", "mixture"), ("affine", "vocals")}
    for m in results["measures"]:
        assert m["n"] == len(m["values"]) == 2
        assert m["mean"] == pytest.approx(np.mean(m["values"]), rel=1e-4, abs=1e-9)
        assert m["low"] <= m["mean"] <= m["high"]
    for s in results["systems"]:
        assert s["seconds_encode"] > 0
        assert s["seconds_decode"] > 0
        assert s["bytes_per_second"] == 4 * RATE
    written = json.loads((out / "results.json").read_text())
    assert {**results, "tables": written["tables"]} == written


def test_excerpts_are_the_audio(data, out):
    results, _ = evaluate(data, out, Identity())
    assert len(results["examples"]) == 2 * 4
    for example in results["examples"]:
        estimate, rate = sf.read(out / example["estimate"])
        truth, _ = sf.read(out / example["truth"])
        assert (rate, len(estimate)) == (RATE, RATE // 2)
        assert np.corrcoef(estimate, truth)[0, 1] > 0.99
        assert example["mss"] == pytest.approx(0, abs=0.05)
    half, whole = (next(e for e in results["examples"] if e["operation"] == o) for o in ("half", "recon"))
    levels = [np.std(sf.read(out / e["truth"])[0]) for e in (half, whole)]
    assert levels[0] / levels[1] == pytest.approx(0.5, abs=0.01)


def test_the_same_run_again_measures_nothing(data, out):
    first, _ = evaluate(data, out, Counting())
    assert encoded(data, out) == 0
    again, _ = evaluate(data, out, Counting())
    assert again == first


def test_an_interrupted_run_goes_on(data, out):
    system = Counting(fail_at=PER_TRACK["A"] + 3)
    with pytest.raises(KeyboardInterrupt):
        evaluate(data, out, system)
    assert not (out / "results.json").exists()
    assert encoded(data, out) == PER_TRACK["B"]
    resumed, _ = evaluate(data, out, Counting())
    fresh, _ = evaluate(data, out.with_name("other"), Counting())
    assert resumed["measures"] == fresh["measures"]


def test_a_changed_file_is_measured_again(data, out):
    encoded(data, out)
    sf.write(data / "B" / "vocals.flac", music(0.5, seed=99), RATE)
    assert encoded(data, out) == PER_TRACK["B"]
    os.utime(data / "A" / "drums.flac", ns=(1, 1))
    assert encoded(data, out) == PER_TRACK["A"]
    write_track(data / "C", 0.5, ("drums", "vocals"), 7)
    assert encoded(data, out) == PER_TRACK["A"]  # the new one alone


@pytest.mark.parametrize(
    "change",
    [{"seconds": 0.3}, {"gains": (0.5, 0.6, 0.7, 0.8)}, {"steps": 2}, {"seed": 5}, {"subtype": "FLOAT"}],
)
def test_other_settings_are_measured_again(data, out, change):
    encoded(data, out)
    assert encoded(data, out, settings=Settings(**change)) == sum(PER_TRACK.values())


def test_other_weights_are_measured_again(data, out):
    encoded(data, out)
    other = Counting()
    other.fingerprint = "other"
    evaluate(data, out, other)
    assert other.count == sum(PER_TRACK.values())


@pytest.mark.parametrize("harm", ["truncate", "empty", "media", "not json"])
def test_a_damaged_part_is_measured_again(data, out, harm):
    encoded(data, out)
    part = out / "parts" / "counting" / "A.json"
    if harm == "media":
        shutil.rmtree(out / "media" / "counting")
        expected = sum(PER_TRACK.values())
    else:
        text = part.read_text()
        part.write_text({"truncate": text[: len(text) // 2], "empty": "", "not json": "[1]"}[harm])
        expected = PER_TRACK["A"]
    assert encoded(data, out) == expected


def test_one_bad_track_does_not_stop_the_others(data, out):
    (data / "A" / "drums.flac").write_text("no audio")
    results, failures = evaluate(data, out, Identity(), Affine())
    assert results["data"]["tracks"] == ["B"]
    assert len(failures) == 2
    assert all("drums.flac" in str(error) for error in failures)


def test_an_error_of_a_system_is_named(data, out):
    system = Counting(fail_at=2, error=ZeroDivisionError("by zero"))
    results, failures = evaluate(data, out, system, Identity())
    assert [str(e) for e in failures] == [
        "counting, A: ZeroDivisionError: by zero; add --debug and report what it prints"
    ]
    assert isinstance(failures[0].__cause__, ZeroDivisionError)
    assert len(results["systems"]) == 2
    assert system.closed == 1


def test_nothing_could_be_measured(data, out):
    for track in ("A", "B"):
        (data / track / "drums.flac").write_text("no audio")
    results, failures = evaluate(data, out, Identity())
    assert results["systems"] == []
    assert len(failures) == 2
    assert not (out / "results.json").exists()


def test_bytes_that_are_measured(data, out):
    class Packed(Identity):
        name, linear, bytes_per_second = "packed", False, None

        def size(self, latent):
            return len(latent) // 10

    results, _ = evaluate(data, out, Packed())
    assert results["systems"][0]["bytes_per_second"] == pytest.approx(RATE / 10)


def test_a_folder_that_cannot_be_made(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LincaeError, match="choose another --output"):
        evaluate(data, tmp_path / "file" / "out", Identity())


def test_the_excerpt_is_where_all_stems_sound():
    loud, faint = music(10, 1), 0.01 * music(10, 2)
    first = {"vocals": np.concatenate([faint, loud, faint]), "drums": np.concatenate([loud, loud, loud])}
    assert excerpt(Audio(first, sum(first.values()))).start == 10 * RATE
    assert excerpt(Audio({}, np.concatenate([faint, faint, loud]))).start == 20 * RATE
    assert excerpt(Audio({}, np.zeros(5, np.float32))).start == 0


@pytest.mark.parametrize("name", ["a/b", "../x", "a\nb", "x" * 300, "Bjørk", ".", "con:"])
def test_safe_names_are_one_folder_and_differ(name):
    safe = safe_name(name)
    assert safe == os.path.basename(safe)
    assert safe not in ("", ".", "..")
    assert len(safe) < 100
    assert safe_name(safe.rpartition("-")[0] or "x") != safe
    assert safe_name("plain name-1.0") == "plain name-1.0"


def test_a_track_shorter_than_a_window_is_named(data, out):
    write_track(data / "C", 0.04, ("drums", "vocals"))
    results, failures = evaluate(data, out, Identity())
    assert [str(e) for e in failures] == [
        "C: 1764 samples, too short to measure: the longest window is 0.05 s; leave the track out with --tracks"
    ]
    assert results["data"]["tracks"] == ["A", "B"]
