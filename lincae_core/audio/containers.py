"""What libsndfile does not tell of audio files: lengths, joined streams, tags; and the formats that ffmpeg decodes.

libsndfile reads only the first of several joined streams, believes a length of 0, and reads a file that was cut short
without a warning. `survey` finds all three before a file is opened.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from lincae_formats.errors import LincaeError

_STREAMING = (range(0x7F000000, 0x80000000), range(0xFFFF0000, 0x100000000))  # sizes that programs write into a pipe
_BLOCK = 1 << 20
_FLAC = b"fLaC\x00\x00\x00\x22"  # the marker and the header of STREAMINFO
_MPEG_SIDE = (13, 21, 36)  # bytes from the start of an MPEG frame to its Xing header


@dataclass
class Survey:
    """What a file holds.

    Attributes:
        parts: First byte and byte after the last of every stream in it, in order.
        patches: Bytes of its header to be read instead of those that are there, by offset.
        cut_short: What is missing at its end, for a message; empty when nothing is.
    """

    parts: list[tuple[int, int]]
    patches: dict[int, bytes] = field(default_factory=dict)
    cut_short: str = ""


class Section(io.RawIOBase):
    """A part of a file, read through patches.

    Args:
        file: The file, seekable; it stays open.
        start: First byte.
        stop: Byte after the last.
        patches: Bytes to be read instead, by offset in the file.
    """

    def __init__(self, file: BinaryIO, start: int, stop: int, patches: dict[int, bytes]) -> None:
        self._file, self._start, self._stop, self._patches = file, start, stop, patches
        self._at = start

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Place in the part."""
        return self._at - self._start

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Moves to a place in the part."""
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: self._stop}[whence]
        self._at = max(self._start, base + offset)
        return self.tell()

    def readinto(self, buffer: object) -> int:
        """Fills a buffer from the part."""
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        self._file.seek(self._at)
        data = bytearray(self._file.read(max(0, min(len(view), self._stop - self._at))))
        for offset, patch in self._patches.items():
            low, high = max(offset, self._at), min(offset + len(patch), self._at + len(data))
            if low < high:
                data[low - self._at : high - self._at] = patch[low - offset : high - offset]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)


def survey(file: BinaryIO) -> Survey:
    """Looks at a file; leaves it anywhere.

    Args:
        file: Any file, seekable.
    """
    size = file.seek(0, io.SEEK_END)
    found = Survey([(0, size)])
    head = _at(file, 0, 16)
    start = _after_id3(file, 0)
    try:
        if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
            _wav(file, size, found)
        elif head == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00":
            _w64(file, size, found)
        elif head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            _aiff(file, size, found)
        elif head[:4] in (b".snd", b"dns."):
            _au(file, size, found, ">" if head[:1] == b"." else "<")
        elif head[:4] == b"caff":
            _caf(file, size, found)
        elif head[:4] == b"OggS":
            _ogg(file, size, found)
        elif _at(file, start, 4) == b"fLaC":
            found.parts = _split(size, _find_all(file, _FLAC, start + 4, size))
        elif (sync := _at(file, start, 2)) and sync[0] == 0xFF and len(sync) == 2 and sync[1] & 0xE0 == 0xE0:
            _mp3(file, size, start, found)
    except (struct.error, IndexError):
        pass  # a header that ends too soon is libsndfile's to refuse
    return found


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)


def _split(size: int, starts: list[int]) -> list[tuple[int, int]]:
    edges = [0, *starts, size]
    return list(pairwise(edges))


def _find_all(file: BinaryIO, marker: bytes, start: int, stop: int) -> list[int]:
    """Every offset of a marker in a range."""
    found, tail, at = [], b"", start
    file.seek(start)
    while at < stop and (block := file.read(min(_BLOCK, stop - at))):
        data, base = tail + block, at - len(tail)
        place = data.find(marker)
        while place >= 0:
            found.append(base + place)
            place = data.find(marker, place + 1)
        tail, at = data[-(len(marker) - 1) :], at + len(block)
    return found


def _after_id3(file: BinaryIO, start: int) -> int:
    """The place after any ID3v2 tags."""
    while (head := _at(file, start, 10))[:3] == b"ID3" and len(head) == 10:
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        start += 10 + length + (10 if head[5] & 0x10 else 0)
    return start


def _streaming(size: int) -> bool:
    return any(size in marks for marks in _STREAMING)


def _missing(declared: int, there: int) -> str:
    return f"its header announces {declared} bytes of audio, {there} are there"


def _wav(file: BinaryIO, size: int, found: Survey) -> None:
    found.parts = _split(size, _joined_wavs(file))
    size = found.parts[0][1]
    long_at = long_size = 0
    for name, at, length in _chunks(file, size, 12, "<4sI", 2):
        if name == b"ds64":
            long_at = at + 8
            (long_size,) = struct.unpack("<Q", _at(file, long_at, 8))
        if name != b"data":
            continue
        wide = bool(long_at) and length == 0xFFFFFFFF
        declared, there = long_size if wide else length, size - at
        if declared == 0 and there and not _is_chunk(file, at, size, "<4sI"):
            patch = struct.pack("<Q", there) if wide else struct.pack("<I", min(there, 0xFFFFFFFE))
            found.patches[long_at if wide else at - 4] = patch
        elif declared > there and not (_streaming(declared) and not wide) and declared < 1 << 62:
            found.cut_short = _missing(declared, there)
        return


def _joined_wavs(file: BinaryIO) -> list[int]:
    """Where further WAV files begin that were written after the first: `cat a.wav b.wav`."""
    starts, at = [], 0
    while (head := _at(file, at, 12))[:4] == b"RIFF" and head[8:] == b"WAVE":
        starts.append(at)
        at += 8 + struct.unpack("<I", head[4:8])[0]
        at += at % 2 and _at(file, at, 4) != b"RIFF"
    return starts[1:]


def _w64(file: BinaryIO, size: int, found: Survey) -> None:
    at = 40
    while len(head := _at(file, at, 24)) == 24:
        name, length = head[:4], struct.unpack("<Q", head[16:])[0]
        if name == b"data":
            declared, there = max(length - 24, 0), size - at - 24
            if length <= 24 and there > 0:
                found.patches[at + 16] = struct.pack("<Q", there + 24)
            elif declared > there and declared < 1 << 62:
                found.cut_short = _missing(declared, there)
            return
        at += max(24, length + -length % 8)


def _aiff(file: BinaryIO, size: int, found: Survey) -> None:
    frames_at = width = 0
    for name, at, length in _chunks(file, size, 12, ">4sI", 2):
        if name == b"COMM":
            channels, _, bits = struct.unpack(">HIH", _at(file, at, 8))
            frames_at, width = at + 2, channels * -(-bits // 8)
        if name != b"SSND":
            continue
        declared, there = max(length - 8, 0), size - at - 8
        if length <= 8 and there > 0 and width and not _is_chunk(file, at + length, size, ">4sI"):
            found.patches = {
                4: struct.pack(">I", size - 8), at - 4: struct.pack(">I", there + 8),
                frames_at: struct.pack(">I", there // width),
            }  # fmt: skip
        elif declared > there and not _streaming(length):
            found.cut_short = _missing(declared, there)
        return


def _au(file: BinaryIO, size: int, found: Survey, order: str) -> None:
    offset, length = struct.unpack(f"{order}II", _at(file, 4, 8))
    there = size - offset
    if length == 0 and there > 0:
        found.patches[8] = b"\xff\xff\xff\xff"
    elif length > there and not _streaming(length):
        found.cut_short = _missing(length, there)


def _caf(file: BinaryIO, size: int, found: Survey) -> None:
    for name, at, length in _chunks(file, size, 8, ">4sq", 1):
        if name != b"data":
            continue
        there = size - at
        if length <= 4 and there > 4 and not (length >= 0 and _is_chunk(file, at + length, size, ">4sq")):
            found.patches[at - 8] = struct.pack(">q", there)
        elif length > there:
            found.cut_short = _missing(length - 4, there - 4)
            found.patches[at - 8] = struct.pack(">q", there)  # libsndfile would refuse the file
        return


def _chunks(file: BinaryIO, size: int, at: int, layout: str, align: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of every chunk."""
    width = struct.calcsize(layout)
    while at + width <= size:
        name, length = struct.unpack(layout, _at(file, at, width))
        yield name, at + width, length
        at += width + max(length, 0) + -length % align


