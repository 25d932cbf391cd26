"""`lincae plot`: latents, level and spectrogram in a picture."""

import io
import sys
import time

import matplotlib.image
import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_cli.app import main
from lincae_core.models.codec import AudioArray
from lincae_core.plot import COLUMNS, ROWS, draw, latent_picture, row_hz, spectrogram
from lincae_formats import Header


@pytest.fixture
def files(tmp_path, monkeypatch, tiny_model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    tone = 0.3 * np.sin(2 * np.pi * 2000 * np.arange(44100 * 2) / 44100)
    soundfile.write("a.wav", np.stack([tone, 0.5 * tone], 1), 44100)
    return tmp_path


def run(capsys, *arguments, code=0):
    assert main([*arguments]) == code
    done = capsys.readouterr()
    assert done.out == ""
    return done.err


def height(path):
    return matplotlib.image.imread(path).shape[0]


def test_audio_and_its_lat_and_a_lat_without_its_model(files, capsys):
    assert run(capsys, "plot", "a.wav", "-o", "audio.png", "--model", "tiny") == ""
    main(["encode", "a.wav", "--model", "tiny"])
    assert run(capsys, "plot", "a.lat", "-o", "lat.png") == ""
    make_lat(files / "foreign.lat", channels=2)
    note = run(capsys, "plot", "foreign.lat", "-o", "foreign.png")
    assert note.startswith("lincae: note: no spectrogram: foreign.lat: its model 'm'")
    assert len(note.splitlines()) == 1
    assert height("audio.png") == height("lat.png") > height("foreign.png") > 200


def test_vector_formats_and_pipes(files, capsysbinary, monkeypatch):
    make_lat(files / "x.lat")
    assert main(["plot", "x.lat", "-o", "x.svg"]) == main(["plot", "x.lat", "-o", "x.pdf"]) == 0
    assert "<svg" in (files / "x.svg").read_text()
    assert (files / "x.pdf").read_bytes().startswith(b"%PDF")
    with open("x.lat", "rb") as stdin:
        monkeypatch.setattr(sys, "stdin", type("Stdin", (), {"buffer": stdin, "isatty": lambda _: False})())
        assert main(["plot", "-", "-o", "-"]) == 0
    assert capsysbinary.readouterr().out.startswith(b"\x89PNG")


def test_a_tone_is_drawn_where_it_sounds():
    rate, count = 44100, 44100 * 30
    t = np.arange(count) / rate
    tone = np.sin(2 * np.pi * 5000 * t).astype(np.float32)
    tone[count // 2 :] = 0
    drawn = spectrogram(AudioArray(np.stack([tone, tone]), rate))
    columns = drawn.level_db.shape[1]
    assert COLUMNS / 2 < columns <= COLUMNS
    loudest = drawn.level_db[:, columns // 4].argmax()
    assert row_hz(loudest, rate) - rate / 2048 < 5000 < row_hz(loudest + 1, rate) + rate / 2048
    assert drawn.level_db[:, columns // 4].max() == pytest.approx(0, abs=1.5), "a full-scale sine is at 0 dB"
    assert drawn.level_db[:, columns * 3 // 4].max() < -80


def test_latents_keep_what_is_farthest_from_zero():
    header = Header(44100, 4096 * 5000, "m", "sha256:" + "0" * 64, channels=2, latent_dim=3)
    data = np.zeros(header.shape, np.float32)
    data[1, 2, 4321] = -7
    drawn = latent_picture(header, np.split(data, [1, 100, 3000], axis=2))
    assert drawn.level_db.shape == (2, 3, 1000)
    assert drawn.level_db[1, 2, 864] == drawn.level_db.max() == pytest.approx(20 * np.log10(7))
    assert np.count_nonzero(drawn.level_db > -150) == 1
    assert drawn.rms_db[1].argmax() == 864


def panels(monkeypatch, latents, spectrum):
    """The figure that `draw` saves."""
    from matplotlib.figure import Figure

    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: saved.append(self))
    draw("title", latents, spectrum, io.BytesIO())
    return [axes for panel in saved[0].axes for axes in (panel, *panel.child_axes)]


def brightness(axes):
    """Mean colour of an axes' image, 0 black to 1 white."""
    (image,) = axes.images
    return float(np.mean(image.cmap(image.norm(image.get_array()))[..., :3]))


def test_silence_is_dark_and_music_is_not(monkeypatch):
    rate = 44100
    header = Header(rate, 4096 * 20, "m", "sha256:" + "0" * 64, latent_dim=8)
    silence, noise = np.zeros((1, 4096 * 20), np.float32), np.random.default_rng(0).normal(0, 0.1, (1, 4096 * 20))
    for audio, z, dark in ((silence, np.zeros(header.shape), True), (noise, np.ones(header.shape), False)):
        drawn = panels(
            monkeypatch,
            latent_picture(header, [z.astype(np.float32)]),
            spectrogram(AudioArray(audio.astype(np.float32), rate)),
        )
        maps = [axes for axes in drawn if axes.images and "dB" not in axes.get_ylabel()]
        assert len(maps) == 2
        for axes in maps:
            assert (brightness(axes) < 0.1) == dark


def test_labels_say_channels_units_and_a_frequency_scale_for_music(monkeypatch):
    header = Header(44100, 4096 * 20, "m", "sha256:" + "0" * 64, channels=2, latent_dim=8)
    audio = np.random.default_rng(0).normal(0, 0.1, (2, 4096 * 20)).astype(np.float32)
    latents = latent_picture(header, [np.ones(header.shape, np.float32)])
    drawn = panels(monkeypatch, latents, spectrogram(AudioArray(audio, 44100)))
    labels = [axes.get_ylabel() for axes in drawn]
    assert "latents, channel 1 of 2" in labels
    assert "latents, channel 2 of 2" in labels
    assert "latents' RMS, dB" in labels
    assert "dBFS" in labels
    frequencies = drawn[labels.index("Hz (mel scale)")]
    rows = dict(zip((t.get_text() for t in frequencies.get_yticklabels()), frequencies.get_yticks(), strict=True))
    assert rows["5 k"] > 0.55 * ROWS, "most of the axis is for music"


@pytest.mark.slow
def test_half_a_minute_of_stereo_is_drawn_in_three_seconds():
    """Without the model's own work: 13 s before."""
    audio = np.random.default_rng(0).normal(0, 0.1, (2, 30 * 44100)).astype(np.float32)
    header = Header(44100, 30 * 44100, "m", "sha256:" + "0" * 64, channels=2, latent_dim=384)
    blocks = [np.ones(header.shape, np.float32)]
    began = time.process_time()
    draw("title", latent_picture(header, blocks), spectrogram(AudioArray(audio, 44100)), io.BytesIO())
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("plot a.wav", 2, "add -o a.png"),
        ("plot a.wav -o a.gif", 2, "write -o a.png"),
        ("plot a.wav -o a", 2, "write -o a.png"),
        ("plot missing.lat -o x.png", 1, "missing.lat: no such file"),
        ("plot a.wav -o none/x.png", 1, "mkdir -p"),
        ("plot a.wav -o there.png", 1, "--force"),
        ("plot there.png -o x.png", 1, "is not audio"),
        ("plot a.wav -o x.png --model none", 1, "no model 'none'"),
    ],
)
def test_mistakes_are_answered_in_a_line(files, capsys, line, code, remedy):
    (files / "there.png").write_bytes(b"mine")
    (complaint,) = run(capsys, *line.split(), code=code).splitlines()
    assert remedy in complaint
    assert (files / "there.png").read_bytes() == b"mine"
    assert not (files / "x.png").exists()
