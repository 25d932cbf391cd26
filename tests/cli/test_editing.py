"""slice, pad, repeat, concat, crossfade, shift and fade as a user types them, through files and pipes."""

import subprocess
import sys

import numpy as np
import pytest
from cli_helpers import environment, make_lat

from lincae_formats import read_lat

FRAME = 4096 / 44100  # s


@pytest.fixture
def song(cli):
    """Ten seconds in `song.lat`."""
    return make_lat(cli.folder / "song.lat", 1, num_samples=441_000)


def test_a_slice_is_rounded_to_frames_with_notes(cli, song):
    first, second = cli.noted("slice", "song.lat", "--start", "2.5", "--end", "0:05", "-o", "part.lat")
    assert first == "--start 2.5 s lies between two frames; 2.508 s is used"
    assert second == "--end 5 s lies between two frames; 5.016 s is used"
    part = read_lat("part.lat")
    np.testing.assert_array_equal(part.data, song.data[:, :, 27:54])
    assert part.num_samples == 27 * 4096
    assert part.history[-1] == {"op": "slice", "start_frame": 27, "stop_frame": 54}


def test_a_slice_on_frames_or_to_the_end_has_no_note(cli, song):
    cli.ok("slice", "song.lat", "--start", f"{27 * FRAME:.6f}", "-o", "tail.lat")
    assert read_lat("tail.lat").num_samples == 441_000 - 27 * 4096
    cli.ok("slice", "song.lat", "--end", "10", "-o", "all.lat")
    assert read_lat("all.lat").header == song.header


def test_an_end_beyond_the_file_is_noted(cli, song):
    for options, name in ((["--end", "1:00:00"], "--end"), (["--start", "0", "--duration", "30"], "--duration")):
        notes = cli.noted("slice", "song.lat", *options, "-o", "all.lat", "-f")
        assert notes == [f"{name} reaches beyond the end of the audio; 10.000 s is used"]
        assert read_lat("all.lat").header == song.header


def test_parts_put_together_again_are_the_whole(cli, song):
    cli.noted("slice", "song.lat", "--end", "4", "-o", "1.lat")
    cli.noted("slice", "song.lat", "--start", "4", "-o", "2.lat")
    cli.ok("concat", "1.lat", "2.lat", "-o", "whole.lat")  # nothing to note: the first part ends with a frame
    whole = read_lat("whole.lat")
    np.testing.assert_array_equal(whole.data, song.data)
    assert whole.header == song.header


def test_concat_notes_the_silence_after_a_part(cli, song):
    make_lat(cli.folder / "b.lat", 2, channels=2, num_samples=4096 * 3 - 1000)
    (note,) = cli.noted("concat", "b.lat", "song.lat", "song.lat", "-o", "out.lat")
    assert note == "song.lat is followed by 31 ms of silence, to the end of its last frame, and 1 more by less"
    out = read_lat("out.lat")
    assert out.num_samples == (3 + 108) * 4096 + 441_000
    np.testing.assert_array_equal(out.data[0, :, 3:111], song.data[0])
    np.testing.assert_array_equal(out.data[1, :, 3:111], song.data[0])
    assert [o["name"] for o in out.history[0]["operands"]] == ["b.lat", "song.lat", "song.lat"]


def test_shifted_there_and_back(cli, song):
    assert cli.noted("shift", "song.lat", "--by", "1:00", "-o", "later.lat") == [
        "--by 60 s lies between two frames; 60.0004 s is used"
    ]
    later = read_lat("later.lat")
    assert later.num_samples == 441_000 + 646 * 4096
    assert not later.data[:, :, :646].any()
    cli.noted("shift", "later.lat", "--by", "-1:00", "-o", "back.lat")
    back = read_lat("back.lat")
    assert back.header == song.header
    np.testing.assert_array_equal(back.data, song.data)


def test_fades(cli, song):
    cli.ok("fade", "song.lat", "--in", "2", "--out", "3", "--shape", "sine", "-o", "faded.lat")
    t = (np.arange(108) + 0.5) * FRAME
    factors = np.sin(np.pi / 2 * np.clip(t / 2, 0, 1)) * np.sin(np.pi / 2 * np.clip((10 - t) / 3, 0, 1))
    np.testing.assert_allclose(read_lat("faded.lat").data, song.data * factors, rtol=1e-3, atol=1e-6)
    (note,) = cli.noted("fade", "song.lat", "--in", "0.05", "-o", "click.lat")
    assert "shorter than a latent frame (93 ms)" in note
    (note,) = cli.noted("fade", "song.lat", "--in", "6", "--out", "5", "-o", "never.lat")
    assert note == "--in 6 s and --out 5 s: longer than a file, which never reaches its full level"
    cli.ok("fade", "song.lat", "--in", "5", "--out", "5", "-o", "just.lat")


