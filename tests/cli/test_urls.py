"""Inputs and outputs as URLs: file://, memory:// and a local S3 server."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import make_lat

from lincae_formats import read_lat

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["file", "memory", "s3"])
def place(request, tmp_path, monkeypatch):
    """The URL of an empty folder, and its file system."""
    if request.param == "s3":
        bucket = request.getfixturevalue("bucket")
        return f"s3://{bucket}", fsspec.filesystem("s3")
    fs = fsspec.filesystem(request.param)
    if request.param == "memory":
        fs.store.clear()
        return "memory://music", fs
    (tmp_path / "place").mkdir()
    return f"file://{tmp_path / 'place'}", fs


@pytest.fixture(scope="module")
def server():
    """An S3 server on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """A bucket, where s3fs finds it."""
    from uuid import uuid4

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    fsspec.filesystem("s3").clear_instance_cache()
    name = f"music-{uuid4().hex[:8]}"
    fsspec.filesystem("s3").mkdir(name)
    yield name
    fsspec.filesystem("s3").clear_instance_cache()


def write_wav(path, seed, seconds=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.01 * rng.standard_normal((44100 * seconds, 2)), 44100)


def listing(fs, url):
    """The files below a URL, hidden ones left out, with their bytes."""
    _, root = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    names = [name.removeprefix(root).lstrip("/") for name in fs.find(root)]
    return {name: fs.cat_file(f"{root}/{name}") for name in names if not name.startswith(".") and "/." not in name}


@pytest.mark.slow
def test_there_and_back(cli, place):
    url, fs = place
    for name in ("a.wav", "deep/b.wav"):
        write_wav(cli.folder / "in" / name, seed=len(name))
        fs.makedirs(f"{url}/in/deep", exist_ok=True)
        fs.put_file(str(cli.folder / "in" / name), f"{url}/in/{name}")
    fs.pipe_file(f"{url}/in/.hidden.wav", b"")
    cli.ok("encode", "in", "-o", "local/")
    cli.ok("encode", f"{url}/in", "-o", f"{url}/out/")
    expected = {name: (cli.folder / "local" / name).read_bytes() for name in ("a.lat", "deep/b.lat")}
    assert listing(fs, f"{url}/out") == expected
    # Finished ones are skipped; other options are noticed; --update makes what is out of date, and only that.
    assert cli.noted("encode", f"{url}/in", "-o", f"{url}/out/") == [
        "2 of 2 files were finished already; --force makes them again"
    ]
    code, _, err = cli.run("encode", f"{url}/in", "-o", f"{url}/out/", "--quality", "low")
    assert code == 1
    assert "exists already and was made with --quality medium, not --quality low; add --update" in err
    write_wav(cli.folder / "in" / "a.wav", seed=9, seconds=2)
    fs.put_file(str(cli.folder / "in" / "a.wav"), f"{url}/in/a.wav")
    fs.invalidate_cache()
    code, _, err = cli.run("encode", f"{url}/in", "-o", f"{url}/out/")
    assert "/out/a.lat exists already and was made before a.wav changed; add --update" in err
    assert len(cli.noted("encode", f"{url}/in", "-o", f"{url}/out/", "--update")) == 1
    cli.ok("encode", "in/a.wav", "-o", "local/a.lat", "--force")
    assert listing(fs, f"{url}/out") == expected | {"a.lat": (cli.folder / "local/a.lat").read_bytes()}
    # On: a folder batch from there to here, and a single file back.
    cli.ok("gain", f"{url}/out", "--db", "-6", "-o", "quiet/")
    assert read_lat(cli.folder / "quiet" / "deep" / "b.lat").header.num_samples == 44100
    cli.ok("decode", f"{url}/out/deep/b.lat", "-o", f"{url}/b.flac")
    with fs.open(f"{url}/b.flac") as file:
        assert soundfile.info(file).frames == 44100
    code, _, err = cli.run("decode", f"{url}/out/deep/b.lat", "-o", f"{url}/b.flac")
    assert err.endswith("/b.flac exists already; add --force to overwrite it\n")
    # Beside the source.
    cli.ok("encode", f"{url}/in/deep/b.wav")
    assert listing(fs, f"{url}/in/deep")["b.lat"] == expected["deep/b.lat"]


