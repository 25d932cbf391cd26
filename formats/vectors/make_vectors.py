"""Makes the `.lat` files of the current version of the format in this folder, and expected.json.

Run once for every version of the format; the files of released versions are never made again.

python formats/vectors/make_vectors.py FOLDER
"""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lincae_formats import Group, Header, Latents, LatReader, gain, mix, read_lat, write_lat
from lincae_formats.header import FORMAT_VERSION

WRITER = "lincae 0.1.0"  # written into the vectors; stays when lincae's version moves on
FINGERPRINT = "sha256:" + "0123456789abcdef" * 4
GROUPS = (Group(2, 2, 0.25), Group(2, 2, 0.5, 2, True, 2))


def latents(seed: int, header: Header, **facts: object) -> Latents:
    """Numbers in [-4, 4) from an integer recurrence, the same on every machine; louder from frame to frame."""
    shape = header.shape
    count = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed * 1_000_003)
    words = (count * np.uint64(2_654_435_761)) % np.uint64(2**32)
    data = (words.astype(np.float64) / 2**29 - 4.0).astype(np.float32).reshape(shape)
    if header.level_count:
        loud = (2.0 ** ((np.arange(shape[2]) % 8) - 4)).astype(np.float32)
        bands = np.broadcast_to(loud, (shape[0], header.level_count, shape[2]))
        facts = {"band_levels": bands, **facts}
        data = data * loud
    return Latents(data=data, header=header, **facts)  # type: ignore[arg-type]


def vectors() -> dict[str, Latents]:
    """What file names say after the version -> contents."""
    mono = Header(44100, 20_000, "test-model", FINGERPRINT, latent_dim=8, latent_scale=1.5)
    integers = replace(mono, groups=GROUPS, latent_scale=1.0)
    encoded = ({"op": "encode", "source": "naïve.wav", "model": "test-model"},)
    a = latents(1, replace(mono, channels=2), dtype="float32", name="a.lat", history=encoded)
    b = latents(2, replace(mono, num_samples=9_000), name="b.lat")
    mixed = replace(mix([a, b], [1.0, -0.5]), tags={"title": "Größe", "empty": "", "note": "two\nlines"})
    silent = latents(7, replace(integers, num_samples=4096 * 700, channels=2))
    data, bands = silent.data.copy(), np.array(silent.band_levels)
    data[1], bands[1], data[0, :, 234:468], bands[0, :, 234:468] = 0.0, 0.0, 0.0, 0.0
    pauses = Latents(data, silent.header, band_levels=bands)
    c = latents(8, replace(integers, channels=2), name="c.lat", history=encoded)
    d = latents(9, replace(integers, num_samples=9_000), name="d.lat")
    many = tuple({"op": "gain", "factor": 1.0, "note": f"step {i}"} for i in range(200))
    return {
        "mono-float16.lat": latents(3, mono, history=encoded),
        "stereo-float32-mix.lat": mixed,
        "one-sample.lat": latents(4, replace(mono, num_samples=1)),
        "48000hz.lat": latents(5, replace(mono, sample_rate=48000, num_samples=48_001, model_sample_rate=48000)),
        "two-chunks.lat": latents(6, replace(mono, num_samples=4096 * 257, latent_dim=2)),
        "int8.lat": latents(10, integers, history=encoded),
        "int8-mix.lat": mix([c, d], [1.0, 0.5]),
        "int8-difference.lat": mix([c, d], [1.0, -0.5]),
        "int8-silence.lat": pauses,
        "float16-levels.lat": latents(11, integers, dtype="float16"),
        "long-history.lat": latents(12, integers, history=many),
    }


def describe(path: Path) -> dict[str, object]:
    """What a reader must find in one file."""
    with LatReader(path) as reader:
        writer = reader.writer
    z = read_lat(path)
    levels = z.levels()
    return {
        "bytes_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "header": asdict(z.header),
        "frames": z.frames,
        "dtype": z.dtype,
        "writer": writer,
        "fingerprint": z.fingerprint,
        "history": list(z.history),
        "tags": dict(z.tags),
        "float32_sha256": hashlib.sha256(np.ascontiguousarray(z.data, dtype="<f4").data).hexdigest(),
        "first": [float(v) for v in z.data[0, :4, 0]],
        "first_levels": [None if np.isnan(v) else float(v) for v in levels[0, :, 0]],
    }


def main(folder: Path) -> None:
    """Writes every vector and expected.json."""
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(__file__).with_name("expected.json")
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    version = f"v{FORMAT_VERSION}-"
    expected = {name: facts for name, facts in known.items() if not name.startswith(version)}
    for kind, z in vectors().items():
        name = version + kind
        write_lat(z, folder / name, overwrite=True, writer=WRITER)
        expected[name] = describe(folder / name)
    quiet = version + "int8-gain.lat"  # integers of another vector with a scale
    write_lat(gain(read_lat(folder / f"{version}int8.lat"), -0.3), folder / quiet, overwrite=True, writer=WRITER)
    expected[quiet] = describe(folder / quiet)
    text = json.dumps(expected, indent=1, sort_keys=True) + "\n"
    (folder / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
