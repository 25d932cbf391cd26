"""Published weights: from a stand-in of the hub to a model that works; from a file; and everything that goes wrong."""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hub_stand_in import StandIn, running
from oracles import filled, linear_cae, music2latent, relative
from safetensors.torch import save

from lincae_cli.app import main
from lincae_core.models import convert, store
from lincae_core.models.store import available, load, read_info, resolve
from lincae_core.models.unet import to_frames
from lincae_formats.errors import LincaeError, TargetExistsError

ROOT = Path(__file__).parents[2]
REPO = "BernardoTorres/linear_consistency_autoencoders"
FOLDER = f"{REPO}/0a3afbec_weights"
PTH = f"{FOLDER}/autoencoder_inference_model_last.pth"
TINY = {
    "hop": 512, "base_channels": 8, "multipliers_list": [1, 1, 1, 1, 1], "layers_list": [1] * 5,
    "bottleneck_base_channels": 16, "num_bottleneck_layers": 1, "cond_channels": 16,
}  # fmt: skip
FRONTEND = {"hop_size": 512, "n_fft_factor": 4, "alpha_rescale": 0.65, "beta_rescale": 0.34, "sample_rate": 44100}
DIFFUSION = {"total_iters": 800000, "end_exp": 2.0, "sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}


def lin_cae_checkpoint(kwargs):
    """What the authors' package saves: the state of its Autoencoder, and the three files of settings."""
    pytest.importorskip("huggingface_hub")
    linear_cae()
    from linear_cae.inference import Autoencoder

    torch.manual_seed(0)
    whole = Autoencoder(FRONTEND, kwargs, DIFFUSION, name="lin-cae")
    filled(whole.generator)
    buffer = io.BytesIO()
    torch.save(whole.state_dict(), buffer)
    settings = {"frontend": FRONTEND, "generator": kwargs, "diffusion": DIFFUSION}
    files = {f"{FOLDER}/{k}_kwargs_last.yaml": yaml.safe_dump(v).encode() for k, v in settings.items()}
    return whole, {PTH: buffer.getvalue(), **files}


@pytest.fixture(scope="module")
def tiny_checkpoint():
    return lin_cae_checkpoint(TINY)


@pytest.fixture
def hub(tiny_checkpoint):
    with running(StandIn(dict(tiny_checkpoint[1]))) as stand_in:
        yield stand_in


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setenv("LINCAE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def lincae(hub, tmp_path, *arguments, **more):
    environment = {
        **os.environ, "HF_ENDPOINT": hub.endpoint if hub else "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf"),
        "LINCAE_MODELS": str(tmp_path / "models"), "HF_HUB_ETAG_TIMEOUT": "2", "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")]),
        **more,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "lincae_cli", *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True
    )


def one_line(done, code, *words):
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.fixture
def refused(models, tmp_path, monkeypatch, capsys):
    """Runs a line that needs no hub in this process, in tmp_path; it must end with a code and one line."""
    monkeypatch.chdir(tmp_path)

    def run(code, *words, line):
        capsys.readouterr()
        found = main(list(line))
        one_line(subprocess.CompletedProcess(line, found, "", capsys.readouterr().err), code, *words)
        assert not list(models.glob("*"))

    return run


