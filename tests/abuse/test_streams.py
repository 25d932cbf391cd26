"""Streams without an end, or that are not what they should be: refused early, without filling a disk."""

import io

import numpy as np
import pytest
import soundfile
from lat_helpers import make

from lincae_core.audio import AudioReader
from lincae_formats import LatError, LatReader, LincaeError, write_lat


class Endless(io.RawIOBase):
    """A pipe that gives some bytes and then others for ever."""

    def __init__(self, head=b"", pattern=b"\0"):
        self.head, self.pattern, self.given = head, pattern, 0

    def readable(self):
        return True

    def read(self, size=-1):
        assert size > 0, "all of it was asked for"
        assert self.given < 64 << 20, "it was read on and on"
        part, self.head = self.head[:size], self.head[size:]
        part = part or (self.pattern * (size // len(self.pattern) + 1))[:size]
        self.given += len(part)
        return part


@pytest.mark.parametrize("pattern", [b"\0", b"y\n", b"\xff", b"<html>"])
def test_endless_garbage_for_audio(pattern):
    stream = Endless(pattern=pattern)
    with pytest.raises(LincaeError, match="is not audio in a known format"):
        AudioReader(stream)
    assert stream.given <= 2 << 20


@pytest.mark.parametrize("pattern", [b"\0", b"y\n", b"\x89HDF\r\n\x1a\n"])
def test_endless_garbage_for_a_lat(pattern):
    stream = Endless(pattern=pattern)
    with pytest.raises(LatError, match=r"not a \.lat file|unknown HDF5 superblock"):
        LatReader(stream)
    assert stream.given <= 1 << 20


def test_a_lat_that_never_ends_is_read_as_far_as_it_goes():
    buffer = io.BytesIO()
    latents = make()
    write_lat(latents, buffer)
    stream = Endless(buffer.getvalue(), b"\x55")
    with LatReader(stream) as reader:
        assert np.array_equal(reader.read(), latents.data)
    assert stream.given <= len(buffer.getvalue()) + (1 << 20)


def test_audio_larger_than_what_it_is_known_by_goes_through_a_pipe(tmp_path):
    noise = np.random.default_rng(0).integers(-9000, 9000, (700_000, 2)).astype(np.int16)
    for format in ("WAV", "FLAC", "AIFF", "CAF", "OGG", "W64", "AU"):
        soundfile.write(tmp_path / "x", noise, 44100, format=format)
        data = (tmp_path / "x").read_bytes()
        assert len(data) > 1 << 20 or format == "OGG"
        pipe = io.BytesIO(data)
        pipe.seekable = lambda: False
        with AudioReader(pipe) as reader:
            assert reader.num_samples == 700_000


def test_a_tag_longer_than_what_audio_is_known_by(tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal(44100)
    soundfile.write(tmp_path / "x.mp3", noise, 44100)
    size = 2 << 20
    synchsafe = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    tagged = b"ID3\x04\0\0" + synchsafe + bytes(size) + (tmp_path / "x.mp3").read_bytes()
    pipe = io.BytesIO(tagged)
    pipe.seekable = lambda: False
    with AudioReader(pipe) as reader:
        assert reader.num_samples >= 44100


def test_a_lat_for_audio_and_audio_for_a_lat(tmp_path):
    write_lat(make(), tmp_path / "x.lat")
    soundfile.write(tmp_path / "x.wav", np.zeros(1000), 44100)
    with pytest.raises(LincaeError, match="is not audio"):
        AudioReader(tmp_path / "x.lat")
    with pytest.raises(LatError, match=r"not a \.lat file"):
        LatReader(tmp_path / "x.wav")
