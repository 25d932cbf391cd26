"""Reads an arrangement from YAML. Every error names the file, the line and the key.

The YAML may come from someone else: files outside its folder are read only when the user allows it.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from lincae_core.yaml_schema import Document, Key, read, suggest
from lincae_formats.errors import LincaeError

from .schema import MASTER, MAX_NESTED, Arrangement

__all__ = ["Key", "Loaded", "load", "suggest"]


@dataclass(frozen=True)
class Loaded:
    """An arrangement and the lines of its keys."""

    song: Arrangement
    document: Document  # the parsed YAML

    @property
    def name(self) -> str:
        """The file's name in messages."""
        return self.document.name

    def error(self, path: Key, message: str, hint: str | None = None) -> LincaeError:
        """Makes an error that names the file, the line and the key."""
        return self.document.error(path, message, hint)

    def locate(self, key: Key, text: str, folder: Path, allow_outside: bool) -> Path:
        """Finds the real path of a file that the arrangement names.

        Symbolic links are resolved first, so neither `..` nor a link nor an absolute path leads outside `folder`, which
        `text` is relative to, unless `allow_outside`. `key` is whose value it is.

        Raises:
            LincaeError: the file lies outside `folder`, does not exist, or is not a regular file.
        """
        if "\0" in text:
            raise self.error(key, "the name contains a NUL character", "check the name")
        path = Path(os.path.realpath(folder / text))
        if not allow_outside and not path.is_relative_to(os.path.realpath(folder)):
            message = f"{text!r} lies outside the folder of the arrangement"
            raise self.error(key, message, "add --allow-outside to read it")
        try:
            if path.is_file():
                return path
            exists = path.exists()
        except OSError:
            exists = False  # not a possible file name
        if exists:
            raise self.error(key, f"{text!r} is not a regular file", "name a .lat file")
        raise self.error(key, f"there is no file {text!r}", _similar_file(path, folder))


def load(source: str | Path, name: str | None = None) -> Loaded:
    """Reads and checks an arrangement: a path; or YAML text, with a name for messages. Opens no file that it names.

    Raises:
        LincaeError: it cannot be read, is not YAML, or a key or value is wrong.
    """
    text, name = (read(Path(source)), str(source)) if name is None else (str(source), name)
    document = Document(text, name, "see: lincae render --help")
    if not isinstance(document.values, dict):
        raise LincaeError(f"{name}: an arrangement is a mapping with `tracks`", document.hint)
    loaded = Loaded(document.validate(Arrangement), document)
    _check_names(loaded)
    _check_cycles(loaded)
    return loaded


def _similar_file(path: Path, folder: Path) -> str:
    try:
        near = difflib.get_close_matches(path.name, os.listdir(path.parent), 1)
    except OSError:
        near = []
    if not near:
        return f"files are looked up from {folder}"
    return f"did you mean {os.path.relpath(path.parent / near[0], os.path.realpath(folder))}"


def _check_names(loaded: Loaded) -> None:
    song = loaded.song
    for bus in song.buses:
        if bus == MASTER or bus in song.tracks:
            what = "this name stands for the whole mix" if bus == MASTER else "a track has the same name"
            raise loaded.error(("buses", bus), what, "rename the bus")
    if MASTER in song.tracks:
        raise loaded.error(("tracks", MASTER), "this name stands for the whole mix", "rename the track")
    for kind, members in (("tracks", song.tracks), ("buses", song.buses)):
        for name, member in members.items():
            target = member.bus
            if target not in (None, MASTER) and target not in song.buses:
                hint = suggest(str(target), [*song.buses, MASTER])
                raise loaded.error((kind, name, "bus"), f"there is no bus {target!r}", hint)
    known = {*song.tracks, *song.buses}
    for name, variant in song.variants.items():
        lists = {"mute": variant.mute, "unmute": variant.unmute, "solo": variant.solo, "gain": list(variant.gain)}
        for key, names in lists.items():
            allowed = known | {MASTER} if key == "gain" else known
            for wrong in (n for n in names if n not in allowed):
                path = ("variants", name, key, wrong) if key == "gain" else ("variants", name, key)
                raise loaded.error(path, f"there is no track or bus {wrong!r}", suggest(wrong, allowed))


def _check_cycles(loaded: Loaded) -> None:
    buses = loaded.song.buses
    for name in buses:
        seen = [name]
        while (after := buses[seen[-1]].bus) not in (None, MASTER):
            seen.append(str(after))
            if len(seen) > MAX_NESTED and len(set(seen)) == len(seen):
                raise loaded.error(("buses", name, "bus"), f"more than {MAX_NESTED} buses deep", "feed some to master")
            if after == name:
                raise loaded.error(("buses", name, "bus"), f"feeds itself: {' -> '.join(seen)}", "cut one of these")
            if seen.count(str(after)) > 1:
                break  # a cycle without this bus; another iteration reports it
