"""Small latents and damaged copies for the tests of the format."""

import hashlib
from pathlib import Path

import h5py
import numpy as np

from lincae_formats import Header, Latents

FINGERPRINT = "sha256:" + "ab" * 32


def make(channels=1, num_samples=20_000, *, seed=0, dtype="float16", latent_dim=8, name="", tags=None, **facts):
    """Random latents of unit variance that are exact in their storage type."""
    header = Header(
        facts.pop("sample_rate", 44100),
        num_samples,
        facts.pop("model", "m"),
        facts.pop("model_fingerprint", FINGERPRINT),
        channels=channels,
        latent_dim=latent_dim,
        **facts,
    )
    data = np.random.default_rng(seed).standard_normal(header.shape).astype(dtype).astype(np.float32)
    return Latents(
        data, header, history=({"op": "encode", "source": "x.wav"},), tags=tags or {}, dtype=dtype, name=name
    )


def text(value: str):
    """A fixed-length string as h5py writes it."""
    raw = value.encode()
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, len(raw))))


def raw_file(path: Path, *, attributes=None, latents=None, history="[]", shape=(1, 8, 5), **dataset) -> Path:
    """A .lat made with h5py alone, with whatever is wrong about it."""
    facts = {
        "format": text("lincae-lat"),
        "format_version": text("1.0"),
        "sample_rate": np.int64(44100),
        "num_samples": np.int64(20_000),
        "model_sample_rate": np.int64(44100),
        "samples_per_frame": np.int64(4096),
        "model": text("m"),
        "model_fingerprint": text(FINGERPRINT),
        "latent_scale": np.float64(1.0),
        "writer": text("test 1"),
        **(attributes or {}),
    }
    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        for key, value in facts.items():
            if value is not None:
                f.attrs[key] = value
        if latents is not False:
            data = np.zeros(shape, "<f2") if latents is None else latents
            options = {"chunks": (1, *data.shape[1:]), "fletcher32": True, **dataset}
            f.create_dataset("latents", data=data, **options)
        if history is not None:
            f.create_dataset("history", data=text(history))
            f["history"].attrs["sha256"] = text(hashlib.sha256(history.encode()).hexdigest())
    return path
