"""Random crops of many .lat files: deterministic, even, without reading whole files, safe with workers."""

import os
import pickle
from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler

from lincae_core import LatDataset, Latents, LincaeError, write_lat
from lincae_formats import ChecksumError, Group, Header, LatReader

FINGERPRINT = "sha256:" + "ab" * 32


def make(path, frames, channels=2, seed=0, fingerprint=FINGERPRINT):
    """A file in which every number says where it lies: channel * 1000 + frame, plus the seed's 10,000."""
    header = Header(44100, 4096 * frames, "m", fingerprint, channels=channels, latent_dim=3)
    data = np.arange(frames) + 1000 * np.arange(channels)[:, None, None] + 10_000 * seed
    path.parent.mkdir(parents=True, exist_ok=True)
    latents = Latents(np.broadcast_to(data, header.shape).astype(np.float32), header, dtype="float32")
    write_lat(latents, path)
    return latents


@pytest.fixture
def folder(tmp_path):
    for i, frames in enumerate((600, 40, 7)):
        make(tmp_path / "music" / f"{i}" / "x.lat", frames, seed=i)
    make(tmp_path / "music" / ".hidden" / "x.lat", 50)
    return tmp_path / "music"


def test_crops_are_stretches_of_the_files(folder):
    data = LatDataset(folder, frames=10, length=200)
    for i in range(200):
        number, start = data.place(i)
        crop = data[i]
        assert crop.dtype == torch.float32
        assert crop.shape == (2, 3, 10)
        wanted = torch.arange(start, start + 10, dtype=torch.float32) + 10_000 * number
        if number == 2:
            wanted[7:] = 0  # silence follows a file that is too short
        assert torch.equal(crop[0, 1], wanted)
    assert torch.equal(data[-1], data[199])
    with pytest.raises(IndexError):
        _ = data[200]


def test_every_place_is_as_likely_as_any_other(folder):
    data = LatDataset(folder, frames=10, length=20_000)
    places = Counter(data.place(i)[0] for i in range(20_000))
    expected = np.array([591, 31, 1]) / 623 * 20_000
    assert np.allclose([places[i] for i in range(3)], expected, atol=5 * np.sqrt(expected) + 5)
    assert len(LatDataset(folder, frames=10)) == 64


def test_the_seed_and_the_epoch_decide(folder):
    def crops(seed=0, epoch=0):
        data = LatDataset(folder, frames=10, length=20, seed=seed)
        data.set_epoch(epoch)
        return torch.stack([data[i] for i in range(20)])

    assert torch.equal(crops(), crops())
    assert not torch.equal(crops(), crops(seed=1))
    assert not torch.equal(crops(), crops(epoch=1))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_what_one_process_reads(folder, context):
    data = LatDataset(folder, frames=10, length=12)
    alone = torch.stack([data[i] for i in range(12)])  # the parent has files open when it forks
    loader = DataLoader(data, batch_size=4, num_workers=1 + (context == "fork"), multiprocessing_context=context)
    assert torch.equal(torch.cat(list(loader)), alone)
    assert torch.equal(torch.stack([data[i] for i in range(12)]), alone)


def test_it_goes_through_pickle_with_files_open(folder):
    data = LatDataset(folder, frames=10, length=3)
    assert torch.equal(pickle.loads(pickle.dumps(data))[0], data[0])
    _ = data[0]
    assert torch.equal(pickle.loads(pickle.dumps(data))[0], data[0])


def open_files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def test_few_files_are_open_and_only_the_crops_chunks_are_read(tmp_path, monkeypatch):
    for i in range(80):
        make(tmp_path / f"{i}.lat", 20, channels=1)
    data = LatDataset(tmp_path, frames=4, length=400)
    before = open_files()
    for i in range(400):
        _ = data[i]
    assert open_files() - before <= 64
    make(tmp_path / "long" / "x.lat", 3000, channels=1)
    one = LatDataset(tmp_path / "long", frames=64, length=1)
    read = []
    original = LatReader._load
    monkeypatch.setattr(LatReader, "_load", lambda self, n: read.append(n) or original(self, n))
    _ = one[0]
    assert len(read) <= 2


def test_mono_and_mixed_channel_counts(tmp_path):
    make(tmp_path / "a.lat", 20, channels=2)
    make(tmp_path / "b.lat", 20, channels=1)
    with pytest.raises(LincaeError, match=r"a\.lat has 2 channels, .*b\.lat has 1; give mono=True"):
        LatDataset(tmp_path)
    data = LatDataset(tmp_path, frames=20, length=30, mono=True)
    assert {float(data[i][0, 0, 0]) for i in range(30)} == {0.0, 500.0}


