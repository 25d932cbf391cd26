"""Training audio: what is drawn, at what loudness, and what is left out."""

import numpy as np
import pytest
import soundfile as sf
import torch
from torch import Generator

from lincae_core.training.data import audio_files, equalise, is_held_out, load_clips, read_mono, stretched
from lincae_formats.errors import LincaeError

RATE = 44100


def tone(path, frequency, seconds=1.0, amplitude=0.3, rate=RATE, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    x = amplitude * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)
    sf.write(path, np.repeat(x[:, None], channels, 1), rate)
    return path


def load(*folders, held_out=0.0, shortest=4096, rms=0.1):
    return load_clips(folders, rms, shortest, held_out)


def draw(clips, count, samples=2048, seed=0):
    return clips.crops(count, samples, Generator().manual_seed(seed))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_folders_get_their_share_whatever_their_size(tmp_path, share):
    tone(tmp_path / "low" / "a.wav", 110, 1)
    for i in range(3):
        tone(tmp_path / "high" / f"{i}.wav", 8000, 2)
    clips, _ = load((tmp_path / "low", 3 * share), (tmp_path / "high", 3 * (1 - share)))
    crops = draw(clips, 2000)
    crossings = (crops[:, 1:].sign() != crops[:, :-1].sign()).sum(1)
    assert set((crossings > 300).tolist()) == {True, False}
    assert float((crossings < 300).float().mean()) == pytest.approx(share, abs=0.05)


def test_long_files_are_drawn_more_often(tmp_path):
    tone(tmp_path / "a.wav", 110, 3)
    tone(tmp_path / "b.wav", 8000, 1)
    clips, _ = load((tmp_path, 1.0))
    assert clips.chance.tolist() == pytest.approx([0.75, 0.25])
    assert clips.seconds == pytest.approx(4)


@pytest.mark.parametrize("amplitude", [0.001, 0.02, 0.9])
def test_crops_have_the_reference_loudness(tmp_path, amplitude):
    tone(tmp_path / "a.wav", 441, 2, amplitude)
    crops = draw(load((tmp_path, 1.0))[0], 20, 8820)
    assert crops.shape == (20, 8820)
    assert crops.dtype == torch.float32
    # 16 bits of a tone at -60 dB leave about 3 % of quantisation
    assert crops.square().mean(1).sqrt().numpy() == pytest.approx(0.1, rel=0.02)


def test_crops_are_pieces_of_the_audio(tmp_path):
    ramp = np.linspace(-0.5, 0.5, RATE)
    sf.write(tmp_path / "a.wav", ramp, RATE, subtype="FLOAT")
    crops = draw(load((tmp_path, 1.0), rms=float(np.sqrt(np.mean(ramp**2))))[0], 500, 1000)
    assert np.diff(crops.numpy(), axis=1) == pytest.approx(1 / RATE, abs=4e-5)
    assert float(crops.min()) < -0.49
    assert float(crops.max()) > 0.49
    assert torch.equal(crops, draw(load((tmp_path, 1.0), rms=float(np.sqrt(np.mean(ramp**2))))[0], 500, 1000))


def test_crops_at_other_speeds_have_other_pitches(tmp_path):
    clips, _ = load((tone(tmp_path / "a" / "a.wav", 1000, 3).parent, 1.0))
    crops = clips.crops(40, 22050, Generator().manual_seed(0), 2.0)
    assert crops.shape == (40, 22050)
    hertz = crops.numpy() * np.hanning(22050)
    peaks = 2 * np.abs(np.fft.rfft(hertz)).argmax(1)
    assert peaks.min() == pytest.approx(500, abs=6)
    assert peaks.max() == pytest.approx(2000, abs=6)
    assert len(set(peaks)) > 5
    inside = crops[:, 2000:-2000]  # the ends ring, as a transform takes a crop for a period
    assert inside.square().mean(1).sqrt().numpy() == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize("samples", [1000, 3000])
def test_stretching_keeps_a_period(samples):
    x = torch.sin(2 * torch.pi * 5 * torch.arange(2000) / 2000)
    assert torch.allclose(
        stretched(x, samples), torch.sin(2 * torch.pi * 5 * torch.arange(samples) / samples), atol=1e-4
    )


def test_crops_stay_inside_their_clip(tmp_path):
    sf.write(tmp_path / "a.wav", np.full(5000, 0.3), RATE)
    sf.write(tmp_path / "b.wav", np.full(5000, -0.3), RATE)
    crops = draw(load((tmp_path, 1.0))[0], 300, 4096)
    assert (crops.sign() == crops[:, :1].sign()).all()
    assert len(crops[:, 0].sign().unique()) == 2
    faster = load((tmp_path, 1.0))[0].crops(300, 4096, Generator().manual_seed(0), 1.2)
    assert (faster.sign() == faster[:, :1].sign()).all(), "as much of a short clip as there is"


