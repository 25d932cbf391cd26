"""Files that libsndfile misreads (joined, cut short, length 0 in the header), and those it cannot read."""

import io
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from lincae_core.audio import AudioReader, AudioWriter, find_audio, read_audio
from lincae_formats.errors import LincaeError

RATE = 44100
NEEDS_FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def noise(n, channels=2, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (n, channels)).astype(np.float32)


def write(path, x, rate=RATE):
    options = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, x, rate, **options)
    return path


def joined(target, *parts):
    target.write_bytes(b"".join(part.read_bytes() for part in parts))
    return target


@pytest.mark.parametrize(
    ("kind", "rate"), [("ogg", 44100), ("opus", 48000), ("mp3", 44100), ("flac", 44100), ("wav", 44100)]
)
def test_joined_streams_are_read_to_the_end(tmp_path, kind, rate):
    parts = [write(tmp_path / f"{i}.{kind}", noise(20_000 + 7000 * i, seed=i), rate) for i in range(3)]
    apart = [read_audio(path) for path in parts]
    for source in (joined(tmp_path / f"all.{kind}", *parts), io.BytesIO(b"".join(p.read_bytes() for p in parts))):
        with AudioReader(source) as reader:
            assert (reader.num_samples, reader.warnings) == (20_000 + 27_000 + 34_000, ())
            data = np.concatenate(list(reader.blocks(5000)), axis=1)
        assert np.array_equal(data, np.concatenate(apart, axis=1))


def test_joined_streams_that_differ_come_with_the_command_of_ffmpeg(tmp_path):
    parts = [write(tmp_path / "1.ogg", noise(9000)), write(tmp_path / "2.ogg", noise(9000, 1), 48000)]
    with pytest.raises(LincaeError, match="joined streams that differ") as caught:
        read_audio(joined(tmp_path / "all.ogg", *parts))
    assert caught.value.hint == f"make them one: ffmpeg -i {tmp_path}/all.ogg {tmp_path}/all-one.wav"


def test_joined_wavs_that_differ_say_how_to_join_the_originals(tmp_path):
    parts = [write(tmp_path / "1.wav", noise(9001, 1)), write(tmp_path / "2.wav", noise(9000, 1), 48000)]
    with pytest.raises(LincaeError, match="joined streams that differ: 44100 Hz and 1 channels, then 48000") as caught:
        read_audio(joined(tmp_path / "all.wav", *parts))
    assert "ffmpeg -i A.wav -i B.wav" in caught.value.hint  # it would read the first alone of all.wav


@pytest.mark.parametrize("there", [0.05, 0.5])
def test_a_flac_cut_short_tells_how_far_it_can_be_read(tmp_path, there):
    path = write(tmp_path / "a.flac", noise(300_000))
    data = path.read_bytes()
    path.write_bytes(data[: round(there * len(data))])
    with pytest.raises(LincaeError, match=r"it can be read up to sample \d+ of 300000 ") as caught:
        read_audio(path)
    told = int(str(caught.value).partition("sample ")[2].split()[0])
    assert 300_000 * there - 8192 < told < 300_000 * there + 4096


@pytest.mark.parametrize("kind", ["wav", "aiff", "au", "rf64", "w64", "caf", "ogg", "opus", "mp3"])
def test_a_file_cut_short_is_read_with_a_warning(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", noise(300_000), 48000)
    with AudioReader(path) as whole:
        assert whole.warnings == ()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 5])
    with AudioReader(path) as reader:
        assert 50_000 < reader.num_samples < 180_000
        assert sum(block.shape[1] for block in reader.blocks()) == reader.num_samples
        (warning,) = reader.warnings
    assert warning.startswith(f"{path} was cut short: ")


def patched(path, *patches):
    data = bytearray(path.read_bytes())
    for marker, offset, value in patches:
        at = data.index(marker) + offset
        data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "patches"),
    [
        ("wav", [(b"data", 4, bytes(4)), (b"RIFF", 4, bytes(4))]),
        ("rf64", [(b"ds64", 8, bytes(24))]),
        ("aiff", [(b"SSND", 4, bytes(4)), (b"COMM", 10, bytes(4)), (b"FORM", 4, bytes(4))]),
        ("aiff", [(b"SSND", 4, struct.pack(">I", 8)), (b"COMM", 10, bytes(4))]),
        ("au", [(b".snd", 8, bytes(4))]),
        ("caf", [(b"data", 4, bytes(8))]),
        ("caf", [(b"data", 4, struct.pack(">q", 4))]),
        ("caf", [(b"data", 4, b"\xff" * 8)]),
        ("w64", [(b"data\xf3\xac", 16, struct.pack("<Q", 24))]),
    ],
)
def test_a_length_of_0_with_audio_after_it_is_read_to_the_end(tmp_path, kind, patches):
    x = np.round(noise(5001) * 2**15) / 2**15
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, x, RATE, "PCM_16", format=kind.upper())
    with AudioReader(patched(path, *patches)) as reader:
        assert (reader.num_samples, reader.warnings) == (5001, ())
        assert np.array_equal(np.concatenate(list(reader.blocks(999)), axis=1), x.T)


def test_a_wav_without_samples_but_with_tags_is_still_empty(tmp_path):
    path = tmp_path / "a.wav"
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = head + b"data" + bytes(4) + b"LIST" + struct.pack("<I", 4) + b"INFO"
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body)
    with pytest.raises(LincaeError, match="holds no audio samples"):
        AudioReader(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36])