def test_what_cannot_be_used_is_refused_by_name(tmp_path):
    for where, complaint in (
        (tmp_path / "none", "is not a folder"),
        (tmp_path, "lincae encode"),
        ([], "lincae encode"),
        ([tmp_path / "x.lat"], "can be opened: cannot read"),
    ):
        with pytest.raises(LincaeError, match=complaint):
            LatDataset(where)
    make(tmp_path / "a.lat", 20)
    for options in ({"frames": 0}, {"length": 0}, {"seed": -1}):
        with pytest.raises(LincaeError, match="at least one frame"):
            LatDataset(tmp_path, **options)
    make(tmp_path / "b.lat", 20, fingerprint="sha256:" + "cd" * 32)
    with pytest.raises(LincaeError, match=r"two versions of the model"):
        LatDataset(tmp_path)
    data = bytearray((tmp_path / "a.lat").read_bytes())
    dataset = LatDataset([tmp_path / "a.lat"], frames=20)
    data[_first_chunk(tmp_path / "a.lat") + 5] ^= 1
    (tmp_path / "a.lat").write_bytes(data)
    with pytest.raises(ChecksumError, match=r"a\.lat"):
        _ = dataset[0]


def _first_chunk(path):
    import h5py

    with h5py.File(path) as file:
        return file["latents"].id.get_chunk_info(0).byte_offset


def test_a_bad_file_among_many_is_skipped_and_named(folder, caplog):
    (folder / "bad.lat").write_bytes(b"no .lat file")
    (folder / "cut.lat").write_bytes((folder / "0" / "x.lat").read_bytes()[:300])
    data = LatDataset(folder, frames=10, length=5)
    assert len(data.paths) == 3
    assert sorted(path.name for path in data.skipped) == ["bad.lat", "cut.lat"]
    assert "bad.lat" in data.skipped[folder / "bad.lat"]
    assert caplog.text.count("skipped: ") == 2
    with pytest.raises(LincaeError, match=r"none of 1 \.lat files can be opened"):
        LatDataset([folder / "bad.lat"])


def test_files_shorter_than_a_crop_are_listed(folder):
    assert [path.parent.name for path in LatDataset(folder, frames=10).short] == ["2"]
    assert len(LatDataset(folder, frames=1000).short) == 3


def test_levels_come_with_the_latents(tmp_path):
    header = Header(44100, 4096 * 30, "m", FINGERPRINT, channels=2, latent_dim=4, groups=(Group(2, 2, 0.1, 1, True),))
    data = np.random.default_rng(0).standard_normal(header.shape).astype(np.float32)
    bands = np.abs(data[:, :2]) + 0.1
    write_lat(Latents(data, header, dtype="float32", band_levels=bands), tmp_path / "a.lat")
    dataset = LatDataset(tmp_path, frames=40, length=3, levels=True)
    latents, levels = dataset[0]
    assert (latents.shape, levels.shape) == ((2, 4, 40), (2, 2, 40))
    assert np.allclose(levels[:, :, :30], bands)
    assert not levels[:, :, 30:].any()
    mono = LatDataset(tmp_path, frames=40, length=3, levels=True, mono=True)[0][1]
    assert np.allclose(mono[0, :, :30], np.sqrt((bands**2).mean(0)))
    with_loader = next(iter(DataLoader(dataset, batch_size=3)))
    assert [tuple(part.shape) for part in with_loader] == [(3, 2, 4, 40), (3, 2, 2, 40)]


def damage(path):
    """Changes a byte of a file's latents."""
    data, at = bytearray(path.read_bytes()), _first_chunk(path) + 5
    data[at] ^= 1
    path.write_bytes(data)


def test_crops_of_a_damaged_part_are_replaced_and_reported(folder, caplog):
    whole = LatDataset(folder, frames=10, length=50)
    places = [whole.place(i)[0] for i in range(50)]
    damage(folder / "1" / "x.lat")
    (folder / "2" / "x.lat").unlink()  # after the first look
    data = LatDataset(folder, frames=10, length=50)
    whole.paths.pop()
    crops = [whole[i] for i in range(50)]
    assert {number for number in places} > {0}
    for number, crop in zip(places, crops, strict=True):
        assert crop[0, 0, 0] < 10_000, "all from the first file"
        assert number or not torch.equal(crop, torch.zeros_like(crop))
    assert sorted(path.parent.name for path in whole.skipped) == ["1", "2"] or places.count(2) == 0
    assert caplog.text.count("checksum") == 1
    assert len(data.paths) == 2
    again = DataLoader(whole, batch_size=10, num_workers=2)
    assert torch.equal(torch.cat(list(again)), torch.stack(crops)), "whatever the workers"


