"""mix, gain, invert, subtract and residual as a user types them."""

import json

import numpy as np
import pytest
from cli_helpers import lincae, make_lat

from lincae_formats import Group, Header, Latents, read_lat, write_lat

FRAME = 4096 / 44100  # s


@pytest.fixture
def ab(cli):
    """Two operands in the working folder."""
    return make_lat(cli.folder / "a.lat", 1), make_lat(cli.folder / "b.lat", 2)


def test_mix_adds_with_gains(cli, ab):
    a, b = ab
    assert cli.ok("mix", "a.lat:0.5", "b.lat:-6dB", "-o", "out.lat") == ""
    expected = np.float32(0.5) * a.data + np.float32(10 ** (-6 / 20)) * b.data
    np.testing.assert_allclose(read_lat("out.lat").data, expected, rtol=1e-3, atol=1e-6)


def test_the_order_of_operands_does_not_matter(cli, ab):
    cli.ok("mix", "a.lat", "b.lat:0.3", "-o", "1.lat")
    cli.ok("mix", "b.lat:0.3", "a.lat", "-o", "2.lat")
    assert np.array_equal(read_lat("1.lat").data, read_lat("2.lat").data)


def test_subtract_undoes_mix(cli, ab):
    cli.ok("mix", "a.lat", "b.lat", "-o", "sum.lat")
    cli.ok("subtract", "sum.lat", "b.lat", "-o", "rest.lat")
    np.testing.assert_allclose(read_lat("rest.lat").data, ab[0].data, atol=6e-3)


def test_a_file_twice_is_double(cli, ab):
    cli.ok("mix", "a.lat", "a.lat", "-o", "out.lat")
    assert np.array_equal(read_lat("out.lat").data, 2 * ab[0].data)


def test_mix_begins_where_it_is_told(cli, ab):
    a, b = ab
    (note,) = cli.noted("mix", "a.lat", "b.lat:-1@0.3", "-o", "out.lat")
    assert "b.lat at 0.3 s lies between two frames; 0.279 s is used" in note
    expected = np.zeros((1, 8, 8), np.float32)
    expected[:, :, :5] += a.data
    expected[:, :, 3:] -= b.data
    out = read_lat("out.lat")
    np.testing.assert_allclose(out.data, expected, atol=2e-3)
    assert out.num_samples == 20_000 + 3 * 4096
    assert [o.get("offset_frames", 0) for o in out.history[0]["operands"]] == [0, 3]
    cli.ok("mix", f"a.lat@{2 * FRAME!r}", "b.lat", "-o", "exact.lat")  # on a frame: nothing to note


def test_what_begins_before_zero_is_cut(cli, ab):
    cli.noted("mix", "a.lat@-0.2", "-o", "out.lat")
    assert np.array_equal(read_lat("out.lat").data, ab[0].data[:, :, 2:])
    assert "nothing of it is left" in cli.refused(1, "mix", "a.lat@-9", "-o", "gone.lat")


def test_subtract_takes_gains_and_beginnings_too(cli, ab):
    cli.noted("mix", "a.lat", "b.lat:0.5@0.3", "-o", "sum.lat")
    cli.noted("subtract", "sum.lat", "b.lat:0.5@0.3", "-o", "rest.lat")
    np.testing.assert_allclose(read_lat("rest.lat").data[:, :, :5], ab[0].data, atol=6e-3)


def test_folders_are_subtracted_name_by_name(cli):
    wholes = {name: make_lat(cli.folder / "mixes" / name, i) for i, name in enumerate(("a.lat", "x/b.lat"))}
    parts = {name: make_lat(cli.folder / "parts" / name, 9 + i) for i, name in enumerate(wholes)}
    make_lat(cli.folder / "parts" / "more.lat")  # nothing is to be taken out by it
    cli.ok("subtract", "mixes/", "parts:0.5", "-o", "rest")
    for name, whole in wholes.items():
        np.testing.assert_allclose(read_lat(f"rest/{name}").data, whole.data - 0.5 * parts[name].data, atol=6e-3)
        cli.ok("subtract", f"mixes/{name}", f"parts/{name}:0.5", "-o", "one.lat", "--force")
        assert (cli.folder / "one.lat").read_bytes() == (cli.folder / "rest" / name).read_bytes()
    assert not (cli.folder / "rest" / "more.lat").exists()