def test_sizes_written_into_pipes_are_no_cut(tmp_path, size):
    path = write(tmp_path / "a.wav", noise(1000))
    with AudioReader(patched(path, (b"data", 4, struct.pack("<I", size)))) as reader:
        assert (reader.num_samples, reader.warnings) == (1000, ())


@NEEDS_FFMPEG
@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "aiff", "au", "caf"])
def test_what_ffmpeg_writes_into_a_pipe_is_whole(tmp_path, container):
    source = write(tmp_path / "a.wav", noise(30_000))
    options = ["-c:a", "libvorbis"] if container == "ogg" else []
    made = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, *options, "-f", container, "-"], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"ffmpeg writes no {container} into a pipe")
    with AudioReader(io.BytesIO(made.stdout)) as reader:
        assert (reader.num_samples, reader.warnings) == (30_000, ())


# through ffmpeg


@NEEDS_FFMPEG
@pytest.mark.parametrize(("name", "codec"), [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mka", "flac"), ("a.wma", "wmav2")])
def test_formats_of_ffmpeg_are_read_whole(tmp_path, name, codec):
    n = 50_001
    source = write(tmp_path / "a.wav", np.sin(np.arange(n) / 20)[:, None].repeat(2, 1) * 0.3)
    path = tmp_path / name
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", source, "-metadata", "title=A song", "-c:a", codec, path], check=True
    )
    for opened in (path, io.BytesIO(path.read_bytes())):
        with AudioReader(opened) as reader:
            assert (reader.channels, reader.sample_rate) == (2, RATE)
            assert abs(reader.num_samples - n) <= (0 if codec == "flac" else 4096)
            assert reader.tags["title"] == "A song"
            data = np.concatenate(list(reader.blocks(1000)), axis=1)
        assert data.shape == (2, reader.num_samples)
        assert 0.2 < np.abs(data[:, 5000:45_000]).max() < 0.4


@NEEDS_FFMPEG
def test_the_sound_of_a_video_is_read(tmp_path):
    path = tmp_path / "a.mkv"
    lavfi = ["-f", "lavfi", "-i", "testsrc=size=64x64:rate=5:duration=1", "-f", "lavfi", "-i", "sine=440:duration=1"]
    subprocess.run(["ffmpeg", "-v", "error", *lavfi, "-c:a", "flac", "-c:v", "mpeg4", path], check=True)
    assert read_audio(path).shape == (1, RATE)
    silent = tmp_path / "b.mkv"
    subprocess.run(["ffmpeg", "-v", "error", *lavfi[:4], "-c:v", "mpeg4", silent], check=True)
    with pytest.raises(LincaeError, match="holds no audio"):
        read_audio(silent)


@NEEDS_FFMPEG
def test_what_ffmpeg_cannot_read_is_one_line_and_leaves_no_process(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    with pytest.raises(LincaeError, match="ffmpeg cannot read") as caught:
        read_audio(path)
    assert "\n" not in str(caught.value)
    assert not subprocess.run(["pgrep", "-P", str(os.getpid()), "ffmpeg"], capture_output=True, text=True).stdout


# folders


def test_a_folder_is_searched_by_extension_and_special_files_are_counted(tmp_path, monkeypatch):
    for name in ("b.WAV", "a.flac", "deep/c.mp3", "notes.txt", ".hidden.wav", ".git/d.wav", "e.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    os.mkfifo(tmp_path / "f.wav")
    (tmp_path / "g.wav").symlink_to(tmp_path / "absent.wav")
    (tmp_path / "album.wav").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_audio(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in found.files] == ["a.flac", "b.WAV", "deep/c.mp3"]
    assert found.left_out == {"special files": 1, ".m4a files that need ffmpeg": 1, "links to nothing": 1}
    assert found.note() == "1 .m4a file that needs ffmpeg, 1 link to nothing, 1 special file"
    with pytest.raises(LincaeError, match="cannot read the folder"):
        find_audio(tmp_path / "none")


@NEEDS_FFMPEG
def test_a_folder_of_m4a_is_audio_where_ffmpeg_is(tmp_path):
    (tmp_path / "e.m4a").write_bytes(b"x")
    assert len(find_audio(tmp_path).files) == 1


@pytest.mark.skipif(sys.platform == "darwin", reason="names must be UTF-8 there")
def test_a_name_that_is_not_utf8(tmp_path):
    folder = os.fsencode(tmp_path)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, b"caf\xe9.wav"), "wb") as file:
        soundfile.write(file, noise(100), RATE, format="WAV")
    (path,) = find_audio(tmp_path).files
    with AudioReader(path) as reader:
        assert reader.num_samples == 100
        reader.name.encode()
        assert reader.name.endswith("caf\ufffd.wav")
    with AudioWriter(path, RATE, 1, overwrite=True) as writer:
        writer.write(np.zeros((1, 10), np.float32))
        writer.name.encode()
    assert read_audio(path).shape == (1, 10)


def test_a_whole_file_at_another_rate_and_mono(tmp_path):
    path = write(tmp_path / "a.wav", noise(9001), 22050)
    assert read_audio(path).shape == (2, 9001)
    assert read_audio(path, RATE, mono=True).shape == (1, 18_002)


def test_a_flac_of_unknown_length_is_read_whole(tmp_path):
    path = write(tmp_path / "a.flac", noise(30_001))
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # 36 bits of total samples end at byte 26; 0 means unknown
    data[22:26] = bytes(4)
    path.write_bytes(data)
    assert read_audio(path).shape == (2, 30_001)
