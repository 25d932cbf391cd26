"""`lincae eval` from the command line: what it prints and writes, and what it answers to whatever is typed wrong."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile as sf
from cli_helpers import refused

from lincae_cli.app import main

RATE = 44100

pytestmark = pytest.mark.usefixtures("one_thread")


def write_track(folder, names=("drums", "vocals"), seconds=0.5, seed=0):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name in names:
        tone = np.sin(2 * np.pi * rng.uniform(100, 2000) * np.arange(round(seconds * RATE)) / RATE)
        sf.write(folder / f"{name}.flac", 0.1 * tone + 0.01 * rng.standard_normal(len(tone)), RATE)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with two tracks in `music`."""
    write_track(tmp_path / "music" / "Apple", seed=1)
    write_track(tmp_path / "music" / "Pear, ripe", seed=2)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def lincae(here, capsys):
    """Runs a line; returns its exit code, stdout and the lines on stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["eval", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err.splitlines()

    return run


def test_the_tables_go_to_stdout(lincae, tiny_model, here):
    code, out, err = lincae("--data", "music", "--model", tiny_model, "--model", "identity")
    assert (code, err) == (0, [])
    assert "lincae tiny 1" in out
    assert "Lin-CAE (paper)" in out
    assert sorted(p.name for p in (here / "lincae-eval").iterdir()) == ["media", "parts", "results.json"]


def test_every_format_in_one_run(lincae, here):
    names = {"json": "r.json", "html": "r.html", "markdown": "r.md", "csv": "r.csv", "latex": "r.tex"}
    options = [word for option, name in names.items() for word in (f"--{option}", name)]
    code, out, err = lincae("--data", "music", "--model", "identity", "--tracks", "Apple", *options)
    assert (code, err) == (0, [])
    assert "Identity" in out  # the table is printed nonetheless
    for name in names.values():
        assert "Identity" in (here / name).read_text(encoding="utf-8")
    results = json.loads((here / "r.json").read_text())
    assert results["data"]["tracks"] == ["Apple"]
    assert all((here / e["estimate"]).is_file() for e in results["examples"])
    before = (here / "r.json").read_bytes()
    code, out, err = lincae("--data", "music", "--model", "identity", "--json", "r.json")
    assert (code, out) == (1, "")
    assert "r.json exists" in err[0]
    assert "--force" in err[0]
    assert (here / "r.json").read_bytes() == before
    assert lincae("--data", "music", "--model", "identity", "--json", "r.json", "--force")[0] == 0
    assert len(json.loads((here / "r.json").read_text())["data"]["tracks"]) == 2


def test_one_format_on_stdout(lincae):
    code, out, err = lincae("--data", "music", "--model", "identity", "--json", "-")
    assert (code, err) == (0, [])
    results = json.loads(out)
    assert (results["schema"], results["data"]["tracks"]) == (1, ["Apple", "Pear, ripe"])
    _, out, _ = lincae("--data", "music", "--model", "identity", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert {row["source"] for row in rows} == {"measured", "paper"}
    assert lincae("--data", "music", "--model", "identity", "--markdown", "-")[1].startswith("**Sound of mixtures")
    assert lincae("--data", "music", "--model", "identity", "--latex", "-")[1].startswith(r"\begin{table}")


def test_options_reach_the_measuring(lincae):
    line = ["--data", "music", "--model", "identity", "--tracks", "Apple", "--json", "-", "--output", "kept"]
    more = ["--seconds", "0.25", "--gains", "0.5,-6dB,2", "--steps", "3", "--seed", "7", "--subtype", "float"]
    _, out, _ = lincae(*line, *more)
    results = json.loads(out)
    assert results["data"]["seconds"] == 0.25
    settings = results["settings"]
    assert (settings["steps"], settings["seed"], settings["subtype"]) == (3, 7, "FLOAT")
    best = {m["mean"] for m in results["measures"] if m["metric"] == "mss"}
    assert best == {0}
    assert settings["gains"] == pytest.approx([0.5, 10 ** (-6 / 20), 2])


def test_tracks_by_name_with_commas_or_without(lincae):
    for chosen in (["Apple,Pear, ripe"], ["Apple", "Pear, ripe"]):
        options = [word for name in chosen for word in ("--tracks", name)]
        code, out, err = lincae("--data", "music", "--model", "identity", "--json", "-", *options)
        if len(chosen) == 2:
            assert json.loads(out)["data"]["tracks"] == ["Apple", "Pear, ripe"]
        else:  # ambiguous: taken apart, and the part that is no track is named
            assert code == 2
            assert "no track 'Pear'" in err[0]


def test_the_same_command_again_measures_nothing(lincae, monkeypatch):
    line = ["--data", "music", "--model", "identity", "--json", "-"]
    _, first, _ = lincae(*line)
    from lincae_core.evaluation.references import Identity

    def never(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(Identity, "encode", never)
    code, again, _ = lincae(*line)
    assert (code, again) == (0, first)


def test_interrupted_it_says_so_and_goes_on(lincae, here, monkeypatch, capsys):
    from lincae_core.evaluation.references import Identity

    encode, seen = Identity.encode, []

    def stop(self, audio):
        seen.append(len(audio))
        if len(seen) == 13:  # in the second track
            raise KeyboardInterrupt
        return encode(self, audio)

    monkeypatch.setattr(Identity, "encode", stop)
    code, out, err = lincae("--data", "music", "--model", "identity", "--json", "r.json")
    assert (code, out) == (130, "")
    assert err == ["lincae: interrupted; no half-written file is left"]
    assert not (here / "r.json").exists()
    kept = here / "lincae-eval" / "parts" / "identity" / "Apple.json"
    before = kept.stat().st_mtime_ns
    assert lincae("--data", "music", "--model", "identity", "--json", "r.json")[0] == 0
    assert kept.stat().st_mtime_ns == before
    assert len(seen) == 13 + 10  # warm-up, mixture, two stems, four gains, two accompaniments


def test_one_bad_track(lincae, here):
    (here / "music" / "Apple" / "drums.flac").write_text("no audio")
    code, out, err = lincae("--data", "music", "--model", "identity", "--json", "-")
    assert code == 1
    assert json.loads(out)["data"]["tracks"] == ["Pear, ripe"]
    assert "Apple/drums.flac" in err[0]
    assert err[1] == "lincae: error: 1 of 2 measurements failed; the others are done"


def test_published_weights_beside_the_papers_figures(lincae, here):
    """What `lincae models pull` leaves is measured under the name that the paper's row has."""
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    from lincae_core.models.store import save_weights
    from lincae_core.models.unet import UnetConfig, UnetModel

    (here / "models").mkdir()
    torch.manual_seed(0)
    config = UnetConfig(
        base_channels=8, multipliers=(1, 1, 1, 1, 1), blocks=1, bottleneck_channels=16, bottleneck_blocks=1,
        condition_channels=16, latent_scale=33.0,
    )  # fmt: skip
    save_weights(
        UnetModel(config).state_dict(), {**config.to_dict()}, here / "models" / "lin-cae.safetensors",
        name="lin-cae", version="1", license="CC0-1.0",
    )  # fmt: skip
    diffusers.AutoencoderOobleck(
        encoder_hidden_size=8, downsampling_ratios=[4, 8], channel_multiples=[1, 2], decoder_channels=8,
        decoder_input_channels=4,
    ).save_pretrained(here / "models" / "stable-audio-vae")  # fmt: skip
    code, out, err = lincae(
        "--data", "music", "--tracks", "Apple", "--model", "lin-cae", "--model", "stable-audio-vae", "--csv", "-"
    )
    assert (code, err) == (0, [])
    rows = list(csv.DictReader(io.StringIO(out)))
    for name in ("Lin-CAE", "Stable Audio VAE"):
        columns = {source: [] for source in ("measured", "paper")}
        for row in rows:
            if row["system"] == name and row["table"] in ("linearity", "separation"):
                columns[row["source"]].append(row["column"])
        assert set(columns["measured"]) >= {"Recons.", "Hom.", "Add.", "Enc. hom. err", "Enc. add. err", "Vocals"}
        assert set(columns["paper"]) >= set(columns["measured"])


