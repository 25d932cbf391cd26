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
        ("desk song.yaml -o mix.lat", 2, "write -o song.yaml"),
        ("desk song.yaml -o elsewhere/mix.yaml", 2, "write -o mix.yaml"),
        ("desk song.yaml song.yaml", 2, "opens one arrangement"),
        ("desk drums.lat -o song.yaml", 1, "--force"),
        ("desk song.yaml --port 99999", 2, "--port"),
        ("desk song.yaml --host 192.0.2.1 --no-browser", 1, "choose another --port"),
    ],
)
def test_one_line_that_names_the_remedy(song, monkeypatch, capsys, line, code, remedy):
    monkeypatch.chdir(song.parent)
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