def test_details_say_where_a_crop_comes_from(folder):
    data = LatDataset(folder, frames=10, length=60, details=True, tags=("title",))
    for batch in DataLoader(data, batch_size=20, num_workers=2):
        assert sorted(batch) == ["latents", "mask", "offset", "path", "tags"]
        assert batch["tags"]["title"] == [""] * 20
        for path, offset, mask, crop in zip(*(batch[k] for k in ("path", "offset", "mask", "latents")), strict=True):
            with LatReader(path) as reader:
                wanted = torch.from_numpy(reader.read(int(offset), min(int(offset) + 10, reader.header.frames)))
            assert mask.sum() == wanted.shape[2]
            assert torch.equal(crop[..., mask], wanted)
            assert not crop[..., ~mask].any()


def test_tags_come_along(tmp_path):
    header = Header(44100, 4096 * 30, "m", FINGERPRINT, latent_dim=3)
    tags = {"title": "Trees", "artist": "Rush"}
    write_lat(Latents(np.zeros(header.shape, np.float32), header, tags=tags), tmp_path / "a.lat")
    assert LatDataset(tmp_path, tags=("title", "album"))[0]["tags"] == {"title": "Trees", "album": ""}


def test_an_epoch_reaches_workers_that_are_kept(folder):
    data = LatDataset(folder, frames=10, length=8)
    loader = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        (batch,) = loader
        assert torch.equal(batch, torch.stack([data[i] for i in range(8)]))


def test_distributed_samplers_share_the_crops_of_an_epoch(folder):
    data = LatDataset(folder, frames=10, length=12)
    parts = [DistributedSampler(data, num_replicas=2, rank=rank, shuffle=False) for rank in range(2)]
    crops = [torch.cat(list(DataLoader(data, batch_size=3, sampler=part))) for part in parts]
    assert torch.equal(torch.stack(crops, 1).flatten(0, 1), torch.stack([data[i] for i in range(12)]))


STEMS = ("vocals", "drums")


@pytest.mark.parametrize("layout", ["{}/mixture.lat {}/vocals.lat {}/drums.lat", "{}.lat {}_vocals.lat {}-Drums.lat",
                                    "{}.mix.lat {}.vocals.lat {}.drums.lat"])  # fmt: skip
@pytest.mark.parametrize("mixture", [True, False])
def test_stems_are_paired_with_their_mixture(tmp_path, layout, mixture, caplog):
    for i, track in enumerate(("one", "two")):
        for j, name in enumerate(layout.split()):
            if j or mixture:
                make(tmp_path / name.format(track), 40, seed=10 * i + j)
    make(tmp_path / layout.split()[1].format("lacking"), 40)
    data = LatDataset(tmp_path, frames=8, length=20, stems=STEMS)
    assert len(data.paths) == 2
    assert "its stem drums is missing" in "".join(data.skipped.values())
    for i in range(20):
        crop, (track, start) = data[i], data.place(i)
        assert crop["stems"].shape == (2, 2, 3, 8)
        assert (crop["path"], crop["offset"]) == (str(data.paths[track]), start)
        for j in (0, 1):
            assert crop["stems"][j, 0, 0, 0] == start + 10_000 * (10 * track + j + 1)
        wanted = start + 100_000 * track if mixture else 2 * start + 10_000 * (20 * track + 3)
        assert crop["latents"][0, 0, 0] == wanted


def test_stems_that_do_not_fit_are_skipped_or_refused(tmp_path):
    for name in ("a/mixture", "a/vocals", "b/mixture", "b/vocals"):
        make(tmp_path / f"{name}.lat", 41 if name == "b/vocals" else 40)
    data = LatDataset(tmp_path, stems=["vocals"])
    assert [path.parent.name for path in data.paths] == ["a"]
    assert "different lengths" in data.skipped[tmp_path / "b" / "mixture.lat"]
    with pytest.raises(LincaeError, match=r"no track with the stems piano; name them song\.lat, song_piano\.lat"):
        LatDataset(tmp_path, stems=["piano"])
