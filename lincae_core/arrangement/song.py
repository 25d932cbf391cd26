"""Computes an arrangement: from its files to signals that are computed block by block while they are written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from lincae_formats import Fade, LatReader, LincaeError, Pool, algebra, check_compatible
from lincae_formats.channels import pan, remix
from lincae_formats.header import Header, Position, clock
from lincae_formats.signal import Signal, decibels

from .load import Key, Loaded, suggest
from .schema import MASTER, Bus, Track, Variant, Volume


@dataclass
class Outline:
    """A tree of labels that describes a song: the output of a dry run."""

    label: str
    children: list[Outline] = field(default_factory=list)


class Song:
    """An arrangement with its files open, looked up from a folder. Computes the song and its variants.

    Attributes:
        header: The header of the song and of every variant.
        rounded: Number of times that were rounded to a frame.
        worst: The largest rounding error, s.

    Raises:
        LincaeError: a file is missing, damaged, outside `folder`, or incompatible with the others.
    """

    def __init__(self, loaded: Loaded, folder: Path, pool: Pool, allow_outside: bool = False) -> None:
        self._loaded, self._song = loaded, loaded.song
        self._folder, self._pool, self._outside = folder, pool, allow_outside
        self._references: list[LatReader] = []  # the first file, and the first one with several channels
        self.rounded, self.worst = 0, 0.0
        self._placed = {name: self._place(("tracks", name), track) for name, track in self._song.tracks.items()}
        self.header = self._result_header()

    def variant(self, name: str | None = None) -> tuple[Signal, Outline]:
        """The song (None) or one of its variants: the signal and its outline.

        Raises:
            LincaeError: there is no such variant, or all its tracks are muted.
        """
        variants = self._song.variants
        if name is not None and name not in variants:
            raise self._loaded.error(("variants",), f"there is no variant {name!r}", suggest(name, variants))
        chosen = Variant() if name is None else variants[name]
        audible = Audible(self._song.tracks, self._song.buses, chosen)
        entry = {"op": "render", "arrangement": Path(self._loaded.name).name, **({"variant": name} if name else {})}
        result = self._sum(MASTER, self._song.master, chosen, audible, entry)
        if result is None:
            path: Key = ("tracks",) if name is None else ("variants", name)
            raise self._loaded.error(path, "every track is muted", "unmute one")
        title = f"{self._song.name or Path(self._loaded.name).stem}{f', {name}' if name else ''}"
        facts = f"{_time(self.header.duration)}, {self.header.channels} ch, {self.header.sample_rate} Hz"
        label = _label(title, facts, *_volume_words(self._song.master, self._factor(MASTER, chosen)))
        return result, Outline(label, list(self._outlines(MASTER, chosen, audible)))

    def track(self, name: str) -> tuple[Signal, int]:
        """A track's latents before its volume, and the frame of the song at which they begin."""
        signal, begin = self._placed[name]
        return signal, begin.frame

    def _place(self, key: Key, track: Track) -> tuple[Signal, Position]:
        """The part of a track's file that is used, minus what is subtracted from it, and where it begins."""
        whole = self._open((*key, "file"), track.file)
        signal: Signal = whole
        try:
            if parts := track.subtract:
                files = [self._open((*key, "subtract", i), part.file) for i, part in enumerate(parts)]
                offsets = [self._count_rounding(whole.header.offset(part.offset)).frame for part in parts]
                gains, rate = [part.gain for part in parts], self._song.sample_rate
                rest = algebra.subtract(whole, files, gains, offsets=offsets, sample_rate=rate)
                signal = replace(rest, name=whole.name)
            if track.start is not None or track.end is not None:
                span = whole.header.span(track.start, track.end, track.file, beyond=True)
                for time in (track.start, track.end):
                    if time is not None and time < whole.header.duration:
                        self._count_rounding(whole.header.nearest(time))
                signal = algebra.cut(signal, *span)
            if track.pan is not None:
                signal = self._pan(key, track, signal)
            begin = self._count_rounding(whole.header.offset(track.offset))
            signal.header.shifted(begin.frame, track.file)
        except LincaeError as e:
            raise self._with_key(key, e) from None
        return signal, begin

    def _pan(self, key: Key, track: Track, signal: Signal) -> Signal:
        assert track.pan is not None
        try:
            return remix(signal, pan(track.pan, signal.header.channels))
        except ValueError as e:
            hint = "remove pan, or see: lincae channels"
            raise self._loaded.error((*key, "pan"), f"{track.file} {e}", hint) from None

    def _sum(
        self, name: str, volume: Volume, variant: Variant, audible: Audible, entry: dict[str, str] | None = None
    ) -> Signal | None:
        """The sum of the inputs of a bus, with its volume applied; None if all of them are muted."""
        inputs: list[tuple[Signal, float, int]] = []  # with gain, and the frame of the song at which they begin
        for track_name, track in self._song.tracks.items():
            if (track.bus or MASTER) == name and audible.track(track_name):
                signal, begin = self.track(track_name)
                inputs.append((_shaped(signal, track, begin), self._factor(track_name, variant), begin))
        for bus_name, bus in self._song.buses.items():
            if (bus.bus or MASTER) == name and audible.bus(bus_name):
                inner = self._sum(bus_name, bus, variant, audible)
                if inner is not None:
                    inputs.append((inner, self._factor(bus_name, variant), 0))
        if not inputs:
            return None
        signals, gains, offsets = zip(*inputs, strict=True)
        rate = self._song.sample_rate
        total = algebra.mix(signals, gains, offsets=offsets, length=self.header, sample_rate=rate, entry=entry)
        total = replace(total, name="" if name == MASTER else f"bus {name}")
        factor = self._factor(MASTER, variant) if name == MASTER else 1.0
        return _shaped(total if factor == 1.0 else algebra.gain(total, factor), volume, 0)

    def _outlines(self, name: str, variant: Variant, audible: Audible) -> Iterator[Outline]:
        for track_name, track in self._song.tracks.items():
            if (track.bus or MASTER) == name:
                signal, begin = self._placed[track_name]
                label = _label(
                    f"{track_name}: {track.file}",
                    f"from {_time(track.start)}" if track.start else "",
                    "" if track.end is None else f"to {_time(track.end)}",
                    f"at {_time(begin.seconds)}" if begin.frame else "",
                    f"{_time(signal.header.duration)} long",
                    "" if track.pan is None else f"pan {track.pan:g}",
                    *_volume_words(track, self._factor(track_name, variant)),
                    "" if audible.track(track_name) else "muted",
                )
                yield Outline(label, [
                    Outline(_label(f"less {p.file}", f"at {_time(p.offset)}" if p.offset else "", _gain_words(p.gain)))
                    for p in track.subtract
                ])  # fmt: skip
        for bus_name, bus in self._song.buses.items():
            if (bus.bus or MASTER) == name:
                words = _volume_words(bus, self._factor(bus_name, variant))
                label = _label(f"bus {bus_name}", *words, "" if audible.bus(bus_name) else "muted")
                yield Outline(label, list(self._outlines(bus_name, variant, audible)))

    def _factor(self, name: str, variant: Variant) -> float:
        members: dict[str, Volume] = {**self._song.tracks, **self._song.buses, MASTER: self._song.master}
        return members[name].factor * variant.gain.get(name, 1.0)

    def _result_header(self) -> Header:
        """The song's header. The song ends with its last track, muted or not, or where `length` says."""
        placed = [signal.header.shifted(begin.frame) for signal, begin in self._placed.values()]
        header = algebra.result_header(placed, "longest", self._song.sample_rate)
        if self._song.length is not None:
            samples = round(Fraction(self._song.length) * header.sample_rate)
            header = replace(header, num_samples=max(1, samples))
        return header

    def _open(self, key: Key, text: str) -> LatReader:
        """Opens a file and checks that it is compatible with those opened before it."""
        path = self._loaded.locate(key, text, self._folder, self._outside)
        try:
            file = self._pool.open(path, text)
            for other in self._references:
                names = [other.name, file.name]
                check_compatible([other.header, file.header], names, sample_rate=self._song.sample_rate)
        except LincaeError as e:
            raise self._with_key(key, e) from None
        if not self._references or file.header.channels > max(f.header.channels for f in self._references):
            self._references.append(file)
        return file

    def _count_rounding(self, position: Position) -> Position:
        if not position.exact:
            self.rounded += 1
            self.worst = max(self.worst, abs(position.asked - position.seconds))
        return position

    def _with_key(self, key: Key, error: LincaeError) -> LincaeError:
        """The error with the line and the key in front, unless it has them."""
        if error.message.startswith(f"{self._loaded.name}: line "):
            return error
        hint = error.hint.replace("add --sample-rate ", "add sample_rate: ") if error.hint else None
        return self._loaded.error(key, error.message, hint)