def test_pull_end_to_end(hub, tiny_checkpoint, tmp_path, models, capsys):
    done = lincae(hub, tmp_path, "models", "pull", "lin-cae")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    info = resolve("lin-cae")
    assert info.path == models / "lin-cae.safetensors"
    assert done.stdout == f"lin-cae: {info.path}\n"
    assert (info.family, info.version, info.config["latent_scale"]) == ("unet", "01234567", 33.0)
    assert info.fingerprint in info.card_path.read_text()
    assert sorted(p.name for p in models.iterdir()) == ["lin-cae.md", "lin-cae.safetensors"]
    model, theirs = load("lin-cae", "cpu"), tiny_checkpoint[0]
    x = 0.5 * torch.randn(1, 2, 1024, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        z = model.model.encoder(to_frames(x.transpose(2, 3)))
        difference = relative(z, theirs.generator.encoder(x).transpose(1, 2))
    assert difference < 1e-3
    rows = json.loads(lincae(None, tmp_path, "models", "list", "--json").stdout)
    assert "lin-cae" in [row["name"] for row in rows]
    one_line(lincae(hub, tmp_path, "models", "pull", "lin-cae"), 1, "lin-cae is installed already", "--force")


def test_the_latents_are_scaled_as_published(checkpoint, tiny_checkpoint, models):
    """The authors' own encode, on samples where both see the same frames."""
    convert.import_file(checkpoint, "unet", "lin-cae")
    model, theirs = load("lin-cae", "cpu"), tiny_checkpoint[0]
    audio = np.random.default_rng(0).normal(0, 0.1, 8 * 4096 + 1536).astype(np.float32)
    ours = model.encode_stretch(torch.from_numpy(audio)[None], [1.0], -1, 1, 6, "medium")[0][0].detach().numpy()
    with torch.inference_mode():
        truth = theirs.encode(torch.from_numpy(audio)[None])[0].numpy()[:, 1:7]
    assert np.abs(ours - truth).max() < 1e-3 * np.abs(truth).max()
    assert 33 * 0.9 < np.abs(truth).max() / np.abs(np.tanh(np.arctanh(truth / 33))).max() < 33 * 1.1


@pytest.mark.slow
def test_a_damaged_file_is_refused_and_got_anew(hub, tmp_path, models):
    hub.flip = PTH
    one_line(lincae(hub, tmp_path, "models", "pull", "lin-cae"), 1, "damaged during the download", "try again")
    assert not list(models.glob("*"))
    hub.flip = None
    assert lincae(hub, tmp_path, "models", "pull", "lin-cae").returncode == 0


def test_no_network(tmp_path):
    one_line(lincae(None, tmp_path, "models", "pull", "m2l"), 1, "m2l: cannot reach the hub", "models import")


def test_what_the_hub_has_not_is_known_before_torch_is_imported(tmp_path):
    done = lincae(None, tmp_path, "models", "pull", "m2l", PYTHONPROFILEIMPORTTIME="1", LINCAE_DEBUG="1")
    names = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 1
    assert "lincae_core.models.hub" in names
    assert "torch" not in names


def test_nothing_to_pull(refused):
    refused(2, "frame ships with lincae", "models show frame", line=["models", "pull", "frame"])


def test_a_file_that_the_hub_has_no_more(hub, tmp_path):
    one_line(lincae(hub, tmp_path, "models", "pull", "m2l"), 1, REPO, "has no 1511f18a_weights/", "models import")


def test_unknown_name(refused):
    refused(2, "no published model", "did you mean lin-cae?", line=["models", "pull", "lincae"])


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (401, "GatedRepo", "hf auth login"),
        (404, "RepoNotFound", "no repository BernardoTorres"),
        (503, "", "try again later"),
    ],
)
def test_refusals_of_the_hub(hub, tmp_path, status, code, word):
    hub.refuse[PTH] = (status, code)
    done = lincae(hub, tmp_path, "models", "pull", "lin-cae")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert word in done.stderr


def test_several_at_once_one_bad(hub, tmp_path, models):
    done = lincae(hub, tmp_path, "models", "pull", "lin-cae", "m2l")
    assert done.returncode == 1
    assert done.stdout.startswith("lin-cae: ")
    assert "m2l" in done.stderr
    assert "1 of 2" in done.stderr