def test_folders_are_subtracted_again_only_where_a_part_changed(cli):
    for i, name in enumerate(("a", "b")):
        make_lat(cli.folder / f"mixes/{name}.lat", i)
        make_lat(cli.folder / f"parts/{name}.lat", 9 + i)
    cli.ok("subtract", "mixes", "parts", "-o", "rest")
    before = (cli.folder / "rest/a.lat").stat().st_mtime_ns
    assert cli.noted("subtract", "mixes/", ".//parts/", "-o", "rest/") == [
        "2 of 2 files were finished already; --force makes them again"
    ]
    assert (cli.folder / "rest/a.lat").stat().st_mtime_ns == before
    (cli.folder / "parts/b.lat").unlink()
    make_lat(cli.folder / "parts/b.lat", 77)
    code, _, err = cli.run("subtract", "mixes", "parts", "-o", "rest")
    assert code == 1
    assert "parts/b.lat changed; add --update" in err
    assert "1 of 2 files failed" in err
    cli.noted("subtract", "mixes", "parts", "-o", "rest", "--update")
    assert (cli.folder / "rest/a.lat").stat().st_mtime_ns == before
    wanted = read_lat("mixes/b.lat").data - read_lat("parts/b.lat").data
    np.testing.assert_allclose(read_lat("rest/b.lat").data, wanted, atol=6e-3)


def test_a_mixture_without_its_part_is_reported_and_stops_nothing(cli):
    for name in ("a", "b", "c"):
        make_lat(cli.folder / f"mixes/{name}.lat")
    make_lat(cli.folder / "parts/a.lat")
    make_lat(cli.folder / "parts/c.lat", fingerprint="sha256:" + "ef" * 32)
    code, _, err = cli.run("subtract", "mixes", "parts", "-o", "rest")
    assert code == 1
    assert "parts/b.lat: no such file" in err
    assert "parts/c.lat" in err
    assert "2 of 3 files failed; the others are done" in err
    assert sorted(p.name for p in (cli.folder / "rest").glob("[!.]*")) == ["a.lat"]


def test_what_cannot_be_meant_by_folders_is_refused(cli, ab):
    make_lat(cli.folder / "mixes/a.lat")
    make_lat(cli.folder / "parts/a.lat")
    assert "mixes is a folder, a.lat is not" in cli.refused(1, "subtract", "mixes", "a.lat", "-o", "rest")
    assert "is an input" in cli.refused(2, "subtract", "mixes", "parts", "-o", "parts/", "--force")
    assert "is an input" in cli.refused(2, "subtract", "mixes", "parts", "-o", "mixes", "--force")
    assert "is for folders" in cli.refused(2, "subtract", "a.lat", "b.lat", "-o", "c.lat", "--log", "json")
    assert "there is no output" in cli.refused(2, "subtract", "mixes", "parts")


@pytest.mark.parametrize(
    ("given", "factor"),
    [
        (("--db", "-6"), 10 ** (-6 / 20)),
        (("--db=-6dB",), 10 ** (-6 / 20)),
        (("--db", "-inf"), 0),
        (("--factor", "-1"), -1),
        (("--factor", "0"), 0),
        (("--factor", "-.5"), -0.5),
    ],
)
def test_gain_takes_negative_numbers(cli, ab, given, factor):
    cli.ok("gain", "a.lat", *given, "-o", "out.lat")
    np.testing.assert_allclose(read_lat("out.lat").data, np.float32(factor) * ab[0].data, rtol=1e-3, atol=1e-6)


def test_invert_flips_the_sign(cli, ab):
    cli.ok("invert", "a.lat", "-o", "flipped.lat")
    cli.ok("mix", "a.lat", "flipped.lat", "-o", "nothing.lat")
    assert not read_lat("nothing.lat").data.any()


