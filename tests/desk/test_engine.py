"""A desk plays what `lincae render` gives; moves begin at a frame, without clicks; curves are what was heard."""

from dataclasses import replace

import numpy as np
import pytest

from lincae_core.arrangement.load import load
from lincae_core.desk.engine import AHEAD, RAMP, Player, between
from lincae_core.desk.state import Desk, Move, dumped
from lincae_formats import LincaeError, read_lat, write_lat
from lincae_formats.channels import remix

FRAME = 4096


@pytest.fixture
def player(model, desk):
    player = Player(model, desk.now, desk.folder)
    yield player
    player.close()


def same(found, wanted):
    """Equal but for float32 rounding."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def rest(player, into=None, frames=4):
    """Everything from here to the end, written at its place in the song."""
    sound = np.zeros((player.header.channels, player.total), np.float32) if into is None else into
    while chunk := player.next(frames):
        sound[:, chunk.song : chunk.song + chunk.audio.shape[1]] = chunk.audio
    return sound


def move(desk, player, name, key, value, frame=None, at=0.0):
    desk.move(Move(do="move", id=1, name=name, key=key, value=value, at=at), player.header, frame)


def test_it_plays_what_render_gives(player, song, rendered):
    wanted = rendered(song)
    same(rest(player, frames=3), wanted)
    player.play(100_000)  # the same from anywhere
    chunk = player.next(2)
    assert (chunk.stream, chunk.song) == (0, 100_000)
    same(chunk.audio, wanted[:, 100_000 : 100_000 + chunk.audio.shape[1]])


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("drums", "level", 4.0),
        ("bass", "solo", True),
        pytest.param("band", "mute", True, marks=pytest.mark.slow),
        pytest.param("vocals", "pan", 0.7, marks=pytest.mark.slow),
        pytest.param("vocals", "invert", True, marks=pytest.mark.slow),
        pytest.param("master", "level", -20.0, marks=pytest.mark.slow),
    ],
)
def test_a_move_is_heard_from_its_frame_on(player, desk, song, rendered, name, key, value):
    before = rendered(song)
    sound = np.zeros_like(before)
    for _ in range(6):  # 24 frames are sent, of which few were played
        chunk = player.next(4)
        sound[:, chunk.song : chunk.song + chunk.audio.shape[1]] = chunk.audio
    frame = player.moment(40_000)
    assert frame == 10
    move(desk, player, name, key, value)
    player.change(desk.song, frame)
    assert player.at == player.stream == frame * FRAME
    rest(player, sound)
    desk.save()
    # What is soloed is heard here, and a variant in the file.
    after = rendered(song, *(["--variant", "desk-solo"] if key == "solo" else []))
    same(sound[:, : frame * FRAME], before[:, : frame * FRAME])
    settled = (frame + RAMP + 7) * FRAME
    same(sound[:, settled:], after[:, settled:])
    # No clicks: at no sample does the sound jump by more than it does where nothing moves.
    jumps = np.abs(np.diff(sound[:, (frame - 1) * FRAME : settled], 2)).max()
    assert jumps <= 1.1 * max(np.abs(np.diff(x, 2)).max() for x in (before, after))


def test_levels_move_by_the_decibels_asked_for(player, desk):
    first = rest(player)
    move(desk, player, "master", "level", -14.0)
    player.change(desk.song, 0)
    player.play(0)
    ratio = np.linalg.norm(rest(player)) / np.linalg.norm(first)
    assert 20 * np.log10(ratio) == pytest.approx(-12, abs=0.05)


@pytest.mark.parametrize("before", [None, [(0, 1), (3, 0.5), (5, 1)]])
def test_what_is_recorded_is_what_was_heard(player, desk, song, rendered, before):
    tracks = desk.song.tracks
    vocals = tracks["vocals"].model_copy(update={"curve": before})
    desk.song = desk.song.model_copy(update={"tracks": {**tracks, "vocals": vocals}})
    player.change(desk.song, 0)
    player.play(0)
    sound = np.zeros((2, player.total), np.float32)

    def hear(chunks):
        for _ in range(chunks):
            chunk = player.next(4)
            sound[:, chunk.song : chunk.song + chunk.audio.shape[1]] = chunk.audio

    for level in (-8.0, -20.0, 2.0):
        hear(2)
        frame = player.moment(player.stream - 9000) + AHEAD
        move(desk, player, "vocals", "level", level, frame)
        player.change(desk.song, frame, {"vocals"})
    hear(3)
    frame = player.moment(player.stream - 9000) + AHEAD
    back = desk.punch_out(player.header, frame)
    assert back == (set() if before is None else {"vocals"})
    player.change(desk.song, frame, back)
    rest(player, sound)
    desk.save()
    # Sound that was played before a move was decoded without it: what that changes is less than 16 bits hold.
    np.testing.assert_allclose(sound, rendered(song), rtol=0, atol=1 / 32768)


def test_a_curve_goes_on_after_what_was_written_into_it(player, desk):
    before = desk.song.tracks["bass"]
    move(desk, player, "bass", "level", -20.0, 10)
    desk.punch_out(player.header, 15)
    times = (np.arange(54) + 0.5) * FRAME / 44100
    found = 20 * np.log10(desk.song.tracks["bass"].automation.at(times))
    wanted = 20 * np.log10(before.automation.at(times))
    assert np.abs(found - wanted)[[*range(10), *range(16, 54)]].max() < 0.6
    np.testing.assert_allclose(found[11:15], -20, atol=1e-6)
    assert desk.undo()
    assert desk.song.tracks["bass"] == before


def test_writing_in_a_loop_keeps_points_in_order(player, desk):
    for frame, db in ((40, -20.0), (5, -6.0), (44, 3.0), (4, -9.0)):
        move(desk, player, "bass", "level", db, frame)
    desk.punch_out(player.header, 0)
    times = [time for time, _ in desk.song.tracks["bass"].curve]
    assert times == sorted(times)
    assert load(dumped(desk.song), "again.yaml").song == desk.song


def test_a_loop_repeats_its_part(player, song, rendered):
    wanted = rendered(song)
    player.loop = (50_000, 90_000)
    player.play(40_000)
    sound = np.concatenate([player.next(3).audio for _ in range(14)], axis=1)
    same(sound[:, :50_000], wanted[:, 40_000:90_000])
    same(sound[:, 50_000 + 256 : 90_000], wanted[:, 50_256:90_000])


def test_a_meter_shows_the_level_of_its_track(player, desk):
    levels = np.concatenate([c.meters for c in iter(lambda: player.next(4), None)], axis=1)
    assert levels.shape == (4, 54)  # three tracks and a bus
    move(desk, player, "drums", "level", -9.0)
    player.change(desk.song, 0)
    player.play(0)
    lower = np.concatenate([c.meters for c in iter(lambda: player.next(4), None)], axis=1)
    loud = levels[0] > -80
    np.testing.assert_allclose((levels - lower)[0][loud], 6.0, atol=0.05)
    np.testing.assert_allclose(levels[1:3], lower[1:3])


def test_mono_tracks_with_one_pan_of_which_nothing_is_left(model, stems, tmp_path):
    z = read_lat(stems / "bass.lat")
    write_lat(remix(z, [[1, 0]]), tmp_path / "mono.lat")
    text = "tracks:\n  a: {file: mono.lat, pan: 0.5}\n  b: {file: mono.lat, gain: 0.5}\n"
    desk = Desk(load(text, "song.yaml"), tmp_path, tmp_path / "song.yaml", False)
    player = Player(model, desk.now, tmp_path)
    first = player.next(4).audio
    assert np.abs(first[1]).max() > 1.5 * np.abs(first[0]).max()
    frame = player.moment(0)
    move(desk, player, "a", "pan", None)
    player.change(desk.song, frame)
    sound = rest(player)
    np.testing.assert_array_equal(sound[0, 9 * FRAME :], sound[1, 9 * FRAME :])
    player.close()
    with pytest.raises(LincaeError, match="one channel"):
        desk.move(Move(do="move", id=1, name="a", key="pan", value=0.5), replace(player.header, channels=1))


def test_moves_lie_between_the_settings(desk, player):
    a = desk.song
    move(desk, player, "drums", "invert", True)
    move(desk, player, "bass", "mute", True)
    way = between(a, desk.song, 0.25, player.header, 20)
    assert way.tracks["drums"].factor == pytest.approx(0.5 * a.tracks["drums"].gain)
    assert not way.tracks["bass"].mute
    assert way.tracks["vocals"] == a.tracks["vocals"]


def test_what_is_saved_is_read_back(desk, player):
    move(desk, player, "drums", "level", -3.3)
    move(desk, player, "vocals", "solo", True)
    move(desk, player, "band", "level", 1.7, 5)
    desk.punch_out(player.header, 20)
    again = load(dumped(desk.song), "again.yaml").song
    assert again == desk.song
    assert "gain: -3.30dB" in dumped(desk.song)