@pytest.mark.slow
def test_another_network_on_the_hub(hub, tmp_path, models):
    hub.files[f"{FOLDER}/generator_kwargs_last.yaml"] = yaml.safe_dump({**TINY, "base_channels": 16}).encode()
    one_line(lincae(hub, tmp_path, "models", "pull", "lin-cae"), 1, "has shape", "another configuration")
    assert not list(models.glob("*"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (yaml.safe_dump({**TINY, "hop": 256}), ["hop 256", "not Music2Latent's network"]),
        ("[1, 2", ["generator_kwargs_last.yaml", "YAML"]),
        ("[1, 2]", ["generator_kwargs_last.yaml", "not a list of settings"]),
    ],
)
def test_settings_of_another_network(checkpoint, refused, content, words):
    checkpoint.with_name("generator_kwargs_last.yaml").write_text(content)
    refused(1, *words, line=["models", "import", str(checkpoint), "--as", "unet"])


@pytest.mark.slow
@pytest.mark.peers
def test_music2latent_of_published_size(tmp_path, models):
    """The public checkpoint's layout: `gen_state_dict` beside an optimiser's state; the download breaks half-way."""
    network = filled(music2latent().UNet())
    buffer = io.BytesIO()
    optimiser = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}
    torch.save({"gen_state_dict": network.state_dict(), "optimizer_state_dict": optimiser, "it": 800000}, buffer)
    with running(StandIn({"SonyCSLParis/music2latent/music2latent.pt": buffer.getvalue()})) as stand_in:
        stand_in.break_after = 100_000_000  # bytes; then the connection breaks
        done = lincae(stand_in, tmp_path, "models", "pull", "music2latent")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    starts = [int(r.removeprefix("bytes=").split("-")[0]) for r in stand_in.ranges() if r]
    assert any(50_000_000 < start <= 100_000_000 for start in starts), f"it went on where it stopped: {starts}"
    info = resolve("music2latent")
    assert info.config["latent_scale"] == pytest.approx(1 / 0.06)
    assert info.license == "CC-BY-NC-4.0"
    assert round(info.parameters / 1e6, 2) == 58.19


def test_stable_audio(tmp_path, models):
    files = {f"stabilityai/stable-audio-open-1.0/vae/{n}": n.encode() for n in ("config.json",
             "diffusion_pytorch_model.safetensors")}  # fmt: skip
    with running(StandIn(files)) as stand_in:
        done = lincae(stand_in, tmp_path, "models", "pull", "stable-audio-vae")
        again = lincae(stand_in, tmp_path, "models", "pull", "stable-audio-vae")
    assert done.returncode == 0, done.stderr
    assert {p.name: p.read_bytes().decode() for p in (models / "stable-audio-vae").iterdir()} == {
        n: n for n in ("config.json", "diffusion_pytorch_model.safetensors")
    }
    one_line(again, 1, "installed already")