def test_a_curve_is_evaluated_at_the_frames(cli):
    z = make_lat(cli.folder / "a.lat", num_samples=44100 * 4)
    cli.ok("gain", "a.lat", "--curve", "0:-inf 1:0dB 3:0dB 4:-inf", "-o", "shaped.lat")
    t = (np.arange(z.frames) + 0.5) * FRAME
    factors = np.interp(t, [0, 1, 3, 4], [0, 1, 1, 0]).astype(np.float32)
    np.testing.assert_allclose(read_lat("shaped.lat").data, z.data * factors, rtol=1e-3, atol=1e-6)
    cli.ok("gain", "a.lat", "--curve", "0:0dB 4:-80dB", "--lines", "db", "-o", "falling.lat")
    np.testing.assert_allclose(read_lat("falling.lat").data, z.data * 10 ** -t.clip(max=4), rtol=2e-3, atol=1e-6)


def test_length_chooses_the_operand(cli):
    make_lat(cli.folder / "short.lat", num_samples=9000)
    make_lat(cli.folder / "long.lat", num_samples=30_000)
    for length, samples in (("longest", 30_000), ("shortest", 9000), ("first", 9000)):
        cli.ok("mix", "short.lat", "long.lat", "--length", length, "-o", f"{length}.lat")
        assert read_lat(f"{length}.lat").num_samples == samples


def test_residual_tells_what_is_left(cli, ab):
    cli.ok("mix", "a.lat", "b.lat", "-o", "sum.lat")
    assert float(cli.ok("residual", "sum.lat", "a.lat", "b.lat").split()[0]) < -50  # but for the rounding to float16
    assert cli.ok("residual", "a.lat", "a.lat") == "-inf dB\n"
    cli.ok("gain", "a.lat", "--factor", "2", "-o", "twice.lat")
    assert cli.ok("residual", "twice.lat", "a.lat").startswith("-6.0 dB, loudest at 0:0")
    facts = json.loads(cli.ok("residual", "twice.lat", "a.lat", "--json", "-o", "rest.lat"))
    assert facts["residual_db"] == pytest.approx(-6.02, abs=0.01)
    assert np.array_equal(read_lat("rest.lat").data, ab[0].data)
    assert json.loads(cli.ok("residual", "a.lat", "a.lat", "--json"))["residual_db"] is None
    assert "--force" in cli.refused(1, "residual", "a.lat", "b.lat", "-o", "rest.lat")
    assert "-o rest.lat" in cli.refused(2, "residual", "a.lat", "b.lat", "-o", "-")


def test_nothing_is_overwritten_without_force(cli, ab):
    line = cli.refused(1, "mix", "a.lat", "-o", "b.lat")
    assert "b.lat" in line
    assert "--force" in line
    assert np.array_equal(read_lat("b.lat").data, ab[1].data)
    cli.ok("mix", "a.lat", "-o", "b.lat", "--force")
    assert np.array_equal(read_lat("b.lat").data, ab[0].data)


def test_an_operand_is_never_the_output(cli, ab):
    (cli.folder / "link.lat").hardlink_to(cli.folder / "a.lat")
    for output in ("a.lat", "./a.lat", "link.lat"):
        assert "is an input" in cli.refused(2, "mix", "a.lat", "b.lat", "-o", output, "--force")
        assert "is an input" in cli.refused(2, "gain", "a.lat", "--db", "1", "-o", output, "--force")


def test_a_name_may_hold_colons_and_ats(cli, ab):
    for name in ("x:2", "me@home"):
        (cli.folder / "a.lat").rename(name)
        cli.ok("mix", name, "-o", "out:1.lat", "--force")
        assert np.array_equal(read_lat("out:1.lat").data, ab[0].data)
        cli.ok("mix", f"{name}:2", "-o", "twice.lat", "--force")
        assert np.array_equal(read_lat("twice.lat").data, 2 * ab[0].data)
        cli.noted("mix", f"{name}:2@0.3", "-o", "later.lat", "--force")
        assert np.array_equal(read_lat("later.lat").data[:, :, 3:], 2 * ab[0].data)
        (cli.folder / name).rename("a.lat")


