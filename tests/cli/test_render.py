"""lincae render: arrangements, their variants, what is wrong with them, and what they may not do."""

import os

import numpy as np
import pytest
from cli_helpers import make_lat

from lincae_formats import Curve, Fade, Group, Header, Latents, LatReader, algebra, collect, read_lat, write_lat

FRAME = 4096 / 44100  # s
SONG = """\
tracks:
  drums: {file: stems/drums.lat, bus: band}
  bass:
    file: stems/bass.lat
    bus: band
    offset: 0:02
    curve: "0:0dB 3:0dB 4:-inf"
  vocals: {file: vocals.lat, gain: -2dB, offset: 1, subtract: stems/bleed.lat, fade_in: 1}
  take2: {file: vocals.lat, start: 1, end: 2, mute: true, invert: true}
buses:
  band: {gain: -1dB}
master: {fade_out: 2}
variants:
  karaoke: {mute: vocals}
  practice: {gain: {band: -6dB, vocals: 3dB}}
  second: {mute: [vocals], unmute: [take2]}
  band only: {solo: band}
"""


@pytest.fixture
def stems(cli):
    """Four files and `song.yaml`."""
    made = {
        "stems/drums.lat": make_lat(cli.folder / "stems/drums.lat", 1, num_samples=441_000),
        "stems/bass.lat": make_lat(cli.folder / "stems/bass.lat", 2, num_samples=200_000),
        "stems/bleed.lat": make_lat(cli.folder / "stems/bleed.lat", 3, num_samples=100_000),
        "vocals.lat": make_lat(cli.folder / "vocals.lat", 4, channels=2, num_samples=300_000),
    }
    (cli.folder / "song.yaml").write_text(SONG)
    return made


def frame(z, seconds):
    return z.header.nearest(seconds).frame


def expected(stems, *, band=10 ** (-1 / 20), vocals=10 ** (-2 / 20), take2=0.0):
    """The song by the algebra that the other tests check."""
    drums, bass, bleed, voice = (
        stems[k] for k in ("stems/drums.lat", "stems/bass.lat", "stems/bleed.lat", "vocals.lat")
    )
    at, two = frame(voice, 1), frame(bass, 2)
    shaped = algebra.gain(bass, Curve([(0, 1), (3, 1), (4, 0)]), offset=two)
    group = algebra.mix([drums, shaped], offsets=[0, two])
    clean = algebra.subtract(voice, [bleed])
    risen = algebra.gain(clean, Fade(voice.duration, fade_in=1))
    again = algebra.cut(voice, frame(voice, 1), frame(voice, 2))
    total = algebra.mix([risen, again, group], [vocals, take2, band], offsets=[at, 0, 0])
    return collect(algebra.gain(total, Fade(10.0, fade_out=2)))


@pytest.mark.parametrize(
    ("variant", "levels"),
    [
        (None, {}),
        ("karaoke", {"vocals": 0.0}),
        ("practice", {"band": 10 ** (-7 / 20), "vocals": 10 ** (1 / 20)}),
        ("second", {"vocals": 0.0, "take2": -1.0}),
        ("band only", {"vocals": 0.0}),
    ],
)
def test_a_song_and_its_variants(cli, stems, variant, levels):
    cli.noted("render", "song.yaml", "-o", "out.lat", *(("--variant", variant) if variant else ()))
    out, wanted = read_lat("out.lat"), expected(stems, **levels)
    assert out.header == wanted.header  # every variant is as long, and as wide, as the song
    np.testing.assert_allclose(out.data, wanted.data, rtol=1e-3, atol=1e-4)
    first = out.history[0]
    assert (first["op"], first["arrangement"], first.get("variant")) == ("render", "song.yaml", variant)


def test_all_variants_into_a_folder_read_each_chunk_once(cli, stems, monkeypatch):
    for name in ("karaoke", "practice"):
        cli.noted("render", "song.yaml", "--variant", name, "-o", f"{name}.lat")
    read = []
    load_chunks = LatReader._load
    monkeypatch.setattr(LatReader, "_load", lambda s, n: read.append((s.name, n)) or load_chunks(s, n))
    (note,) = cli.noted("render", "song.yaml", "-o", "out/")
    assert "4 times lie between two frames and were rounded by up to" in note
    names = ["song", "song-karaoke", "song-practice", "song-second", "song-band only"]
    assert sorted(p.name for p in (cli.folder / "out").iterdir()) == sorted(f"{n}.lat" for n in names)
    for name in ("karaoke", "practice"):
        assert (cli.folder / f"out/song-{name}.lat").read_bytes() == (cli.folder / f"{name}.lat").read_bytes()
    assert len(read) == len(set(read)) == 4
    assert "out/song.lat and 4 more exist already" in cli.refused(1, "render", "song.yaml", "-o", "out/")
    cli.noted("render", "song.yaml", "--variant", "karaoke", "--variant", "practice", "-o", "two/")
    assert len(list((cli.folder / "two").iterdir())) == 2


