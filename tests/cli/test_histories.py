"""info --history draws where a file came from; info --level tells how loud it is."""

import json

import pytest
from cli_helpers import make_lat

from lincae_formats import Latents, read_lat, write_lat


def test_the_whole_story_is_drawn(cli):
    make_lat(cli.folder / "song.lat", 1, num_samples=441_000)
    make_lat(cli.folder / "vocals.lat", 2, num_samples=441_000)
    cli.ok("subtract", "song.lat", "vocals.lat:-6dB", "-o", "rest.lat")
    cli.ok("gain", "rest.lat", "--curve", "0:-inf 2:0dB", "-o", "risen.lat")
    cli.ok("invert", "risen.lat", "-o", "flipped.lat")
    cli.noted("mix", "flipped.lat:0.5@1", "vocals.lat:-1", "-o", "mixed.lat")
    cli.noted("slice", "mixed.lat", "--end", "5", "-o", "cut.lat")
    cli.noted("shift", "cut.lat", "--by", "-1", "-o", "moved.lat")
    cli.ok("fade", "moved.lat", "--in", "1", "--out", "2", "--shape", "sine", "-o", "out.lat")
    assert cli.ok("info", "out.lat", "--history") == (
        "out.lat\n"
        "├── mix\n"
        "│   ├── flipped.lat  -6.0 dB  at 0:01.022\n"
        "│   │   ├── subtract\n"
        "│   │   │   ├── song.lat\n"
        "│   │   │   │   └── encode x.wav\n"
        "│   │   │   └── less vocals.lat  -6.0 dB\n"
        "│   │   │       └── encode x.wav\n"
        "│   │   ├── gain curve: 0:00 silent, 0:02 0.0 dB\n"
        "│   │   └── invert\n"
        "│   └── vocals.lat  0.0 dB, inverted\n"
        "│       └── encode x.wav\n"
        "├── slice 0:00 to 0:05.016\n"
        "├── shift by -0:01.022\n"
        "└── fade in 0:01, out 0:02, sine\n"
    )
    (facts,) = json.loads(cli.ok("info", "out.lat", "--history", "--json"))
    assert facts["history"] == list(read_lat("out.lat").history)


def test_histories_of_other_programs_are_drawn_too(cli):
    z = make_lat(cli.folder / "a.lat")
    history = [
        {"op": "gain"},
        {"op": "slice", "start_frame": "three"},
        {"op": "mix", "operands": [3, {"gain": "loud"}, {"history": "none"}]},
        {"op": "elided"},
        {"op": "\x1b[31m", "x": "y\nz"},
    ]
    write_lat(Latents(z.data, z.header, history), cli.folder / "b.lat")
    text = cli.ok("info", "b.lat", "--history")
    assert len(text.splitlines()) == 9
    assert "\x1b" not in text
    assert "too long to keep" in text


def test_levels_move_with_the_gain(cli):
    make_lat(cli.folder / "a.lat")
    cli.ok("gain", "a.lat", "--db", "-6", "-o", "b.lat")
    cli.ok("gain", "a.lat", "--db", "-inf", "-o", "c.lat")
    a, b, c = json.loads(cli.ok("info", "a.lat", "b.lat", "c.lat", "--level", "--json"))
    assert b["level_db"] - a["level_db"] == pytest.approx(-6, abs=0.01)
    assert c["level_db"] is None
    rows = cli.ok("info", "a.lat", "b.lat", "c.lat", "--level").splitlines()
    assert rows[0].split()[-1] == "level"
    assert rows[1].endswith(f"{a['level_db']:.2f} dB RMS")
    assert rows[3].endswith("silent")
    assert "level_db" not in json.loads(cli.ok("info", "a.lat", "--json"))[0]