@pytest.fixture
def checkpoint(tiny_checkpoint, tmp_path):
    """The published files in a folder."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for path, content in tiny_checkpoint[1].items():
        (folder / Path(path).name).write_bytes(content)
    return folder / Path(PTH).name


@pytest.mark.slow
def test_import(checkpoint, models, tmp_path):
    done = lincae(None, tmp_path, "models", "import", str(checkpoint), "--as", "unet", "--name", "lin-cae-2")
    assert done.returncode == 0, done.stderr
    assert resolve("lin-cae-2").config["latent_scale"] == 40
    with pytest.raises(TargetExistsError):
        convert.import_file(checkpoint, "unet", "lin-cae-2")
    info = convert.import_file(checkpoint, "unet", "lin-cae-2", 7.0, force=True)
    assert info.config["latent_scale"] == 7
    assert {m.name for m in available()} >= {"frame", "lin-cae-2"}


def test_the_published_folder_says_what_it_is(tiny_checkpoint, models, tmp_path):
    folder = tmp_path / "0a3afbec_weights"
    folder.mkdir()
    for path, content in tiny_checkpoint[1].items():
        (folder / Path(path).name).write_bytes(content)
    info = convert.import_file(folder / Path(PTH).name, "unet")
    assert (info.name, info.config["latent_scale"]) == ("lin-cae", 33)
    assert convert.import_file(folder / Path(PTH).name, "unet", "mine").config["latent_scale"] == 33
    with pytest.raises(LincaeError, match=r"0a3afbec_weights: a folder; name the checkpoint in it"):
        convert.import_file(folder, "unet")


def test_import_lincae_weights(tiny_model, models):
    info = convert.import_file(tiny_model)
    assert resolve(info.name).path.parent == models
    assert resolve(info.name).fingerprint == read_info(tiny_model).fingerprint
    for bad in ({"family": "unet"}, {"scale": 3.0}, {"name": "other"}):
        with pytest.raises(LincaeError):
            convert.import_file(tiny_model, **bad, force=True)


def test_safetensors_checkpoint(tiny_checkpoint, tmp_path, models):
    state = {k: v.contiguous() for k, v in tiny_checkpoint[0].generator.state_dict().items()}
    path = tmp_path / "Some Weights!.safetensors"
    path.write_bytes(save(state))
    (tmp_path / "generator_kwargs_last.yaml").write_text(yaml.safe_dump(TINY))
    assert convert.import_file(path, "unet").name == "some-weights"


class Boom:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (os.system, ("touch /tmp/lincae-was-here",))


def test_a_hostile_pickle_is_not_run(tmp_path, models, recwarn):
    path = tmp_path / "evil.pth"
    for content in (pickle.dumps({"a": Boom()}), None):
        if content is None:
            torch.save({"gen_state_dict": {"a": torch.zeros(1)}, "b": Boom()}, path)
        else:
            path.write_bytes(content)
        with pytest.raises(LincaeError, match=r"not weights alone; it was not read; save its state_dict"):
            convert.import_file(path, "unet")
    assert not recwarn.list, "torch's warnings would stand beside the one line"
    assert not Path("/tmp/lincae-was-here").exists()
    assert not list(models.glob("*"))


@pytest.mark.parametrize(
    ("name", "content", "arguments", "words"),
    [
        ("a.pth", b"", ["--as", "unet"], ["a.pth", "not a checkpoint"]),
        ("a.pth", b"x" * 100, ["--as", "unet"], ["a.pth"]),
        ("a.pth", b"# a text, no weights", ["--as", "unet"], ["a.pth: not a checkpoint", "get it again"]),
        ("a.pth", b"x", [], ["not lincae weights", "--as unet"]),
        ("a.pth", b"x", ["--as", "unet", "--name", "../up"], ["cannot be a model's name"]),
        ("a.pth", b"x", ["--as", "unet", "--name", "frame"], ["frame is the name of a model that ships"]),
        ("a.safetensors", b"x" * 100, ["--as", "unet"], ["a.safetensors", "not a checkpoint"]),
    ],
)
def test_files_that_are_no_weights(tmp_path, refused, name, content, arguments, words):
    (tmp_path / name).write_bytes(content)
    refused(1, *words, line=["models", "import", name, *arguments])


def test_a_file_that_is_not_there_has_its_neighbour_named(tmp_path, refused):
    (tmp_path / "model.pth").write_bytes(b"x")
    refused(1, "modle.pth: no such file", "model.pth", line=["models", "import", "modle.pth", "--as", "unet"])


def test_wrong_scale(refused):
    for scale in ("0", "-1", "nan", "inf", "much"):
        refused(2, "--scale", line=["models", "import", "a.pth", "--scale", scale])


def test_truncated_checkpoint(checkpoint, models):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1000])
    with pytest.raises(LincaeError, match="not a checkpoint"):
        convert.import_file(checkpoint, "unet")


def test_names_that_can_be_pulled_are_named(models):
    with pytest.raises(LincaeError, match="lincae models pull lin-cae"):
        resolve("lin-cae")
    with pytest.raises(LincaeError, match="did you mean"):
        resolve("lincae")


def test_a_foreign_file_among_the_models(models):
    models.mkdir()
    (models / "junk.safetensors").write_bytes(b"junk")
    assert "frame" in {m.name for m in available()}


def test_a_shipped_name_cannot_be_taken(tiny_model, models):
    models.mkdir()
    (models / "frame.safetensors").write_bytes(tiny_model.read_bytes())
    assert resolve("frame").path.parent == store.SHIPPED