def test_a_dry_run_draws_the_graph_and_writes_nothing(cli, stems):
    before = sorted(cli.folder.rglob("*"))
    text = cli.ok("render", "song.yaml", "--dry-run")
    assert text == (
        "song  (0:10, 2 ch, 44100 Hz, fade out 0:02)\n"
        "├── vocals: vocals.lat  (at 0:01.022, 0:06.803 long, -2.0 dB, fade in 0:01)\n"
        "│   └── less stems/bleed.lat\n"
        "├── take2: vocals.lat  (from 0:01, to 0:02, 0:01.022 long, inverted, muted)\n"
        "└── bus band  (-1.0 dB)\n"
        "    ├── drums: stems/drums.lat  (0:10 long)\n"
        "    └── bass: stems/bass.lat  (at 0:02.043, 0:04.535 long, curve of 3 points)\n"
        "\n"
        "variants: karaoke, practice, second, band only\n"
    )
    assert "-7.0 dB" in cli.ok("render", "song.yaml", "--dry-run", "--variant", "practice")
    assert cli.ok("render", "song.yaml", "--dry-run", "-o", "out/").count("2 ch") == 5
    assert sorted(cli.folder.rglob("*")) == before


def test_an_arrangement_comes_through_a_pipe_too(cli, stems, monkeypatch):
    cli.noted("render", "song.yaml", "-o", "file.lat")

    class Stdin:
        buffer = (cli.folder / "song.yaml").open("rb")

        def isatty(self):
            return False

    monkeypatch.setattr("sys.stdin", Stdin())
    cli.noted("render", "-", "-o", "pipe.lat")
    assert read_lat("pipe.lat").data.tobytes() == read_lat("file.lat").data.tobytes()


def test_one_time_that_is_rounded_is_noted(cli, stems):
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: vocals.lat, offset: 1}}")
    (note,) = cli.noted("render", "s.yaml", "-o", "out.lat")
    assert note == "s.yaml: a time lies between two frames and was rounded by up to 22 ms; --dry-run shows what is used"


def test_the_length_can_be_told(cli, stems):
    for length, samples in (("4.5", 198_450), ("1:00", 60 * 44100)):
        (cli.folder / "s.yaml").write_text(f"length: {length}\ntracks: {{a: {{file: vocals.lat}}}}")
        cli.ok("render", "s.yaml", "-o", "out.lat", "--force")
        out = read_lat("out.lat")
        assert out.num_samples == samples
        n = min(out.frames, stems["vocals.lat"].frames)
        np.testing.assert_array_equal(out.data[:, :, :n], stems["vocals.lat"].data[:, :, :n])
        assert not out.data[:, :, n:].any()


def test_tracks_are_placed_by_pan(cli, stems):
    (cli.folder / "s.yaml").write_text(
        "tracks:\n  a: {file: stems/drums.lat, pan: -1}\n  b: {file: stems/bass.lat, pan: 1}\n"
        "  c: {file: vocals.lat, pan: 0}"
    )
    cli.ok("render", "s.yaml", "-o", "out.lat")
    out = read_lat("out.lat").data
    voice = stems["vocals.lat"].data
    wanted = np.zeros_like(out)
    wanted[:, :, : voice.shape[2]] += voice
    for channel, name in enumerate(("stems/drums.lat", "stems/bass.lat")):
        data = stems[name].data[0]
        wanted[channel, :, : data.shape[1]] += data
    np.testing.assert_allclose(out, wanted, rtol=1e-3, atol=1e-3)
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: stems/drums.lat, pan: 0}}")
    cli.ok("render", "s.yaml", "-o", "centre.lat")
    centre = read_lat("centre.lat").data
    np.testing.assert_allclose(centre, np.repeat(stems["stems/drums.lat"].data, 2, 0) / 2**0.5, rtol=1e-3, atol=1e-3)
    make_lat(cli.folder / "wide.lat", channels=3)
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: wide.lat, pan: 0}}")
    line = cli.refused(1, "render", "s.yaml", "-o", "x.lat")
    assert "line 1: tracks.a.pan: wide.lat has 3 channels, pan is for one or two" in line


