"""The command `lincae desk`: what it refuses, and where it saves."""

import pytest

from lincae_cli.app import main
from lincae_core.arrangement.load import load
from lincae_core.desk.state import arrangement

pytest.importorskip("uvicorn")


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("desk", 2, "lincae desk song.yaml"),
        ("desk none.yaml", 1, "no such file"),
        ("desk none.lat drums.lat", 1, "no such file"),
        ("desk empty", 1, "empty"),
        ("desk drums.lat song.wav", 1, "lincae encode song.wav"),
        ("desk -", 2, "name files"),
        ("desk song.yaml drums.lat", 2, "lincae desk song.yaml"),
        ("desk song.yaml -o mix.lat", 2, "write -o song.yaml"),
        ("desk song.yaml -o elsewhere/mix.yaml", 2, "write -o mix.yaml"),
        ("desk song.yaml song.yaml", 2, "opens one arrangement"),
        ("desk drums.lat -o song.yaml", 1, "--force"),
        ("desk song.yaml --port 99999", 2, "--port"),
        ("desk song.yaml --host 192.0.2.1 --no-browser", 1, "choose another --port or --host"),
    ],
)
def test_one_line_that_names_the_remedy(song, monkeypatch, capsys, line, code, remedy):
    monkeypatch.chdir(song.parent)
    (song.parent / "empty").mkdir()
    (song.parent / "song.wav").write_bytes(b"RIFF")
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert remedy in err


def test_stems_become_tracks_of_their_names(song):
    text = arrangement(["drums.lat", "sub/drums.lat", "master.lat", "drums 2.lat"])
    tracks = load(text, "desk.yaml").song.tracks
    assert {name: track.file for name, track in tracks.items()} == {
        "drums": "drums.lat", "drums 2": "sub/drums.lat", "master 2": "master.lat",
        "drums 2 2": "drums 2.lat",
    }  # fmt: skip


def test_a_model_that_cannot_be_played_is_refused(tiny_model, tmp_path, monkeypatch, capsys):
    import numpy as np

    import lincae_core as lincae

    monkeypatch.chdir(tmp_path)
    lincae.write_lat(lincae.load(tiny_model, device="cpu").encode(np.zeros((1, 9000), np.float32), 44100), "a.lat")
    assert main(["desk", "a.lat", "--model", str(tiny_model), "--no-browser"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "encode the audio again" in err


def test_a_folder_of_stems_of_several_rates(stems, tmp_path, monkeypatch, capsys):
    from dataclasses import replace

    from lincae_core.desk import server
    from lincae_formats import read_lat, write_lat

    z = read_lat(stems / "bass.lat")
    header = replace(z.header, sample_rate=48000, num_samples=round(z.header.num_samples * 48000 / 44100))
    write_lat(replace(z, header=header), tmp_path / "bass.lat")
    (tmp_path / "drums.lat").hardlink_to(stems / "drums.lat")
    served = []
    monkeypatch.setattr(server, "serve", lambda server, *_: served.append(server))
    monkeypatch.chdir(tmp_path)
    assert main(["desk", ".", "--no-browser"]) == 0
    assert "sample rates differ" in capsys.readouterr().err
    assert list(served[0].desk.song.tracks) == ["bass", "drums"]
    player = served[0].player()
    assert player.next(2).audio.shape == (2, 2 * 4096)
    player.close()
