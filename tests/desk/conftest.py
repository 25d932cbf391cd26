"""A song of the demo's stems, and a desk on it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
ROOT = Path(__file__).parents[2]
STEMS = ROOT / "lincae_core" / "demo" / "stems"
SONG = """\
name: demo
tracks:
  drums: {file: drums.lat, bus: band, gain: -3dB}
  bass: {file: bass.lat, bus: band, curve: "0:0dB 2:-10dB 4:0dB"}
  vocals: {file: vocals.lat, pan: -0.4, fade_in: 1}
buses:
  band: {gain: -1dB}
master: {gain: -2dB}
"""


@pytest.fixture(scope="session")
def model():
    """The shipped model."""
    import torch

    import lincae_core as lincae

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield lincae.load(device="cpu").autoencoder
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def stems(model, tmp_path_factory):
    """A folder with 5 s of three stems."""
    import soundfile as sf

    import lincae_core as lincae
    from lincae_core.api import Model

    folder = tmp_path_factory.mktemp("stems")
    for name in ("drums", "bass", "vocals"):
        audio, rate = sf.read(STEMS / f"{name}.flac", stop=5 * 44100, dtype="float32", always_2d=True)
        lincae.write_lat(Model(model).encode(audio.T, rate), folder / f"{name}.lat")
    return folder


@pytest.fixture
def song(stems, tmp_path):
    """An arrangement of them, in a folder of its own."""
    for path in stems.iterdir():
        (tmp_path / path.name).hardlink_to(path)
    (tmp_path / "song.yaml").write_text(SONG)
    return tmp_path / "song.yaml"


@pytest.fixture
def desk(song):
    """The settings of a desk on it."""
    from lincae_core.arrangement.load import load
    from lincae_core.desk.state import Desk

    return Desk(load(song), song.parent, song, False)


@pytest.fixture
def rendered(model):
    """What `lincae render` makes of an arrangement, as float32 `[C, n]`."""

    def render(song, *options):
        import soundfile as sf

        from lincae_cli.app import main

        target = song.with_name("rendered.wav")
        assert main(["render", str(song), "-o", str(target), "--subtype", "FLOAT", "--force", *options]) == 0
        return sf.read(target, dtype="float32", always_2d=True)[0].T

    return render