WRONG = [
    # arguments, exit code, what the line must say
    ("", 2, "--data is missing; for example: lincae eval --data"),
    ("--data none", 1, "none: no such folder"),
    ("--data empty", 1, "empty: no tracks in it"),
    ("--data note.txt", 1, "note.txt: a file, not a folder"),
    ("--data music --tracks Aple", 2, "did you mean --tracks Apple"),
    ("--data music --model fram", 1, "did you mean --model frame"),
    ("--data music --model lin-cae", 1, "lincae models pull lin-cae"),
    ("--data music --model stable-audio-vae", 1, "lincae models pull stable-audio-vae"),
    ("--data music --model opus:1000", 2, "--model opus-12"),
    ("--data music --model random:x", 2, "random:unet"),
    ("--data music/Apple --model klt", 1, "--model klt:DIR"),
    ("--data music --model klt:empty", 1, "empty: no audio in it"),
    ("--data music --model klt:none", 1, "none: no audio in it"),
    ("--data music --model identity --seconds 0", 2, "--seconds"),
    ("--data music --model identity --seconds soon", 2, "--seconds"),
    ("--data music --model identity --gains 0", 2, "--gains 0.5,2"),
    ("--data music --model identity --gains 0.5,,2", 2, "--gains 0.5,2"),
    ("--data music --model identity --steps 0", 2, "--steps 1"),
    ("--data music --model identity --seed -1", 2, "--seed"),
    ("--data music --model identity --subtype PCM16", 2, "did you mean --subtype PCM_16"),
    ("--data music --model identity --device gpu", 2, "auto, cpu, cuda"),
    ("--data music --model identity --json - --csv -", 2, "only one of"),
    ("--data music --model identity --html -", 2, "--html report.html"),
    ("--data music --model identity --json a --csv a", 2, "a would be written twice"),
    ("--data music --model identity --json empty", 1, "empty is a folder; name a file: empty/report"),
    ("--data music --model identity --json note.txt", 1, "--force"),
    ("--data music --model identity --html none/a.html", 1, "mkdir -p"),
    ("--data music --model identity -o note.txt", 1, "choose another --output"),
    ("--data music --modle identity", 2, "did you mean --model"),
]


@pytest.mark.parametrize(("line", "code", "remedy"), WRONG, ids=[row[0] for row in WRONG])
def test_one_line_that_names_the_remedy(lincae, here, line, code, remedy):
    (here / "empty").mkdir()
    (here / "note.txt").write_text("mine")
    before = sorted(here.rglob("*"))
    found, out, err = lincae(*line.split())
    assert (found, out, len(err)) == (code, "", 1), err
    assert err[0].startswith("lincae: error: ")
    assert remedy in err[0]
    assert sorted(here.rglob("*")) == before
    assert (here / "note.txt").read_text() == "mine"


def test_as_a_process(here):
    shutil.rmtree(here / "music" / "Apple")
    assert "no track but Pear, ripe" in refused(1, "eval", "--data", "music", "--model", "klt", cwd=here)


def test_silence_alone_is_no_result(lincae, here):
    for name in ("drums", "vocals"):
        sf.write(here / "music" / "Apple" / f"{name}.flac", np.zeros(RATE), RATE)
    code, out, err = lincae("--data", "music", "--tracks", "Apple", "--model", "identity", "--model", "opus")
    assert (code, out, len(err)) == (1, "", 1)
    assert "every track is silent" in err[0]