def test_no_note_speaks_of_0_ms_of_silence(cli, song):
    make_lat(cli.folder / "b.lat", 2, num_samples=4096 * 3 - 10)  # 0.2 ms short of a whole frame
    cli.ok("concat", "b.lat", "song.lat", "-o", "out.lat")
    cli.ok("repeat", "b.lat", "--times", "3", "-o", "again.lat")


@pytest.mark.parametrize(
    ("options", "first", "last"),
    [
        (("--start", "-3"), 75, 108),  # 10 - 3 = 7 s
        (("--end", "-3"), 0, 75),
        (("--start", "2", "--duration", "3"), 22, 54),
        (("--duration", "5"), 0, 54),
        (("--start", "-5", "--duration", "2"), 54, 75),
        (("--start", "-60"), 0, 108),
        (("--start", "8", "--duration", "60"), 86, 108),
    ],
)
def test_times_from_the_end_and_durations(cli, song, options, first, last):
    cli.noted("slice", "song.lat", *options, "-o", "part.lat")
    np.testing.assert_array_equal(read_lat("part.lat").data, song.data[:, :, first:last])


def test_padding_adds_silence_at_both_ends(cli, song):
    (note,) = cli.noted("pad", "song.lat", "--before", "1", "--after", "2.5", "-o", "out.lat")
    assert note == "--before 1 s lies between two frames; 1.022 s is used"
    out = read_lat("out.lat")
    assert out.num_samples == 441_000 + 11 * 4096 + round(2.5 * 44100)
    np.testing.assert_array_equal(out.data[:, :, 11:119], song.data)
    assert not out.data[:, :, :11].any()
    assert not out.data[:, :, 119:].any()
    cli.ok("pad", "song.lat", "--to", "12", "-o", "to.lat")
    assert read_lat("to.lat").num_samples == 12 * 44100
    cli.ok("pad", "song.lat", "--to", "3", "-o", "same.lat")  # long enough already
    assert read_lat("same.lat").num_samples == 441_000


def test_a_loop_is_repeated(cli):
    z = make_lat(cli.folder / "loop.lat", 3, num_samples=5 * 4096)
    cli.ok("repeat", "loop.lat", "--times", "4", "-o", "out.lat")
    out = read_lat("out.lat")
    np.testing.assert_array_equal(out.data, np.tile(z.data, (1, 1, 4)))
    assert out.num_samples == 20 * 4096
    make_lat(cli.folder / "odd.lat", 3, num_samples=5 * 4096 - 1000)
    (note,) = cli.noted("repeat", "odd.lat", "--times", "2", "-o", "two.lat")
    assert "odd.lat is followed by 23 ms of silence" in note
    cli.ok("repeat", "odd.lat", "--times", "1", "-o", "one.lat")
    assert read_lat("one.lat").num_samples == 5 * 4096 - 1000


def test_a_crossfade_overlaps_and_keeps_the_rest(cli):
    a = make_lat(cli.folder / "a.lat", 1, num_samples=4096 * 50)
    b = make_lat(cli.folder / "b.lat", 2, num_samples=4096 * 40)
    seconds = 10 * FRAME
    cli.ok("crossfade", "a.lat", "b.lat", "--over", f"{seconds:.9f}", "-o", "out.lat")
    out = read_lat("out.lat")
    assert out.num_samples == 4096 * 80
    np.testing.assert_array_equal(out.data[:, :, :40], a.data[:, :, :40])
    np.testing.assert_array_equal(out.data[:, :, 50:], b.data[:, :, 10:])
    t = (np.arange(10) + 0.5) / 10
    wanted = a.data[:, :, 40:] * np.cos(np.pi / 2 * t) + b.data[:, :, :10] * np.sin(np.pi / 2 * t)
    np.testing.assert_allclose(out.data[:, :, 40:50], wanted, atol=4e-3)
    (note,) = cli.noted("crossfade", "a.lat", "b.lat", "a.lat", "--over", "1", "--shape", "s-curve", "-o", "three.lat")[
        :1
    ]
    assert "b.lat at " in note
    assert read_lat("three.lat").num_samples == pytest.approx(4096 * 140 - 2 * 44100, abs=4096)


