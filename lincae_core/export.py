"""Latents of many `.lat` files for training with other tools: webdataset shards, Zarr or NumPy arrays. Needs no torch.

    OUT/export.json     written last: model, fingerprint, mean and deviation of each latent dimension, shards
    OUT/files.jsonl     a line for each file: key, shard, first frame in it, frames, length, tags
    webdataset          OUT/00000.tar: KEY.latents.npy (and KEY.levels.npy), KEY.json for each file
    npy                 OUT/00000.latents.npy, [C, latent_dim, frames] of the files one after the other, to be mapped
    zarr                OUT/latents.zarr: `latents` [C, latent_dim, frames] of all files, `starts` and `frames` of each

A shard holds whole files and appears whole or not at all. What it holds is noted in OUT/.lincae-export.jsonl, by which
an export that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from lincae_formats import Header, LatReader, atomic_path, check_compatible, remove_leftovers
from lincae_formats.errors import LincaeError, OverflowFloat16Error, TargetExistsError, UsageError, one_line
from lincae_formats.files import append_line, json_lines, stamp
from lincae_formats.signal import spans, unsigned

FORMATS = ("webdataset", "zarr", "npy")
SHARD_SIZE = 256_000_000  # bytes; a shard of a Zarr array is held in memory while it is written
STATE = ".lincae-export.jsonl"
ZARR_CHUNK = 128  # frames, 12 s at 44.1 kHz
_LARGEST = float(np.finfo(np.float16).max)
_RECORD = {"files", "stamps", "failed", "count", "sums"}
_ARRAYS, _PART = "latents.zarr", ".latents.zarr.part"

Blocks = Iterator[tuple[np.ndarray, np.ndarray | None]]  # latents [C, D, n] and levels [C, GL, n] in the export's type


@dataclass(frozen=True)
class Source:
    """A file to export: where it is, its key, and its header as it was planned with (one channel where averaged)."""

    path: str
    name: str
    key: str
    header: Header


class Export:
    """An export, planned from the headers of its files; its shards are written in any order, from any thread.

    Args:
        files: `.lat` files, and what each is called in the export: a relative path.
        out: Folder to write; made if it is missing.
        to: `webdataset`, `zarr` or `npy`.
        dtype: `float16` or `float32`. The integers of a `.lat` have a step for each group and frame: only floats can be
            trained on.
        shard_size: Bytes of a shard at most, but for one that holds a single longer file.
        mono: Average the channels of each file.
        levels: Also export levels, where the model has them: negative where uncertain, NaN where unknown.
        overwrite: Replace another export that is in the folder.

    Attributes:
        todo: Numbers of the shards that are not written yet.
        count: Shards in all.
        failures: Errors of the files that could not be exported, by path.

    Raises:
        UsageError: unknown format or type.
        LincaeError: the files do not belong together, none can be read, or the folder holds something else.
        TargetExistsError: the folder holds an export of other files, or with other options.
    """

    def __init__(
        self, files: Sequence[tuple[str, str]], out: str | os.PathLike[str], to: str, *, dtype: str = "float16",
        shard_size: int = SHARD_SIZE, mono: bool = False, levels: bool = False, overwrite: bool = False,
    ) -> None:  # fmt: skip
        """Reads every header."""
        if to not in FORMATS or dtype not in ("float16", "float32"):
            raise UsageError(f"cannot export {dtype} to {to}", f"use {', '.join(FORMATS)}; float16 or float32")
        self.out, self.to, self.dtype, self.mono = Path(out), to, np.dtype(dtype), mono
        if to == "zarr":
            _zarr()
        self.failures: dict[str, Exception] = {}
        self._files = self._planned(files)
        first = self._files[0].header
        if levels and not first.level_count:
            raise LincaeError(f"{self._files[0].path}: its model {first.model} has no levels", "leave levels out")
        self._level_count = first.level_count if levels else 0
        row = (first.latent_dim + self._level_count) * self.dtype.itemsize  # bytes of a frame and channel
        # Frames of a shard of a Zarr array, whole chunks.
        chunks = -(-sum(f.header.frames for f in self._files) // ZARR_CHUNK)
        self._frames = max(1, min(chunks, shard_size // (row * first.channels * ZARR_CHUNK))) * ZARR_CHUNK
        limit = self._frames * row * first.channels if to == "zarr" else shard_size
        self._shards = list(_grouped(self._files, row, limit))
        self.count = len(self._shards)
        plan: dict[str, Any] = {
            "to": to, "dtype": dtype, "mono": mono, "levels": self._level_count, "bytes": limit,
            "model_fingerprint": first.model_fingerprint, "latent_dim": first.latent_dim,
        }  # fmt: skip
        digest = _digest([[f.key, f.header.channels, f.header.num_samples, f.header.sample_rate] for f in self._files])
        self._prepare({"plan": {**plan, "files": len(self._files), "names": digest}}, overwrite)
        if to == "zarr":
            self._zarr = _ZarrArrays(self)

    def write(self, number: int) -> None:
        """Writes a shard and notes it. A file of it that cannot be read is left out and listed in `failures`.

        Raises:
            LincaeError: the shard cannot be written.
        """
        record: dict[str, Any] = {"shard": number, "files": [], "stamps": [], "failed": {}}
        sums = np.zeros((2, self._files[0].header.latent_dim))
        count = 0
        try:
            with self._sink(number) as sink:
                for file in self._shards[number]:
                    record["stamps"].append(stamp(file.path))
                    own = _Sums(sums.shape)
                    try:
                        with LatReader(file.path) as reader:
                            header = replace(reader.header, channels=1) if self.mono else reader.header
                            if header != file.header:
                                raise LincaeError(f"{file.path} changed while it was exported", "run the command again")
                            facts = _facts(file, reader.tags)
                            facts |= sink.add(file, facts, self._blocks(reader, own))
                    except LincaeError as e:
                        self.failures[file.path] = e
                        record["failed"][file.path] = str(e)
                        continue
                    record["files"].append({"key": file.key, "shard": sink.name, **facts})
                    sums, count = sums + own.total, count + own.count
        except OSError as e:
            raise LincaeError(
                f"cannot write {self.out}: {e.strerror or e}", "free some space, or write elsewhere"
            ) from e
        append_line(self._state, json.dumps({**record, "count": count, "sums": sums.tolist()}))

    def finish(self) -> dict[str, Any]:
        """Writes the list of files and, last, export.json; returns what is in that.

        Raises:
            LincaeError: a shard is missing, or no file could be exported.
        """
        done = self._done()
        if len(done) < self.count:
            raise LincaeError(f"{self.out}: {self.count - len(done)} shards are missing", "run the command again")
        first, count, frames, seconds = self._files[0].header, 0, 0, 0.0
        sums = np.zeros((2, first.latent_dim))
        shards: list[dict[str, Any]] = []
        places: list[tuple[int, int]] = []
        with atomic_path(self.out / "files.jsonl", overwrite=True) as temp, open(temp, "w", encoding="utf-8") as lines:
            for number in range(self.count):
                record = self._record(done[number])
                files = record["files"]
                lines.writelines(json.dumps(file) + "\n" for file in files)
                places += [(file.get("start", 0), file["frames"]) for file in files]
                sums, count = sums + np.array(record["sums"]), count + record["count"]
                mine = sum(file["frames"] for file in files)
                frames, seconds = frames + mine, seconds + sum(file["seconds"] for file in files)
                shards.append({"name": self._name(number), "files": len(files), "frames": mine})
        if not places:
            raise LincaeError("no file could be exported", "see: lincae verify") from next(iter(self.failures.values()))
        mean = sums[0] / count
        facts: dict[str, Any] = {
            "format": self.to, "dtype": self.dtype.name, "model": first.model,
            "model_fingerprint": first.model_fingerprint, "model_sample_rate": first.model_sample_rate,
            "samples_per_frame": first.samples_per_frame, "latent_dim": first.latent_dim,
            "levels": self._level_count, "mono": self.mono, "files": len(places), "frames": frames,
            "seconds": round(seconds, 3), "mean": mean.tolist(),
            "deviation": np.sqrt(np.maximum(sums[1] / count - mean**2, 0)).tolist(),
        }  # fmt: skip
        if self.to == "zarr":
            self._zarr.finish(places, facts)
        else:
            facts["shards"] = shards
        with atomic_path(self.out / "export.json", overwrite=True) as temp:
            Path(temp).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        return facts

    def _planned(self, files: Sequence[tuple[str, str]]) -> list[Source]:
        found: list[Source] = []
        keys: set[str] = set()
        for path, name in files:
            try:
                with LatReader(path) as reader:
                    header = reader.header
            except LincaeError as e:
                self.failures[path] = e
                continue
            key = wanted = _key(name)
            number = 1
            while key in keys:
                number += 1
                key = f"{wanted}_{number}"
            keys.add(key)
            found.append(Source(path, name, key, replace(header, channels=1) if self.mono else header))
        if not found:
            raise next(iter(self.failures.values()), LincaeError("there is no .lat file to export", "name some"))
        first = found[0]
        same = [replace(f.header, channels=1) for f in found]
        check_compatible(same, [f.path for f in found], sample_rate=first.header.sample_rate)
        for f in found if self.to != "webdataset" else []:
            if f.header.channels != first.header.channels:
                text = f"{first.path} has {first.header.channels} channels, {f.path} has {f.header.channels}"
                raise LincaeError(f"{text}: they do not fit into one array", "average the channels: --mono")
        return found

    def _prepare(self, plan: dict[str, Any], overwrite: bool) -> None:
        """Goes on with the export that is in the folder, or begins one."""
        self._state = self.out / STATE
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            known = next(iter(self._lines()), None)
            others = [name for name in os.listdir(self.out) if name != STATE]
        except OSError as e:
            raise LincaeError(f"cannot write {self.out}: {e.strerror}", "choose another -o") from e
        if known is None and others:
            raise LincaeError(f"{self.out} holds other files and no export", "choose another -o")
        if known is None or known[1] != plan or overwrite:
            if known is not None and not overwrite:
                what = "an export of other files, or with other options"
                raise TargetExistsError(f"{self.out} holds {what}", "pass overwrite=True to replace it")
            self._clear(others)
            with atomic_path(self._state, overwrite=True) as temp:
                Path(temp).write_text(json.dumps(plan) + "\n", encoding="utf-8")
        done = self._done()
        self.todo = [number for number in range(self.count) if number not in done]
        if self.todo:
            remove_leftovers(path for number in self.todo for path in self._paths(number))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.out / "export.json")

    def _clear(self, names: Sequence[str]) -> None:
        ours = ("export.json", "files.jsonl")
        for name in names:
            if name in ours or name.endswith((".tar", ".latents.npy", ".levels.npy")):
                os.unlink(self.out / name)
            elif name in (_ARRAYS, _PART):
                shutil.rmtree(self.out / name)

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Offset and content of every whole line of the state."""
        with contextlib.suppress(FileNotFoundError):
            yield from json_lines(self._state)

    def _done(self) -> dict[int, int]:
        """Where the state tells of each shard that is there, with all of its files as they are now."""
        found: dict[int, int] = {}
        for at, line in self._lines():
            number = line.get("shard")
            if not isinstance(number, int) or not 0 <= number < self.count or not line.keys() >= _RECORD:
                continue
            found.pop(number, None)
            files = self._shards[number]
            whole = not line["failed"] or all(path in self.failures for path in line["failed"])
            there = all(os.path.exists(path) for path in self._paths(number))
            if self.to == "zarr":
                there = os.path.exists(self.out / _ARRAYS) or os.path.exists(self.out / _PART)
            if whole and there and line["stamps"] == [stamp(file.path) for file in files]:
                found[number] = at
        return found

    def _record(self, at: int) -> dict[str, Any]:
        with open(self._state, "rb") as file:
            file.seek(at)
            record: dict[str, Any] = json.loads(file.readline())
            return record

    def _name(self, number: int) -> str:
        return {"webdataset": f"{number:05}.tar", "zarr": _ARRAYS, "npy": f"{number:05}"}[self.to]

    def _paths(self, number: int) -> list[Path]:
        if self.to == "webdataset":
            return [self.out / self._name(number)]
        kinds = ("latents", "levels") if self._level_count else ("latents",)
        return [self.out / f"{number:05}.{kind}.npy" for kind in kinds] if self.to == "npy" else []

    @contextlib.contextmanager
    def _sink(self, number: int) -> Iterator[_Tar | _Arrays | _ZarrSink]:
        sink: _Tar | _Arrays | _ZarrSink
        if self.to == "zarr":
            sink = self._zarr.sink(number)
            yield sink
            sink.close()
            return
        with ExitStack() as stack:
            temps = [stack.enter_context(atomic_path(path, overwrite=True)) for path in self._paths(number)]
            files = [stack.enter_context(open(temp, "wb")) for temp in temps]
            shape = self._files[0].header.channels, self._files[0].header.latent_dim, self._level_count
            sink = _Tar(files[0], self) if self.to == "webdataset" else _Arrays(files, self.dtype, *shape)
            sink.name = self._name(number)
            yield sink
            sink.close()

    def _blocks(self, reader: LatReader, sums: _Sums) -> Blocks:
        """All frames of a file in the export's type, and their sums."""
        groups = reader.header.groups
        for start, stop in spans([reader]):
            block = reader.block(start, stop)
            latents = block.values(groups)
            if self.mono:
                latents = latents.mean(axis=0, keepdims=True, dtype=np.float32)
            if self.dtype == np.float16 and np.abs(latents).max(initial=0) > _LARGEST:
                raise OverflowFloat16Error(f"{reader.name}: a number beyond {_LARGEST:.0f}", "add --dtype float32")
            sums.add(latents)
            levels = None
            if self._level_count:
                levels = unsigned(block.signed_levels(groups))
                if self.mono:
                    levels = np.sqrt(np.square(levels).mean(axis=0, keepdims=True, dtype=np.float32))
                levels = levels.astype(self.dtype)
            yield latents.astype(self.dtype), levels


