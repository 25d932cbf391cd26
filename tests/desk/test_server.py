"""The server of a desk: who is let in, what it refuses, and what pages do to each other."""

import json
import struct
import time

import pytest

pytest.importorskip("starlette")
from starlette.testclient import TestClient, WebSocketDisconnect

from lincae_core.desk import server as desk_server
from lincae_core.desk.server import HEADER, Server

BASE = "http://127.0.0.1:8000"
GOOD = {"origin": BASE, "host": "127.0.0.1:8000"}


@pytest.fixture
def server(desk, model):
    return Server(desk, model, token="token")


@pytest.fixture
def client(server):
    with TestClient(server.app(port=8000), base_url=BASE) as client:
        yield client


class Page:
    """A page's socket."""

    def __init__(self, socket):
        self.socket = socket
        self.welcome = self.until("welcome")

    def say(self, do, **more):
        self.socket.send_text(json.dumps({"do": do, **more}))

    def until(self, kind, limit=200):
        for _ in range(limit):
            found = self.socket.receive()
            assert found["type"] == "websocket.send", found
            if kind == "sound" and found.get("bytes"):
                return HEADER.unpack(found["bytes"][: HEADER.size]), found["bytes"]
            if found.get("text") and json.loads(found["text"])["type"] == kind:
                return json.loads(found["text"])
        raise AssertionError(f"no {kind}")


def page(client, path="/token/socket", **headers):
    return client.websocket_connect(path, headers={**GOOD, **headers})


def ended(socket):
    """The code with which the server closes a socket."""
    while (found := socket.receive())["type"] != "websocket.close":
        pass
    return found["code"]


def closed(client, path="/token/socket", **headers):
    with pytest.raises(WebSocketDisconnect) as found, page(client, path, **headers) as socket:
        socket.receive_text()
    return found.value.code


def test_the_page_is_served_below_the_token_only(client):
    for name, kind in (("", "text/html"), ("desk.js", "text/javascript"), ("desk.css", "text/css")):
        found = client.get(f"/token/{name}")
        assert found.status_code == 200
        assert found.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in found.headers["content-security-policy"]
    for path in ("/", "/desk.js", "/nekot/", "/token/../song.yaml", "/token/song.yaml", "/token/%2e%2e/server.py",
                 "/token/server.py", "/token//etc/passwd", "/nekot/export/wav", "/token/export/sh"):  # fmt: skip
        assert client.get(path).status_code == 404, path


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8000", 200), ("localhost:8000", 200), ("[::1]:8000", 200), ("evil.example:8000", 403),
     ("127.0.0.1:8001", 403), ("127.0.0.1", 403), ("127.0.0.1.evil.example:8000", 403), ("", 403)],
)  # fmt: skip
def test_other_names_are_refused(client, host, status):
    assert client.get("/token/", headers={"host": host}).status_code == status


def test_sockets_of_other_origins_are_refused(client):
    assert closed(client, origin="http://evil.example") == 1008
    assert closed(client, origin="null") == 1008
    assert closed(client, origin="http://127.0.0.1:9000") == 1008
    assert closed(client, "/nekot/socket") == 1008
    assert closed(client, host="evil.example:8000", origin="http://evil.example:8000") == 1008
    assert client.get("/token/", headers={"origin": "http://evil.example"}).status_code == 403


BAD = [
    "", "x", "[]", "{}", "null",
    '{"do": "open", "file": "/etc/passwd"}', '{"do": "play"}', '{"do": "save", "as": "/tmp/x"}',
    '{"do": "play", "at": -1, "generation": 1}', '{"do": "play", "at": NaN, "generation": 1}',
    '{"do": "play", "at": 1e999, "generation": 1}', '{"do": "heard", "generation": 1, "samples": 1e30}',
    '{"do": "move", "id": 1, "name": "nobody", "key": "level", "value": 1}',
    '{"do": "move", "id": 1, "name": "drums", "key": "file", "value": 1}',
]  # fmt: skip


def test_bad_messages_are_refused_and_then_the_page(client, server):
    with page(client) as socket:
        open_page = Page(socket)
        for text in BAD:
            socket.send_text(text)
            assert open_page.until("error")["text"]
        assert server.desk.revision == 0
        for _ in range(20 - len(BAD)):
            socket.send_text("x")
        assert ended(socket) == 1008


@pytest.mark.parametrize(
    ("key", "value"),
    [("level", 99), ("level", True), ("level", None), ("mute", 1), ("mute", None),
     ("pan", 2), ("pan", True), ("curve", 3),
     ("invert", 0.5), ("solo", "yes")],
)  # fmt: skip
def test_values_out_of_range_are_refused(client, server, key, value):
    with page(client) as socket:
        open_page = Page(socket)
        open_page.say("move", id=1, name="drums", key=key, value=value)
        assert open_page.until("error")["text"]
        assert not server.desk.dirty


def test_large_and_binary_messages_end_the_connection(client):
    for send in (lambda s: s.send_text("x" * 5000), lambda s: s.send_bytes(b"x")):
        with page(client) as socket:
            Page(socket)
            send(socket)
            assert ended(socket) == 1009


def test_no_more_pages_than_it_can_serve(client, monkeypatch):
    monkeypatch.setattr(desk_server, "MAX_PAGES", 1)
    with page(client) as socket:
        Page(socket)
        with page(client) as other:
            assert json.loads(other.receive_text())["text"] == "1 pages are open already; close one"
            assert ended(other) == 1013