def test_held_out_by_name_alone(tmp_path):
    names = [f"clip-{i}.wav" for i in range(400)]
    held = [n for n in names if is_held_out(tmp_path / n, 0.25)]
    assert held == [n for n in names if is_held_out(tmp_path / "elsewhere" / n, 0.25)]
    assert 60 < len(held) < 140
    assert set(held) <= {n for n in names if is_held_out(tmp_path / n, 0.5)}
    assert not any(is_held_out(tmp_path / n, 0.0) for n in names)


def test_held_out_files_are_never_drawn(audio):
    clips, held = load((audio, 1.0), held_out=0.3)
    assert held == [audio / n for n in ("0.wav", "1.wav", "3.wav")]
    assert clips.names == tuple(str(audio / n) for n in ("2.wav", "4.wav", "5.wav"))


def test_useless_files_are_left_out(tmp_path):
    good = tone(tmp_path / "sub" / "good.FLAC", 440)
    tone(tmp_path / "short.wav", 440, 0.01)
    tone(tmp_path / "silent.wav", 440, 1, 0.0)
    (tmp_path / "broken.wav").write_bytes(b"RIFF" + bytes(100))
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no audio")
    sf.write(tmp_path / "nan.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    clips, _ = load((tmp_path, 1.0))
    assert clips.names == (str(good),)
    assert torch.isfinite(draw(clips, 50)).all()


def test_any_rate_and_channels_become_mono_at_44100(tmp_path):
    x = read_mono(tone(tmp_path / "a.wav", 1000, 1, 0.3, 48000, 2))
    assert x.dtype == np.float32
    assert x.shape == (RATE,)
    truth = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    assert np.abs(x - truth)[1000:-1000].max() < 1e-3


def test_folders_without_audio(tmp_path):
    with pytest.raises(LincaeError, match=r"no audio files.*; name your audio: --data"):
        audio_files(tmp_path)
    with pytest.raises(LincaeError, match="none: no such folder"):
        load((tmp_path / "none", 1.0))
    tone(tmp_path / "silent.wav", 440, 1, 0.0)
    with pytest.raises(LincaeError, match=r"no usable audio \(1 silent\)"):
        load((tmp_path, 1.0))


def flac_of_unknown_length(path):
    """What an encoder that writes to a pipe leaves: 0 samples in the header."""
    tone(path, 440, 1)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["unknown length", "broken", "name that is not UTF-8", "pipe", "cut short"])
def test_one_bad_file_does_not_stop_a_training(tmp_path, caplog, kind):
    import os

    good = tone(tmp_path / "good.wav", 440)
    usable = {str(good)}
    if kind == "unknown length":
        flac_of_unknown_length(tmp_path / "x.flac")
        usable.add(str(tmp_path / "x.flac"))
    elif kind == "broken":
        (tmp_path / "x.wav").write_bytes(b"RIFF" + bytes(1000))
    elif kind == "name that is not UTF-8":
        odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
        os.rename(tone(tmp_path / "x.wav", 440), odd)
        usable.add(odd)
    elif kind == "pipe":
        os.mkfifo(tmp_path / "x.wav")  # nobody writes to it: opening it would wait for ever
    else:
        tone(tmp_path / "x.flac", 440)
        data = (tmp_path / "x.flac").read_bytes()
        (tmp_path / "x.flac").write_bytes(data[: len(data) // 2])
    clips, held = load((tmp_path, 1.0))
    assert set(clips.names) == usable
    assert held == []
    if kind in ("broken", "cut short"):
        assert "x." in caplog.text
        assert "1 files left out (1 unreadable)" in caplog.text


def test_a_folder_whose_files_are_all_held_out_is_told_so(tmp_path):
    name = next(f"{i}.wav" for i in range(100) if is_held_out(tmp_path / f"{i}.wav", 0.02))
    tone(tmp_path / name, 440)
    with pytest.raises(LincaeError, match=r"every one of its 1 audio files is held out.*data.held_out=0"):
        load((tmp_path, 1.0), held_out=0.02)


def noise(batch, n, seed=0, level=0.1):
    return level * torch.randn(batch, n, generator=Generator().manual_seed(seed))


def test_equalising_keeps_the_level_and_scales_with_it():
    x = noise(6, 30_000)
    y = equalise(x, 3.0, 0.5, Generator().manual_seed(0))
    assert torch.allclose(y.square().mean(1), x.square().mean(1), rtol=1e-3)
    assert not torch.allclose(y, x, atol=1e-3)
    assert torch.allclose(equalise(-0.5 * x, 3.0, 0.5, Generator().manual_seed(0)), -0.5 * y, atol=1e-5)
    assert equalise(x, 0.0, 0.0, Generator()) is x


def test_a_low_pass_takes_the_highs_of_some():
    x = noise(40, 30_000)
    y = equalise(x, 0.0, 0.5, Generator().manual_seed(0))

    def highs(v):
        power = torch.fft.rfft(v).abs().square()
        return power[:, int(30_000 * 18_000 / RATE) :].sum(1) / power.sum(1)

    taken = highs(y) < 0.5 * highs(x)
    assert 8 <= int(taken.sum()) <= 32


def test_silence_stays_silent():
    out = equalise(torch.zeros(2, 5000), 3.0, 1.0, Generator().manual_seed(0))
    assert not out.any()