class _Sums:
    """Count, and sums of the numbers and of their squares for each latent dimension."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.count, self.total = 0, np.zeros(shape)

    def add(self, latents: np.ndarray) -> None:
        wide = latents.astype(np.float64)
        self.count += wide.shape[0] * wide.shape[2]
        self.total += [wide.sum(axis=(0, 2)), np.einsum("cdn,cdn->d", wide, wide)]


# --- the formats: `add` writes a file, or nothing of it where reading it fails, and returns its place in the shard


class _Tar:
    """A tar of webdataset; its bytes depend on the files alone."""

    name = ""

    def __init__(self, file: BinaryIO, export: Export) -> None:
        self._file, self._dtype, self._levels = file, export.dtype, export._level_count
        self._fingerprint = export._files[0].header.model_fingerprint

    def add(self, file: Source, facts: dict[str, Any], blocks: Blocks) -> dict[str, Any]:
        mark, h = self._file.tell(), file.header
        try:
            with tempfile.SpooledTemporaryFile(1 << 26) as beside:
                self._begin(f"{file.key}.latents.npy", h.channels, h.latent_dim, h.frames)
                for latents, levels in blocks:
                    self._file.write(_time_major(latents))
                    if levels is not None:
                        beside.write(_time_major(levels))
                self._end()
                if self._levels:
                    self._begin(f"{file.key}.levels.npy", h.channels, self._levels, h.frames)
                    beside.seek(0)
                    shutil.copyfileobj(beside, self._file, 1 << 20)
                    self._end()
            text = {**facts, "model": h.model, "model_fingerprint": self._fingerprint, "latent_scale": h.latent_scale}
            text |= {"model_sample_rate": h.model_sample_rate, "samples_per_frame": h.samples_per_frame}
            data = json.dumps(text).encode()
            self._member(f"{file.key}.json", len(data))
            self._file.write(data)
            self._end()
        except LincaeError:
            self._file.seek(mark)
            self._file.truncate()
            raise
        return {}

    def close(self) -> None:
        self._file.write(bytes(2 * tarfile.BLOCKSIZE))

    def _begin(self, name: str, *shape: int) -> None:
        head = _npy_header(self._dtype, *shape)
        self._member(name, len(head) + int(np.prod(shape)) * self._dtype.itemsize)
        self._file.write(head)

    def _member(self, name: str, size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        self._file.write(info.tobuf(tarfile.PAX_FORMAT))

    def _end(self) -> None:
        self._file.write(bytes(-self._file.tell() % tarfile.BLOCKSIZE))


class _Arrays:
    """`.npy` files of latents and levels: in memory order the frames come one after the other."""

    name = ""

    def __init__(self, files: Sequence[BinaryIO], dtype: np.dtype[Any], channels: int, dims: int, levels: int) -> None:
        self._files, self._dtype, self._frames = files, dtype, 0
        self._shapes = [(channels, dims), (channels, levels)][: len(files)]
        self._heads()

    def add(self, file: Source, facts: dict[str, Any], blocks: Blocks) -> dict[str, Any]:
        marks, start = [f.tell() for f in self._files], self._frames
        try:
            for pair in blocks:
                for sink, array in zip(self._files, pair, strict=False):
                    assert array is not None
                    sink.write(_time_major(array))
        except LincaeError:
            for sink, mark in zip(self._files, marks, strict=True):
                sink.seek(mark)
                sink.truncate()
            raise
        self._frames += file.header.frames
        return {"start": start}

    def close(self) -> None:
        self._heads()

    def _heads(self) -> None:
        for file, shape in zip(self._files, self._shapes, strict=True):
            file.seek(0)  # numpy leaves room for a larger number of frames
            file.write(_npy_header(self._dtype, *shape, self._frames))
            file.seek(0, os.SEEK_END)


class _ZarrArrays:
    """A Zarr group (format 3) whose arrays have a sharding codec; each shard of ours is one or more of theirs."""

    def __init__(self, export: Export) -> None:
        zarr = _zarr()
        self._export, self.size = export, export._frames
        self._path, self._whole = export.out / _PART, export.out / _ARRAYS
        taken = [-(-sum(f.header.frames for f in files) // self.size) for files in export._shards]
        self._starts = [0, *np.cumsum(taken).tolist()]
        first = export._files[0].header
        path = self._whole if self._whole.exists() else self._path
        group = zarr.open_group(str(path), mode="a", zarr_format=3)
        self.arrays: list[Any] = []
        for name, rows in (("latents", first.latent_dim), ("levels", export._level_count)):
            if rows and name not in group:
                shape = first.channels, rows, self._starts[-1] * self.size
                group.create_array(
                    name, shape=shape, chunks=(*shape[:2], ZARR_CHUNK), shards=(*shape[:2], self.size),
                    dtype=export.dtype.name, fill_value=float("nan"), dimension_names=("channel", "dimension", "frame"),
                )  # fmt: skip
            if rows:
                self.arrays.append(group[name])

    def sink(self, number: int) -> _ZarrSink:
        return _ZarrSink(self, self._starts[number] * self.size, self._starts[number + 1] * self.size)

    def finish(self, places: Sequence[tuple[int, int]], facts: dict[str, Any]) -> None:
        path = self._whole if self._whole.exists() else self._path
        group = _zarr().open_group(str(path), mode="a")
        for name, values in zip(("starts", "frames"), np.array(places, np.int64).T, strict=True):
            group.create_array(name, data=values, overwrite=True)
        group.update_attributes(facts)
        for left in path.rglob("*.partial"):  # of writers that were killed
            left.unlink(missing_ok=True)
        if path == self._path:
            os.rename(path, self._whole)


class _ZarrSink:
    """Frames `start` to `stop` of the arrays, written a shard of theirs at a time."""

    name = _ARRAYS

    def __init__(self, arrays: _ZarrArrays, start: int, stop: int) -> None:
        self._arrays, self._size, self._at, self._stop = arrays.arrays, arrays.size, start, stop
        self._written = start
        self._held = [np.full((*a.shape[:2], self._size), np.nan, a.dtype) for a in self._arrays]

    def add(self, file: Source, facts: dict[str, Any], blocks: Blocks) -> dict[str, Any]:
        start = self._at
        try:
            for pair in blocks:
                done, count = 0, pair[0].shape[2]
                while done < count:
                    place = self._at - self._written
                    step = min(count - done, self._size - place)
                    for held, array in zip(self._held, pair, strict=False):
                        assert array is not None
                        held[..., place : place + step] = array[..., done : done + step]
                    self._at, done = self._at + step, done + step
                    if self._at - self._written == self._size:
                        self._flush()
        except LincaeError:
            if self._written > start:  # a file of several shards is alone among ours
                self._written = start
                for array in self._arrays:
                    array[..., start : self._stop] = np.nan
            for held in self._held:
                held[..., start - self._written :] = np.nan
            self._at = start
            raise
        return {"start": start}

    def close(self) -> None:
        if self._at > self._written:
            self._flush()

    def _flush(self) -> None:
        for array, held in zip(self._arrays, self._held, strict=True):
            array[..., self._written : self._written + self._size] = held
            held.fill(np.nan)
        self._written += self._size


def _zarr() -> Any:
    try:
        import zarr
    except ImportError:
        raise LincaeError("zarr is not installed", "pip install 'lincae[export]', or use --to npy") from None
    return zarr


def _npy_header(dtype: np.dtype[Any], *shape: int) -> bytes:
    """The head of an `.npy` file whose last axis varies slowest; as long for any number of frames."""
    head = io.BytesIO()
    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": True, "shape": shape}
    np.lib.format.write_array_header_1_0(head, facts)
    return head.getvalue()


def _time_major(array: np.ndarray) -> memoryview:
    return np.ascontiguousarray(array.T).data


def _key(name: str) -> str:
    """A name as webdataset can read it: a dot in the last part begins what it takes for an extension."""
    path = PurePosixPath(one_line(name.replace(os.sep, "/").lstrip("/")))
    stem = path.stem if path.suffix.lower() == ".lat" else path.name
    return str(path.with_name(stem.replace(".", "_")))


def _facts(file: Source, tags: Any) -> dict[str, Any]:
    h = file.header
    return {
        "name": file.name, "channels": h.channels, "frames": h.frames, "num_samples": h.num_samples,
        "sample_rate": h.sample_rate, "seconds": h.duration, "tags": dict(tags),
    }  # fmt: skip


def _grouped(files: Sequence[Source], row: int, limit: int) -> Iterator[list[Source]]:
    """The files in order, as many together as fit into `limit` bytes; `row` is bytes of a frame and channel."""
    group: list[Source] = []
    held = 0
    for file in files:
        size = row * file.header.channels * file.header.frames
        if group and held + size > limit:
            yield group
            group, held = [], 0
        group.append(file)
        held += size
    yield group


def _digest(value: Any) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
