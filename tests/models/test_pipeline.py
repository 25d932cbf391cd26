"""Whole files to `.lat` and back: lengths, rates, channels, parts, memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from lincae_core.models.codec import Autoencoder, decode_file, encode_file
from lincae_formats import read_lat
from lincae_formats.errors import LincaeError, TargetExistsError, UsageError

ROOT = Path(__file__).parents[2]


def wav(path, channels, n, rate=44100, seed=0):
    x = np.random.default_rng(seed).uniform(-0.3, 0.3, (n, channels)).astype(np.float32)
    sf.write(path, x, rate, subtype="FLOAT")
    return path


def samples(path):
    return sf.read(path, dtype="float32", always_2d=True)[0]


@pytest.mark.parametrize(
    ("n", "channels", "rate"),
    [
        (1, 1, 44100), (511, 2, 44100), (4095, 1, 44100), (4096, 6, 44100), (4097, 2, 44100),
        (1, 2, 8000), (511, 1, 96000), (4095, 6, 22050), (4096, 1, 48000), (4097, 2, 48000),
        (4097, 1, 8000), (4097, 2, 96000), (30011, 1, 22050),
    ],
)  # fmt: skip
def test_length_rate_and_channels_come_back(tiny, tmp_path, n, channels, rate):
    source = wav(tmp_path / "a.wav", channels, n, rate)
    done = encode_file(tiny, source, tmp_path / "a.lat")
    assert (done.num_samples, done.channels, done.sample_rate) == (n, channels, rate)
    z = read_lat(tmp_path / "a.lat")
    frames = -(-n * 44100 // (rate * 4096))
    assert z.data.shape == (channels, tiny.latent_dim, frames)
    assert (z.num_samples, z.sample_rate, z.model, z.header.model_fingerprint) == (
        n, rate, "tiny", tiny.fingerprint,
    )  # fmt: skip
    back = decode_file(tiny, tmp_path / "a.lat", tmp_path / "b.wav")
    info = sf.info(tmp_path / "b.wav")
    assert (info.frames, info.channels, info.samplerate) == (n, channels, rate)
    assert (back.num_samples, back.channels, back.sample_rate) == (n, channels, rate)
    assert samples(tmp_path / "b.wav").any()


@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_part_is_the_wholes_samples(tiny, tmp_path, rate):
    encode_file(tiny, wav(tmp_path / "a.wav", 2, 3 * rate + 77, rate), tmp_path / "a.lat")
    decode_file(tiny, tmp_path / "a.lat", tmp_path / "whole.wav", subtype="FLOAT")
    whole = samples(tmp_path / "whole.wav")
    for start, end in [(0.0, 0.4), (1.23456, 1.3), (1.5, None), (None, 0.001), (2.9, 99.0), (0.7, 2.8)]:
        target = tmp_path / "part.wav"
        decode_file(tiny, tmp_path / "a.lat", target, start=start, end=end, subtype="FLOAT", overwrite=True)
        first = round((start or 0) * rate)
        last = len(whole) if end is None else min(round(end * rate), len(whole))
        part = samples(target)
        assert part.shape == (last - first, 2)
        assert np.abs(part - whole[first:last]).max() <= 2e-5 * np.abs(whole).max()


@pytest.mark.parametrize("part", [(5.0, None), (-1.0, None), (0.5, 0.5), (0.6, 0.5), (None, 0.0)])
def test_a_part_outside_the_audio(tiny, tmp_path, part):
    encode_file(tiny, wav(tmp_path / "a.wav", 1, 44100), tmp_path / "a.lat")
    with pytest.raises(UsageError, match=r"a\.lat: \S+ (to \S+ s|s and later) is not within its 1 s"):
        decode_file(tiny, tmp_path / "a.lat", tmp_path / "b.wav", start=part[0], end=part[1])
    assert not (tmp_path / "b.wav").exists()


def test_other_rate_asked_for(tiny, tmp_path):
    encode_file(tiny, wav(tmp_path / "a.wav", 1, 8001, 8000), tmp_path / "a.lat")
    done = decode_file(tiny, tmp_path / "a.lat", tmp_path / "b.wav", sample_rate=16000)
    info = sf.info(tmp_path / "b.wav")
    assert (info.frames, info.samplerate) == (16002, 16000) == (done.num_samples, done.sample_rate)


def test_channels_are_encoded_each_by_itself(tiny, tmp_path):
    source = wav(tmp_path / "a.wav", 2, 20000)
    encode_file(tiny, source, tmp_path / "a.lat")
    both = read_lat(tmp_path / "a.lat").data
    for c in range(2):
        sf.write(tmp_path / "c.wav", samples(source)[:, c], 44100, subtype="FLOAT")
        encode_file(tiny, tmp_path / "c.wav", tmp_path / "c.lat", overwrite=True)
        assert np.array_equal(read_lat(tmp_path / "c.lat").data[0], both[c])
    assert not np.array_equal(both[0], both[1])


def test_mono_averages(tiny, tmp_path):
    source = wav(tmp_path / "a.wav", 2, 20000)
    encode_file(tiny, source, tmp_path / "a.lat", mono=True, dtype="float32")
    sf.write(tmp_path / "m.wav", samples(source).mean(1), 44100, subtype="FLOAT")
    encode_file(tiny, tmp_path / "m.wav", tmp_path / "m.lat", dtype="float32")
    a, m = read_lat(tmp_path / "a.lat"), read_lat(tmp_path / "m.lat")
    assert a.channels == 1
    assert np.allclose(a.data, m.data, atol=1e-5 * np.abs(m.data).max())


def test_same_bytes_twice_and_progress_to_the_end(tiny, tmp_path):
    source, seen = wav(tmp_path / "a.wav", 1, 20 * 44100), []
    for name in ("1", "2"):
        encode_file(tiny, source, tmp_path / f"{name}.lat", progress=lambda *p: seen.append(p))
        decode_file(tiny, tmp_path / f"{name}.lat", tmp_path / f"{name}.wav", progress=lambda *p: seen.append(p))
    assert (tmp_path / "1.lat").read_bytes() == (tmp_path / "2.lat").read_bytes()
    assert (tmp_path / "1.wav").read_bytes() == (tmp_path / "2.wav").read_bytes()
    assert len(seen) >= 8
    assert all(0 < done <= total == pytest.approx(20) for done, total in seen)
    assert seen[-1][0] == pytest.approx(20)


def test_other_model_is_refused(tiny, tmp_path):
    encode_file(tiny, wav(tmp_path / "a.wav", 1, 5000), tmp_path / "a.lat")
    info = {"name": "other", "version": "1", "fingerprint": "sha256:" + "1" * 64}
    other = Autoencoder(tiny.model, info, tiny.device)
    with pytest.raises(LincaeError, match=r"a\.lat was made with model 'tiny'.*not with 'other'") as caught:
        decode_file(other, tmp_path / "a.lat", tmp_path / "b.wav")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "b.wav").exists()


def test_existing_target_is_kept(tiny, tmp_path):
    source = wav(tmp_path / "a.wav", 1, 5000)
    (tmp_path / "a.lat").write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        encode_file(tiny, source, tmp_path / "a.lat")
    assert (tmp_path / "a.lat").read_bytes() == b"mine"
    encode_file(tiny, source, tmp_path / "a.lat", overwrite=True)
    (tmp_path / "b.wav").write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        decode_file(tiny, tmp_path / "a.lat", tmp_path / "b.wav")
    assert (tmp_path / "b.wav").read_bytes() == b"mine"


PEAKS = """
import resource, sys
from lincae_core.models.store import load
from lincae_core.models.codec import decode_file, encode_file
model = load(sys.argv[1], "cpu")
for name in ("short", "short", "long"):
    encode_file(model, f"{name}.wav", f"{name}.lat", overwrite=True)
    decode_file(model, f"{name}.lat", f"{name}-back.wav", end=600.0, overwrite=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_length(tiny_model, tmp_path):
    minute = np.random.default_rng(0).integers(-9000, 9000, 60 * 44100).astype(np.int16)
    for name, minutes in (("short", 1), ("long", 10)):
        with sf.SoundFile(tmp_path / f"{name}.wav", "w", 44100, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
    path = os.pathsep.join([str(ROOT), str(ROOT / "formats"), os.environ.get("PYTHONPATH", "")])
    # with a fixed threshold glibc gives big blocks back, and what counts is what the code holds
    environment = {**os.environ, "PYTHONPATH": path, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(
        [sys.executable, "-c", PEAKS, str(tiny_model)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    *_, short, long = map(int, done.stdout.split())
    assert long < 1.1 * short
