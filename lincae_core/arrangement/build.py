"""From an arrangement to latents that are computed as they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from lincae_formats import Fade, LincaeError, check_compatible, lazy, timeline
from lincae_formats.header import Header
from lincae_formats.notation import clock
from lincae_formats.pool import Pool, Pooled
from lincae_formats.signal import Signal
from lincae_formats.timeline import Position

from .document import Key
from .files import locate
from .load import Loaded, nearest
from .outline import Outline, bus_outline, track_outline, volume_words
from .schema import MASTER, Bus, Fades, Part, Track, Variant


@dataclass(frozen=True)
class _Placed:
    """A track's latents before its volume, and where they begin in the song."""

    signal: Signal
    begin: Position


class Song:
    """An arrangement with its files open: any of its variants can be computed.

    Args:
        loaded: The arrangement.
        folder: Where its files are looked up.
        pool: Opens them.
        allow_outside: Whether files outside the folder may be read.

    Attributes:
        header: Of every variant; all are as long as the whole song.
        rounded: How many times lie between two frames.
        worst: By how much the worst of them is off, s.

    Raises:
        LincaeError: a file is missing, damaged, outside, or does not belong to the others; names line and key.
    """

    def __init__(self, loaded: Loaded, folder: Path, pool: Pool, allow_outside: bool = False) -> None:
        """Opens every file and checks that they belong together."""
        self._loaded, self._song = loaded, loaded.song
        self._folder, self._pool, self._outside = folder, pool, allow_outside
        self._files: dict[str, Pooled] = {}
        self._patterns: list[Pooled] = []  # the first file, and the first of several channels
        self.rounded, self.worst = 0, 0.0
        self._placed = {name: self._place(name, track) for name, track in self._song.tracks.items()}
        self.header = self._header()

    def variant(self, name: str | None = None) -> tuple[Signal, Outline]:
        """The song, or a variant of it, and what it consists of.

        Raises:
            LincaeError: there is no such variant, or nothing of it is heard.
        """
        variants = self._song.variants
        if name is not None and name not in variants:
            raise self._loaded.error(("variants",), f"there is no variant {name!r}", nearest(name, variants))
        chosen = Variant() if name is None else variants[name]
        heard = _Heard(self._song.tracks, self._song.buses, chosen)
        entry = {"op": "render", "arrangement": Path(self._loaded.name).name, **({"variant": name} if name else {})}
        result = self._sum(MASTER, self._song.master, chosen, heard, entry)
        children = list(self._outlines(MASTER, chosen, heard))
        if result is None:
            path: Key = ("tracks",) if name is None else ("variants", name)
            raise self._loaded.error(path, "every track is muted", "unmute one")
        facts = f"{clock(round(self.header.duration, 3))}, {self.header.channels} ch, {self.header.sample_rate} Hz"
        words = [word for word in volume_words(self._song.master, self._factor(MASTER, chosen)) if word]
        title = f"{self._song.name or Path(self._loaded.name).stem}{f', {name}' if name else ''}"
        return result, Outline(f"{title}  ({', '.join([facts, *words])})", children)

    def _place(self, name: str, track: Track) -> _Placed:
        """A track's file, the part of it that is heard, less what is subtracted."""
        key: Key = ("tracks", name)
        signal: Signal = self._open((*key, "file"), track.file)
        try:
            whole = signal
            if track.subtract:
                parts = [self._open((*key, "subtract", i), part.file) for i, part in enumerate(track.subtract)]
                signal = self._subtract(whole, track.subtract, parts)
            if track.start is not None or track.end is not None:
                span = timeline.span(whole.header, track.start, track.end, track.file, beyond=True)
                for time in (track.start, track.end):
                    if time is not None and time < whole.header.duration:
                        self._note(timeline.nearest(whole.header, time))
                signal = lazy.cut(signal, *span)
            begin = self._note(timeline.offset(whole.header, track.offset))
            timeline.shifted(signal.header, begin.frame, track.file)
        except LincaeError as e:
            raise self._named(key, e) from None
        return _Placed(signal, begin)

    def _subtract(self, whole: Signal, parts: list[Part], files: list[Pooled]) -> Signal:
        offsets = [self._note(timeline.offset(whole.header, part.offset)).frame for part in parts]
        rate = self._song.sample_rate
        rest = lazy.subtract(whole, files, [part.gain for part in parts], offsets=offsets, sample_rate=rate)
        return replace(rest, name=whole.name)

    def _sum(
        self, name: str, volume: Fades, variant: Variant, heard: _Heard, entry: dict[str, str] | None = None
    ) -> Signal | None:
        """The sum of what feeds a bus, with its volume; None where nothing is heard."""
        signals: list[Signal] = []
        gains: list[float] = []
        offsets: list[int] = []
        for track_name, track in self._song.tracks.items():
            if (track.bus or MASTER) == name and heard.track(track_name):
                placed = self._placed[track_name]
                signals.append(_shaped(placed.signal, track, placed.begin.frame))
                gains.append(self._factor(track_name, variant))
                offsets.append(placed.begin.frame)
        for bus_name, bus in self._song.buses.items():
            if (bus.bus or MASTER) == name and heard.bus(bus_name):
                inner = self._sum(bus_name, bus, variant, heard)
                if inner is not None:
                    signals.append(inner)
                    gains.append(self._factor(bus_name, variant))
                    offsets.append(0)
        if not signals:
            return None
        rate = self._song.sample_rate
        total = lazy.mix(signals, gains, offsets=offsets, length=self.header, sample_rate=rate, entry=entry)
        total = replace(total, name="" if name == MASTER else f"bus {name}")
        factor = self._factor(MASTER, variant) if name == MASTER else 1.0
        return _shaped(total if factor == 1.0 else lazy.gain(total, factor), volume, 0)

    def _outlines(self, name: str, variant: Variant, heard: _Heard) -> Iterator[Outline]:
        for track_name, track in self._song.tracks.items():
            if (track.bus or MASTER) == name:
                placed, muted = self._placed[track_name], not heard.track(track_name)
                length = placed.signal.header.duration
                yield track_outline(track_name, track, self._factor(track_name, variant), placed.begin, muted, length)
        for bus_name, bus in self._song.buses.items():
            if (bus.bus or MASTER) == name:
                children = list(self._outlines(bus_name, variant, heard))
                yield bus_outline(bus_name, bus, self._factor(bus_name, variant), not heard.bus(bus_name), children)

    def _factor(self, name: str, variant: Variant) -> float:
        members: dict[str, Fades] = {**self._song.tracks, **self._song.buses, MASTER: self._song.master}
        return members[name].factor * variant.gain.get(name, 1.0)

    def _header(self) -> Header:
        """The song's: to the end of the last track, muted or not, or as long as it says."""
        placed = [timeline.shifted(p.signal.header, p.begin.frame) for p in self._placed.values()]
        header = lazy.result_header(placed, "longest", self._song.sample_rate)
        if self._song.length is not None:
            samples = round(Fraction(self._song.length) * header.sample_rate)
            header = replace(header, num_samples=max(1, samples))
        return header

    def _open(self, key: Key, text: str) -> Pooled:
        path = locate(self._loaded, key, text, self._folder, self._outside)
        if str(path) not in self._files:
            try:
                self._files[str(path)] = self._checked(self._pool.open(path, text))
            except LincaeError as e:
                raise self._named(key, e) from None
        return self._files[str(path)]

    def _checked(self, file: Pooled) -> Pooled:
        """The file, which belongs to those before it."""
        for other in self._patterns:
            names = [other.name, file.name]
            check_compatible([other.header, file.header], names, sample_rate=self._song.sample_rate)
        if not self._patterns or file.header.channels > max(other.header.channels for other in self._patterns):
            self._patterns.append(file)
        return file

    def _note(self, position: Position) -> Position:
        if not position.exact:
            self.rounded += 1
            self.worst = max(self.worst, abs(position.asked - position.seconds))
        return position

    def _named(self, key: Key, error: LincaeError) -> LincaeError:
        """The error, with the line and the key if it does not name them yet."""
        if error.message.startswith(f"{self._loaded.name}: line "):
            return error
        hint = error.hint.replace("add --sample-rate ", "add sample_rate: ") if error.hint else None
        return self._loaded.error(key, error.message, hint)


