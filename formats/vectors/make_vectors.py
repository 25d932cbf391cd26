"""Makes the `.lat` files of the current version of the format in this folder, and expected.json.

Run once per version of the format; the files of old versions are never remade.

python formats/vectors/make_vectors.py FOLDER
"""

import hashlib
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from lincae_formats import Header, Latents, LatReader, mix, read_lat, write_lat
from lincae_formats.header import FORMAT_VERSION

WRITER = "lincae 0.1.0"  # written into the vectors; stays when lincae's version moves on
FINGERPRINT = "sha256:" + "0123456789abcdef" * 4


def latents(seed: int, header: Header, **facts: object) -> Latents:
    """Values in [-4, 4) from an integer recurrence, the same on every machine."""
    count = np.arange(np.prod(header.shape), dtype=np.uint64) + np.uint64(seed * 1_000_003)
    words = (count * np.uint64(2_654_435_761)) % np.uint64(2**32)
    data = (words.astype(np.float64) / 2**29 - 4.0).astype(np.float32).reshape(header.shape)
    return Latents(data=data, header=header, **facts)  # type: ignore[arg-type]


def vectors() -> dict[str, Latents]:
    """What file names say after the version -> contents."""
    mono = Header(44100, 20_000, "test-model", FINGERPRINT, latent_dim=8, latent_scale=1.5)
    encoded = ({"op": "encode", "source": "naïve.wav", "model": "test-model"},)
    a = latents(1, replace(mono, channels=2), dtype="float32", name="a.lat", history=encoded)
    b = latents(2, replace(mono, num_samples=9_000), name="b.lat")
    mixed = replace(mix([a, b], [1.0, -0.5]), tags={"title": "Größe", "empty": "", "note": "two\nlines"})
    pauses = latents(7, replace(mono, num_samples=4096 * 700, channels=2, latent_dim=2))
    data = pauses.data.copy()
    data[1], data[0, :, 234:468] = 0.0, -0.0  # every chunk of one channel, and one of the other
    silence = Latents(np.zeros((1, 8, 1), np.float32), replace(mono, num_samples=1), dtype="float32")
    return {
        "mono-float16.lat": latents(3, mono, history=encoded),
        "stereo-float32-mix.lat": mixed,
        "one-sample.lat": latents(4, replace(mono, num_samples=1)),
        "48000hz.lat": latents(5, replace(mono, sample_rate=48000, num_samples=48_001)),
        "two-chunks.lat": latents(6, replace(mono, num_samples=4096 * 257, latent_dim=2)),
        "silent-chunks.lat": replace(pauses, data=data),
        "silent-sample.lat": silence,
    }


def describe(path: Path) -> dict[str, object]:
    """What a reader must find in one file."""
    with LatReader(path) as reader:
        writer = reader.writer
    z = read_lat(path)
    return {
        "bytes_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "header": asdict(z.header),
        "frames": z.frames,
        "dtype": z.dtype,
        "writer": writer,
        "history": list(z.history),
        "tags": dict(z.tags),
        "float32_sha256": hashlib.sha256(np.ascontiguousarray(z.data, dtype="<f4").data).hexdigest(),
        "first": [float(v) for v in z.data[0, :4, 0]],
    }


def main(folder: Path) -> None:
    """Writes every vector and expected.json."""
    folder.mkdir(parents=True, exist_ok=True)
    known = json.loads(Path(__file__).with_name("expected.json").read_text(encoding="utf-8"))
    version = f"v{FORMAT_VERSION}-"
    expected = {name: facts for name, facts in known.items() if not name.startswith(version)}
    for kind, z in vectors().items():
        name = version + kind
        write_lat(z, folder / name, overwrite=True, writer=WRITER)
        expected[name] = describe(folder / name)
    text = json.dumps(expected, indent=1, sort_keys=True) + "\n"
    (folder / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
