"""`--engine ray`: batches on a Ray cluster, whose nodes may die."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from cli_helpers import ROOT, environment, lincae, make_lat, refused

from lincae_cli.batch import LIST
from lincae_formats import verify

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module", autouse=True)
def importable():
    """Workers that this process's cluster starts find the checkout."""
    patch = pytest.MonkeyPatch()
    for name, value in environment().items():
        patch.setenv(name, value)
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")
    patch.delenv("RAY_ADDRESS", raising=False)
    yield
    patch.undo()


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster of two nodes, each with one CPU."""
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": 80 << 20}
    cluster = Cluster()
    for more in ({"include_dashboard": False}, {}):
        for again in (True, True, False):
            try:
                cluster.second = cluster.add_node(**arguments, **more)
                break
            except Exception:  # Ray gives a node 30 s to start, which a busy machine does not keep
                if not again:
                    raise
    yield cluster
    cluster.shutdown()


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Folder `in` with 30 songs of 20 s in the working folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / "in" / f"{i % 3}" / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal((44100 * 20, 2)), 44100)
    return tmp_path


def start(*arguments):
    command = [sys.executable, "-m", "lincae_cli", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != LIST}


def wait_for(folder, count, process):
    """Until so many files are there."""
    limit = time.monotonic() + 120
    while len(list(folder.rglob("*.lat"))) < count and time.monotonic() < limit:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def closed_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_a_node_dies_in_the_middle(two_nodes, library):
    assert lincae("encode", "in", "-o", "local/").returncode == 0
    process = start("encode", "in", "-o", "out/", "--engine", "ray", "--address", two_nodes.address, "--log", "json")
    wait_for(library / "out", 5, process)
    assert len(list((library / "out").rglob("*.lat"))) < 30
    two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    _, said = process.communicate(timeout=300)
    lines = [json.loads(line) for line in said.splitlines()]
    assert process.returncode == 0, said
    *files, summary = lines
    assert len({line["output"] for line in files}) == len(files) == 30
    assert summary["failed"] == 0
    assert contents(library / "out") == contents(library / "local")
    for path in (library / "out").rglob("*.lat"):
        verify(path)
    # What was made there is known here.
    done = lincae("encode", "in", "-o", "out/")
    assert done.stderr.decode() == "lincae: note: 30 of 30 files were finished already; --force makes them again\n"


@pytest.mark.slow
def test_bad_files_and_a_file_that_kills_its_worker(two_nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        make_lat(tmp_path / "in" / f"{i}.lat", seed=i)
    (tmp_path / "in" / "2.lat").write_bytes(b"\x89HDF\r\n\x1a\n and nothing")
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT / "tests" / "cli")!r})
from lincae_cli import arithmetic, batch
from lincae_cli.app import main

write = batch.write_all
def deadly(jobs, do, *others, **more):
    def work(job, overwrite):
        if job.source.endswith("1.lat"):
            os.kill(os.getpid(), 9)
        return do(job, overwrite)
    write(jobs, work, *others, **more)
batch.write_all = deadly
sys.exit(main(["gain", "in", "--db", "-6", "-o", "out/", "--engine", "ray", "--address", {two_nodes.address!r}]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    # what a worker finished before it died is found to be finished when its files are tried again
    said = [line for line in done.stderr.splitlines() if "finished already" not in line]
    assert len(said) == 4, done.stderr
    note, deadly, bad, end = said
    assert note.startswith("lincae: note: ray: 1 worker on 2 nodes at ")
    assert deadly.startswith("lincae: error: in/1.lat: 2 workers died while they worked on it")
    assert bad.startswith("lincae: error: in/2.lat")
    assert end == "lincae: error: 2 of 4 files failed; the others are done"
    assert lincae("gain", "in", "--db", "-6", "-o", "local/").returncode == 1
    local = contents(tmp_path / "local")
    assert sorted(local) == ["0.lat", "1.lat", "3.lat"]
    assert contents(tmp_path / "out") == {name: local[name] for name in ("0.lat", "3.lat")}


@pytest.mark.slow
def test_interrupted_and_ended_on_a_cluster_of_its_own(two_nodes, library):
    process = start("encode", "in", "-o", "out/", "--engine", "ray", "--address", two_nodes.address)
    wait_for(library / "out", 2, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[1:] == ["lincae: interrupted; no half-written file is left"]
    left = contents(library / "out")
    assert 2 <= len(left) < 30
    assert all(name.endswith(".lat") for name in left), left.keys()
    two_nodes.shutdown()
    done = lincae("encode", "in", "-o", "out/", "--engine", "ray", "--jobs", "2")
    said = done.stderr.decode()
    assert (done.returncode, said.count("\n")) == (0, 1), said
    assert said.endswith("of 30 files were finished already; --force makes them again\n")
    assert len(contents(library / "out")) == 30
    for path in (library / "out").rglob("*.lat"):
        verify(path)


def test_nobody_answers(tmp_path):
    make_lat(tmp_path / "in" / "a.lat")
    address, began = f"127.0.0.1:{closed_port()}", time.monotonic()
    line = refused(1, "gain", "in", "--db", "-6", "-o", "out/", "--engine", "ray", "--address", address, cwd=tmp_path)
    assert f"no ray cluster answers at {address}" in line
    assert time.monotonic() - began < 30
    line = refused(1, "gain", "in", "--db", "-6", "-o", "out/", "--engine", "ray", cwd=tmp_path, RAY_ADDRESS=address)
    assert f"no ray cluster answers at {address}" in line


@pytest.mark.slow
def test_something_else_answers(tmp_path):
    make_lat(tmp_path / "in" / "a.lat")
    """Something that takes connections and is silent: Ray itself would wait for minutes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        line = refused(
            1, "gain", "in", "--db", "-6", "-o", "out/", "--engine", "ray", "--address", address, cwd=tmp_path
        )
    assert f"no ray cluster answers at {address}" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--address", "127.0.0.1:6379"], "add --engine ray --address 127.0.0.1:6379"),
        (["--engine", "ray", "--address", "nonsense"], "'nonsense' is not HOST:PORT"),
        (["--engine", "ray", "--address", "ray://host:1"], "is not HOST:PORT"),
        (["--engine", "rya"], "did you mean --engine ray"),
    ],
)
def test_wrong_usage(cli, arguments, said):
    make_lat(cli.folder / "in" / "a.lat")
    assert said in cli.refused(2, "gain", "in", "--db", "-6", "-o", "out/", *arguments)


def test_no_streams(cli):
    make_lat(cli.folder / "a.lat")
    assert "works on files" in cli.refused(2, "gain", "a.lat", "--db", "-6", "-o", "-", "--engine", "ray")


def test_without_ray(cli, monkeypatch):
    make_lat(cli.folder / "in" / "a.lat")
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "lincae_cli.ray_engine", raising=False)
    line = cli.refused(1, "gain", "in", "--db", "-6", "-o", "out/", "--engine", "ray")
    assert line.endswith("--engine ray needs ray; pip install 'lincae[scale]'")
    assert not os.path.exists("out")
