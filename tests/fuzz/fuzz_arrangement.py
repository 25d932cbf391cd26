"""Fuzzes the arrangement's parser: every text is refused with a LincaeError or becomes an arrangement."""

import atheris

with atheris.instrument_imports(
    include=["lincae_core.arrangement", "lincae_core.yaml_schema", "lincae_formats.header", "yaml"]
):
    from lincae_core.arrangement.load import Loaded, load

from common import fuzz, one_line

from lincae_formats import LincaeError

SEED = b"""
name: Song
tracks:
  drums: {file: drums.lat, gain: -3dB, bus: rhythm}
  bass:
    file: bass.lat
    offset: 1:02.5
    curve: "0:-inf 2:0dB 58:0dB 60:-inf"
    fade_in: 2
    subtract: [kick.lat, {file: hum.lat, gain: 0.5}]
buses:
  rhythm: {gain: 0.8, fade_out: 4, fade_shape: sine}
variants:
  karaoke: {mute: [bass], gain: {drums: +6dB}}
  solo: {solo: drums}
"""


def one(data: bytes) -> None:
    """Loads an arrangement from its text."""
    try:
        assert isinstance(load(data.decode("utf-8-sig", errors="replace"), "song.yaml"), Loaded)
    except LincaeError as e:
        one_line(e)


if __name__ == "__main__":
    tags = b"tracks: &a\n  x: {file: !!int 1, gain: !!timestamp 2001-01-01, offset: *a}\n<<: {a: 1}\n? [k]\n: v\n"
    fuzz(one, {"song": SEED, "tags": tags}, 4096)