def test_buses_feed_buses(cli, stems):
    (cli.folder / "s.yaml").write_text(
        "tracks:\n  a: {file: stems/drums.lat, bus: inner}\n  b: {file: stems/bass.lat, bus: outer}\n"
        "buses:\n  inner: {gain: 0.5, bus: outer}\n  outer: {gain: 0.5, invert: true}\n  empty: {}\n"
        "variants:\n  none: {mute: inner}\n  one: {solo: inner}\n"
    )
    cli.ok("render", "s.yaml", "-o", "out/")
    a, b = stems["stems/drums.lat"], stems["stems/bass.lat"]
    for name, parts in (("s", (0.25, 0.5)), ("s-none", (0, 0.5)), ("s-one", (0.25, 0))):
        wanted = collect(algebra.mix([a, b], [-parts[0], -parts[1]])).data
        np.testing.assert_allclose(read_lat(f"out/{name}.lat").data, wanted, rtol=1e-3, atol=1e-4)


def test_audio_is_what_decoding_the_latents_gives(cli, tiny_model, monkeypatch):
    import soundfile

    from lincae_core.models.store import resolve

    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))
    info = resolve(str(tiny_model))
    for i in range(2):
        make_lat(cli.folder / f"{i}.lat", i, num_samples=30_000 + i, fingerprint=info.fingerprint, model="tiny")
    (cli.folder / "s.yaml").write_text(
        "tracks: {a: {file: 0.lat}, b: {file: 1.lat, gain: 0.1}}\nmaster: {gain: 0.01}\nvariants: {a: {solo: a}}"
    )
    cli.ok("render", "s.yaml", "-o", "direct.wav", "--subtype", "FLOAT")
    cli.ok("render", "s.yaml", "-o", "s.lat")
    cli.ok("decode", "s.lat", "-o", "later.wav", "--subtype", "FLOAT")
    direct, later = (soundfile.read(name)[0] for name in ("direct.wav", "later.wav"))
    assert len(direct) == 30_001
    np.testing.assert_array_equal(direct, later)
    cli.ok("render", "s.yaml", "-o", "out/", "--format", "flac")
    assert sorted(p.name for p in (cli.folder / "out").iterdir()) == ["s-a.flac", "s.flac"]
    assert "--force" in cli.refused(1, "render", "s.yaml", "-o", "direct.wav")


def test_the_quality_of_a_rendered_file(cli, monkeypatch):
    groups = (Group(2, 4, 0.25),)
    header = Header(44100, 44100 * 5, "m", "sha256:" + "cd" * 32, latent_dim=8, groups=groups)
    write_lat(Latents(np.random.default_rng(0).standard_normal(header.shape), header, dtype="int8"), "a.lat")
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: a.lat}, b: {file: a.lat, gain: 0.5, offset: 0:02}}")
    cli.noted("render", "s.yaml", "-o", "default.lat")
    cli.noted("render", "s.yaml", "-o", "exact.lat", "--quality", "exact")
    assert (read_lat("default.lat").dtype, read_lat("exact.lat").dtype) == ("int8", "float32")


