"""The sound of a desk: an arrangement whose faders move while it plays. Latents are added up, one decoder runs.

Between two moves the desk plays what `lincae render` gives for the same settings, bit by bit: settings at rest are a
`Song`, its sums are rounded as `write_lat` rounds them, and decoding does not depend on how a timeline is cut. A move
begins at a latent frame that was not played yet; in the frames after it gains lie on the way to their new values. What
was sent before from there on is replaced, faded over 23 ms. The decoder looks ahead, mostly by half a frame: a recorded
move begins `AHEAD` frames later, so that the sound before it is decoded with it in view, as by `lincae render`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lincae_core.arrangement.load import Loaded
from lincae_core.arrangement.schema import MASTER, Arrangement, Bus, Track, Variant, Volume
from lincae_core.arrangement.song import Audible, Song
from lincae_core.audio import resampled_length
from lincae_core.measure import group_powers
from lincae_core.models.codec import Autoencoder, to_tensor
from lincae_formats import Fade, LincaeError, Pool, algebra
from lincae_formats.header import Header
from lincae_formats.signal import Signal, as_stored, unsigned

SOLO = "desk-solo"  # the variant that holds which tracks and buses are soloed
RAMP = 2  # latent frames in which a gain reaches its new value
AHEAD = 1  # latent frames of sound that are decoded anew before a recorded move: what it changes before is below -80 dB
FADE = 1024  # samples over which new sound replaces what was sent before
JOIN = 256  # samples over which the beginning of a loop replaces what follows its end
KEPT = 6.0  # s of sent sound that are kept, so that a part that is not played yet can be replaced
SILENT = -120.0  # dB, the least that a meter shows

V = TypeVar("V", bound=Volume)


class Chunk(NamedTuple):
    """Some sound.

    Attributes:
        stream: Sample since `play` at which it begins.
        song: Sample of the song at which it begins.
        audio: float32 `[C, n]`.
        meters: Levels of tracks and buses after their faders, dB, `[members, frames]`.
    """

    stream: int
    song: int
    audio: np.ndarray
    meters: np.ndarray


def soloed(song: Arrangement) -> Variant:
    """The variant that is heard: that of the soloed tracks and buses, or the song itself."""
    return song.variants.get(SOLO, Variant())


def value(volume: Volume, header: Header, frames: range) -> np.ndarray:
    """The factor of a track, a bus or the master in some frames of the song: fader, polarity and curve."""
    found = np.full(len(frames), volume.factor, np.float32)
    if (automation := volume.automation) is not None:
        found *= algebra.factors(automation, header, frames.start, frames.stop)
    return found


def between(
    a: Arrangement, b: Arrangement, part: float, header: Header, frame: int, written: Collection[str] = ()
) -> Arrangement:
    """The settings of one frame on the way from `a` to `b`, which differ in faders, mutes and the like.

    The curves of `written` members hold the way already: it is theirs in `b`.
    """
    heard = [Audible(song.tracks, song.buses, soloed(song)) for song in (a, b)]
    now = range(frame, frame + 1)

    def moved(name: str, u: V, v: V, before: bool, after: bool) -> V:
        if name in written:
            u = u.model_copy(update={"gain": v.gain, "curve": v.curve})
        if u == v and before == after:
            return v if before else v.model_copy(update={"mute": True})
        if not before and not after:
            return v.model_copy(update={"mute": True})
        x, y = (float(value(w, header, now)[0]) * on for w, on in ((u, before), (v, after)))
        factor = x + part * (y - x)
        update: dict[str, Any] = {"gain": abs(factor), "invert": factor < 0, "curve": None}
        if isinstance(v, (Track, Bus)):
            update["mute"] = False
        if isinstance(u, Track) and isinstance(v, Track) and u.pan != v.pan:
            left, right = u.pan or 0.0, v.pan or 0.0
            update["pan"] = left + part * (right - left)
        return v.model_copy(update=update)

    return b.model_copy(
        update={
            "tracks": {n: moved(n, a.tracks[n], t, heard[0].track(n), heard[1].track(n)) for n, t in b.tracks.items()},
            "buses": {n: moved(n, a.buses[n], t, heard[0].bus(n), heard[1].bus(n)) for n, t in b.buses.items()},
            "master": moved(MASTER, a.master, b.master, True, True),
            "variants": {},
        }
    )


class Settled:
    """A song whose settings do not move: its latents, as they would be read back from the file that holds them.

    Args:
        song: The song.
        settings: The arrangement it was made from.
        channels: Channels to read: those of a song do not change while it plays, even where its last pan is removed.
    """

    def __init__(self, song: Song, settings: Arrangement, channels: int) -> None:
        self.song, self.settings, self.header = song, settings, replace(song.header, channels=channels)
        try:
            self._signal: Signal | None = song.variant(SOLO if SOLO in settings.variants else None)[0]
        except LincaeError:
            self._signal = None  # every track is muted
        self._heard = Audible(settings.tracks, settings.buses, soloed(settings))
        signs = {
            np.sign(t.factor) * np.prod([np.sign(settings.buses[b].factor) for b in _chain(settings, t.bus)])
            for n, t in settings.tracks.items()
            if self._heard.track(n)
        } - {0}
        self._uncertain = len(signs) > 1  # levels of a file are known everywhere or nowhere

    def read(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Latents `[C, D, n]` and levels `[C, GL, n]` of frames `[start, stop)`."""
        header = self.header
        if self._signal is None:
            shape = (header.channels, header.latent_dim, stop - start)
            return np.zeros(shape, np.float32), np.zeros((shape[0], header.level_count, shape[2]), np.float32)
        groups, block = self._signal.header.groups, self._signal.block(start, stop).spread(self.header.channels)
        if block.steps is None:
            block = as_stored(block, self._signal.dtype, groups)
            block = replace(block, known=block.known and not self._uncertain)
        return block.values(groups), unsigned(block.signed_levels(groups))

    def factors(self, frames: range) -> np.ndarray:
        """The gains of tracks and buses in some frames, `[members, n]`; 0 where they are not heard."""
        settings, heard = self.settings, self._heard
        rows = [
            self._shown(name, track, frames) if heard.track(name) else np.zeros(len(frames), np.float32)
            for name, track in settings.tracks.items()
        ]
        rows += [
            value(bus, self.header, frames) if heard.bus(name) else np.zeros(len(frames), np.float32)
            for name, bus in settings.buses.items()
        ]
        return np.stack(rows)

    def _shown(self, name: str, track: Track, frames: range) -> np.ndarray:
        signal, begin = self.song.track(name)
        found = value(track, self.header, frames)
        if track.fade_in or track.fade_out:
            fade = Fade(signal.header.duration, track.fade_in, track.fade_out, track.fade_shape)
            found = found * algebra.factors(fade, self.header, frames.start - begin, frames.stop - begin)
        return found