@pytest.mark.parametrize(
    ("shape", "middle"), [("linear", 0.5), ("sine", 0.7071), ("s-curve", 0.5), ("exp", 10**-1.5), ("log", 1 - 10**-1.5)]
)
def test_fade_shapes(cli, song, shape, middle):
    cli.ok("fade", "song.lat", "--in", "6", "--shape", shape, "-o", "out.lat")
    ratio = read_lat("out.lat").data / song.data
    rise = np.median(ratio, axis=(0, 1))
    assert (np.diff(rise[:60]) > -1e-3).all()
    np.testing.assert_allclose(rise[66:], 1, atol=1e-3)
    assert rise[0] < 0.06
    assert np.interp(3.0, (np.arange(108) + 0.5) * FRAME, rise) == pytest.approx(middle, abs=0.02)


def test_folders_are_mirrored_and_notes_are_said_once(cli, song):
    for i in range(3):
        make_lat(cli.folder / "in" / f"{i}" / "x.lat", i, num_samples=44100)
    (note,) = cli.noted("slice", "in", "--start", "0.5", "-o", "out/")
    assert "0.464 s is used" in note
    for i in range(3):
        assert read_lat(f"out/{i}/x.lat").frames == 6
    make_lat(cli.folder / "in" / "short.lat", num_samples=1000)
    code, _, err = cli.run("slice", "in", "--start", "0.6", "-o", "out2/")
    assert code == 1
    assert "short.lat holds no frame from 0.6 s on: it ends at 0.0226757 s" in err
    assert "1 of 4 files failed" in err


def test_a_chain_of_pipes_gives_what_files_give(cli, song):
    lincae = f"{sys.executable} -m lincae_cli"
    line = f"{lincae} gain - --db -6 -o - < song.lat | {lincae} shift - --by {3 * FRAME!r} - "
    line += f"| {lincae} concat - song.lat -o - > piped.lat"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=cli.folder, env=environment(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
    cli.ok("gain", "song.lat", "--db", "-6", "-o", "1.lat")
    cli.ok("shift", "1.lat", "--by", f"{3 * FRAME!r}", "-o", "2.lat")
    cli.noted("concat", "2.lat", "song.lat", "-o", "filed.lat")
    piped, filed = read_lat("piped.lat"), read_lat("filed.lat")
    assert (piped.header, piped.data.tobytes()) == (filed.header, filed.data.tobytes())
    names = [[o["name"] for o in z.history[0]["operands"]] for z in (piped, filed)]
    assert names == [["<stdin>", "song.lat"], ["2.lat", "song.lat"]]


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("slice song.lat -o x.lat", 2, "--start 1:00"),
        ("slice song.lat --start 5 --end 3 -o x.lat", 2, "later --end"),
        ("slice song.lat --start soon -o x.lat", 2, "--start 1:23.5"),
        ("slice song.lat --start 20 -o x.lat", 1, "it ends at 10 s"),
        ("slice song.lat --start 1 --end 1.01 -o x.lat", 1, "longer part"),
        ("slice song.lat --end 2 --duration 1 -o x.lat", 2, "keep one"),
        ("slice song.lat --start 5 --end -6 -o x.lat", 1, "not after"),
        ("slice song.lat --duration 0 -o x.lat", 2, "--duration 25m"),
        ("pad song.lat -o x.lat", 2, "--before 2"),
        ("pad song.lat --after 1 --to 20 -o x.lat", 2, "keep one"),
        ("repeat song.lat -o x.lat", 2, "--times 8"),
        ("repeat song.lat --times 0 -o x.lat", 2, "--times 1"),
        ("crossfade song.lat --over 2 -o x.lat", 2, "name two or more"),
        ("crossfade song.lat song.lat -o x.lat", 2, "--over 2s"),
        ("crossfade song.lat song.lat --over 20 -o x.lat", 1, "longer than song.lat"),
        ("slice song.lat --end 1", 2, "-o out.lat"),
        ("shift song.lat -o x.lat", 2, "--by 1:23.5"),
        ("shift song.lat --by later -o x.lat", 2, "or -2.5"),
        ("shift song.lat --by -20 -o x.lat", 1, "move it by less"),
        ("shift song.lat --by 999999 -o x.lat", 1, "100 hours"),
        ("fade song.lat -o x.lat", 2, "--in 2"),
        ("fade song.lat --in -1 -o x.lat", 2, "--in 1:23.5"),
        ("fade song.lat --in 1 --shape square -o x.lat", 2, "--shape"),
        ("concat song.lat", 2, "-o out.lat"),
        ("concat - - -o x.lat", 2, "only once"),
        ("concat song.lat none.lat -o x.lat", 1, "no such file"),
        ("concat song.lat -o song.lat --force", 2, "is an input"),
    ],
)
def test_one_line_that_names_the_remedy(cli, song, line, code, remedy):
    assert remedy in cli.refused(code, *line.split())
    assert [p.name for p in cli.folder.iterdir()] == ["song.lat"]