class Audible:
    """Which tracks and buses are audible in a variant."""

    def __init__(self, tracks: dict[str, Track], buses: dict[str, Bus], variant: Variant) -> None:
        muted = {name for name, track in tracks.items() if track.mute}
        muted |= {name for name, bus in buses.items() if bus.mute}
        self._muted = (muted - set(variant.unmute)) | set(variant.mute)
        self._solo = set(variant.solo)
        self._tracks, self._buses = tracks, buses

    def bus(self, name: str) -> bool:
        """Whether a bus is not muted."""
        return name not in self._muted

    def track(self, name: str) -> bool:
        """Whether a track is not muted, and soloed where any is."""
        return name not in self._muted and (
            not self._solo or name in self._solo or self._in_solo(self._tracks[name].bus)
        )

    def _in_solo(self, bus: str | None) -> bool:
        return bus in self._solo or (bus in self._buses and self._in_solo(self._buses[bus].bus))


def _shaped(signal: Signal, volume: Volume, begin: int) -> Signal:
    """Applies the curve and the fades of a volume; `begin` is the signal's first frame in the song."""
    shaped = signal
    if (automation := volume.automation) is not None:
        shaped = algebra.gain(shaped, automation, offset=begin)
    if volume.fade_in or volume.fade_out:
        fade = Fade(signal.header.duration, volume.fade_in, volume.fade_out, volume.fade_shape)
        shaped = algebra.gain(shaped, fade)
    return shaped


def _gain_words(factor: float) -> str:
    """`-6.0 dB`, `silent`, `inverted`; empty for a gain of 1."""
    words = ["silent" if factor == 0 else f"{decibels(abs(factor)):+.1f} dB"] if abs(factor) != 1 else []
    return ", ".join(words + (["inverted"] if factor < 0 else []))


def _volume_words(volume: Volume, factor: float) -> list[str]:
    return [
        _gain_words(factor),
        f"curve of {len(volume.curve)} points" if volume.curve else "",
        f"fade in {_time(volume.fade_in)}" if volume.fade_in else "",
        f"fade out {_time(volume.fade_out)}" if volume.fade_out else "",
    ]


def _label(name: str, *words: str) -> str:
    said = ", ".join(word for word in words if word)
    return f"{name}  ({said})" if said else name


def _time(seconds: float) -> str:
    return clock(round(seconds, 3))