# --- what is wrong, and where


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("gain: -2dB", "gian: -2dB"), "line 8: tracks.vocals.gian: unknown key; did you mean gain"),
        (("gain: -2dB", "volume: -2dB"), "line 8: tracks.vocals.volume: unknown key; did you mean gain"),
        (("gain: -2dB", "pam: 1"), "line 8: tracks.vocals.pam: unknown key; did you mean pan"),
        (("gain: -2dB", "wet: 1"), "line 8: tracks.vocals.wet: unknown key; known here: bus, curve, end, fade_in,"),
        (("gain: -2dB", "pan: 2"), "line 8: tracks.vocals.pan: must be 1 or less, not 2"),
        (("gain: -2dB", "pan: left"), "line 8: tracks.vocals.pan: must be a number, not 'left'"),
        (("tracks:", "tracs:"), "tracs: unknown key (and 1 more); did you mean tracks"),
        (("fade_in: 1", "mute: maybe"), "line 8: tracks.vocals.mute: must be true or false"),
        (("gain: -2dB", "gain: -6"), "line 8: tracks.vocals.gain: -6 is a factor below 0; write -6dB for decibels"),
        (("gain: -2dB", "gain: loud"), "line 8: tracks.vocals.gain: 'loud' is not a gain; write decibels such as -6dB"),
        (("gain: -2dB", "gain: .nan"), "line 8: tracks.vocals.gain: NaN is not a gain"),
        (("gain: -2dB", "gain: .inf"), "line 8: tracks.vocals.gain: inf is too large"),
        (("gain: -2dB", "gain: 9999dB"), "line 8: tracks.vocals.gain: '9999dB' is too large"),
        (("gain: -2dB", "gain: 1" + "0" * 40), "line 8: tracks.vocals.gain: too large"),
        (("gain: -2dB", "gain: 1" + "0" * 5000), "line 8: a value that cannot be read; put it in quotes"),
        (("gain: -2dB", "gain: [1]"), "line 8: tracks.vocals.gain: [1] is not a gain"),
        (("gain: -2dB", "gain: true"), "line 8: tracks.vocals.gain: True is not a gain"),
        (("gain: -2dB", "gain: 2001-13-45"), "line 8: a value that cannot be read"),
        (("offset: 0:02", "offset: soon"), "line 6: tracks.bass.offset: 'soon' is not a time"),
        (("offset: 0:02", "offset: 1e99"), "line 6: tracks.bass.offset: '1e99' is not a time"),
        (("offset: 0:02", "offset: 99999999"), "line 6: tracks.bass.offset: 99999999 is beyond 100 hours"),
        (("offset: 0:02", "offset: -100"), "line 3: tracks.bass: stems/bass.lat: moved to before its beginning"),
        (("start: 1, end: 2", "start: 2, end: 1"), "line 9: tracks.take2.end: 1 s is not after the start, 2 s; give"),
        (("start: 1, end: 2", "start: 100"), "line 9: tracks.take2: vocals.lat holds no frame from 100 s on"),
        (('"0:0dB 3:0dB 4:-inf"', '"0:0dB 3:x"'), "line 7: tracks.bass.curve: the curve '0:0dB 3:x' has the point"),
        (('"0:0dB 3:0dB 4:-inf"', '"3:0dB 0:0dB"'), "line 7: tracks.bass.curve: a curve goes back from 3 s to 0 s;"),
        (('"0:0dB 3:0dB 4:-inf"', "7"), "line 7: tracks.bass.curve: write a curve as text"),
        (("bus: band}", "bus: bnad}"), "line 2: tracks.drums.bus: there is no bus 'bnad'; did you mean band"),
        (("band: {gain: -1dB}", "band: {bus: band}"), "line 11: buses.band.bus: feeds itself: band -> band"),
        (("band: {gain: -1dB}", "drums: {}"), "line 11: buses.drums: a track has the same name"),
        (("band: {gain: -1dB}", "master: {}"), "line 11: buses.master: this name stands for the whole mix"),
        (("mute: vocals}", "mute: vocal}"), "line 14: variants.karaoke.mute: there is no track or bus 'vocal'"),
        (("band: -6dB", "bnd: -6dB"), "line 15: variants.practice.gain.bnd: there is no track or bus 'bnd'"),
        (("band only:", "../../etc/cron:"), "must be made of letters, digits, spaces and . _ -, not '../../etc/cron'"),
        (("file: vocals.lat, gain", "file: vocal.lat, gain"), "there is no file 'vocal.lat'; did you mean vocals.lat"),
        (("file: vocals.lat, gain", "gain"), "line 8: tracks.vocals.file: is missing"),
        (("  take2:", "  vocals:"), "line 9: tracks.vocals is defined twice; remove one"),
        (("drums: {", "drums: ["), "line 2: not valid YAML"),
        (("  drums:", "\tdrums:"), "line 2: not valid YAML"),
        (("master: {", "master: !!python/object/apply:os.system {"), "line 12: unknown tag"),
        (("master: {fade_out: 2}", "version: 2"), "line 12: version: must be 1"),
        (("master: {fade_out: 2}", "sample_rate: 0"), "line 12: sample_rate: must be 100 or more"),
        (("master: {fade_out: 2}", "length: 0"), "line 12: length: must be more than 0"),
        (("master: {fade_out: 2}", "? [a]\n: b"), "line 12: a key must be a word"),
    ],
)  # fmt: skip
def test_errors_name_the_line_and_the_key(cli, stems, change, says):
    assert change[0] in SONG
    (cli.folder / "song.yaml").write_text(SONG.replace(*change, 1))
    line = cli.refused(1, "render", "song.yaml", "-o", "out.lat")
    assert says in line
    assert not (cli.folder / "out.lat").exists()


