"""The STFT frontend: against torch.stft, and there and back."""

import pytest
import torch

from lincae_core.models.consistency import BINS, HOP, LEAD, WINDOW, Frontend, overlap_add


def noise(n, seed=0, batch=2):
    return 0.3 * torch.randn(batch, n, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("alpha", "beta"), [(0.65, 0.34), (1.0, 1.0), (0.5, 2.0)])
def test_there_and_back(alpha, beta):
    frontend, audio = Frontend(alpha, beta), noise(24 * HOP + 2 * LEAD)
    frames = frontend.analyse(audio)
    assert frames.shape == (2, 24, 2 * BINS)
    back = frontend.synthesise(frames) / frontend.overlap(24)
    assert back.shape == audio.shape
    middle = slice(WINDOW, -WINDOW)
    # the Nyquist bin is dropped: take it out of the truth, window by window
    windows = audio.unfold(-1, WINDOW, HOP) * frontend.window
    spectrum = torch.fft.rfft(windows)
    spectrum[..., BINS] = 0
    kept = torch.fft.irfft(spectrum, n=WINDOW) * frontend.window
    truth = overlap_add(kept) / frontend.overlap(24)
    assert (back - truth)[:, middle].abs().max() < 1e-5


def test_there_and_back_without_nyquist():
    frontend, n = Frontend(), 24 * HOP + 2 * LEAD
    t = torch.arange(n) / 44100
    audio = sum(0.2 * torch.sin(6.2832 * f * t + f) for f in (110.0, 1234.5, 9000.0))[None]
    back = frontend.synthesise(frontend.analyse(audio)) / frontend.overlap(24)
    assert (back - audio)[:, WINDOW:-WINDOW].abs().max() < 1e-5


def test_is_the_compressed_stft():
    audio = noise(10 * HOP + 2 * LEAD)
    stft = torch.stft(audio, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True)
    stft = stft[:, :BINS].transpose(1, 2)
    plain = Frontend(1.0, 1.0).analyse(audio)
    assert torch.allclose(torch.complex(*plain.chunk(2, -1)), stft, atol=1e-4)
    real, imag = Frontend(0.65, 0.34).analyse(audio).chunk(2, -1)
    assert torch.allclose(torch.hypot(real, imag), 0.34 * stft.abs() ** 0.65, rtol=1e-4, atol=1e-4)
    loud = stft.abs() > 1
    turn = torch.complex(real, imag)[loud] * stft[loud].conj()
    assert turn.angle().abs().max() < 1e-3


@pytest.mark.parametrize("gain", [0.01, 0.5, 3.0])
def test_gain_becomes_its_power(gain):
    audio = noise(8 * HOP + 2 * LEAD)
    frontend = Frontend()
    assert torch.allclose(frontend.analyse(gain * audio), gain**0.65 * frontend.analyse(audio), rtol=1e-4, atol=1e-4)


def test_frame_sees_its_window_alone():
    frontend, audio = Frontend(), noise(16 * HOP + 2 * LEAD, batch=1)
    before = frontend.analyse(audio)
    sample = 9 * HOP + LEAD + 100  # in the hop of frame 9
    audio[0, sample] += 1
    changed = (frontend.analyse(audio) != before).any(-1)[0].nonzero().flatten().tolist()
    first, last = (sample - WINDOW) // HOP + 1, sample // HOP
    assert changed == list(range(first, last + 1))
    assert 9 in changed


def test_silence_stays_silence():
    frontend = Frontend()
    frames = frontend.analyse(torch.zeros(1, 8 * HOP + 2 * LEAD))
    assert not frames.any()
    assert not frontend.synthesise(frames).any()


def test_overlap_add_sums_blocks():
    blocks = torch.randn(2, 5, WINDOW, generator=torch.Generator().manual_seed(1))
    truth = torch.zeros(2, 5 * HOP + 2 * LEAD)
    for i in range(5):
        truth[:, i * HOP : i * HOP + WINDOW] += blocks[:, i]
    assert torch.allclose(overlap_add(blocks), truth, atol=1e-5)
