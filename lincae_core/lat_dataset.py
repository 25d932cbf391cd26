"""Training data in latent space: random crops of many `.lat` files, of which only the crops are read."""

from __future__ import annotations

import logging
import os
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lincae_formats import Header, LatReader, Pool, check_compatible
from lincae_formats.errors import LincaeError

_MOST_OPEN = 64  # files that a process keeps open
_MOST_KNOWN = 10_000  # files whose headers a process keeps
_ATTEMPTS = 32  # crops drawn in place of one of a damaged file
_MIXTURE = ("mixture", "mix")  # names of a mixture in the folder of its stems

log = logging.getLogger("lincae")


@dataclass(frozen=True)
class _Item:
    """A file, or a mixture and its stems.

    Attributes:
        path: The file or the mixture; the folder, or what the names begin with, where there is no mixture.
        files: Files whose latents are added: the mixture, or all stems.
        stems: The stems in the order asked for.
    """

    path: Path
    files: tuple[Path, ...]
    stems: tuple[Path, ...] = ()


class LatDataset(Dataset[Any]):
    """Random crops of `.lat` files, float32 ``[C, latent_dim, frames]``.

    Every frame is equally likely, in long files and in short ones. Crop i depends on the seed, the epoch and i alone:
    not on the order, the workers or the machine, so that `DistributedSampler` shares the crops out. Files are opened by
    the process that reads them; workers may be forked or spawned.

    A file shorter than a crop gives its whole length at the start of the crop, and zeros (silence) behind it; the
    property `short` lists such files. A file that cannot be opened or read is reported by a warning and listed in
    `skipped`; a crop of a damaged part is replaced by another one.

    With `details`, `stems` or `tags` a crop is a dict: `latents`; `levels`; `stems`, ``[S, C, latent_dim, frames]``;
    `mask`, ``[frames]``, false behind the end of the file; `path`; `offset`, the first frame; `tags`, a dict.

    Stems are found in either of two layouts: a folder that holds `mixture.lat` and `vocals.lat`, ... as in MUSDB18, or
    names that begin alike: `song.lat`, `song_vocals.lat`, ... (also `song.vocals.lat`, `song-vocals.lat`). A mixture
    that has no file is the sum of its stems. A track that lacks a stem is skipped.

    Args:
        where: A folder, searched with its subfolders but without hidden files, or files.
        frames: Latent frames in a crop (93 ms each at 44.1 kHz).
        length: Crops in an epoch; by default as many as fit into the files without overlap.
        seed: Of the crops.
        mono: Average the channels of every file; without it all files must have the same number.
        levels: Return ``(latents, levels)``, with the levels float32 ``[C, GL, frames]`` of the models that have
            them: NaN where unknown, negative where uncertain, 0 in silence. With `mono` they are the root of the
            channels' mean power. Of a mixture without a file they are unknown.
        details: Return a dict.
        stems: Names of the stems to pair with their mixture, such as ``("vocals", "drums", "bass", "other")``.
        tags: Tags to return, such as ``("title", "artist")``; "" where a file has none.

    Attributes:
        paths: The files or mixtures used, sorted.
        skipped: The files that could not be used, and why; of damaged parts, those that this process met.
        header: Of the first file.

    Raises:
        LincaeError: there is no `.lat` file that can be used, or they do not belong together.
    """

    def __init__(
        self, where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], frames: int = 64, *,
        length: int | None = None, seed: int = 0, mono: bool = False, levels: bool = False, details: bool = False,
        stems: Sequence[str] = (), tags: Sequence[str] = (),
    ) -> None:  # fmt: skip
        """Reads every file's header."""
        if frames < 1 or seed < 0 or (length is not None and length < 1):
            text = f"crops of {frames} frames, {length} in an epoch, seed {seed}"
            raise LincaeError(text, "give at least one frame and one crop, and a seed of 0 or more")
        self.frames, self.seed, self.mono, self.levels = frames, seed, mono, levels
        self.details, self.stems, self.tags = details or bool(stems or tags), tuple(stems), tuple(tags)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.skipped: dict[Path, str] = {}
        self._tags: list[dict[str, str]] = []
        paths = _find(where)
        self._items, headers = self._usable(self._paired(paths) if stems else [_Item(p, (p,)) for p in paths])
        self.paths = [item.path for item in self._items]
        _check(headers, self.paths, mono)
        self.header = headers[0]
        self._counts = [header.frames for header in headers]
        self._starts = list(accumulate((max(0, n - frames) + 1 for n in self._counts), initial=0))
        self._length = length or max(1, sum(self._counts) // frames)
        self._pool, self._known = Pool(_MOST_OPEN), set[Path]()

    @property
    def epoch(self) -> int:
        """Number of the epoch."""
        return int(self._epoch)

    @property
    def short(self) -> list[Path]:
        """The files shorter than a crop."""
        return [path for path, count in zip(self.paths, self._counts, strict=True) if count < self.frames]

    def __len__(self) -> int:
        """Crops in an epoch."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Crop `index` of this epoch: ``[C, latent_dim, frames]``; with `levels` a pair, with `details` a dict.

        Raises:
            IndexError: it is not within the epoch.
            LatError: neither the file nor any of those drawn in its place can be read.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"item {index} of {self._length}")
        for attempt in range(_ATTEMPTS):
            try:
                return self._crop(*self.place(index, attempt))
            except LincaeError as e:
                error = e
        raise error

    def set_epoch(self, epoch: int) -> None:
        """Draws other crops from now on, also in workers that are kept between epochs (`persistent_workers`)."""
        self._epoch.fill_(epoch)

    def place(self, index: int, attempt: int = 0) -> tuple[int, int]:
        """The file, as an index of `paths`, and the first frame of a crop; `attempt` counts those that failed."""
        key = [self.seed, self.epoch, index % self._length]
        at = int(np.random.default_rng([*key, attempt] if attempt else key).integers(self._starts[-1]))
        number = bisect_right(self._starts, at) - 1
        return number, at - self._starts[number]

    def __getstate__(self) -> dict[str, Any]:
        """State for a spawned worker, without open files."""
        return {**self.__dict__, "_pool": Pool(_MOST_OPEN), "_known": set()}

    def _crop(self, number: int, start: int) -> Any:
        item = self._items[number]
        stop = min(start + self.frames, self._counts[number])
        stems = [self._read(path, start, stop) for path in item.stems]
        alone = len(item.files) == 1
        latents = self._read(item.files[0], start, stop) if alone else torch.stack(stems).sum(0)
        levels = None
        if self.levels:
            levels = self._read(item.files[0], start, stop, True)
            levels = levels if alone else torch.full_like(levels, torch.nan)
        if not self.details:
            return latents if levels is None else (latents, levels)
        crop = {"latents": latents, "mask": torch.arange(start, start + self.frames) < stop, "path": str(item.path)}
        crop |= {"offset": start} | ({} if levels is None else {"levels": levels})
        crop |= {"stems": torch.stack(stems)} if stems else {}
        return crop | ({"tags": self._tags[number]} if self.tags else {})

    def _read(self, path: Path, start: int, stop: int, levels: bool = False) -> torch.Tensor:
        """Latents or levels of a crop, with zeros behind the end."""
        try:
            reader = self._reader(path)
            data = reader.levels(start, stop) if levels else reader.read(start, stop)
        except LincaeError as e:
            self._skip(path, e)
            raise
        if self.mono and levels:
            data = np.sqrt(np.square(data).mean(axis=0, keepdims=True, dtype=np.float32))
        elif self.mono:
            data = data.mean(axis=0, keepdims=True, dtype=np.float32)
        crop = torch.zeros(*data.shape[:2], self.frames)
        crop[:, :, : data.shape[2]] = torch.from_numpy(np.ascontiguousarray(data))
        return crop

    def _reader(self, path: Path) -> LatReader:
        if len(self._known) >= _MOST_KNOWN:
            self._pool, self._known = Pool(_MOST_OPEN), set()
        self._known.add(path)
        return self._pool.open(path)

    def _skip(self, path: Path, error: LincaeError) -> None:
        if path not in self.skipped:
            self.skipped[path] = str(error)
            log.warning("skipped: %s", error)

    def _paired(self, paths: list[Path]) -> list[_Item]:
        """The tracks that have all stems."""
        ends = "|".join(re.escape(word) for word in (*self.stems, *_MIXTURE))
        pattern = re.compile(rf"(?:(.+?)[ ._-]+)?({ends})", re.IGNORECASE)
        whole = {path.with_suffix(""): path for path in paths}
        tracks: dict[Path, dict[str, Path]] = defaultdict(dict)
        for path in paths:
            if match := pattern.fullmatch(path.stem):
                tracks[path.parent / match[1] if match[1] else path.parent][match[2].lower()] = path
        items = []
        for place, files in tracks.items():
            mixture = files.get("mixture") or files.get("mix") or whole.get(place)
            stems = tuple(files[name.lower()] for name in self.stems if name.lower() in files)
            if not stems:
                continue
            if len(stems) < len(self.stems):
                lacking = next(name for name in self.stems if name.lower() not in files)
                self._skip(mixture or place, LincaeError(f"{mixture or place}: its stem {lacking} is missing"))
            else:
                items.append(_Item(mixture or place, (mixture,) if mixture else stems, stems))
        if not items:
            name = self.stems[0]
            hint = f"name them song.lat, song_{name}.lat, or song/mixture.lat, song/{name}.lat"
            raise LincaeError(f"there is no track with the stems {', '.join(self.stems)}", hint)
        return sorted(items, key=lambda item: item.path)

    def _usable(self, items: list[_Item]) -> tuple[list[_Item], list[Header]]:
        found, headers = [], []
        for item in items:
            path = item.path
            try:
                own: list[Header] = []
                tags: dict[str, str] = {}
                for path in (*item.files, *item.stems):
                    with LatReader(path) as reader:
                        own.append(reader.header)
                        tags = tags or reader.tags
                path = item.path
                _check(own, [*item.files, *item.stems], self.mono)
                if len({header.frames for header in own}) > 1:
                    raise LincaeError(f"{path}: it and its stems have different lengths")
            except LincaeError as e:
                self._skip(path, e)
                continue
            found.append(item)
            headers.append(own[0])
            self._tags.append({name: tags.get(name, "") for name in self.tags})
        if not found:
            first = next(iter(self.skipped.values()))
            raise LincaeError(f"none of {len(items)} .lat files can be opened: {first}")
        return found, headers


def _find(where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Path]:
    if isinstance(where, (str, os.PathLike)):
        folder = Path(where)
        if not folder.is_dir():
            raise LincaeError(f"{folder} is not a folder", "name a folder with .lat files, or give a list of files")
        inside = (path for path in folder.rglob("*") if path.suffix.lower() == ".lat" and path.is_file())
        paths = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    else:
        paths = [Path(path) for path in where]
    if not paths:
        raise LincaeError("there is no .lat file to read", "make some: lincae encode music/ -o latents/")
    return sorted(paths)


def _check(headers: list[Header], paths: list[Path], mono: bool) -> None:
    names = [str(path) for path in paths]
    check_compatible([replace(h, channels=1) for h in headers], names, sample_rate=headers[0].sample_rate)
    for header, name in zip(headers, names, strict=True):
        if not mono and header.channels != headers[0].channels:
            raise LincaeError(
                f"{names[0]} has {headers[0].channels} channels, {name} has {header.channels}", "give mono=True"
            )