def test_everything_muted_is_an_error(cli, stems):
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: vocals.lat}}\nvariants: {none: {mute: a}}")
    line = cli.refused(1, "render", "s.yaml", "--variant", "none", "-o", "out.lat")
    assert "line 2: variants.none: every track is muted" in line
    (cli.folder / "s.yaml").write_text("tracks: {}")
    assert "line 1: tracks: must not be empty" in cli.refused(1, "render", "s.yaml", "-o", "out.lat")


def test_cycles_of_many_buses_are_named(cli, stems):
    chain = "".join(f"  b{i}: {{bus: b{(i + 1) % 5}}}\n" for i in range(5))
    (cli.folder / "s.yaml").write_text(f"tracks: {{a: {{file: vocals.lat, bus: b0}}}}\nbuses:\n{chain}")
    assert "feeds itself: b0 -> b1 -> b2 -> b3 -> b4 -> b0" in cli.refused(1, "render", "s.yaml", "-o", "out.lat")
    chain = "".join(f"  b{i}: {{bus: {f'b{i + 1}' if i < 99 else 'master'}}}\n" for i in range(100))
    (cli.folder / "s.yaml").write_text(f"tracks: {{a: {{file: vocals.lat, bus: b0}}}}\nbuses:\n{chain}")
    assert "more than 32 buses deep" in cli.refused(1, "render", "s.yaml", "-o", "out.lat")


def test_names_that_yaml_takes_for_something_else_are_names(cli, stems):
    (cli.folder / "s.yaml").write_text(
        "tracks: {no: {file: vocals.lat}, 1: {file: vocals.lat, gain: 0.5}}\nvariants: {on: {solo: 'no'}}"
    )
    cli.ok("render", "s.yaml", "-o", "out/")
    np.testing.assert_array_equal(read_lat("out/s-on.lat").data, stems["vocals.lat"].data)


def test_bombs_of_aliases_are_refused_at_once(cli, stems):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    for text, says in (
        ("\n".join(levels), "more than 20000 values once its aliases are expanded"),
        ("a: &a [*a]", "nested too deeply"),
        ("a: &a {b: *a}", "nested too deeply"),
        ("[" * 200_000, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("{a: " * 50_000, "nested too deeply"),
        ("x: " + "y" * 300_000, "more than 256 KiB"),
        ("a: *nowhere", "not valid YAML"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("a: \0", "not valid YAML"),
        ("", "a mapping with `tracks`"),
        ("- a", "a mapping with `tracks`"),
    ):
        (cli.folder / "s.yaml").write_text(text)
        assert says in cli.refused(1, "render", "s.yaml", "-o", "out.lat"), text[:50]
    (cli.folder / "s.yaml").write_bytes(b"a: \xff\xfe")
    assert "not text in UTF-8" in cli.refused(1, "render", "s.yaml", "-o", "out.lat")


def test_files_outside_its_folder_are_not_read(cli, stems):
    outside = cli.folder / "secret.lat"
    make_lat(outside)
    inside = cli.folder / "album"
    inside.mkdir()
    make_lat(inside / "a.lat")
    os.symlink(outside, inside / "link.lat")
    os.symlink(cli.folder, inside / "up")
    (inside / "sub").mkdir()
    os.symlink(inside / "a.lat", inside / "sub" / "own.lat")
    for name in (
        "../secret.lat",
        str(outside),
        "link.lat",
        "up/secret.lat",
        "sub/../../secret.lat",
        "../../../etc/passwd",
        "/etc/passwd",
    ):
        (inside / "s.yaml").write_text(f"tracks:\n  a: {{file: a.lat}}\n  b: {{file: '{name}'}}")
        line = cli.refused(1, "render", "album/s.yaml", "-o", "out.lat")
        assert (
            f"line 3: tracks.b.file: {name!r} lies outside the folder of the arrangement; add --allow-outside" in line
        )
        if name.endswith("secret.lat") or name == "link.lat":
            cli.ok("render", "album/s.yaml", "-o", "out.lat", "--allow-outside")
            (cli.folder / "out.lat").unlink()
    for name in ("a.lat", "./a.lat", "sub/own.lat", "up/album/a.lat", "sub/../a.lat", str(inside / "a.lat")):
        (inside / "s.yaml").write_text(f"tracks: {{b: {{file: '{name}', subtract: [a.lat]}}}}")
        cli.ok("render", "album/s.yaml", "-o", "out.lat", "--force")
    (inside / "s.yaml").write_text("tracks: {b: {file: a.lat, subtract: [a.lat, {file: ../secret.lat}]}}")
    assert "tracks.b.subtract.1: '../secret.lat' lies outside" in cli.refused(
        1, "render", "album/s.yaml", "-o", "x.lat"
    )


def test_only_regular_files_are_read(cli, stems):
    os.mkfifo("pipe.lat")
    for name, says in (
        ("pipe.lat", "not a regular file"),
        ("stems", "not a regular file"),
        (".", "not a regular file"),
        ("a\\0b", "NUL"),
        ("x" * 5000, "no file"),
        ("song.yaml", "not a .lat file"),
    ):
        (cli.folder / "s.yaml").write_text(f'tracks: {{a: {{file: "{name}"}}}}')
        assert says in cli.refused(1, "render", "s.yaml", "-o", "out.lat")


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("render", 2, "YAML is missing"),
        ("render song.yaml", 2, "--dry-run"),
        ("render song.yml -o out.lat", 1, "did you mean song.yaml"),
        ("render stems -o out.lat", 1, "stems is a folder; name an arrangement in it; see: ls stems"),
        ("render vocals.lat -o out.lat", 2, "lincae mix vocals.lat"),
        ("render song.yaml -o out.xyz", 2, ".wav"),
        ("render song.yaml --variant karoke -o out.lat", 2, "did you mean karaoke"),
        ("render song.yaml --variant karaoke --variant second -o out.lat", 2, "-o out/"),
        ("render song.yaml -o out.lat --format flac", 2, "-o out.flac"),
        ("render song.yaml -o out.lat --subtype FLOAT", 2, "-o song.wav"),
        ("render song.yaml -o out/ --format xyz", 2, "--format 'xyz' is unknown; use one of lat, wav,"),
        ("render song.yaml -o none/out.lat", 1, "mkdir -p"),
        ("render song.yaml -o song.yaml --force", 2, ".wav"),
        ("render song.yaml -o out.wav", 1, "is not installed"),
    ],
)
def test_one_line_that_names_the_remedy(cli, stems, line, code, remedy):
    before = sorted(cli.folder.rglob("*"))
    found, out, err = cli.run(*line.split())
    last = err.splitlines()[-1]
    assert (found, out) == (code, "")
    assert remedy in last
    assert sorted(cli.folder.rglob("*")) == before