def test_pages_share_settings_and_not_the_transport(client, server):
    with page(client) as one, page(client) as two:
        first, second = Page(one), Page(two)
        first.say("play", at=1.0, generation=7)
        (generation, _, stream, song, *_), _ = first.until("sound")
        assert (generation, stream, song) == (7, 0, 44100)
        second.say("play", at=3.0, generation=1)
        (generation, _, stream, song, *_), _ = second.until("sound")
        assert (generation, stream, song) == (1, 0, 132300)
        second.say("pause")
        first.say("heard", generation=7, samples=20000)
        (generation, _, stream, *_), _ = first.until("sound")
        assert generation == 7
        second.say("move", id=1, name="drums", key="mute", value=True)
        assert first.until("settings")["members"]["drums"]["mute"]
        assert server.desk.song.tracks["drums"].mute


def test_a_move_changes_what_was_not_played_yet(client):
    with page(client) as socket:
        open_page = Page(socket)
        open_page.say("play", at=0.0, generation=1)
        ends = 0
        while ends < 30000:  # most of what it sends before anything is heard
            (_, _, stream, _, _, count, _, _), _ = open_page.until("sound")
            ends = stream + count
        began = time.monotonic()
        open_page.say("move", id=5, name="master", key="level", value=-60.0)
        move = 0
        while move < 5:
            (_, move, stream, _, channels, count, members, frames), data = open_page.until("sound")
        took = time.monotonic() - began
        assert stream < ends  # what was sent before is replaced
        assert stream % 4096 == 0
        assert (channels, members) == (2, 4)
        assert len(data) == HEADER.size + 4 * (members * frames + channels * count)
        last = struct.unpack(f"<{count}f", data[-4 * count :])
        assert max(map(abs, last[6144:])) < 1e-4  # silent from the second frame on
        assert took < 5  # in truth 0.1 s; bench/desk.py measures it


def test_files_that_are_damaged_or_gone_are_named(client, song):
    bass = song.parent / "bass.lat"
    data = bass.read_bytes()
    bass.unlink()  # a link to what other tests read
    bass.write_bytes(data)
    with page(client) as socket:
        open_page = Page(socket)
        with open(bass, "r+b") as file:
            file.truncate(3000)
        open_page.say("play", at=0.0, generation=1)
        error = open_page.until("error")
        assert error["stop"]
        assert "bass.lat" in error["text"]
        bass.unlink()
        with page(client) as other:
            error = json.loads(other.receive_text())
            assert error["final"]
            assert "there is no file 'bass.lat'" in error["text"]
            assert ended(other) == 1011
        open_page.say("move", id=1, name="drums", key="mute", value=True)  # the first page lives on
        assert open_page.until("settings")["members"]["drums"]["mute"]
        found = client.get("/token/export/wav")
        assert found.status_code == 409
        while "nothing was exported" not in open_page.until("error")["text"]:
            pass


def test_what_is_recorded_ends_where_record_is_switched_off(client, server):
    with page(client) as socket:
        open_page = Page(socket)
        open_page.say("record", on=True)
        open_page.say("play", at=0.0, generation=1)
        open_page.until("sound")
        open_page.say("move", id=1, name="bass", key="level", value=-20.0)
        while "bass" not in open_page.until("settings")["recording"]:
            pass
        open_page.say("record", on=False)
        while open_page.until("settings")["recording"]:
            pass
        curve = server.desk.song.tracks["bass"].curve
        assert min(gain for _, gain in curve) == pytest.approx(0.1)
        assert curve[-1] == (4.0, 1.0)  # what was there before goes on


def test_for_listening_only(desk, model, song):
    text = song.read_text()
    with TestClient(Server(desk, model, read_only=True, token="token").app(port=8000), base_url=BASE) as client:
        with page(client) as socket:
            open_page = Page(socket)
            assert open_page.welcome["readOnly"]
            for say in ({"do": "move", "id": 1, "name": "drums", "key": "mute", "value": True}, {"do": "save"},
                        {"do": "undo"}, {"do": "record", "on": True}):  # fmt: skip
                open_page.say(**say)
                assert "listening only" in open_page.until("error")["text"]
            open_page.say("play", at=0.0, generation=1)
            open_page.until("sound")
        assert client.get("/token/export/lat").status_code == 200
    assert not desk.dirty
    assert song.read_text() == text


def test_saving_and_undoing(client, server, song):
    with page(client) as socket:
        open_page = Page(socket)
        open_page.say("move", id=1, name="drums", key="level", value=-7.5)
        assert open_page.until("settings")["dirty"]
        open_page.say("save")
        assert not open_page.until("settings")["dirty"]
        assert "gain: -7.50dB" in song.read_text()
        open_page.say("undo")
        assert open_page.until("settings")["members"]["drums"]["gain"] == pytest.approx(10 ** (-3 / 20))
        song.write_text(song.read_text() + "# by hand\n")
        open_page.say("save")
        assert "changed by another program" in open_page.until("error")["text"]
        assert "# by hand" in song.read_text()


def test_exports_are_what_render_gives(client, server, song, rendered, tmp_path):
    import numpy as np
    import soundfile as sf

    from lincae_formats import read_lat

    found = client.get("/token/export/wav")
    assert found.headers["content-disposition"] == 'attachment; filename="demo.wav"'
    (tmp_path / "got.wav").write_bytes(found.content)
    wanted = rendered(song)
    got = sf.read(tmp_path / "got.wav", dtype="float32", always_2d=True)[0].T
    np.testing.assert_allclose(got, np.clip(wanted, -1, 1), atol=1.1 / 32768)
    (tmp_path / "got.lat").write_bytes(client.get("/token/export/lat").content)
    assert read_lat(tmp_path / "got.lat").header.num_samples == wanted.shape[1]
    assert client.get("/token/export/flac").content[:4] == b"fLaC"
