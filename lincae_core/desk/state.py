"""The settings of a desk: an arrangement that is edited by moves, recorded as curves, and saved as YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lincae_core.arrangement.load import Loaded, load
from lincae_core.arrangement.schema import MASTER, Arrangement, Track, Variant, Volume
from lincae_core.unmix import simplified, track_names
from lincae_formats import LincaeError, algebra, atomic_path
from lincae_formats.files import stamp
from lincae_formats.header import Header, parse_gain
from lincae_formats.signal import decibels

from .engine import SOLO

LEAST_DB, MOST_DB = -60.0, 12.0  # of a fader; at the bottom it is silent
MOST_POINTS = 900  # of a recorded curve, of the 1000 that one may have
MOST_UNDONE = 200


class Message(BaseModel):
    """Base of all messages of a page. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


Seconds = Annotated[float, Field(ge=0, le=360_000, strict=False)]
Identity = Annotated[int, Field(ge=0, le=2**31)]


class Play(Message):
    """Play from a time on."""

    do: Literal["play"]
    at: Seconds
    generation: Identity


class Pause(Message):
    """Play no more."""

    do: Literal["pause"]


class Heard(Message):
    """How many samples of the stream were played."""

    do: Literal["heard"]
    generation: Identity
    samples: Annotated[int, Field(ge=0, le=2**53)]


class Loop(Message):
    """A part to repeat, s; None for none."""

    do: Literal["loop"]
    span: tuple[Seconds, Seconds] | None


class Move(Message):
    """A setting of a track, a bus or the master. A level is the whole gain at the playhead, curve included, dB."""

    do: Literal["move"]
    id: Identity
    name: Annotated[str, Field(max_length=64)]
    key: Literal["level", "mute", "solo", "invert", "pan", "curve"]
    value: bool | Annotated[float, Field(ge=-1000, le=1000, strict=False)] | None = None
    at: Seconds = 0.0


class Record(Message):
    """Whether levels that are moved while this page plays are written into curves."""

    do: Literal["record"]
    on: bool


class Plain(Message):
    """Undo the last move, do it again, or save."""

    do: Literal["undo", "redo", "save"]


AnyMessage = Annotated[Play | Pause | Heard | Loop | Move | Record | Plain, Field(discriminator="do")]
MESSAGES: TypeAdapter[Any] = TypeAdapter(AnyMessage)


@dataclass
class Take:
    """A curve that is being written: what was there before, and the frame from which on the newest level holds."""

    before: Volume
    last: int


