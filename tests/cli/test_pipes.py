"""`-` is stdin or stdout: a .lat over a pipe is the same bytes as the file."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from cli_helpers import environment, make_lat, ok, refused


def test_stdout_has_the_bytes_of_the_file(tmp_path):
    make_lat(tmp_path / "a.lat")
    ok("gain", "a.lat", "--db", "-6", "-o", "out.lat", cwd=tmp_path)
    assert ok("gain", "a.lat", "--db", "-6", "-o", "-", cwd=tmp_path) == (tmp_path / "out.lat").read_bytes()


def test_stdin_is_an_operand(tmp_path):
    make_lat(tmp_path / "a.lat")
    data = (tmp_path / "a.lat").read_bytes()
    ok("mix", "-:0.5", "-o", "half.lat", cwd=tmp_path, stdin=data)
    piped = json.loads(ok("info", "-", "--json", cwd=tmp_path, stdin=data))[0]
    named = json.loads(ok("info", "a.lat", "--json", cwd=tmp_path))[0]
    assert {**named, "file": "-", "bytes": None} == piped
    assert ok("verify", "-", stdin=data) == b"-: ok\n"


def test_a_chain_of_pipes(tmp_path):
    make_lat(tmp_path / "a.lat")
    make_lat(tmp_path / "b.lat", seed=1)
    command = f"{sys.executable} -m lincae_cli"
    line = f"{command} gain a.lat --factor 2 -o - | {command} subtract - b.lat -o - | {command} verify -"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=environment(), capture_output=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"-: ok\n", b"")


def test_the_issues_pipeline_gives_the_bytes_of_the_same_steps_through_files(tmp_path, tiny_model, monkeypatch):
    from lincae_cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LINCAE_MODELS", str(tiny_model.parent))  # where decode finds `tiny` by its fingerprint
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal((50_001, 2)), 48000)
    pipeline = """
    lincae() { "$PYTHON" -m lincae_cli "$@"; }
    lincae encode - - --model tiny < a.wav | lincae gain - --db -6 -o - | lincae decode - -o b.flac
    """
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", pipeline],
        env={**environment(), "PYTHON": sys.executable}, capture_output=True, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the pipeline: sums are the same to the last bit
    try:
        assert main(["encode", "a.wav", "-o", "1.lat", "--model", "tiny"]) == 0
        assert main(["gain", "1.lat", "--db", "-6", "-o", "2.lat"]) == 0
        assert main(["decode", "2.lat", "-o", "3.flac"]) == 0
    finally:
        torch.set_num_threads(threads)
    assert soundfile.info("b.flac").frames == 50_001
    assert (tmp_path / "b.flac").read_bytes() == (tmp_path / "3.flac").read_bytes()


def test_garbage_on_stdin_is_one_line():
    assert "<stdin>" in refused(1, "info", "-", stdin=b"garbage")
    refused(1, "info", "-", stdin=b"")


@pytest.mark.parametrize("args", [("info", "a.lat", "--json"), ("gain", "a.lat", "--db", "1", "-o", "-"), ("--help",)])
def test_a_reader_that_left_is_no_error(tmp_path, args):
    make_lat(tmp_path / "a.lat", num_samples=44100 * 600)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "lincae_cli", *args],
            cwd=tmp_path, env=environment(), stdout=closed, stderr=subprocess.PIPE, timeout=60,
        )  # fmt: skip
    assert done.stderr == b""
    assert done.returncode in (1, 141)