def test_operands_that_do_not_belong_together_are_named(cli):
    make_lat(cli.folder / "a.lat")
    make_lat(cli.folder / "other.lat", fingerprint="sha256:" + "00" * 32, model="n")
    for command in ("mix", "subtract", "concat", "residual"):
        line = cli.refused(1, command, "a.lat", "other.lat", "-o", "out.lat")
        assert "a.lat" in line
        assert "other.lat" in line
        assert not (cli.folder / "out.lat").exists()


def test_sample_rates_differ_only_when_meant(cli):
    make_lat(cli.folder / "a.lat", sample_rate=44100, num_samples=44100)
    make_lat(cli.folder / "b.lat", sample_rate=48000, num_samples=48000)
    assert "--sample-rate 44100" in cli.refused(1, "mix", "a.lat", "b.lat", "-o", "out.lat")
    cli.ok("mix", "a.lat", "b.lat", "-o", "out.lat", "--sample-rate", "48k")
    mixed = read_lat("out.lat")
    assert (mixed.sample_rate, mixed.num_samples) == (48000, 48000)


def test_a_damaged_operand_leaves_no_output(cli, ab):
    data = (cli.folder / "b.lat").read_bytes()
    (cli.folder / "b.lat").write_bytes(data[: len(data) // 2])
    for command in (("mix", "a.lat", "b.lat"), ("concat", "a.lat", "b.lat"), ("gain", "b.lat", "--db", "1")):
        assert "b.lat" in cli.refused(1, *command, "-o", "out.lat")
        assert sorted(p.name for p in cli.folder.iterdir()) == ["a.lat", "b.lat"]


def test_what_is_beyond_float16_says_what_to_do(cli, ab):
    assert "; lower the gain, or encode with --dtype float32" in cli.refused(
        1, "gain", "a.lat", "--db", "120", "-o", "loud.lat"
    )
    assert not (cli.folder / "loud.lat").exists()


def test_debug_shows_the_traceback_wherever_it_stands(cli, ab):
    command = ("mix", "missing.lat", "-o", "out.lat")
    for done in (
        lincae("--debug", *command, cwd=cli.folder),
        lincae(*command, "--debug", cwd=cli.folder),
        lincae(*command, cwd=cli.folder, LINCAE_DEBUG="1"),
    ):
        assert done.returncode == 1
        assert b"Traceback" in done.stderr
        assert done.stderr.splitlines()[-1].startswith(b"lincae: error: missing.lat: no such file")


@pytest.mark.parametrize(
    ("line", "code", "remedy"),
    [
        ("mix a.lat@soon -o out.lat", 2, "a.lat@1:23.5"),
        ("mix a.lat@1:-6dB -o out.lat", 2, "a.lat:-6dB@1:23.5"),
        ("mix a.lat@99999999 -o out.lat", 1, "100 hours"),
        ("mix a.lat@9999999999 -o out.lat", 2, "a.lat@1:23.5"),
        ("gain a.lat --curve 0:loud -o out.lat", 2, "'loud' is not a gain"),
        ("gain a.lat --curve 3:0dB,1:0dB -o out.lat", 2, "order of time"),
        ("gain a.lat --curve 0:0 --lines db -o out.lat", 2, "-80dB"),
        ("gain a.lat --curve 0:0dB --lines cubic -o out.lat", 2, "--lines"),
        ("gain a.lat --curve 0:0dB --db 3 -o out.lat", 2, "keep one"),
        ("gain a.lat -o out.lat", 2, "--db -6"),
        ("gain a.lat --db 1 -o out.wav", 2, "lincae decode out.lat -o out.wav"),
        ("gain a.lat --db 1", 2, "-o out.lat"),
        ("gain --db 1 -o out.lat", 2, "LAT is missing"),
        ("gain a.lat --db 1 -o out.lat --jobs 0", 2, "--jobs 1"),
        ("gain folder --db 1 -o out/", 1, "no .lat files"),
        ("invert a.lat", 2, "-o out.lat"),
        ("residual a.lat", 2, "PART is missing"),
        ("residual a.lat b.lat -o rest.wav", 2, "lincae decode"),
        ("residual a.lat none.lat", 1, "no such file"),
    ],
)
def test_one_line_that_names_the_remedy(cli, ab, line, code, remedy):
    (cli.folder / "folder").mkdir()
    assert remedy in cli.refused(code, *line.split())
    assert sorted(p.name for p in cli.folder.iterdir()) == ["a.lat", "b.lat", "folder"]


# --- many files


@pytest.fixture
def library(cli):
    """Forty files in folders: enough for several processes."""
    return [make_lat(cli.folder / "in" / f"{i % 3}" / f"{i}.lat", i) for i in range(40)]


def check_library(library, folder, factor):
    for i, z in enumerate(library):
        found = read_lat(folder / f"{i % 3}" / f"{i}.lat")
        assert np.array_equal(found.data, (factor * z.data).astype(np.float16))
        assert found.history[-1] == {"op": "gain", "factor": factor}


@pytest.mark.parametrize("jobs", [(), ("--jobs", "1"), ("--jobs", "3")])
def test_folders_are_mirrored_by_any_number_of_processes(cli, library, jobs):
    cli.ok("gain", "in", "--factor", "0.5", "-o", "out", *jobs)
    check_library(library, cli.folder / "out", 0.5)
    assert "40 of 40 files were finished already" in cli.noted("gain", "in", "--factor", "0.5", "-o", "out", *jobs)[0]


def test_an_interrupted_batch_goes_on_and_another_one_is_refused(cli, library):
    cli.ok("gain", "in", "--factor", "0.5", "-o", "out")
    (cli.folder / "out" / "0" / "0.lat").unlink()
    damaged = cli.folder / "out" / "1" / "1.lat"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    code, out, err = cli.run("gain", "in", "--factor", "0.5", "-o", "out")
    assert (code, out) == (1, "")
    assert "1.lat exists already and was changed after it was made" in err
    assert (cli.folder / "out" / "0" / "0.lat").exists()
    damaged.unlink()
    cli.noted("gain", "in", "--factor", "0.5", "-o", "out")
    check_library(library, cli.folder / "out", 0.5)
    code, _, err = cli.run("gain", "in", "--factor", "0.25", "-o", "out")
    assert code == 1
    assert "--update" in err
    check_library(library, cli.folder / "out", 0.5)
    cli.ok("gain", "in", "--factor", "0.25", "-o", "out", "--force")
    check_library(library, cli.folder / "out", 0.25)


def test_bad_files_of_a_batch_are_listed_and_stop_nothing(cli, library):
    bad = cli.folder / "in" / "2" / "bad.lat"
    bad.write_bytes(b"no HDF5")
    loud = Latents(3e4 * np.ones((1, 8, 5)), library[0].header, name="loud")
    write_lat(loud, cli.folder / "in" / "loud.lat")
    code, _, err = cli.run("gain", "in", "--factor", "4", "-o", "out")
    first, second, last = sorted(err.splitlines(), key=lambda line: ("of 42" in line, "float16" in line))
    assert code == 1
    assert "bad.lat: not a .lat file" in first
    assert "float16" in second
    assert "2 of 42 files failed" in last
    check_library(library, cli.folder / "out", 4.0)


def test_a_log_has_a_line_for_each_file(cli, library):
    code, _, err = cli.run("gain", "in", "--factor", "0.5", "-o", "out", "--log", "json")
    *rows, summary = [json.loads(line) for line in err.splitlines()]
    assert code == 0
    assert (summary["status"], summary["done"]) == ("summary", 40)
    assert sorted(row["output"] for row in rows) == sorted(f"out/{i % 3}/{i}.lat" for i in range(40))
    assert {row["status"] for row in rows} == {"done"}


def test_many_operands_are_mixed_without_opening_them_all(cli, monkeypatch):
    import lincae_cli.batch

    monkeypatch.setattr(lincae_cli.batch, "open_files", lambda files: 7)
    parts = [make_lat(cli.folder / f"{i:02}.lat", i, num_samples=5000 + 1000 * i) for i in range(30)]
    names = [f"{i:02}.lat" for i in range(30)]
    cli.ok("mix", *(f"{name}:0.1" for name in names), "-o", "all.lat")
    longest = parts[-1].frames
    expected = sum(np.pad(np.float32(0.1) * z.data, ((0, 0), (0, 0), (0, longest - z.frames))) for z in parts)
    np.testing.assert_allclose(read_lat("all.lat").data, expected, atol=2e-3)
    cli.noted("concat", *names, "-o", "row.lat")
    np.testing.assert_array_equal(read_lat("row.lat").data, np.concatenate([z.data for z in parts], axis=2))


# --- integers and their quality


@pytest.fixture
def integers(cli, monkeypatch):
    """Two int8 files with levels, whose model has the qualities low and medium."""
    fine, coarse = (Group(2, 4, 0.25), Group(2, 4, 0.5, 2, True)), (Group(2, 4, 1.0), Group(2, 4, 1.0, 2, True))
    monkeypatch.setattr("lincae_core.models.store.qualities", lambda name: {"low": coarse, "medium": fine})
    header = Header(44100, 44100 * 20, "m", "sha256:" + "cd" * 32, latent_dim=16, groups=fine)
    for i, name in enumerate(("i.lat", "j.lat")):
        data = np.random.default_rng(i).standard_normal(header.shape)
        levels = np.ones((1, 2, header.frames), np.float32)
        write_lat(Latents(data, header, dtype="int8", band_levels=levels), cli.folder / name)
    return coarse, fine


def test_the_quality_of_a_mix_is_that_of_its_operands_or_the_one_asked_for(cli, integers):
    coarse, _ = integers
    sizes = {}
    wanted = read_lat("i.lat").data - 0.5 * read_lat("j.lat").data
    for quality in ("low", "medium", "exact", None):
        name = f"{quality}.lat"
        cli.ok("mix", "i.lat", "j.lat:-0.5", "-o", name, *(("--quality", quality) if quality else ()))
        sizes[quality] = (cli.folder / name).stat().st_size
        found = read_lat(name)
        noise = np.sqrt(np.square(found.data - wanted).mean())
        assert noise < {"low": 0.45, "medium": 0.25, "exact": 1e-3, None: 0.08}[quality]
        assert found.dtype == ("float32" if quality == "exact" else "int8")
    assert read_lat("low.lat").header.groups == coarse
    assert sizes["low"] < sizes["medium"] < sizes[None] < sizes["exact"]
    cli.ok("subtract", "i.lat", "j.lat", "-o", "sub.lat", "--quality", "low")
    assert read_lat("sub.lat").header.groups == coarse
    assert "use one of low, medium" in cli.refused(1, "mix", "i.lat", "j.lat", "-o", "x.lat", "--quality", "high")
    assert "--quality low" in cli.refused(2, "mix", "i.lat", "j.lat", "-o", "x.lat", "--quality", "lower")


def test_gains_of_integers_are_exact(cli, integers):
    z = read_lat("i.lat").data
    cli.ok("gain", "i.lat", "--db", "-6", "-o", "quiet.lat")
    np.testing.assert_allclose(read_lat("quiet.lat").data, np.float32(10 ** (-6 / 20)) * z, rtol=1e-6)
    cli.ok("gain", "quiet.lat", "--db", "6", "-o", "back.lat")
    np.testing.assert_allclose(read_lat("back.lat").data, z, rtol=1e-6)
    cli.ok("invert", "i.lat", "-o", "inverted.lat")
    assert np.array_equal(read_lat("inverted.lat").data, -z)
