"""Titles, artists and ReplayGain: from audio files into `/tags` of a `.lat`, and back into audio files."""

from __future__ import annotations

import contextlib
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import soundfile

STANDARD = ("title", "artist", "album", "date", "tracknumber", "genre", "comment", "copyright", "license")
"""Tags that libsndfile reads and writes, in every format that holds them."""

GAINS = ("replaygain_track_gain", "replaygain_track_peak", "replaygain_album_gain", "replaygain_album_peak",
         "replaygain_reference_loudness", "r128_track_gain", "r128_album_gain")  # fmt: skip
"""Tags that tell a player how loud a file is; read from FLAC, Ogg, MP3 and what ffmpeg reads, written to FLAC, MP3."""

_ID3 = {
    "title": b"TIT2",
    "artist": b"TPE1",
    "album": b"TALB",
    "date": b"TDRC",
    "tracknumber": b"TRCK",
    "genre": b"TCON",
    "comment": b"COMM",
    "copyright": b"TCOP",
}

_LONGEST = 4096  # bytes of a value
_HEAD = 1 << 18  # bytes of an Ogg file in which its comments are looked for


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
        return _comments(_ogg_comments(file.read(_HEAD)))
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
