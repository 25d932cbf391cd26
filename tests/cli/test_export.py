"""`lincae export`: what webdataset, Zarr and NumPy read back, what a killed run leaves, and what is refused."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from cli_helpers import FINGERPRINT, environment, make_lat

from lincae_core.export import STATE, Export
from lincae_formats import Group, Header, Latents, LatReader, write_lat

LENGTHS = {"a/one.lat": 70_000, "a/two.v1.lat": 5_000_000, "b/three.lat": 4096, "b/four.lat": 900_000}


@pytest.fixture
def lats(tmp_path):
    """The latents of four stereo files, by name."""
    return {
        name: make_lat(tmp_path / "lats" / name, seed=i, channels=2, num_samples=n)
        for i, (name, n) in enumerate(LENGTHS.items())
    }


def facts(out):
    return json.loads((out / "export.json").read_text()), [json.loads(x) for x in (out / "files.jsonl").open()]


def everything(out):
    """Every file but the state, whose lines are in the order of the threads."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != STATE}


def check_statistics(found, lats):
    data = np.concatenate([z.data for z in lats.values()], axis=2).astype(np.float64)
    assert np.allclose(found["mean"], data.mean((0, 2)), atol=1e-9)
    assert np.allclose(found["deviation"], data.std((0, 2)), atol=1e-9)
    assert (found["files"], found["frames"]) == (len(lats), data.shape[2])
    assert found["model_fingerprint"] == FINGERPRINT


def test_webdataset_reads_the_shards(cli, lats):
    wds = pytest.importorskip("webdataset")
    cli.ok("export", "lats", "-o", "out", "--to", "webdataset", "--shard-size", "20kB")
    out = cli.folder / "out"
    found, lines = facts(out)
    check_statistics(found, lats)
    tars = sorted(str(p) for p in out.glob("*.tar"))
    assert len(tars) == len(found["shards"]) == 3
    assert sum((out / s["name"]).stat().st_size > 21_000 for s in found["shards"]) == 1, "that of the long file"
    samples = {s["json"]["name"]: s for s in wds.WebDataset(tars, shardshuffle=False).decode()}
    assert list(samples) == [x["name"] for x in lines] == sorted(lats)
    assert samples["a/two.v1.lat"]["__key__"] == "a/two_v1"
    for name, z in lats.items():
        assert samples[name]["latents.npy"].dtype == np.float16
        assert np.array_equal(samples[name]["latents.npy"], z.data)
        assert samples[name]["json"]["num_samples"] == LENGTHS[name]
        assert samples[name]["json"]["model_fingerprint"] == FINGERPRINT


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_numpy_maps_the_arrays(cli, lats, dtype):
    cli.ok("export", "lats", "-o", "out", "--to", "npy", "--shard-size", "20kB", "--dtype", dtype)
    found, lines = facts(cli.folder / "out")
    check_statistics(found, lats)
    for line in lines:
        array = np.load(cli.folder / "out" / f"{line['shard']}.latents.npy", mmap_mode="r")
        part = array[..., line["start"] : line["start"] + line["frames"]]
        assert part.T.flags.c_contiguous, "a crop is one piece of the file"
        assert array.dtype == dtype
        assert np.array_equal(part, lats[line["name"]].data)


@pytest.mark.parametrize("size", ["9kB", "1GB"])
def test_zarr_reads_one_array(cli, lats, size):
    zarr = pytest.importorskip("zarr")
    cli.ok("export", "lats", "-o", "out", "--to", "zarr", "--shard-size", size)
    found, lines = facts(cli.folder / "out")
    check_statistics(found, lats)
    group = zarr.open_group(str(cli.folder / "out" / "latents.zarr"), mode="r")
    assert group.attrs["model_fingerprint"] == FINGERPRINT
    rest = np.ones(group["latents"].shape[2], bool)
    for line, start, frames in zip(lines, group["starts"][:], group["frames"][:], strict=True):
        assert (line["start"], line["frames"]) == (start, frames)
        assert np.array_equal(group["latents"][..., start : start + frames], lats[line["name"]].data)
        rest[start : start + frames] = False
    assert np.isnan(group["latents"][:][..., rest]).all()