class Desk:
    """The settings that all pages share.

    Args:
        loaded: The arrangement.
        folder: The folder that its file names are relative to.
        target: Where it is saved.
        allow_outside: Whether files outside `folder` may be read.

    Attributes:
        song: The arrangement as it is now; soloed members are its variant `desk-solo`.
        revision: Counts its changes.
        dirty: Whether it was changed since it was loaded or saved.
    """

    def __init__(self, loaded: Loaded, folder: Path, target: Path, allow_outside: bool) -> None:
        self.loaded, self.folder, self.target, self.allow_outside = loaded, folder, target, allow_outside
        self.song: Arrangement = loaded.song
        self.revision, self.dirty = 0, False
        self._known = stamp(target)
        self._undone: list[Arrangement] = []
        self._done: list[Arrangement] = []
        self._last: tuple[str, str] | None = None
        self.takes: dict[str, Take] = {}

    @property
    def now(self) -> Loaded:
        """The arrangement with its file name for messages."""
        return replace(self.loaded, song=self.song)

    def member(self, name: str) -> Volume:
        """A track, a bus or the master.

        Raises:
            LincaeError: there is none of that name.
        """
        members: Mapping[str, Volume] = {**self.song.tracks, **self.song.buses, MASTER: self.song.master}
        if name not in members:
            raise LincaeError(f"there is no track or bus {name!r}")
        return members[name]

    def move(self, move: Move, header: Header, frame: int | None = None) -> None:
        """Carries out a move.

        Args:
            move: The move.
            header: Of the song.
            frame: Where a level is written into the curve, a latent frame; None where nothing is recorded.

        Raises:
            LincaeError: a member that does not exist or has no such setting, or a value out of range.
        """
        old, value = self.member(move.name), move.value
        at = math.floor(move.at * header.model_sample_rate / header.samples_per_frame)  # the frame at the playhead
        if move.key == "level":
            factor = _factor(value)
            if frame is not None:
                self._remember(move)
                self._write(move.name, old, factor, header, frame)
                return
            here = self._at(old.model_copy(update={"gain": 1.0}), header, at)
            new = old.model_copy(update={"gain": min(factor / here if here > 1e-5 else factor, 1e6)})
        elif move.key == "solo":
            self._solo(move.name, _truth(value))
            return
        elif move.key == "curve":
            if value is not None:
                raise LincaeError("a curve can only be removed")
            new = old.model_copy(update={"curve": None, "gain": self._at(old, header, at)})
        elif move.key == "invert":
            new = old.model_copy(update={"invert": _truth(value)})
        elif move.key == "mute":
            if move.name == MASTER:
                raise LincaeError("the master has no mute")
            new = old.model_copy(update={"mute": _truth(value)})
        else:
            if not isinstance(old, Track):
                raise LincaeError("only tracks have a pan")
            if header.channels != 2:
                raise LincaeError("there is no pan in a song of one channel")
            if isinstance(value, bool) or (value is not None and not -1 <= value <= 1):
                raise LincaeError("a pan is a number from -1 to 1")
            new = old.model_copy(update={"pan": value})
        self._remember(move)
        self._put(move.name, new)

    def punch_out(self, header: Header, frame: int) -> set[str]:
        """Ends what is being recorded: what was there before goes on, half-way in a latent frame and wholly after it.

        Returns:
            The members that go back to a curve.
        """
        back = set()
        for name, take in self.takes.items():
            now, before = self.member(name), take.before
            end = max(frame, take.last + 1)  # it may have gone back, in a loop
            points = list(now.curve or [])
            if points and before.curve and end < header.frames:
                held, then = points[-1][1], self._at(before, header, end + 1) / now.gain
                if take.last < end - 1:
                    points.append((_middle(header, end - 1), held))
                points += [(_middle(header, end), (held + then) / 2), (_middle(header, end + 1), then)]
                points += [(t, g * before.gain / now.gain) for t, g in before.curve if t > _middle(header, end + 1)]
                self._put(name, now.model_copy(update={"curve": _fewer(points)}))
                back.add(name)
        self.takes.clear()
        self._last = None
        return back

    def undo(self, again: bool = False) -> bool:
        """Takes the last move back, or does it again; whether there was one."""
        source, target = (self._undone, self._done) if again else (self._done, self._undone)
        if not source:
            return False
        target.append(self.song)
        self._last = None
        self.takes.clear()
        self._replace(source.pop())
        return True

    def save(self) -> None:
        """Writes the arrangement to `target`.

        Raises:
            LincaeError: someone else changed it, or it cannot be written.
        """
        if stamp(self.target) != self._known:
            raise LincaeError(
                f"{self.target.name} was changed by another program", "start lincae desk again, with -o NAME.yaml"
            )
        text = dumped(self.song)
        load(text, self.target.name)
        with atomic_path(self.target, overwrite=True) as temporary:
            Path(temporary).write_text(text, encoding="utf-8", errors="surrogateescape")
        self._known, self.dirty = stamp(self.target), False

    def describe(self) -> dict[str, Any]:
        """What a page shows of the settings."""
        song, solo = self.song, self.song.variants.get(SOLO, Variant()).solo
        members: dict[str, Any] = {}
        for kind, group in (("track", song.tracks), ("bus", song.buses), ("master", {MASTER: song.master})):
            for name, volume in group.items():
                facts = {
                    "kind": kind, "gain": volume.gain, "invert": volume.invert, "curve": volume.curve,
                    "lines": volume.lines, "solo": name in solo,
                }  # fmt: skip
                facts |= {key: getattr(volume, key) for key in ("mute", "bus", "pan", "file") if hasattr(volume, key)}
                members[name] = facts
        return {
            "members": members, "revision": self.revision, "dirty": self.dirty, "recording": sorted(self.takes),
            "undo": len(self._done), "redo": len(self._undone),
        }  # fmt: skip

    def _write(self, name: str, old: Volume, factor: float, header: Header, frame: int) -> None:
        """Writes a level into the curve from a frame on: half-way there in that frame, then it holds."""
        take = self.takes.get(name)
        if take is not None and frame + 1 < take.last:  # it went back, in a loop
            self.punch_out(header, take.last + 1)
            old, take = self.member(name), None
        if take is None:
            take = self.takes[name] = Take(old, frame)
        base = old.gain if 1e-9 < old.gain < 1e3 else 1.0  # nothing can be written below a closed fader
        least = 10 ** (LEAST_DB / 20) / 10 if old.lines == "db" else 0.0
        here, new = max(self._at(old, header, frame - 1) / base, least), max(factor / base, least)
        points = [(t, g * old.gain / base) for t, g in old.curve or [] if t < _middle(header, frame - 1)]
        points += [(_middle(header, frame - 1), here)] if frame else []
        points += [(_middle(header, frame), (here + new) / 2), (_middle(header, frame + 1), new)]
        take.last = frame + 1
        self._put(name, old.model_copy(update={"gain": base, "curve": _fewer(points)}))

    @staticmethod
    def _at(volume: Volume, header: Header, frame: int) -> float:
        """The gain of a fader in a frame, curve included."""
        automation, at = volume.automation, max(frame, 0)
        return volume.gain * (1.0 if automation is None else float(algebra.factors(automation, header, at, at + 1)[0]))

    def _solo(self, name: str, on: bool) -> None:
        if name == MASTER:
            raise LincaeError("the master has no solo")
        variants = dict(self.song.variants)
        solo = [n for n in variants.pop(SOLO, Variant()).solo if n != name] + ([name] if on else [])
        if solo:
            variants[SOLO] = Variant(solo=solo)
        self._remember(None)
        self._replace(self.song.model_copy(update={"variants": variants}))

    def _put(self, name: str, volume: Volume) -> None:
        song = self.song
        if name == MASTER:
            update: dict[str, Any] = {"master": volume}
        elif name in song.tracks:
            update = {"tracks": {**song.tracks, name: volume}}
        else:
            update = {"buses": {**song.buses, name: volume}}
        self._replace(song.model_copy(update=update))

    def _remember(self, move: Move | None) -> None:
        """Keeps the settings as they are, to undo; a fader that goes on moving is undone at once."""
        this = None if move is None else (move.name, move.key)
        if this is None or this != self._last or move is None or move.key != "level":
            self._done = [*self._done, self.song][-MOST_UNDONE:]
            self._undone.clear()
        self._last = this

    def settled(self) -> None:
        """The next move is undone on its own."""
        self._last = None

    def _replace(self, song: Arrangement) -> None:
        self.song, self.dirty = song, True
        self.revision += 1


