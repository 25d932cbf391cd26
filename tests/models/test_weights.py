"""Weights files: there and back, and every kind of damage refused in one line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lincae_core.models.store import fingerprint, load, load_weights, resolve, save_weights
from lincae_formats.errors import LincaeError


@pytest.fixture
def parts(tiny_model):
    with safe_open(str(tiny_model), "pt") as file:
        info = json.loads(file.metadata()["lincae"])
    return load_file(tiny_model), info


def write(path, tensors, info):
    save_file(tensors, path, {"lincae": json.dumps(info)})
    return path


def refused(path, *words):
    with pytest.raises(LincaeError) as caught:
        load(path, "cpu")
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    for word in (path.name, *words):
        assert word in text
    return text


def test_there_and_back(tiny_model, tmp_path):
    model, info = load_weights(tiny_model)
    assert not model.training
    assert all(p.dtype == torch.float32 for p in model.parameters())
    config = model.config.to_dict()
    mark = save_weights(
        model.state_dict(), config, tmp_path / "b", **{k: info[k] for k in ("name", "version", "license")}
    )
    assert mark == info["fingerprint"]
    assert (tmp_path / "b").read_bytes() == tiny_model.read_bytes()


def test_info_needs_no_weights(tiny_model):
    info, model = resolve(tiny_model), load(tiny_model, "cpu")
    assert (info.name, info.version, info.family) == (model.name, model.version, "frame64")
    assert info.fingerprint == model.fingerprint
    assert info.parameters == sum(p.numel() for p in model.model.parameters())
    assert info.config == model.config.to_dict()
    assert info.size_bytes == tiny_model.stat().st_size


def test_fingerprint_covers_config_names_shapes_and_values(parts):
    tensors, info = parts
    mark = fingerprint(tensors, info["config"])
    assert mark == info["fingerprint"]
    name = next(k for k, v in tensors.items() if v.ndim == 2)
    value = tensors[name]
    changed = value.clone()
    changed.view(-1)[0] += 1
    others = [
        fingerprint({**tensors, name: changed}, info["config"]),
        fingerprint({**tensors, name: value.reshape(-1)}, info["config"]),
        fingerprint({**tensors, name: value.float()}, info["config"]),
        fingerprint({("x" + k if k == name else k): v for k, v in tensors.items()}, info["config"]),
        fingerprint(tensors, {**info["config"], "latent_scale": 3.5}),
    ]
    assert len({mark, *others}) == 6
    assert fingerprint(dict(reversed(tensors.items())), info["config"]) == mark


def test_flipped_bit(tiny_model, tmp_path):
    data = bytearray(tiny_model.read_bytes())
    data[-1000] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data)
    refused(path, "fingerprint")


def test_changed_config(parts, tmp_path):
    tensors, info = parts
    info["config"]["latent_scale"] = 4.0
    refused(write(tmp_path / "config.safetensors", tensors, info), "fingerprint")


@pytest.mark.parametrize("keep", [0, 5, 8, 100, 0.5, -1])
def test_truncated(tiny_model, tmp_path, keep):
    data = tiny_model.read_bytes()
    path = tmp_path / "short.safetensors"
    path.write_bytes(data[: int(len(data) * keep) if 0 < keep < 1 else keep])
    refused(path, "not a lincae weights file")


@pytest.mark.parametrize("data", [b"RIFF....WAVE", b"\xff" * 64, b"\0" * 64, "{}".encode("utf-16")])
def test_not_safetensors(tmp_path, data):
    path = tmp_path / "other.safetensors"
    path.write_bytes(data)
    refused(path, "not a lincae weights file")


def test_safetensors_of_something_else(tmp_path):
    path = tmp_path / "bert.safetensors"
    save_file({"a": torch.zeros(3)}, path)
    refused(path, "not a lincae weights file")


@pytest.mark.parametrize("info", [[], 3, {}, {"config": {}}, {"config": {"family": "frame64"}}])
def test_metadata_without_what_it_must_hold(tmp_path, info):
    refused(write(tmp_path / "poor.safetensors", {"a": torch.zeros(3)}, info), "not a lincae weights file")


def test_unknown_family(parts, tmp_path):
    tensors, info = parts
    info["config"]["family"] = "wavelet"
    refused(write(tmp_path / "wavelet.safetensors", tensors, info), "wavelet", "upgrade")


@pytest.mark.parametrize("change", [{"latent_dim": 32}, {"depth": 3}, {"width": "wide"}])
def test_config_that_does_not_fit(parts, tmp_path, change):
    tensors, info = parts
    info["config"] |= change
    info["fingerprint"] = fingerprint(tensors, info["config"])
    refused(write(tmp_path / "misfit.safetensors", tensors, info), "do not fit")


def test_missing_file(tmp_path):
    with pytest.raises(LincaeError, match="no model"):
        load(tmp_path / "none.safetensors", "cpu")
