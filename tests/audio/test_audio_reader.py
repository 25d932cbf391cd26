"""AudioReader on real files: exact lengths, every container, and everything that is not audio."""

import io
import os
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from lincae_core.audio import AUDIO_EXTENSIONS, AudioReader
from lincae_formats.errors import LincaeError

RATE = 44100


def noise(n, channels=2, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def read(source, block=1 << 16, **options):
    with AudioReader(source, **options) as reader:
        blocks = list(reader.blocks(block))
        data = np.concatenate(blocks, axis=1)
        assert data.shape == (reader.channels, reader.num_samples)
        assert all(b.dtype == np.float32 and b.flags.c_contiguous for b in blocks)
        return data


def error_of(source, **options):
    with pytest.raises(LincaeError) as caught:
        read(source, **options)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("extension", ["wav", "w64", "rf64", "aiff", "au", "caf", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integer_files_are_read_exactly(tmp_path, extension, subtype):
    path = tmp_path / f"a.{extension}"
    x = np.round(noise(5001) * 2**15) / 2**15
    soundfile.write(path, x, RATE, subtype, format=extension.upper())
    assert np.array_equal(read(path), x.T)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_keep_values_beyond_one(tmp_path, subtype):
    path = tmp_path / "a.wav"
    x = noise(1000) * 8
    soundfile.write(path, x, RATE, subtype)
    assert np.abs(x).max() > 3
    assert np.array_equal(read(path), x.T)


@pytest.mark.parametrize("n", [1, 2, 575, 1152, 4097, 100_003])
@pytest.mark.parametrize(
    ("extension", "rate"),
    [("mp3", 44100), ("mp3", 8000), ("ogg", 44100), ("ogg", 96000), ("opus", 48000), ("opus", 16000)],
)
def test_lossy_lengths_are_exact(tmp_path, n, extension, rate):
    path = tmp_path / f"a.{extension}"
    options = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
    soundfile.write(path, noise(n), rate, **options)
    with AudioReader(path) as reader:
        assert (reader.sample_rate, reader.channels, reader.num_samples) == (rate, 2, n)
        assert reader.duration == n / rate
        assert sum(b.shape[1] for b in reader.blocks(999)) == n


@pytest.mark.parametrize("extension", ["mp3", "ogg", "opus", "flac", "wav"])
def test_blocks_of_any_size_give_the_same_samples(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    options = {"format": "OGG", "subtype": "OPUS"} if extension == "opus" else {}
    soundfile.write(path, noise(50_001), 48000, **options)
    whole, _ = soundfile.read(path, dtype="float32")
    for block in (1000, 4096, 1 << 16):
        assert np.array_equal(read(path, block), whole.T)


def test_mp3_whose_header_lies_about_its_length(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(200_000), RATE)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert soundfile.info(path).frames == 200_000
    data = read(path)
    assert 50_000 < data.shape[1] < 150_000


def test_flac_of_unknown_length(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(30_001), RATE)
    data = bytearray(path.read_bytes())
    # STREAMINFO: 36 bits of total samples end at byte 26 of the file; 0 means unknown.
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert read(path).shape == (2, 30_001)


def test_truncated_flac_is_refused(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(100_000), RATE)
    path.write_bytes(path.read_bytes()[:100_000])
    assert "damaged" in str(error_of(path))


def wav_of_unknown_length(x, size=0xFFFFFFFF, info=b""):
    pcm = np.round(x * 2**15).astype("<i2").tobytes()
    fmt = struct.pack("<IHHIIHH", 16, 1, x.shape[1], RATE, RATE * 2 * x.shape[1], 2 * x.shape[1], 16)
    head = b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + fmt
    return head + info + b"data" + struct.pack("<I", size) + pcm


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF])
@pytest.mark.parametrize("info", [b"", b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf60.16.100\0"])
def test_wav_from_a_pipe_with_a_bogus_length(tmp_path, size, info):
    x = np.round(noise(1234) * 2**15) / 2**15
    path = tmp_path / "a.wav"
    path.write_bytes(wav_of_unknown_length(x, size, info))
    assert np.array_equal(read(path), x.T)


def test_a_pipe_a_fifo_and_a_file_object_are_read_like_the_file(tmp_path):
    x = np.round(noise(70_000) * 2**15) / 2**15
    data = wav_of_unknown_length(x)
    assert np.array_equal(read(io.BytesIO(data)), x.T)

    read_end, write_end = os.pipe()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def feed(target):
        with open(target, "wb") as pipe:
            pipe.write(data)

    for source, target in ((os.fdopen(read_end, "rb"), write_end), (fifo, fifo)):
        thread = threading.Thread(target=feed, args=(target,))
        thread.start()
        assert np.array_equal(read(source, 1000), x.T)
        thread.join()


def test_standard_input_of_a_process():
    code = "import sys, lincae_core.audio as a; print(a.AudioReader(sys.stdin.buffer).num_samples)"
    data = wav_of_unknown_length(noise(77))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, env=environment)
    assert (done.stdout, done.stderr) == (b"77\n", b"")


def test_a_file_object_not_at_its_start_is_read_from_where_it_is():
    source = io.BytesIO(b"junk" + wav_of_unknown_length(noise(50)))
    source.seek(4)
    assert read(source).shape == (2, 50)


@pytest.mark.parametrize("channels", [1, 6, 10])
def test_channels_and_their_mean(tmp_path, channels):
    path = tmp_path / "a.wav"
    x = noise(999, channels)
    soundfile.write(path, x, RATE, "FLOAT")
    assert np.array_equal(read(path), x.T)
    np.testing.assert_allclose(read(path, mono=True), x.mean(1)[None], atol=1e-7)


def test_blocks_can_be_read_again_and_side_by_side(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1000), RATE)
    with AudioReader(path) as reader:
        first = next(reader.blocks(10))
        pairs = list(zip(reader.blocks(100), reader.blocks(100), strict=True))
        assert len(pairs) == 10
        assert all(np.array_equal(a, b) for a, b in pairs)
        assert np.array_equal(pairs[0][0][:, :10], first)
    with pytest.raises(ValueError, match="block"):
        next(AudioReader(path).blocks(0))


@given(n=st.integers(1, 300), block=st.integers(1, 301))
def test_the_blocks_tile_the_file(tmp_path_factory, n, block):
    path = tmp_path_factory.mktemp("tile") / "a.wav"
    soundfile.write(path, noise(n, 1), RATE, "FLOAT")
    with AudioReader(path) as reader:
        sizes = [b.shape[1] for b in reader.blocks(block)]
    assert sizes == [block] * (n // block) + ([n % block] if n % block else [])


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_non_finite_samples_are_refused_by_position(tmp_path, value, kind):
    path = tmp_path / "a.wav"
    x = noise(100_000)
    x[88_200, 1] = value
    soundfile.write(path, x, RATE, "FLOAT")
    message = str(error_of(path))
    assert f"{kind} at sample 88200 (2.000 s), channel 2" in message
    assert str(path) in message


def test_not_audio(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not audio at all\n" * 100)
    assert "not audio" in error_of(path).message
    path.write_bytes(b"")
    assert "is empty" in error_of(path).message
    raw = tmp_path / "a.raw"
    raw.write_bytes(bytes(1000))
    assert "not audio" in error_of(raw).message
    assert "not audio" in error_of(io.BytesIO(b"abc" * 50)).message


def test_no_samples(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((0, 1)), RATE)
    assert "no audio samples" in error_of(path).message


@pytest.mark.parametrize("extension", ["m4a", "MP4", "aac", "wma", "webm"])
def test_without_ffmpeg_its_formats_come_with_its_command(tmp_path, monkeypatch, extension):
    monkeypatch.setenv("PATH", str(tmp_path))
    path = tmp_path / f"my song.{extension}"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    error = error_of(path)
    assert "ffmpeg, which is not installed" in error.message
    assert error.hint == f"install it, or convert the file: ffmpeg -i '{path}' '{path.with_suffix('.wav')}'"


def test_names_that_lead_nowhere(tmp_path):
    assert "is a folder" in error_of(tmp_path).message
    assert "there is no file" in error_of(tmp_path / "absent.wav").message
    assert "cannot read" in error_of("a\0b.wav").message
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert "cannot read" in error_of(tmp_path / "loop.wav").message


def test_permission_denied(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(10), RATE)
    if os.geteuid() == 0:  # root reads everything

        def denied(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", denied)
    else:
        path.chmod(0)
    assert "not allowed to read" in error_of(path).message


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_descriptor_is_left_open(tmp_path):
    good, bad = tmp_path / "a.ogg", tmp_path / "b.wav"
    soundfile.write(good, noise(100), RATE)
    bad.write_text("no")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        read(good)
        error_of(bad)
    assert len(os.listdir("/proc/self/fd")) == before


def test_extensions_are_lower_case_with_their_dot():
    assert {".wav", ".flac", ".ogg", ".mp3", ".opus", ".aiff"} <= AUDIO_EXTENSIONS
    assert all(e == e.lower() and e.startswith(".") for e in AUDIO_EXTENSIONS)


def test_importing_does_not_import_torch():
    code = "import sys, lincae_core.audio; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n", done.stderr