def arrangement(files: list[str], sample_rate: int | None = None) -> str:
    """An arrangement of stems as YAML: a track for each file; with a sample rate where theirs differ."""
    tracks = {name: {"file": file} for name, file in zip(track_names(files), files, strict=True)}
    song = {**({} if sample_rate is None else {"sample_rate": sample_rate}), "tracks": tracks}
    return yaml.safe_dump(song, sort_keys=False, allow_unicode=True, width=110)


def dumped(song: Arrangement) -> str:
    """An arrangement as YAML that `load` reads to the same arrangement."""

    def level(factor: float) -> str | float:
        text = f"{decibels(factor):.2f}dB" if factor > 0 else "-inf"
        return text if factor > 0 and parse_gain(text) == factor else factor

    def plain(value: Any, key: str = "") -> Any:
        if isinstance(value, BaseModel):
            fields = {k: field.default for k, field in type(value).model_fields.items()}
            found = {k: plain(getattr(value, k), k) for k in fields if getattr(value, k) != fields[k]}
            return {**({"file": found["file"]} if "file" in found else {}), **found}
        if key == "curve":
            return " ".join(f"{f'{t:.9f}'.rstrip('0').rstrip('.')}:{level(g)}" for t, g in value)
        if key == "gain" and isinstance(value, float):
            return level(value)
        if isinstance(value, dict):
            return {k: plain(x, key) for k, x in value.items()}
        return [plain(x) for x in value] if isinstance(value, list) else value

    return yaml.safe_dump(plain(song), sort_keys=False, allow_unicode=True, width=110)


def _middle(header: Header, frame: int) -> float:
    """The time at which a curve is evaluated for a frame, s, as it is saved."""
    return round((frame + 0.5) * header.samples_per_frame / header.model_sample_rate, 9)


def _fewer(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve without more points than one may have."""
    if len(points) <= MOST_POINTS:
        return points
    times, gains = (np.array(column) for column in zip(*points, strict=True))
    return simplified(times, gains, MOST_POINTS // 2)


def _factor(value: Any) -> float:
    """A fader's position in dB as a factor; silent at the bottom."""
    if isinstance(value, bool) or value is None or value > MOST_DB:
        raise LincaeError(f"a level is a number of dB up to {MOST_DB:g}")
    return 0.0 if value <= LEAST_DB else float(10 ** (value / 20))


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise LincaeError("this setting is true or false")
    return value