def _is_chunk(file: BinaryIO, at: int, size: int, layout: str) -> bool:
    """Whether chunks, and not samples, follow: their names are letters, and the last ends where the file does."""
    end = at
    for name, start, length in _chunks(file, size, at, layout, 2):
        if not name.isalnum() and not name.strip().isalnum():
            return False
        end = start + length
        if end > size:
            return False
    return size - 2 <= end


def _ogg(file: BinaryIO, size: int, found: Survey) -> None:
    at, starts, began, last = 0, [], False, 0
    while len(head := _at(file, at, 27)) == 27 and head[:4] == b"OggS":
        flags, segments = head[5], file.read(head[26])
        end = at + 27 + len(segments) + sum(segments)
        if len(segments) < head[26] or end > size:
            found.cut_short = "it ends in the middle of an Ogg page"
            break
        first = bool(flags & 2)
        if first and began:
            starts.append(at)
        began, last, at = not first, flags, end
    else:
        if began and not last & 4:
            found.cut_short = "its last Ogg page does not mark the end of the stream"
    found.parts = _split(size, starts)


def _mp3(file: BinaryIO, size: int, start: int, found: Survey) -> None:
    """Streams begin with a frame that holds a Xing or Info header, which says where the stream ends."""
    headers = []
    for marker in (b"Xing\x00\x00\x00", b"Info\x00\x00\x00"):
        for at in _find_all(file, marker, start, size):
            for side in _MPEG_SIDE:
                sync = _at(file, at - side, 2) if at >= side else b""
                if len(sync) == 2 and sync[0] == 0xFF and sync[1] & 0xE0 == 0xE0:
                    headers.append((at - side, at))
                    break
    headers.sort()
    starts = [first for first, _ in headers if first > start]
    for i, (first, at) in enumerate(headers):
        stop = headers[i + 1][0] if i + 1 < len(headers) else size
        flags, _, length = struct.unpack(">III", _at(file, at + 4, 12))
        if flags & 3 != 3 or not 0 < length < 1 << 31:
            continue
        end = first + length
        if end > stop + 4096 and i + 1 == len(headers):  # some encoders leave the tags at the end out, some count them
            found.cut_short = _missing(length, stop - first)
        elif stop == size and stop - end > 4096 and (rest := _next_frame(file, end, stop)):
            starts.append(rest)
    found.parts = _split(size, sorted(starts))