@pytest.mark.parametrize("to", ["webdataset", "zarr", "npy"])
def test_levels_tags_and_mono(cli, to):
    header = Header(44100, 4096 * 30, "m", FINGERPRINT, channels=2, latent_dim=4, groups=(Group(2, 2, 0.1, 1, True),))
    data = np.random.default_rng(0).standard_normal(header.shape).astype(np.float32)
    bands = np.abs(data[:, :2]) + 0.1
    (cli.folder / "lats").mkdir()
    write_lat(Latents(data, header, dtype="float32", band_levels=bands, tags={"title": "Wörld"}), "lats/x.lat")
    cli.ok("export", "lats", "-o", "out", "--to", to, "--levels", "--mono", "--dtype", "float32")
    found, (line,) = facts(cli.folder / "out")
    assert (found["levels"], line["channels"], line["tags"]) == (2, 1, {"title": "Wörld"})
    out = str(cli.folder / "out")
    if to == "zarr":
        group = pytest.importorskip("zarr").open_group(f"{out}/latents.zarr", mode="r")
        latents, levels = group["latents"][..., :30], group["levels"][..., :30]
    elif to == "npy":
        latents, levels = np.load(f"{out}/00000.latents.npy"), np.load(f"{out}/00000.levels.npy")
    else:
        wds = pytest.importorskip("webdataset")
        (sample,) = wds.WebDataset(f"{out}/00000.tar", shardshuffle=False).decode()
        latents, levels = sample["latents.npy"], sample["levels.npy"]
    assert np.allclose(latents, data.mean(0, keepdims=True), atol=1e-7)
    assert np.allclose(levels, np.sqrt((bands**2).mean(0, keepdims=True)), atol=1e-7)


@pytest.mark.parametrize("to", ["webdataset", "zarr", "npy"])
def test_an_export_goes_on_and_is_the_same(cli, lats, to):
    command = ("export", "lats", "--to", to, "--shard-size", "20kB")
    cli.ok(*command, "-o", "whole")
    wanted = everything(cli.folder / "whole")
    begun = Export([(f"lats/{name}", name) for name in sorted(lats)], "out", to, shard_size=20_000)
    begun.write(1)
    with open(cli.folder / "out" / STATE, "a") as state:
        state.write('{"shard": 0, "fil')  # killed while it wrote
    assert not (cli.folder / "out" / "export.json").exists()
    assert not (cli.folder / "out" / "latents.zarr").exists()
    assert cli.noted(*command, "-o", "out") == ["1 of 3 shards were finished already; --force makes them again"]
    assert everything(cli.folder / "out") == wanted
    assert cli.noted(*command, "-o", "out") == ["3 of 3 shards were finished already; --force makes them again"]
    line = cli.refused(1, *command, "-o", "out", "--mono")
    assert "an export of other files, or with other options" in line
    assert line.endswith("add --force to replace it")
    assert everything(cli.folder / "out") == wanted
    cli.ok(*command, "-o", "out", "--force")
    assert everything(cli.folder / "out") == wanted


@pytest.mark.parametrize("to", ["webdataset", "zarr", "npy"])
def test_a_damaged_file_is_left_out_and_taken_in_when_it_is_repaired(cli, lats, to):
    command = ("export", "lats", "-o", "out", "--to", to, "--shard-size", "40kB")
    cli.ok(*command[:3], "whole", *command[4:])
    paths = [cli.folder / "lats" / name for name in ("a/two.v1.lat", "b/four.lat")]
    good = [path.read_bytes() for path in paths]
    for path, data in zip(paths, good, strict=True):
        with LatReader(path) as reader:
            (at, _) = reader.chunks["latents"]._places[-1, 0, -1].tolist()
        path.write_bytes(data[: at + 9] + bytes([data[at + 9] ^ 1]) + data[at + 10 :])
    code, _, err = cli.run(*command)
    assert code == 1
    assert err.count("a checksum of /latents does not match") == 2
    assert "2 of 4 files failed; the others are done" in err
    found, lines = facts(cli.folder / "out")
    assert [x["name"] for x in lines] == ["a/one.lat", "b/three.lat"]
    check_statistics(found, {x["name"]: lats[x["name"]] for x in lines})
    for path, data in zip(paths, good, strict=True):
        path.write_bytes(data)
    assert cli.run(*command)[0] == 0
    assert everything(cli.folder / "out") == everything(cli.folder / "whole")


