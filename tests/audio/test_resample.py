"""StreamResampler against the analytic signal, against soxr on the whole, and in excerpts."""

import math
import subprocess
import sys
import types
from fractions import Fraction

import numpy as np
import pytest
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lincae_core.audio import StreamResampler, resample_context, resampled_length, stream_resampler
from lincae_core.audio.resample import DeviceResampler
from lincae_formats.errors import LincaeError

RATES = [8000, 22050, 48000, 96000]
PAIRS = [(r, 44100) for r in RATES] + [(44100, r) for r in RATES]


def noise(n, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, (channels, n)).astype(np.float32)


def resample(x, in_rate, out_rate, cuts=()):
    stream = StreamResampler(in_rate, out_rate, len(x))
    blocks = np.split(x, list(cuts), axis=1)
    last = len(blocks) - 1
    return np.concatenate([stream.process(b, last=k == last) for k, b in enumerate(blocks)], axis=1)


@given(st.integers(0, 10**9), st.integers(1, 400_000), st.integers(1, 400_000))
def test_length_is_the_exact_ceiling(n, in_rate, out_rate):
    assert resampled_length(n, in_rate, out_rate) == math.ceil(Fraction(n) * out_rate / in_rate)


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (44101, 44100), (192000, 44100), (44100, 44100)])
@pytest.mark.parametrize("n", [1, 2, 511, 4097])
def test_total_length_is_exact(in_rate, out_rate, n):
    y = resample(noise(n, 2), in_rate, out_rate, cuts=[n // 2])
    assert y.shape == (2, resampled_length(n, in_rate, out_rate))
    assert y.dtype == np.float32
    assert np.isfinite(y).all()


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_a_sine_stays_in_time_and_level(in_rate, out_rate):
    n, hz = in_rate // 2, 1000
    x = np.sin(2 * np.pi * hz * np.arange(n) / in_rate)[None].astype(np.float32)
    y = resample(x, in_rate, out_rate, cuts=range(1000, n, 1000))[0]
    truth = np.sin(2 * np.pi * hz * np.arange(len(y)) / out_rate)
    edge = out_rate // 20
    assert np.abs(y - truth)[edge:-edge].max() < 1e-5


@pytest.mark.parametrize(("in_rate", "out_rate"), PAIRS)
def test_agrees_with_soxr_on_the_whole(in_rate, out_rate):
    x = noise(20_001, 2)
    y = resample(x, in_rate, out_rate, cuts=[1, 2, 5000])
    whole = soxr.resample(x.T, in_rate, out_rate, quality="VHQ").T
    assert 0 <= y.shape[1] - whole.shape[1] <= 1
    assert np.abs(y[:, : whole.shape[1]] - whole).max() < 1e-6


@settings(max_examples=25, deadline=None)
@given(
    pair=st.sampled_from(PAIRS),
    n=st.integers(1, 20_000),
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
)
def test_the_cuts_do_not_matter(pair, n, cuts):
    x = noise(n)
    whole = resample(x, *pair)
    assert np.abs(resample(x, *pair, cuts=sorted(min(c, n) for c in cuts)) - whole).max() < 1e-6


def test_the_last_sample_is_resampled_not_padded():
    # 44100 -> 8000: soxr alone gives one sample less than the ceiling here.
    x = np.ones((1, 44100 + 6), np.float32)
    y = resample(x, 44100, 8000)[0]
    assert len(y) == 8002
    assert y[-1] > 0.3


def test_equal_rates_hand_the_blocks_through():
    x = noise(100)
    assert StreamResampler(44100, 44100, 1).process(x) is x


@pytest.mark.parametrize(("in_rate", "out_rate"), [*PAIRS, (44100, 44101), (384000, 44100), (44100, 1000)])
@pytest.mark.parametrize("start", [0, 700, 20_001])
def test_an_excerpt_with_context_equals_the_whole(in_rate, out_rate, start):
    x = noise(100_000)
    whole = resample(x, in_rate, out_rate)
    start = min(start, whole.shape[1] // 2)
    stop = start + min(2000, whole.shape[1] // 4)
    context = resample_context(in_rate, out_rate)
    in_start, in_stop, skip = context.span(start, stop)
    assert in_start % context.in_grid == 0
    assert context.in_grid == in_rate // math.gcd(in_rate, out_rate)
    excerpt = resample(x[:, in_start:in_stop], in_rate, out_rate)
    assert np.abs(excerpt[:, skip : skip + stop - start] - whole[:, start:stop]).max() < 1e-5


def test_less_context_would_not_do():
    x = noise(100_000)
    whole = resample(x, 96000, 44100)
    start = 147 * 200
    excerpt = resample(x[:, 320 * 200 :], 96000, 44100)
    assert np.abs(excerpt[:, :50] - whole[:, start : start + 50]).max() > 1e-3


def test_misuse():
    with pytest.raises(LincaeError, match="at least 1 Hz"):
        StreamResampler(0, 44100, 1)
    stream = StreamResampler(48000, 44100, 2)
    with pytest.raises(ValueError, match="shape"):
        stream.process(noise(10, 1))
    stream.process(noise(10, 2), last=True)
    with pytest.raises(ValueError, match="after the last"):
        stream.process(noise(10, 2))


class SincOfTorchaudio:
    """`torchaudio.transforms.Resample`, by its formula: it cannot be imported beside a torch for CPUs."""

    def __init__(self, orig, new, resampling_method, lowpass_filter_width, rolloff, beta):
        assert resampling_method == "sinc_interp_kaiser"
        self.orig, self.new = (rate // math.gcd(orig, new) for rate in (orig, new))
        base = min(self.orig, self.new) * rolloff
        self.width = math.ceil(lowpass_filter_width * self.orig / base)
        at = np.arange(-self.width, self.width + self.orig) / self.orig - np.arange(self.new)[:, None] / self.new
        t = np.clip(at * base, -lowpass_filter_width, lowpass_filter_width)
        window = np.i0(beta * np.sqrt(1 - (t / lowpass_filter_width) ** 2)) / np.i0(beta)
        self.kernel = torch.tensor(np.sinc(t) * window * base / self.orig, dtype=torch.float32)[:, None]

    def to(self, device):
        return self

    def __call__(self, x):
        padded = torch.nn.functional.pad(x, (self.width, self.width + self.orig))[:, None]
        y = torch.nn.functional.conv1d(padded, self.kernel, stride=self.orig).transpose(1, 2).flatten(1)
        return y[:, : -(-self.new * x.shape[1] // self.orig)]


@pytest.fixture(params=["formula", "torchaudio"])
def on_gpu(request, monkeypatch):
    """The device for which resamplers are torchaudio's; the CPU if there is no GPU."""
    if request.param == "formula":
        transforms = types.SimpleNamespace(Resample=SincOfTorchaudio)
        monkeypatch.setitem(sys.modules, "torchaudio", types.SimpleNamespace(transforms=transforms))
        monkeypatch.setitem(sys.modules, "torchaudio.transforms", transforms)
    else:
        try:
            import torchaudio.transforms  # noqa: F401
        except (ImportError, OSError, RuntimeError):
            pytest.skip("torchaudio cannot be imported beside this torch")
    return torch.device("cuda" if torch.cuda.is_available() and request.param == "torchaudio" else "cpu")


def by_device(x, in_rate, out_rate, device, cuts=()):
    stream = DeviceResampler(in_rate, out_rate, len(x), device)
    blocks = np.split(x, list(cuts), axis=1)
    return np.concatenate([stream.process(b, last=k == len(blocks) - 1) for k, b in enumerate(blocks)], axis=1)


@pytest.mark.parametrize(("in_rate", "out_rate"), [(48000, 44100), (22050, 44100), (96000, 44100), (44100, 48000)])
def test_a_device_resamples_as_soxr_does(on_gpu, in_rate, out_rate):
    n = in_rate // 2 + 3
    spectrum = np.fft.rfft(noise(n, 2, seed=1) * np.hanning(n))
    spectrum[:, np.fft.rfftfreq(n, 1 / in_rate) > 0.45 * min(in_rate, out_rate)] = 0
    x = np.fft.irfft(spectrum, n).astype(np.float32)
    x /= np.abs(x).max()
    wanted = resample(x, in_rate, out_rate)
    whole = by_device(x, in_rate, out_rate, on_gpu)
    assert whole.shape == wanted.shape
    assert np.abs(whole - wanted).max() < 1e-3
    for cuts in ([1], [1000, 1001, 9000], range(0, n, 700)):
        assert np.abs(by_device(x, in_rate, out_rate, on_gpu, cuts) - whole).max() < 1e-5


@pytest.mark.parametrize("n", [1, 2, 511, 4097])
def test_a_devices_length_is_exact(on_gpu, n):
    for rates in ((48000, 44100), (44100, 8000), (8000, 44100)):
        y = by_device(noise(n, 2), *rates, on_gpu, [n // 2])
        assert (y.shape, y.dtype) == ((2, resampled_length(n, *rates)), np.float32)


def test_soxr_serves_where_torchaudio_cannot(monkeypatch):
    gpu = types.SimpleNamespace(type="cuda")
    program = "import sys, lincae_core.audio, lincae_core.models.codec; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "torchaudio"}.isdisjoint(loaded)
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", None)
    assert type(stream_resampler(48000, 44100, 2, gpu)) is StreamResampler
    transforms = types.SimpleNamespace(Resample=SincOfTorchaudio)
    monkeypatch.setitem(sys.modules, "torchaudio", types.SimpleNamespace(transforms=transforms))
    monkeypatch.setitem(sys.modules, "torchaudio.transforms", transforms)
    assert type(stream_resampler(48000, 44100, 2, gpu)) is DeviceResampler
    assert type(stream_resampler(48000, 44100, 2, torch.device("cpu"))) is StreamResampler
    assert type(stream_resampler(44100, 44100, 2, gpu)) is StreamResampler
    assert type(stream_resampler(44101, 44100, 2, gpu)) is StreamResampler