def _next_frame(file: BinaryIO, start: int, stop: int) -> int:
    """Where another MPEG stream begins after the end of one; 0 where only tags follow."""
    at = _after_id3(file, start)
    head = _at(file, at, 4)
    if at < stop and len(head) == 4 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return start if at > start else at
    return 0


# --- Tags

STANDARD = ("title", "artist", "album", "date", "tracknumber", "genre", "comment", "copyright", "license")
"""Tags that libsndfile reads and writes, in every format that holds them."""

GAINS = ("replaygain_track_gain", "replaygain_track_peak", "replaygain_album_gain", "replaygain_album_peak",
         "replaygain_reference_loudness", "r128_track_gain", "r128_album_gain")  # fmt: skip
"""Tags that tell a player how loud a file is; read from FLAC, Ogg, MP3 and what ffmpeg reads, written to FLAC, MP3."""

_ID3 = {
    "title": b"TIT2", "artist": b"TPE1", "album": b"TALB", "date": b"TDRC", "tracknumber": b"TRCK", "genre": b"TCON",
    "comment": b"COMM", "copyright": b"TCOP",
}  # fmt: skip

_LONGEST = 4096  # bytes of a value
_OGG_HEAD = 1 << 18  # bytes of an Ogg file in which its comments are looked for


def read_tags(file: soundfile.SoundFile, raw: BinaryIO) -> dict[str, str]:
    """The tags of an audio file.

    Args:
        file: The file, open in libsndfile.
        raw: The same file, seekable.
    """
    with contextlib.suppress(struct.error, IndexError, OSError, ValueError):
        return clean({**file.copy_metadata(), **_gains(raw)})
    return clean(file.copy_metadata())