def test_what_cannot_be_exported_is_refused_in_a_line(cli, lats):
    for options, complaint in (
        (("-o", "out"), "--to is missing"),
        (("--to", "npy"), "-o FOLDER is missing"),
        (("-o", "out", "--to", "parquet"), "'parquet' is unknown; use one of webdataset, zarr, npy"),
        (("-o", "out", "--to", "npy", "--shard-size", "12 parsecs"), "is not a size from 1kB to 1000GB"),
        (("-o", "out", "--to", "npy", "--shard-size", "3B"), "is not a size from 1kB"),
    ):
        assert complaint in cli.refused(2, "export", "lats", *options)
    assert "has no levels" in cli.refused(1, "export", "lats", "-o", "out", "--to", "npy", "--levels")
    assert "lats holds other files and no export" in cli.refused(1, "export", "lats", "-o", "lats", "--to", "npy")
    make_lat(cli.folder / "lats" / "mono.lat")
    line = cli.refused(1, "export", "lats", "-o", "out", "--to", "npy")
    assert "lats/mono.lat has 1 channels, lats/a/one.lat has 2" in line
    assert line.endswith("average the channels: --mono")
    cli.ok("export", "lats", "-o", "tars", "--to", "webdataset")
    make_lat(cli.folder / "lats" / "z.lat", fingerprint="sha256:" + "ee" * 32)
    line = cli.refused(1, "export", "lats", "-o", "out", "--to", "webdataset")
    assert "mono.lat and lats/z.lat come from two versions of the model m" in line
    assert not (cli.folder / "out").exists()
    big = Latents(np.full((1, 8, 1), 7e4, np.float32), Header(44100, 4096, "m", FINGERPRINT, latent_dim=8))
    write_lat(Latents(big.data, big.header, dtype="float32"), "big.lat")
    assert "add --dtype float32" in cli.refused(1, "export", "big.lat", "-o", "big", "--to", "npy")


def test_a_missing_zarr_is_named(cli, lats, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    line = cli.refused(1, "export", "lats", "-o", "out", "--to", "zarr")
    assert "zarr is not installed; pip install 'lincae[export]'" in line


@pytest.mark.slow
@pytest.mark.parametrize("to", ["webdataset", "zarr"])
def test_a_killed_export_leaves_whole_shards_and_goes_on(tmp_path, to):
    for i in range(150):
        make_lat(tmp_path / "lats" / f"{i:03}.lat", seed=i, num_samples=4_000_000)
    command = [sys.executable, "-m", "lincae_cli", "export", "lats", "--to", to, "--shard-size", "40kB", "-o"]
    subprocess.run([*command, "whole"], cwd=tmp_path, env=environment(), check=True)
    killed = 0
    for wait in np.linspace(0.0, 1.2, 7):
        with subprocess.Popen([*command, "out"], cwd=tmp_path, env=environment(), stderr=subprocess.DEVNULL) as running:
            limit = time.monotonic() + 60
            while not (tmp_path / "out" / STATE).exists() and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(wait)
            running.send_signal(signal.SIGKILL)
        killed += running.returncode == -signal.SIGKILL
        tars = list((tmp_path / "out").glob("*.tar"))
        assert all(tar.read_bytes() == (tmp_path / "whole" / tar.name).read_bytes() for tar in tars)
    assert killed, "stopped in the middle"
    subprocess.run([*command, "out"], cwd=tmp_path, env=environment(), check=True)
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")
    assert not list((tmp_path / "out").glob(".*.tmp"))