class Player:
    """Plays a song. One thread at a time may use it.

    Args:
        model: The model that encoded the stems.
        loaded: The arrangement.
        folder: The folder its file names are relative to.
        allow_outside: Whether files outside `folder` may be read.
        open_files: How many files may be open at once.

    Attributes:
        header: Header of the song.
        total: Samples of the song at the model's rate, at which it is played.
        at: The next sample of the song.
        stream: Samples since `play` at which it will be heard.
        loop: First sample of a part to repeat, and the one after its last; None for no loop.

    Raises:
        LincaeError: a file cannot be read, or the model cannot decode a part on its own.
    """

    def __init__(
        self, model: Autoencoder, loaded: Loaded, folder: Path, allow_outside: bool = False, open_files: int = 100
    ) -> None:
        if not model.deterministic:
            raise LincaeError(f"the model {model.name} does not decode fast enough for a desk", "use the model frame")
        self._model, self._loaded, self._folder, self._outside = model, loaded, folder, allow_outside
        self._pool = Pool(open_files)
        song = Song(loaded, folder, self._pool, allow_outside)
        self.header = header = song.header
        self._now = Settled(song, loaded.song, header.channels)
        self._size = model.samples_per_frame
        self.total = min(
            resampled_length(header.num_samples, header.sample_rate, model.sample_rate), header.frames * self._size
        )
        self._flat = flat_table(model)
        self.loop: tuple[int, int] | None = None
        self._powers: dict[int, np.ndarray] = {}  # of each track before its fader, by frame
        self._changes: list[tuple[int, Settled]] = []  # settings, and the frame from which on they hold
        self._mixed: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}  # latents, levels, factors by frame
        self.play(0)

    def close(self) -> None:
        """Closes all files."""
        self._pool.__exit__(None, None, None)

    def play(self, sample: int) -> None:
        """Begins anew at a sample of the song."""
        self.at, self.stream = min(max(sample, 0), self.total), 0
        self._sent: deque[tuple[int, int, np.ndarray]] = deque()  # stream, song, audio
        self._tail = np.zeros((self.header.channels, 0), np.float32)  # what would follow if nothing moved
        self._fade = 0  # samples over which the next chunk replaces the tail
        self._settle()

    def moment(self, played: int) -> int:
        """Goes back to the first latent frame that begins at or after `played` of the stream: there a move may begin.

        Returns:
            The frame of the song.
        """
        size = self._size
        for i, (stream, song, audio) in enumerate(self._sent):
            skip = max(played - stream, 0)
            if song % size or skip:
                skip += -(song + skip) % size
            if stream + skip < min(stream + audio.shape[1], self.stream):
                later = [audio[:, skip:], *(part for _, _, part in list(self._sent)[i + 1 :]), self._tail]
                self._tail = np.concatenate(later, axis=1)[:, :FADE]
                while len(self._sent) > i:
                    self._sent.pop()
                if skip:
                    self._sent.append((stream, song, audio[:, :skip]))
                self.at, self.stream = song + skip, stream + skip
                break
        return self.at // size

    def change(self, settings: Arrangement, frame: int, written: Collection[str] = ()) -> None:
        """Goes over to other settings: gains move to their new values over `RAMP` frames.

        Args:
            settings: An arrangement of the same tracks and buses.
            frame: From `moment`, or `AHEAD` frames later.
            written: Members whose curves hold that move already.
        """
        self._changes = [change for change in self._changes if change[0] < frame]
        before = self._changes[-1][1] if self._changes else self._now
        self._now = self._settled(settings)
        for i in range(1, RAMP):
            way = between(before.settings, settings, i / RAMP, self.header, frame + i - 1, written)
            self._changes.append((frame + i - 1, self._settled(way)))
        self._changes.append((frame + RAMP - 1, self._now))
        self._mixed = {at: found for at, found in self._mixed.items() if at < frame}
        self._fade = FADE

    def next(self, frames: int) -> Chunk | None:
        """The next sound, at most so many latent frames of it; None after the end."""
        size, loop = self._size, self.loop
        if loop is not None and self.at == loop[1]:
            self.at = loop[0]
            self._settle()
            self._fade = JOIN
        end = loop[1] if loop is not None and self.at < loop[1] else self.total
        if self.at >= end:
            return None
        first = self.at // size
        last = min(first + frames, -(-end // size))
        stop = min(end, last * size)
        audio = self._decode(first, min(last + 1, self.header.frames))  # one more, to fade from
        begin = self.at - first * size
        chunk = audio[:, begin : stop - first * size].copy()
        if fade := min(self._fade, self._tail.shape[1], chunk.shape[1]):
            part = np.linspace(0, 1, fade, dtype=np.float32)
            chunk[:, :fade] = self._tail[:, :fade] + part * (chunk[:, :fade] - self._tail[:, :fade])
        meters = self._meters(first, last)
        self._tail, self._fade = audio[:, stop - first * size :][:, :FADE], 0
        self._sent.append((self.stream, self.at, chunk))
        while self._sent and self._sent[0][0] < self.stream - KEPT * self._model.sample_rate:
            self._sent.popleft()
        result = Chunk(self.stream, self.at, chunk, meters)
        self.at, self.stream = stop, self.stream + chunk.shape[1]
        return result

    def _settled(self, settings: Arrangement) -> Settled:
        loaded = replace(self._loaded, song=settings)
        song = Song(loaded, self._folder, self._pool, self._outside)
        return Settled(song, settings, self.header.channels)

    def _settle(self) -> None:
        """The settings are those of now everywhere, as if they had never moved."""
        self._changes, self._mixed = [(0, self._now)], {}

    def _decode(self, first: int, last: int) -> np.ndarray:
        import torch

        frames, reach = self.header.frames, self._model.reach
        low, high = max(0, first - reach), min(frames, last + reach)
        self._mix(low, high)
        z, levels = (np.stack([self._mixed[k][i] for k in range(low, high)], axis=2) for i in (0, 1))
        known = to_tensor(self._model, levels) if levels.shape[1] else None
        with torch.inference_mode():
            audio = self._model.decode_stretch(
                to_tensor(self._model, z), known, np.ones(len(z)), low, first, last, frames
            )
            return np.asarray(audio.cpu().numpy())

    def _mix(self, low: int, high: int) -> None:
        """Adds up the latents of frames `[low, high)` that are not there yet, and forgets those before them."""
        for at in [at for at in self._mixed if at < low or at >= high + 64]:
            del self._mixed[at]
        while len(self._changes) > 1 and self._changes[1][0] <= low:
            del self._changes[0]
        starts = [0, *(at for at, _ in self._changes[1:]), self.header.frames]
        for (_, settled), start, stop in zip(self._changes, starts, starts[1:], strict=False):
            missing = [k for k in range(max(low, start), min(high, stop)) if k not in self._mixed]
            for begin, end in _runs(missing):
                z, levels = settled.read(begin, end)
                factors = settled.factors(range(begin, end))
                for i in range(end - begin):
                    self._mixed[begin + i] = z[:, :, i], levels[:, :, i], factors[:, i]

    def _meters(self, first: int, last: int) -> np.ndarray:
        """Levels of tracks and buses after their faders, dB."""
        settings = self._now.settings
        missing = [k for k in range(first, last) if k not in self._powers]
        for begin, end in _runs(missing):
            found = np.zeros((len(settings.tracks), end - begin))
            for row, name in zip(found, settings.tracks, strict=True):
                signal, at = self._now.song.track(name)
                first_, last_ = max(begin - at, 0), min(end - at, signal.header.frames)
                if first_ < last_:
                    row[first_ + at - begin : last_ + at - begin] = power(signal, first_, last_, self._flat)
            for i in range(end - begin):
                self._powers[begin + i] = found[:, i]
        while len(self._powers) > 512:
            del self._powers[next(iter(self._powers))]
        factors = np.stack([self._mixed[k][2] for k in range(first, last)], axis=1)
        count = len(settings.tracks)
        powers = np.zeros(factors.shape)
        powers[:count] = np.square(factors[:count]) * np.stack([self._powers[k] for k in range(first, last)], axis=1)
        buses = list(settings.buses)
        into = {name: [i for i, t in enumerate(settings.tracks.values()) if t.bus == name] for name in buses}
        for name in buses:  # a bus after those that feed it
            into[name] += [count + i for i, other in enumerate(buses) if settings.buses[other].bus == name]
        for name in sorted(buses, key=lambda name: -len(list(_chain(settings, name)))):
            at = count + buses.index(name)
            powers[at] = np.square(factors[at]) * powers[into[name]].sum(axis=0)
        return _decibels(powers)


def power(signal: Signal, start: int, stop: int, flat: Mapping[str, np.ndarray] | None) -> np.ndarray:
    """Mean square of the sound of latents, mean of its channels, in frames `[start, stop)`, without decoding.

    Args:
        signal: The latents.
        start: First frame.
        stop: Frame after the last.
        flat: The model's table (`flat_table`); without one, the mean square of the numbers.
    """
    numbers, levels = group_powers(signal, start, stop)
    if flat is None or len(flat["numbers"]) != numbers.shape[1]:
        return np.asarray(numbers.mean(axis=(0, 1)))
    known = ~np.isnan(levels).any(axis=1)  # [C, n]
    with_levels = np.einsum("g,cgk->ck", flat["levels"], np.nan_to_num(levels))
    return np.asarray(np.where(known, with_levels, np.einsum("g,cgk->ck", flat["numbers"], numbers)).mean(axis=0))


def flat_table(model: Autoencoder) -> Mapping[str, np.ndarray] | None:
    """The weights by which a model's latents tell the power of their sound."""
    from lincae_core.models.store import find_fingerprint

    try:
        table = find_fingerprint(model.fingerprint, model.name, model.name).loudness
    except LincaeError:
        table = None
    return None if table is None else {key: np.asarray(table["flat"][key], float) for key in ("numbers", "levels")}


def overview(
    loaded: Loaded,
    folder: Path,
    allow_outside: bool,
    flat: Mapping[str, np.ndarray] | None,
    pause: Callable[[float], None],
    columns: int = 1200,
) -> Iterator[tuple[str, np.ndarray]]:
    """The level of each track before its fader over the whole song, for a picture: name and dB `[columns]`.

    Reads every file once, in constant memory. `pause` is told how long each small piece of work took, s.
    """
    with Pool(4) as pool:
        song = Song(loaded, folder, pool, allow_outside)
        frames = song.header.frames
        columns = min(columns, frames)
        for name in loaded.song.tracks:
            signal, begin = song.track(name)
            sums, size = np.zeros(columns), 64
            for start in range(max(0, -begin), min(signal.header.frames, frames - begin), size):
                stop = min(start + size, signal.header.frames, frames - begin)
                began = time.monotonic()
                at = (np.arange(start, stop) + begin) * columns // frames
                np.maximum.at(sums, at, power(signal, start, stop, flat))
                pause(time.monotonic() - began)
            yield name, _decibels(sums)


def write(loaded: Loaded, folder: Path, allow_outside: bool, model: Autoencoder, target: Path, scratch: Path) -> None:
    """Writes what is heard to a `.lat` or audio file, as `lincae render` does.

    Args:
        loaded: The arrangement.
        folder: The folder its file names are relative to.
        allow_outside: Whether files outside `folder` may be read.
        model: Decodes.
        target: The file; its extension chooses the format.
        scratch: A folder for the latents on their way to audio.

    Raises:
        LincaeError: every track is muted, or the file cannot be written.
    """
    from lincae_core.models.codec import decode_file
    from lincae_formats import write_lat

    with Pool() as pool:
        song = Song(loaded, folder, pool, allow_outside)
        signal, _ = song.variant(SOLO if SOLO in loaded.song.variants else None)
        lat = target if target.suffix == ".lat" else scratch / "mix.lat"
        write_lat(signal, lat, overwrite=True)
        if lat != target:
            decode_file(model, lat, target, overwrite=True)


def _decibels(powers: np.ndarray) -> np.ndarray:
    """Mean squares as levels, dB, not below `SILENT`."""
    return np.asarray(10 * np.log10(np.maximum(powers, 10 ** (SILENT / 10))))


def _runs(frames: list[int]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive numbers: first, and the one after the last."""
    while frames:
        length = next((i for i, k in enumerate(frames) if k != frames[0] + i), len(frames))
        yield frames[0], frames[0] + length
        frames = frames[length:]


def _chain(settings: Arrangement, bus: str | None) -> Iterator[str]:
    """A bus and those that it feeds, one after the other."""
    while bus not in (None, MASTER):
        assert bus is not None
        yield bus
        bus = settings.buses[bus].bus