def test_files_that_do_not_belong_together_are_named(cli, stems):
    make_lat(cli.folder / "other.lat", fingerprint="sha256:" + "00" * 32, model="n")
    (cli.folder / "s.yaml").write_text("tracks: {a: {file: vocals.lat}, b: {file: other.lat, mute: true}}")
    line = cli.refused(1, "render", "s.yaml", "-o", "out.lat")
    assert (
        "s.yaml: line 1: tracks.b.file: vocals.lat and other.lat come from models m and n; encode other.lat's" in line
    )
    make_lat(cli.folder / "mono.lat")
    make_lat(cli.folder / "wide.lat", channels=3)
    (cli.folder / "s.yaml").write_text(
        "tracks:\n" + "".join(f"  {n}: {{file: {n}.lat}}\n" for n in ("mono", "vocals", "wide"))
    )
    line = cli.refused(1, "render", "s.yaml", "-o", "out.lat")
    assert "line 4: tracks.wide.file: vocals.lat has 2 channels, wide.lat has 3; encode one of them" in line
    make_lat(cli.folder / "slow.lat", sample_rate=48000)
    (cli.folder / "s.yaml").write_text("tracks:\n  a: {file: mono.lat}\n  b: {file: slow.lat}\n")
    line = cli.refused(1, "render", "s.yaml", "-o", "out.lat")
    assert "line 3: tracks.b.file: mono.lat is at 44100 Hz, slow.lat at 48000 Hz; add sample_rate: 44100" in line
    (cli.folder / "s.yaml").write_text("sample_rate: 44100\ntracks: {a: {file: mono.lat}, b: {file: slow.lat}}")
    cli.ok("render", "s.yaml", "-o", "together.lat")
    damaged = cli.folder / "vocals.lat"
    damaged.write_bytes(damaged.read_bytes()[:500])
    line = cli.refused(1, "render", "song.yaml", "-o", "out.lat")
    assert "line 8: tracks.vocals.file: vocals.lat: cut short" in line
