"""Two writers of one target, and what is left of killed ones."""

import os
import threading

import pytest
from cli_helpers import listing

from lincae_core import load
from lincae_core.models.codec import encode_file
from lincae_formats import TargetExistsError, verify


@pytest.fixture(scope="module")
def model(tiny_model):
    return load(tiny_model, device="cpu").autoencoder


def at_once(*works):
    """Runs all at the same time; returns what each raised."""
    errors = [None] * len(works)
    barrier = threading.Barrier(len(works))

    def run(i):
        barrier.wait()
        try:
            works[i]()
        except Exception as e:
            errors[i] = e

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_of_two_writers_of_one_target_one_wins_and_the_other_is_told(here, record, model):
    record("a.wav", seed=0)
    record("b.wav", seed=1)
    for name in "ab":
        encode_file(model, f"{name}.wav", f"{name}.lat")
    for i in range(5):
        errors = at_once(*(lambda n=n, i=i: encode_file(model, f"{n}.wav", f"{i}.x") for n in "ab"))
        lost = [e for e in errors if e is not None]
        assert [type(e) for e in lost] == [TargetExistsError]
        winner = "ab"[errors.index(None)]
        assert (here / f"{i}.x").read_bytes() == (here / f"{winner}.lat").read_bytes()


def test_of_two_that_overwrite_the_last_stays_and_is_whole(here, record, model):
    record("a.wav", seed=0)
    record("b.wav", seed=1)
    works = [lambda n=n: encode_file(model, f"{n}.wav", "x.lat", overwrite=True) for n in "ab"]
    assert at_once(*works) == [None, None]
    verify("x.lat")
    assert sorted(os.listdir()) == ["a.wav", "b.wav", "x.lat"]


def test_two_runs_of_one_batch_at_once_share_the_work(here, record, lincae):
    from lincae_cli.app import main

    for i in range(12):
        record(f"in/{i}.wav", seed=i)
    assert lincae("encode", "in", "-o", "alone", "--model", "tiny")[0] == 0
    codes = []
    arguments = ["encode", "in", "-o", "both", "--model", "tiny"]
    assert at_once(*[lambda: codes.append(main(arguments))] * 2) == [None, None]
    assert codes == [0, 0]
    assert listing("both") == listing("alone")
    for name in listing("alone"):
        assert (here / "both" / name).read_bytes() == (here / "alone" / name).read_bytes()


def test_leftovers_of_killed_runs_are_removed_by_the_next(here, record, lincae):
    record("in/a.wav")
    (here / "out").mkdir()
    (here / "out" / f".a.lat.{'0' * 12}.tmp").write_bytes(b"half of it")
    (here / "out" / ".a.lat.mine.tmp").write_bytes(b"not ours")
    assert lincae("encode", "in", "-o", "out", "--model", "tiny")[0] == 0
    assert listing("out") == [".a.lat.mine.tmp", "a.lat"]
