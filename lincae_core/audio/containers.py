"""What the headers of audio files say, where libsndfile does not tell.

libsndfile reads only the first of several joined streams, believes a length of 0, and reads a file that was cut short
without a warning. `survey` finds all three before a file is opened.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import BinaryIO

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
