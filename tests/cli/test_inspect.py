"""info and verify."""

import json

import numpy as np
import pytest
import soundfile
from cli_helpers import lincae, make_lat, ok, refused


def test_one_file_is_key_and_value(tmp_path):
    make_lat(tmp_path / "a.lat", channels=2, num_samples=83 * 44100 + 22050)
    lines = dict(line.split(maxsplit=1) for line in ok("info", "a.lat", cwd=tmp_path).decode().splitlines())
    assert lines["file"] == "a.lat"
    assert lines["duration"] == "1:23.5"
    assert lines["channels"] == "2"
    assert lines["dtype"] == "float16"
    assert lines["history"] == "encode source=x.wav"
    assert int(lines["bytes"]) == (tmp_path / "a.lat").stat().st_size


def test_many_files_are_rows(tmp_path):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "sub" / "b.lat", dtype="float32")
    head, *rows = ok("info", ".", cwd=tmp_path).decode().splitlines()
    assert head.split()[:2] == ["file", "duration"]
    assert [row.split()[0] for row in rows] == ["a.lat", "sub/b.lat"]
    assert "float32" in rows[1]


@pytest.mark.slow
def test_the_quality_is_shown(tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(40_000), 44100)
    for quality in ("low", "high", "exact"):
        ok("encode", "a.wav", "--quality", quality, "-o", f"{quality}.lat", cwd=tmp_path)
    ok("mix", "low.lat", "high.lat", "-o", "sum.lat", cwd=tmp_path)
    make_lat(tmp_path / "floats.lat")
    names = ("low", "high", "exact", "sum", "floats")
    rows = json.loads(ok("info", *(f"{name}.lat" for name in names), "--json", cwd=tmp_path))
    assert [row["quality"] for row in rows] == ["low", "high", "exact", None, None]
    assert "high" in ok("info", "high.lat", "low.lat", cwd=tmp_path).decode().splitlines()[1].split()


def test_json_is_always_a_list(tmp_path):
    a = make_lat(tmp_path / "a.lat", channels=2)
    (facts,) = json.loads(ok("info", "a.lat", "--json", cwd=tmp_path))
    assert facts["file"] == "a.lat"
    assert facts["num_samples"] == a.num_samples
    assert (facts["channels"], facts["latent_dim"], facts["frames"]) == a.data.shape
    assert facts["history"] == [{"op": "encode", "source": "x.wav"}]
    make_lat(tmp_path / "b.lat")
    assert len(json.loads(ok("info", "a.lat", "b.lat", "--json", cwd=tmp_path))) == 2


def test_history_names_the_operands(tmp_path):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "b.lat")
    ok("mix", "a.lat", "b.lat:0.5", "-o", "m.lat", cwd=tmp_path)
    assert ok("info", "m.lat", cwd=tmp_path).decode().splitlines()[-1].endswith("mix a.lat, 0.5 * b.lat")


def test_info_of_a_bad_file_still_shows_the_others(tmp_path):
    make_lat(tmp_path / "a.lat")
    (tmp_path / "bad.lat").write_bytes(b"no HDF5 at all")
    done = lincae("info", "bad.lat", "a.lat", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert [facts["file"] for facts in json.loads(done.stdout)] == ["a.lat"]
    assert b"bad.lat" in done.stderr


def test_verify_says_ok(tmp_path):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "b.lat")
    assert ok("verify", "a.lat", "b.lat", cwd=tmp_path) == b"a.lat: ok\nb.lat: ok\n"


def test_verify_finds_one_flipped_bit(tmp_path):
    latents = make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "b.lat", seed=1)
    data = bytearray((tmp_path / "a.lat").read_bytes())
    data[data.index(latents.data.astype("<f2").tobytes())] ^= 1
    (tmp_path / "a.lat").write_bytes(data)
    done = lincae("verify", "a.lat", "b.lat", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == b"b.lat: ok\n"
    first, last = done.stderr.decode().splitlines()
    assert "a.lat" in first
    assert "1 of 2 files failed" in last
    assert "a.lat" in refused(1, "verify", "a.lat", cwd=tmp_path)


def test_a_name_cannot_forge_a_line(tmp_path):
    make_lat(tmp_path / "x\nb.lat")
    assert ok("verify", "x\nb.lat", cwd=tmp_path) == b"x\\nb.lat: ok\n"
    refused(1, "verify", "no\nsuch.lat", cwd=tmp_path)


def test_undecodable_names_come_back_as_they_are(tmp_path):
    make_lat(tmp_path / "a.lat")
    name = b"\xff.lat"
    (tmp_path / "a.lat").rename(tmp_path / name.decode("utf-8", "surrogateescape"))
    assert ok("verify", name.decode("utf-8", "surrogateescape"), cwd=tmp_path) == name + b": ok\n"
