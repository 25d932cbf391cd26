"""Fuzzes the `.lat` reader: every file is refused with a LatError or read whole.

Bytes are changed at random, and telling numbers written over them; half of the seeds are of a version of HDF5 without
checksums, or nothing but the checksums would be tested.
"""

import io
import random
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["lincae_formats"]):
    import lincae_formats

import h5py
import numpy as np
from common import fuzz, one_line

FOLDER = Path(tempfile.mkdtemp(prefix="lincae-fuzz-"))
NUMBERS = [0, 1, 2, 3, 4, 7, 8, 16, 255, 256, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1]


def one(data: bytes) -> None:
    """Reads a file as `lincae verify` does, its header and history as `lincae info` does, and copies it."""
    path = FOLDER / "x.lat"
    path.write_bytes(data)
    try:
        with lincae_formats.LatReader(path) as reader:
            for block in reader.blocks():
                assert np.isfinite(block).all()
            levels = reader.levels()
            assert not np.isinf(levels).any()
            assert reader.header.shape == (reader.header.channels, reader.header.latent_dim, reader.header.frames)
            assert levels.shape == (reader.header.channels, reader.header.level_count, reader.header.frames)
            lincae_formats.write_lat(lincae_formats.algebra.gain(reader, -0.5), io.BytesIO())
        lincae_formats.read_lat(io.BytesIO(data))
    except lincae_formats.LatError as e:
        one_line(e)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Changes a few bytes, or writes telling numbers over them."""
    draw = random.Random(seed)
    changed = bytearray(atheris.Mutate(data, max_size)) if draw.random() < 0.3 else bytearray(data)
    for _ in range(draw.randint(1, 4)):
        if not changed:
            break
        at = draw.randrange(len(changed))
        kind = draw.random()
        if kind < 0.4:
            changed[at] = draw.randrange(256)
        elif kind < 0.8:
            width = draw.choice([1, 2, 4, 8])
            number = draw.choice(NUMBERS) % 256**width
            changed[at : at + width] = number.to_bytes(width, "little")
        else:
            other = draw.randrange(len(changed))
            length = draw.randint(1, 64)
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed[:max_size])


def seeds() -> dict[str, bytes]:
    """Small files: as this program writes them, and of HDF5's first version."""
    found = {}
    groups = (lincae_formats.Group(1, 2, 0.5), lincae_formats.Group(2, 1, 0.5, 2, True, 2))
    for channels, frames, dtype in ((1, 5, "float16"), (2, 300, "float32"), (2, 300, "int8")):
        header = lincae_formats.Header(
            44100, 4096 * frames, "m", "sha256:" + "0" * 64, channels=channels, latent_dim=4, groups=groups
        )
        data = np.random.default_rng(0).standard_normal(header.shape).astype(np.float32)
        history = ({"op": "encode", "source": "x.wav"},) * (100 if dtype == "float32" else 1)  # a dataset, an attribute
        levels = np.ones((channels, 2, frames))
        latents = lincae_formats.Latents(data, header, history, {"title": "t"}, dtype, band_levels=levels)
        buffer = io.BytesIO()
        lincae_formats.write_lat(latents, buffer)
        scaled = io.BytesIO()
        lincae_formats.write_lat(0.5 * lincae_formats.read_lat(io.BytesIO(buffer.getvalue())), scaled)
        found[f"new-{dtype}"] = buffer.getvalue()
        found[f"old-{dtype}"] = old(scaled.getvalue())
    return found


def old(data: bytes) -> bytes:
    """The same contents with superblock 0, whose metadata has no checksums."""
    path = FOLDER / "old.lat"
    with h5py.File(io.BytesIO(data)) as source, h5py.File(path, "w", libver=("earliest", "v108")) as target:
        copy_attributes(source, target)
        for key, dataset in source.items():
            if isinstance(dataset, h5py.Group):
                copy_attributes(dataset, target.create_group(key))
                continue
            packed = {"chunks": dataset.chunks, "compression": "gzip", "fletcher32": True} if dataset.chunks else {}
            target.create_dataset(key, data=dataset[:], **packed)
            copy_attributes(dataset, target[key])
    return path.read_bytes()


def copy_attributes(source: h5py.HLObject, target: h5py.HLObject) -> None:
    """With their types, which h5py would choose anew."""
    for key, value in source.attrs.items():
        target.attrs.create(key, value, dtype=source.attrs.get_id(key).dtype)


if __name__ == "__main__":
    fuzz(one, seeds(), 20_000, mutate)
