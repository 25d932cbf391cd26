"""AudioWriter on real files: what comes back, what is refused, and what an accident leaves behind."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from lincae_core.audio import AudioWriter
from lincae_formats.errors import LincaeError, TargetExistsError, UsageError

RATE = 44100


def noise(channels, n, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, n)).astype(np.float32)


def write(target, x, rate=RATE, block=1000, **options):
    with AudioWriter(target, rate, len(x), **options) as writer:
        for i in range(0, x.shape[1], block):
            writer.write(x[:, i : i + block])
    return writer


@pytest.mark.parametrize("extension", ["wav", "w64", "rf64", "aif", "aiff", "au", "caf", "flac", "WAV"])
@pytest.mark.parametrize("subtype", [None, "PCM_24", "float", "DOUBLE"])
def test_lossless_round_trip(tmp_path, extension, subtype):
    if extension == "flac" and subtype in ("float", "DOUBLE"):
        pytest.skip("FLAC holds integers")
    path = tmp_path / f"a.{extension}"
    x = np.round(noise(2, 3001) * 2**15).astype(np.float32) / 2**15
    writer = write(path, x, subtype=subtype)
    data, rate = soundfile.read(path, dtype="float32")
    assert soundfile.info(path).subtype == (subtype or "PCM_16").upper()
    assert rate == RATE
    assert np.array_equal(data.T, x)
    assert (writer.num_samples, writer.clipped) == (3001, 0)
    assert os.listdir(tmp_path) == [path.name]


def write_then_raise(target, error):
    with AudioWriter(target, RATE, 2) as writer:
        writer.write(noise(2, 5000))
        if isinstance(target, os.PathLike):
            assert len(os.listdir(target.parent)) == 1, "the temporary file, beside the target"
            assert not target.exists()
        raise error


@pytest.mark.parametrize(
    ("extension", "rates", "channels", "subtype"),
    [
        ("ogg", (8000, 22050, 44100, 96000, 192000), (1, 2, 6, 16), "VORBIS"),
        ("opus", (8000, 12000, 16000, 24000, 48000), (1, 2, 6), "OPUS"),
        ("mp3", (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), (1, 2), "MPEG_LAYER_III"),
    ],
)
def test_lossy_lengths_rates_and_channels(tmp_path, extension, rates, channels, subtype):
    for k, rate in enumerate(rates):
        for c in channels if k in (0, len(rates) - 1) else channels[:1]:
            path = tmp_path / f"{rate}-{c}.{extension}"
            write(path, noise(c, 4097), rate)
            info = soundfile.info(path)
            assert (info.samplerate, info.channels, info.subtype) == (rate, c, subtype)
            assert len(soundfile.read(path)[0]) == 4097


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
def test_one_sample(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    write(path, noise(1, 1))
    assert len(soundfile.read(path)[0]) == 1


def test_one_huge_block_of_vorbis(tmp_path):
    path = tmp_path / "a.ogg"
    write(path, np.zeros((1, 4_000_000), np.float32), block=4_000_000)
    assert soundfile.info(path).frames == 4_000_000


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
def test_integers_clip_and_count(tmp_path, subtype):
    path = tmp_path / "a.wav"
    x = np.array([[0.0, 1.5, -2.0, 1.0, -1.0], [3.0, 0.5, 0.5, 0.5, 0.5]], np.float32)
    assert write(path, x, subtype=subtype, block=2).clipped == 3
    np.testing.assert_allclose(soundfile.read(path)[0].T, np.clip(x, -1, 1), atol=1 / 64)


def test_floats_do_not_clip(tmp_path):
    path = tmp_path / "a.wav"
    x = noise(1, 100) * 10
    assert write(path, x, subtype="FLOAT").clipped == 0
    assert np.array_equal(soundfile.read(path, dtype="float32")[0], x[0])


def test_a_file_object_gets_a_whole_wav():
    sink = io.BytesIO()
    x = np.round(noise(2, 5000) * 2**15).astype(np.float32) / 2**15
    write(sink, x)
    data, rate = soundfile.read(io.BytesIO(sink.getvalue()), dtype="float32")
    assert rate == RATE
    assert np.array_equal(data.T, x)
    sink = io.BytesIO()
    write(sink, x, format="flac")
    assert sink.getvalue()[:4] == b"fLaC"


def test_a_file_object_gets_nothing_of_a_failure():
    sink = io.BytesIO()
    with pytest.raises(RuntimeError):
        write_then_raise(sink, RuntimeError)
    assert sink.getvalue() == b""


def test_format_overrules_the_extension(tmp_path):
    write(tmp_path / "a.dat", noise(1, 10), format="FLAC")
    assert soundfile.info(tmp_path / "a.dat").format == "FLAC"


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options", "says"),
    [
        ("a.m4a", RATE, 1, {}, ".m4a"),
        ("a", RATE, 1, {}, "no extension"),
        ("a.wav", RATE, 1, {"format": "XYZ"}, "XYZ"),
        ("a.wav", RATE, 1, {"subtype": "VORBIS"}, "--subtype one of PCM_16"),
        ("a.flac", RATE, 1, {"subtype": "FLOAT"}, "FLAC does not hold FLOAT"),
        ("a.mp3", 96000, 1, {}, "--sample-rate 48000"),
        ("a.mp3", 44000, 1, {}, "--sample-rate 44100"),
        ("a.mp3", RATE, 3, {}, "at most 2 channels"),
        ("a.opus", RATE, 1, {}, "--sample-rate 48000"),
        ("a.ogg", 384000, 1, {}, "--sample-rate 200000"),
        ("a.ogg", RATE, 256, {}, "at most 255 channels"),
        ("a.flac", RATE, 9, {}, "write a .wav"),
        ("a.flac", 700000, 1, {}, "--sample-rate 655350"),
        ("a.wav", RATE, 1025, {}, "fewer channels"),
        ("a.wav", RATE, 0, {}, "at least one"),
        ("a.wav", 0, 1, {}, "Hz, not 0"),
        ("a.m4a", RATE, 1, {}, "the extension .m4a is none of an audio format"),
        ("a.wav", 96000, 6, {"subtype": "FLOAT", "num_samples": 96000 * 3600}, "write .w64"),
    ],
)
def test_refused_before_any_work(tmp_path, name, rate, channels, options, says):
    with pytest.raises(UsageError) as caught:
        AudioWriter(tmp_path / name, rate, channels, **options)
    assert says in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_an_existing_file_stays_without_overwrite(tmp_path):
    path = tmp_path / "a.wav"
    path.write_text("mine")
    with pytest.raises(TargetExistsError):
        AudioWriter(path, RATE, 1)
    assert path.read_text() == "mine"
    write(path, noise(1, 10), overwrite=True)
    assert soundfile.info(path).frames == 10
    with pytest.raises(LincaeError, match="no folder"):
        AudioWriter(tmp_path / "none" / "a.wav", RATE, 1)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("extension", ["wav", "ogg", "mp3"])
def test_an_interruption_leaves_nothing(tmp_path, error, extension):
    with pytest.raises(error):
        write_then_raise(tmp_path / f"a.{extension}", error)
    assert os.listdir(tmp_path) == []


def test_bad_blocks(tmp_path):
    with pytest.raises(LincaeError, match="NaN"), AudioWriter(tmp_path / "a.wav", RATE, 1) as writer:
        writer.write(np.array([[np.nan]], np.float32))
    with pytest.raises(ValueError, match="shape"), AudioWriter(tmp_path / "a.wav", RATE, 1) as writer:
        writer.write(np.zeros((2, 10), np.float32))
    assert os.listdir(tmp_path) == []


FULL_DISK = """
import resource, sys, numpy as np
from lincae_core.audio import AudioWriter
from lincae_formats.errors import LincaeError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
x = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 1 << 16)).astype(np.float32)
try:
    with AudioWriter(sys.argv[1], 48000, 2) as writer:
        for _ in range(4):
            writer.write(x)
except LincaeError as e:
    print(e)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
@pytest.mark.parametrize("extension", ["wav", "w64", "aiff", "flac", "ogg", "opus", "mp3"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, env=environment)
    assert done.stdout.startswith(f"cannot write {path}: "), done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""
    assert os.listdir(tmp_path) == []