def clean(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags known here, as a `.lat` may hold them: text without NUL, of limited length."""
    out = {}
    for key in (*STANDARD, *GAINS):
        value = tags.get(key, "").replace("\0", " ").strip()
        value = value.encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "ignore")
        if value:
            out[key] = value
    return out


def write_tags(file: soundfile.SoundFile, tags: Mapping[str, str]) -> None:
    """Sets tags in a file that is being written, before its first samples; formats without them get none.

    MP3 gets them from `add_id3` when it is finished: libsndfile writes UTF-8 into ID3 and calls it Latin-1.
    """
    for key in STANDARD if file.format != "MP3" else ():
        if key in tags:
            with contextlib.suppress(soundfile.LibsndfileError):
                setattr(file, key, tags[key])


def add_flac_gains(path: Path, tags: Mapping[str, str]) -> None:
    """Adds ReplayGain tags to a finished FLAC file, which libsndfile cannot; rewrites it where there are any."""
    lines = [f"{key.upper()}={tags[key]}".encode() for key in GAINS if key in tags]
    if not lines:
        return
    with open(path, "rb") as file:
        blocks, audio = _flac_blocks(file)
    comments = next((data for kind, data in blocks if kind == 4), struct.pack("<II", 0, 0))
    vendor = 4 + struct.unpack("<I", comments[:4])[0]
    (count,) = struct.unpack("<I", comments[vendor : vendor + 4])
    more = b"".join(struct.pack("<I", len(line)) + line for line in lines)
    comments = comments[:vendor] + struct.pack("<I", count + len(lines)) + comments[vendor + 4 :] + more
    blocks = [(kind, data) for kind, data in blocks if kind not in (1, 4)] + [(4, comments)]
    with open(path, "r+b") as file, tempfile.TemporaryFile(prefix="lincae-") as kept:
        file.seek(audio)
        shutil.copyfileobj(file, kept, 1 << 20)
        kept.seek(0)
        file.seek(4)
        for i, (kind, data) in enumerate(blocks):
            last = 0x80 if i + 1 == len(blocks) else 0
            file.write(struct.pack(">I", (kind | last) << 24 | len(data)) + data)
        shutil.copyfileobj(kept, file, 1 << 20)
        file.truncate()


def add_id3(path: Path, tags: Mapping[str, str]) -> None:
    """Puts an ID3v2.4 tag in UTF-8 in front of a finished MP3 file; rewrites the file where there are any tags."""
    frames = b""
    for key, value in tags.items():
        text = value.encode()
        if key == "comment":
            frames += _id3_frame(b"COMM", b"eng\0" + text)  # language, and an empty description
        elif key in _ID3:
            frames += _id3_frame(_ID3[key], text)
        elif key in GAINS or key in STANDARD:
            frames += _id3_frame(b"TXXX", key.upper().encode() + b"\0" + text)
    if not frames:
        return
    with open(path, "r+b") as file, tempfile.TemporaryFile(prefix="lincae-") as kept:
        shutil.copyfileobj(file, kept, 1 << 20)
        kept.seek(0)
        file.seek(0)
        file.write(b"ID3\x04\0\0" + _seven_bits(len(frames)) + frames)
        shutil.copyfileobj(kept, file, 1 << 20)


def _id3_frame(name: bytes, text: bytes) -> bytes:
    return name + _seven_bits(len(text) + 1) + b"\0\0\x03" + text  # no flags; 3 is UTF-8


def _seven_bits(number: int) -> bytes:
    """A number as ID3v2.4 writes sizes: four bytes of seven bits."""
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _gains(file: BinaryIO) -> dict[str, str]:
    """ReplayGain from the comments of FLAC and Ogg, and from the ID3v2 frames TXXX of MP3."""
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":
        return _id3_gains(file, head)
    if head[:4] == b"fLaC":
        return _comments(next((data for kind, data in _flac_blocks(file)[0] if kind == 4), b""))
    if head[:4] == b"OggS":
        file.seek(0)
        return _comments(_ogg_comments(file.read(_OGG_HEAD)))
    return {}


def _flac_blocks(file: BinaryIO) -> tuple[list[tuple[int, bytes]], int]:
    """Kind and content of every metadata block, and where the audio begins."""
    file.seek(4)
    blocks, last = [], False
    while not last and len(head := file.read(4)) == 4:
        last = bool(head[0] & 0x80)
        blocks.append((head[0] & 0x7F, file.read(int.from_bytes(head[1:], "big"))))
    return blocks, file.tell()


def _ogg_comments(data: bytes) -> bytes:
    """The packet of comments, after the names of their codecs, from the pages at the start of an Ogg file."""
    packet, at = b"", 0
    while data[at : at + 4] == b"OggS":
        table = data[at + 27 : at + 27 + data[at + 26]]
        body = at + 27 + len(table)
        packet += data[body : body + sum(table)]
        at = body + sum(table)
        for marker in (b"\x03vorbis", b"OpusTags"):
            if (place := packet.find(marker)) >= 0 and any(n < 255 for n in table):
                return packet[place + len(marker) :]
    return b""


def _comments(data: bytes) -> dict[str, str]:
    """Vorbis comments: a length and a vendor, a count, then lengths and `KEY=value`."""
    if len(data) < 8:
        return {}
    at = 4 + struct.unpack("<I", data[:4])[0]
    (count,) = struct.unpack("<I", data[at : at + 4])
    at, found = at + 4, {}
    for _ in range(min(count, 1000)):
        (length,) = struct.unpack("<I", data[at : at + 4])
        key, _, value = data[at + 4 : at + 4 + length].decode("utf-8", "replace").partition("=")
        at += 4 + length
        if key.lower() in GAINS:
            found[key.lower()] = value
    return found


def _id3_gains(file: BinaryIO, head: bytes) -> dict[str, str]:
    def number(data: bytes, bits: int) -> int:
        total = 0
        for byte in data:
            total = total << bits | byte & (1 << bits) - 1
        return total

    data, found, at = file.read(min(number(head[6:10], 7), 1 << 20)), {}, 0
    while head[3] >= 3 and at + 10 <= len(data) and data[at : at + 4].isalnum():
        size = number(data[at + 4 : at + 8], 7 if head[3] >= 4 else 8)
        if data[at : at + 4] == b"TXXX":
            text, code = data[at + 11 : at + 10 + size], data[at + 10]
            decoded = text.decode(("latin-1", "utf-16", "utf-16-be", "utf-8")[code & 3], "replace")
            key, _, value = decoded.partition("\0")
            if key.lower() in GAINS:
                found[key.lower()] = value.strip("\0\ufeff")
        at += 10 + size
    return found


# --- ffmpeg

FFMPEG_EXTENSIONS = frozenset({
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".aac", ".wma", ".wmv", ".asf", ".mkv", ".mka", ".webm", ".avi",
    ".ac3", ".eac3", ".dts", ".ape", ".wv", ".mpc", ".tta", ".amr", ".ra", ".rm", ".3gp", ".alac", ".weba",
})  # fmt: skip
"""Lower-case extensions of audio and video that libsndfile does not read but ffmpeg does."""

_SIGNATURES = (
    b"\x1aE\xdf\xa3", b"0&\xb2u", b"\xff\xf1", b"\xff\xf9", b"MAC ", b"wvpk", b"MPCK", b"TTA1", b"#!AMR", b"\x0bw",
)  # fmt: skip


def has_ffmpeg() -> bool:
    """Whether the program is installed."""
    return shutil.which("ffmpeg") is not None


def is_known(head: bytes) -> bool:
    """Whether a file that begins so is of a kind that ffmpeg reads: MP4, Matroska, ASF, ADTS, ..."""
    return head[4:8] == b"ftyp" or head.startswith(_SIGNATURES)


class FfmpegStream:
    """The first audio stream of a file, decoded from its beginning. A context manager.

    Args:
        source: A path, or an open file with a descriptor.
        name: Of the file, for messages.

    Attributes:
        sample_rate: Hz.
        channels: Channels.

    Raises:
        LincaeError: ffmpeg does not read it, or finds no audio in it.
    """

    def __init__(self, source: str | BinaryIO, name: str) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed in close)
        command, descriptors = _input(source)
        self._process = subprocess.Popen(
            [*command, "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "-"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors, pass_fds=descriptors,
        )  # fmt: skip
        try:
            self.sample_rate, self.channels = self._header()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FfmpegStream:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ends ffmpeg."""
        self.close()

    def close(self) -> None:
        """Ends ffmpeg."""
        if self._process.poll() is None:
            self._process.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait()
        self._errors.close()

    def blocks(self, block: int = 1 << 16) -> Iterator[np.ndarray]:
        """Yields float32 ``[n, channels]`` to the end.

        Raises:
            LincaeError: ffmpeg failed on the way.
        """
        assert self._process.stdout is not None
        width, rest = 4 * self.channels, b""
        while data := self._process.stdout.read(block * width - len(rest)):
            data = rest + data
            whole = len(data) - len(data) % width
            rest = data[whole:]
            yield np.frombuffer(data[:whole], "<f4").reshape(-1, self.channels)
        if self._process.wait():
            raise self._failed()

    def warning(self) -> str:
        """The last line that ffmpeg wrote to stderr; empty when it had nothing to say."""
        return next((line.strip() for line in reversed(self._said().split("\n")) if line.strip()), "")

    def _said(self) -> str:
        self._errors.seek(0)
        return self._errors.read()[-4096:].decode(errors="replace")

    def _header(self) -> tuple[int, int]:
        file, rate, channels = self._process.stdout, 0, 0
        assert file is not None
        if len(file.read(12)) == 12:
            while len(head := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", head)
                if name == b"data":
                    return rate, channels
                data = file.read(length + length % 2)
                if name == b"fmt ":
                    _, channels, rate = struct.unpack("<HHI", data[:8])
        self._process.wait()
        raise self._failed()

    def _failed(self) -> LincaeError:
        said = self.warning().rpartition(self.name)[2].strip(" :") or "it says nothing"
        if "matches no streams" in self._said():
            return LincaeError(f"{self.name} holds no audio", "give a file with an audio stream")
        return LincaeError(f"ffmpeg cannot read {self.name}: {said[:200]}", "is it audio, and whole?")


def ffmpeg_tags(source: str | BinaryIO) -> dict[str, str]:
    """The metadata of a file as ffmpeg names it, lower-case keys; empty where there is none."""
    command, descriptors = _input(source)
    done = subprocess.run(
        [*command, "-f", "ffmetadata", "-"], stdin=subprocess.DEVNULL, capture_output=True, pass_fds=descriptors
    )
    tags = {}
    for line in done.stdout.decode(errors="replace").replace("\\\n", "\n").split("\n"):
        if line.startswith("["):  # chapters and streams follow
            break
        key, equals, value = line.partition("=")
        if equals and not line.startswith(";"):
            tags[key.strip().lower()] = value.replace("\\", "")
    return tags


def _input(source: str | BinaryIO) -> tuple[list[str], tuple[int, ...]]:
    descriptors: tuple[int, ...] = ()
    if isinstance(source, str):
        where = f"file:{source}"
    else:
        with contextlib.suppress(OSError):
            source.flush()
        where, descriptors = f"file:/dev/fd/{source.fileno()}", (source.fileno(),)
    program = shutil.which("ffmpeg") or "ffmpeg"
    return [os.fspath(program), "-nostdin", "-v", "error", "-i", where], descriptors
