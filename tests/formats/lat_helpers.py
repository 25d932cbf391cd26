"""Small latents and damaged copies for the tests of the format."""

import io
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np

from lincae_formats import Group, Header, Latents, read_lat, write_lat

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


GROUPS = (Group(2, 3, 0.25), Group(2, 5, 0.5, 2, True, 2))  # 16 dimensions, one band of two slots with levels


def make_int8(channels=1, num_samples=20_000, *, seed=0, groups=GROUPS, levels=True, name="", **facts):
    """Integer latents as a file holds them, with levels that are known unless `levels` is false."""
    dims = sum(g.count * g.size for g in groups)
    z = make(channels, num_samples, seed=seed, dtype="float32", latent_dim=dims, groups=groups, **facts)
    random = np.random.default_rng(seed + 7)
    loud = np.exp2(random.uniform(-4, 4, (channels, 1, z.frames))).astype(np.float32)
    bands = loud * random.uniform(0.5, 2, (channels, z.header.level_count, z.frames)).astype(np.float32)
    file = io.BytesIO()
    z = Latents(z.data * loud, z.header, z.history, dtype="int8", band_levels=bands if levels else None)
    write_lat(z, file)
    file.seek(0)
    return replace(read_lat(file), name=name)


def text(value: str):
    """A fixed-length string as h5py writes it."""
    raw = value.encode()
    return np.array(raw, dtype=h5py.string_dtype("utf-8", max(1, len(raw))))


PACKED = {"compression": "gzip", "fletcher32": True}
FACTS = {
    "format": text("lincae-lat"),
    "format_version": text("1.0"),
    "sample_rate": np.int64(44100),
    "num_samples": np.int64(20_000),
    "samples_per_frame": np.int64(4096),
    "model": text("m"),
    "model_fingerprint": text(FINGERPRINT),
    "writer": text("test 1"),
    "history": text("[]"),
}


def packed(history: str) -> np.ndarray:
    """A history as the dataset /history holds it."""
    return np.frombuffer(zlib.compress(history.encode()), np.uint8)


def raw_file(path: Path, *, attributes=None, latents=None, shape=(1, 8, 5), history=None, **dataset) -> Path:
    """A .lat made with h5py alone, with whatever is wrong about it."""
    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        for key, value in {**FACTS, **(attributes or {})}.items():
            if value is not None:
                f.attrs[key] = value
        if latents is not False:
            data = np.zeros(shape, "<f2") if latents is None else latents
            options = {"chunks": (1, *data.shape[1:]), **PACKED, **dataset}
            f.create_dataset("latents", data=data, **options)
        if history is not None:
            del f.attrs["history"]
            f.create_dataset("history", data=packed(history))
    return path


def raw_int8(path: Path, *, groups="[[2,3,0.5,1,0,1],[1,2,0.5,2,1,1]]", attributes=None, **replaced) -> Path:
    """An int8 file made with h5py alone: 8 dimensions in 3 groups, 5 frames; `replaced` are other datasets or None."""
    raw_file(path, latents=np.ones((1, 8, 5), "<i1"), attributes=attributes)
    steps = np.zeros((1, 3, 5), np.uint8)
    steps[:, :, 0] = 192  # the others are differences
    rows = {"steps": steps, "scale": np.ones((1, 5), "<f4"), **replaced}
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        if groups is not None:
            f["latents"].attrs["groups"] = groups if isinstance(groups, np.ndarray) else text(groups)
        for key, data in rows.items():
            if isinstance(data, np.ndarray):
                f.create_dataset(key, data=data, chunks=data.shape, **PACKED)
            elif data is not None:
                f[key] = data
    return path