def test_a_bad_file_among_good_ones(cli, place):
    url, fs = place
    for name in ("a.wav", "c.wav"):
        write_wav(cli.folder / name, seed=1)
        fs.makedirs(f"{url}/in", exist_ok=True)
        fs.put_file(str(cli.folder / name), f"{url}/in/{name}")
    fs.pipe_file(f"{url}/in/b.wav", b"RIFF, and nothing")
    code, _, err = cli.run("encode", f"{url}/in", "-o", f"{url}/out/", "--jobs", "2")
    first, last = err.splitlines()
    assert code == 1
    assert first.startswith(f"lincae: error: {url}/in/b.wav is not audio")
    assert last == "lincae: error: 1 of 3 files failed; the others are done"
    assert sorted(listing(fs, f"{url}/out")) == ["a.lat", "c.lat"]


def test_an_upload_that_fails_leaves_nothing(cli, tmp_path, monkeypatch):
    from fsspec.implementations.local import LocalFileSystem

    make_lat(tmp_path / "in" / "a.lat")
    put = LocalFileSystem.put_file

    def half(self, source, target, **more):
        with open(target, "wb") as file:
            file.write(Path(source).read_bytes()[:100])
        raise OSError("the line was cut")

    monkeypatch.setattr(LocalFileSystem, "put_file", half)
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", f"file://{tmp_path}/out/")
    assert f"cannot write file://{tmp_path}/out/a.lat: the line was cut" in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == [".lincae-batch"]
    monkeypatch.setattr(LocalFileSystem, "put_file", put)
    cli.ok("gain", "in", "--db", "-6", "-o", f"file://{tmp_path}/out/")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [".lincae-batch", "a.lat"]
    record = json.loads((tmp_path / "out" / ".lincae-batch" / "a.lat.json").read_bytes())
    assert record["by"]["command"] == "gain"
    # What was written half by something else is not taken for ours.
    (tmp_path / "out" / "a.lat").write_bytes(b"other")
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", f"file://{tmp_path}/out/")
    assert "a.lat exists already and was changed after it was made; add --update" in line


def test_a_bucket_that_does_not_exist(cli, bucket):
    write_wav(cli.folder / "in" / "a.wav", seed=1)
    line = cli.refused(1, "encode", "in", "-o", "s3://nothing-of-that-name/out/")
    assert "cannot write s3://nothing-of-that-name/out/a.lat: " in line
    line = cli.refused(1, "encode", "s3://nothing-of-that-name/in/", "-o", "out/")
    assert "cannot read s3://nothing-of-that-name/in/: " in line
    line = cli.refused(1, "encode", f"s3://{bucket}/nothing", "-o", "out/")
    assert f"cannot read s3://{bucket}/nothing: there is no such file or folder; check" in line


def test_what_cannot_be(cli, monkeypatch):
    make_lat(cli.folder / "in" / "a.lat")
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", "sx3://b/out/")
    assert "the protocol sx3:// is unknown; use one of s3://" in line
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", "s3://b/out/")
    assert line.endswith("; pip install s3fs")
    fsspec.filesystem("memory").pipe_file("/music/a.lat", b"nothing")
    assert "only batches" in cli.refused(2, "info", "memory://music/a.lat")
    assert "only batches" in cli.refused(2, "mix", "in/a.lat", "-o", "memory://music/a.lat")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", "s3://b/out/")
    assert line.endswith("URLs need fsspec; pip install 'lincae[scale]'")


@pytest.mark.slow
def test_nobody_answers(cli, bucket, monkeypatch):
    make_lat(cli.folder / "in" / "a.lat")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    fsspec.filesystem("s3").clear_instance_cache()
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", f"s3://{bucket}/out/")
    assert f"cannot write s3://{bucket}/out/a.lat: " in line


def test_local_names_need_no_fsspec(tmp_path):
    make_lat(tmp_path / "in" / "a.lat")
    script = """
import sys
from lincae_cli.app import main
code = main(["gain", "in", "--db", "-6", "-o", "out/"])
assert code == 0 and not {"fsspec", "lincae_cli.urls", "lincae_cli.ray_engine"} & set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=tmp_path).returncode == 0
