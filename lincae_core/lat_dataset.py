"""Training data in latent space: random crops of many `.lat` files, of which only the crops are read."""

from __future__ import annotations

import logging
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from lincae_formats import Header, LatReader, check_compatible
from lincae_formats.errors import LincaeError

_MOST_OPEN = 64  # files that a process keeps open

log = logging.getLogger("lincae")


class LatDataset(Dataset[Any]):
    """Random crops of `.lat` files, float32 ``[C, latent_dim, frames]``.

    Every frame is equally likely, in long files and in short ones. Crop i depends on the seed, the epoch and i alone:
    not on the order, the workers or the machine. Files are opened by the process that reads them, so workers may be
    forked or spawned.

    A file shorter than a crop gives its whole length at the start of the crop, and zeros (silence) behind it; the
    property `short` lists such files. A file that cannot be opened is skipped with a warning and listed in `skipped`.

    Args:
        where: A folder, searched with its subfolders but without hidden files, or files.
        frames: Latent frames in a crop (93 ms each at 44.1 kHz).
        length: Crops in an epoch; by default as many as fit into the files without overlap.
        seed: Of the crops.
        mono: Average the channels of every file; without it all files must have the same number.
        levels: Return ``(latents, levels)``, with the levels float32 ``[C, GL, frames]`` of the models that have
            them: NaN where unknown, negative where uncertain, 0 in silence. With `mono` they are the root of the
            channels' mean power.

    Attributes:
        paths: The files used, sorted.
        skipped: The files that could not be opened, and why.
        header: Of the first file.

    Raises:
        LincaeError: there is no `.lat` file that can be opened, or they do not belong together.
    """

    def __init__(
        self, where: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], frames: int = 64, *,
        length: int | None = None, seed: int = 0, mono: bool = False, levels: bool = False,
    ) -> None:  # fmt: skip
        """Reads every file's header."""
        if frames < 1 or seed < 0 or (length is not None and length < 1):
            text = f"crops of {frames} frames, {length} in an epoch, seed {seed}"
            raise LincaeError(text, "give at least one frame and one crop, and a seed of 0 or more")
        self.frames, self.seed, self.mono, self.levels, self.epoch = frames, seed, mono, levels, 0
        self.skipped: dict[Path, str] = {}
        headers = self._headers(_find(where))
        self.paths = list(headers)
        _check(list(headers.values()), self.paths, mono)
        self.header = headers[self.paths[0]]
        self._counts = [header.frames for header in headers.values()]
        self._starts = list(accumulate((max(0, n - frames) + 1 for n in self._counts), initial=0))
        self._length = length or max(1, sum(self._counts) // frames)
        self._open: OrderedDict[int, LatReader] = OrderedDict()
        self._process = os.getpid()

    @property
    def short(self) -> list[Path]:
        """The files shorter than a crop."""
        return [path for path, count in zip(self.paths, self._counts, strict=True) if count < self.frames]

    def __len__(self) -> int:
        """Crops in an epoch."""
        return self._length

    def __getitem__(self, index: int) -> Any:
        """Crop `index` of this epoch, ``[C, latent_dim, frames]``; with `levels`, a pair.

        Raises:
            IndexError: it is not within the epoch.
            LatError: the file is damaged there.
        """
        if not -self._length <= index < self._length:
            raise IndexError(f"item {index} of {self._length}")
        number, start = self.place(index)
        reader = self._reader(number)
        stop = min(start + self.frames, reader.header.frames)
        crop = self._padded(reader.read(start, stop), np.float32(1))
        if not self.levels:
            return crop
        return crop, self._padded(reader.levels(start, stop), np.float32(2))

    def set_epoch(self, epoch: int) -> None:
        """Draws other crops from now on; workers kept alive between epochs (`persistent_workers`) do not notice."""
        self.epoch = epoch

    def place(self, index: int) -> tuple[int, int]:
        """The file, as an index of `paths`, and the first frame of a crop."""
        draw = np.random.default_rng([self.seed, self.epoch, index % self._length])
        at = int(draw.integers(self._starts[-1]))
        number = bisect_right(self._starts, at) - 1
        return number, at - self._starts[number]

    def __getstate__(self) -> dict[str, Any]:
        """State for a spawned worker, without open files."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _padded(self, data: np.ndarray, power: np.float32) -> torch.Tensor:
        if self.mono:
            data = (data**power).mean(axis=0, keepdims=True, dtype=np.float32) ** (1 / power)
        crop = torch.zeros(*data.shape[:2], self.frames)
        crop[:, :, : data.shape[2]] = torch.from_numpy(np.ascontiguousarray(data))
        return crop

    def _headers(self, paths: list[Path]) -> dict[Path, Header]:
        found = {}
        for path in paths:
            try:
                with LatReader(path) as reader:
                    found[path] = reader.header
            except LincaeError as e:
                self.skipped[path] = str(e)
                log.warning("skipped: %s", e)
        if not found:
            raise LincaeError(f"none of {len(paths)} .lat files can be opened: {next(iter(self.skipped.values()))}")
        return found

    def _reader(self, number: int) -> LatReader:
        if self._process != os.getpid():
            # HDF5 keeps state for every open file: after a fork each process has its own files.
            self._open, self._process = OrderedDict(), os.getpid()
        reader = self._open.pop(number, None) or LatReader(self.paths[number])
        self._open[number] = reader
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)[1].close()
        return reader


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