class _Heard:
    """Which tracks and buses a variant lets through."""

    def __init__(self, tracks: dict[str, Track], buses: dict[str, Bus], variant: Variant) -> None:
        muted = {name for name, track in tracks.items() if track.mute}
        muted |= {name for name, bus in buses.items() if bus.mute}
        self._muted = (muted - set(variant.unmute)) | set(variant.mute)
        self._solo = set(variant.solo)
        self._tracks, self._buses = tracks, buses

    def bus(self, name: str) -> bool:
        return name not in self._muted

    def track(self, name: str) -> bool:
        return name not in self._muted and (
            not self._solo or name in self._solo or self._in_solo(self._tracks[name].bus)
        )

    def _in_solo(self, bus: str | None) -> bool:
        return bus in self._solo or (bus in self._buses and self._in_solo(self._buses[bus].bus))


def _shaped(signal: Signal, volume: Fades, begin: int) -> Signal:
    """A signal with what of its volume changes over time."""
    shaped = signal
    if (automation := volume.automation) is not None:
        shaped = lazy.gain(shaped, automation, offset=begin)
    if volume.fade_in or volume.fade_out:
        fade = Fade(signal.header.duration, volume.fade_in, volume.fade_out, volume.fade_shape)
        shaped = lazy.gain(shaped, fade)
    return shaped
