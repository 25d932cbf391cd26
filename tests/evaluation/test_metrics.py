"""Measures against closed forms, and against their definitions written out here."""

import math
import os
import subprocess
import sys

import librosa
import numpy as np
import pytest
from eval_helpers import RATE, music

from lincae_core.evaluation.metrics import (
    LIMIT_DB,
    by_segments,
    is_silent,
    mean_interval,
    mss,
    octave_levels,
    rms,
    sdr,
    si_sdr,
    spans,
    stereo_image,
    tone,
)


def tones(seconds, seed=0):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    tones = sum(np.sin(2 * np.pi * hz * t) / k for k, hz in enumerate(rng.uniform(80, 4000, 8), 1))
    return (0.1 * tones + 0.01 * rng.standard_normal(len(t))).astype(np.float32)


def magnitudes(x, window, fft):
    """Mel magnitudes by numpy alone: reflect padding, the window centred in the FFT."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    hann = np.pad(hann, ((fft - window) // 2, fft - window - (fft - window) // 2))
    padded = np.pad(x.astype(np.float64), fft // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, fft)[:: window // 2]
    power = np.abs(np.fft.rfft(frames * hann)) ** 2
    return librosa.filters.mel(sr=RATE, n_fft=fft, n_mels=80) @ np.sqrt(np.maximum(power, 1e-8)).T


def distance(x, y):
    total = 0.0
    for milliseconds, fft in ((10, 512), (25, 2048), (50, 4096)):
        window = int(RATE * milliseconds / 1000)
        a, b = magnitudes(x, window, fft), magnitudes(y, window, fft)
        total += np.linalg.norm(b - a) / np.linalg.norm(b) + np.mean(np.abs(np.log(a) - np.log(b)))
    return total / 3


@pytest.fixture(scope="module")
def pair():
    y = tones(12)
    return y + 0.05 * tones(12, seed=1), y


def test_agrees_with_the_formula(pair):
    x, y = (v[: 2 * RATE] for v in pair)
    assert mss(x, y, RATE) == pytest.approx(distance(x, y), rel=1e-3)


def test_segments_are_ten_seconds_and_a_short_rest_is_left_out(pair):
    x, y = pair
    first = mss(x[: 10 * RATE], y[: 10 * RATE], RATE)
    assert mss(x, y, RATE) == first
    x, y = np.concatenate([x, x]), np.concatenate([y, y])
    parts = [mss(x[s * RATE : (s + 10) * RATE], y[s * RATE : (s + 10) * RATE], RATE) for s in (0, 10)]
    assert mss(x, y, RATE) == pytest.approx(np.mean(parts))
    assert parts[0] != pytest.approx(parts[1], rel=1e-6)


def test_silent_segments_are_skipped(pair):
    x, y = (v[: 10 * RATE] for v in pair)
    silence = np.zeros(10 * RATE, np.float32)
    value = mss(np.concatenate([x, x]), np.concatenate([silence, y]), RATE)
    assert value == mss(x, y, RATE)
    assert math.isnan(mss(x, silence, RATE))


def test_equal_is_zero_and_half_volume_is_not(pair):
    _, y = pair
    assert mss(y, y, RATE) == 0
    # Half the magnitude everywhere: 0.5 of convergence plus log 2.
    assert mss(0.5 * y, y, RATE) == pytest.approx(0.5 + math.log(2), abs=0.01)


def test_channels_are_averaged(pair):
    x, y = (v[:RATE] for v in pair)
    side = tones(1, seed=2)
    stereo = mss(np.stack([x + side, x - side]), np.stack([y, y]), RATE)
    assert stereo == pytest.approx(mss(x, y, RATE), rel=1e-4)


@pytest.mark.parametrize("n", [1, 511, 4095])
def test_signals_shorter_than_a_window(n):
    y = tones(1)[:n] + 0.1
    assert mss(y, y, RATE) == 0
    assert 0.5 < mss(0.5 * y, y, RATE) < 2


def test_misuse(pair):
    x, y = pair
    with pytest.raises(ValueError, match="shape"):
        mss(x[1:], y, RATE)
    with pytest.raises(ValueError, match="shape"):
        mss(np.zeros(0), np.zeros(0), RATE)
    with pytest.raises(ValueError, match="NaN"):
        mss(np.full(RATE, np.nan), y[:RATE], RATE)


def test_importing_it_imports_nothing_heavy():
    heavy = "{'torch', 'auraloss', 'librosa'}"
    code = f"import sys, lincae_core.evaluation.metrics; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "set()\n", done.stderr


@pytest.fixture(scope="module")
def signal():
    return music(1)


@pytest.fixture(scope="module")
def orthogonal(signal):
    """Noise of the signal's energy, orthogonal to it."""
    x = signal.astype(np.float64)
    noise = np.random.default_rng(3).standard_normal(len(x))
    noise -= (noise @ x) / (x @ x) * x
    return noise * math.sqrt((x @ x) / (noise @ noise))


@pytest.mark.parametrize("factor", [0.5, 0.9, 2.0])
def test_only_sdr_sees_the_volume(signal, factor):
    assert sdr(factor * signal, signal) == pytest.approx(-20 * math.log10(abs(1 - factor)), abs=1e-3)
    assert si_sdr(factor * signal, signal) == LIMIT_DB


@pytest.mark.parametrize("db", [-10, 0, 20])
def test_noise_of_a_known_level(signal, orthogonal, db):
    estimate = signal + 10 ** (-db / 20) * orthogonal
    assert sdr(estimate, signal) == pytest.approx(db)
    assert si_sdr(3 * estimate, signal) == pytest.approx(db)


def test_ends_of_the_scale(signal, orthogonal):
    assert sdr(signal, signal) == si_sdr(signal, signal) == LIMIT_DB
    assert si_sdr(orthogonal, signal) == -LIMIT_DB
    assert si_sdr(-signal, signal) == LIMIT_DB  # as published: the sign is a scale, too
    assert sdr(np.zeros_like(signal), signal) == 0
    assert sdr(signal, np.zeros_like(signal)) == -LIMIT_DB
    assert math.isnan(sdr(np.zeros(3), np.zeros(3)))
    assert sdr(np.stack([0.9 * signal, signal]), np.stack([signal, signal])) == pytest.approx(23.01, abs=0.01)
    assert si_sdr(np.zeros_like(signal), signal) == -LIMIT_DB


def test_shapes_must_agree(signal):
    for measure in (sdr, si_sdr):
        with pytest.raises(ValueError, match="shape"):
            measure(signal[1:], signal)


@pytest.mark.parametrize(("seconds", "count"), [(0.01, 1), (9, 1), (14, 1), (15, 1), (15.1, 2), (20, 2), (30, 3)])
def test_segments(seconds, count):
    found = spans(round(seconds * RATE), RATE)
    assert [s.start for s in found] == [10 * RATE * i for i in range(count)]


def test_silent_segments_have_no_figure(signal):
    target = np.concatenate([np.tile(signal, 10), np.zeros(10 * RATE, np.float32), np.tile(signal, 10)])
    values = by_segments(sdr, 0.9 * target, target, RATE)
    assert np.isnan(values).tolist() == [False, True, False]
    assert values[0] == pytest.approx(20, abs=1e-3)
    assert is_silent(np.full(10, 9e-4))
    assert not is_silent(np.full(10, -2e-3))


def test_rms():
    t = np.arange(44100) / 44100
    assert rms(0.5 * np.sin(2 * np.pi * 441 * t)) == pytest.approx(0.5 / math.sqrt(2))
    assert rms(np.full((2, 10), -3.0, np.float32)) == 3
    assert rms(np.zeros(0)) == 0


def test_two_values():
    """With one degree of freedom t is a Cauchy variable, whose quantile is a tangent."""
    mean, low, high = mean_interval([1.0, 3.0])
    margin = math.tan(math.pi * 0.475)  # s / sqrt(n) is 1
    assert (mean, low, high) == (2, pytest.approx(2 - margin), pytest.approx(2 + margin))


def test_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(5, 2, 6)) for _ in range(2000)]
    held = np.mean([low <= 5 <= high for _, low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.015)


def test_many_values_tell_the_mean_more_exactly():
    values = np.random.default_rng(0).normal(0, 1, 1000)
    (_, low, high), (_, lower, higher) = mean_interval(values), mean_interval(values[:100])
    assert 2 < (higher - lower) / (high - low) < 5


def test_of_equal_values_it_is_a_point_and_of_one_there_is_none():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert mean_interval([0.5]) == (0.5, None, None)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_refuses(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@pytest.fixture(scope="module")
def noise():
    """White noise, 4 s."""
    return 0.1 * np.random.default_rng(1).standard_normal(4 * RATE)


def buzzing(x, hop=512):
    """A stand-in for a decoder that repeats its frames: each octave right, all the energy on multiples of 86 Hz."""
    period = x[:hop]
    return np.tile(period, len(x) // hop + 1)[: len(x)] * rms(x) / rms(period)


def test_a_decoder_that_buzzes_at_its_frame_rate_is_heard_by_tone(noise):
    assert tone(noise, noise, RATE) == pytest.approx(1)
    other = 0.1 * np.random.default_rng(2).standard_normal(len(noise))
    assert tone(other, noise, RATE) == pytest.approx(1, abs=0.1), "noise for noise does not buzz"
    assert tone(buzzing(noise), noise, RATE) > 10
    assert tone(0.7 * noise + 0.7 * buzzing(noise), noise, RATE) > 5
    assert octave_levels(buzzing(noise), noise, RATE) < 2.5, "its octaves hardly show it"
    assert math.isnan(tone(noise[:10_000], noise[:10_000], RATE)), "too short to resolve 3 Hz"


def test_tone_by_its_definition(noise):
    from scipy.signal import welch

    def share(x):
        f, p = welch(x, RATE, nperseg=32768)
        apart = np.abs(f - 86.1328125 * np.round(f / 86.1328125))
        inside = (f > 1000) & (f < 10_000)
        return p[inside & (apart < 3)].sum() / p[inside].sum()

    y = noise + 0.3 * buzzing(noise)
    assert tone(y, noise, RATE) == pytest.approx(share(y) / share(noise), rel=1e-6)


def filtered(x, low, high, gain_db):
    spectrum, hz = np.fft.rfft(x), np.fft.rfftfreq(len(x), 1 / RATE)
    spectrum[(hz >= low) & (hz < high)] *= 10 ** (gain_db / 20)
    return np.fft.irfft(spectrum, len(x))


def test_an_octave_that_is_too_quiet_is_seen_by_octave_levels(noise):
    """Of six octaves one is 6 dB too quiet: the mean error is 1 dB."""
    low, high = 2000 / 2**0.5, 2000 * 2**0.5
    assert octave_levels(filtered(noise, low, high, -6), noise, RATE) == pytest.approx(1, abs=0.05)
    assert octave_levels(filtered(noise, low, high, 6), noise, RATE) == pytest.approx(1, abs=0.05)
    assert octave_levels(0.5 * noise, noise, RATE) == pytest.approx(20 * math.log10(2), abs=1e-6)
    assert octave_levels(noise, noise, RATE) == 0


def test_hiss_where_the_original_has_nothing_is_no_octave_of_it(noise):
    target = filtered(noise, 5000, 1e5, -200)
    hissing = target + 0.01 * noise
    assert octave_levels(hissing, target, RATE) < 0.1
    assert math.isnan(octave_levels(noise, np.zeros_like(noise), RATE))


def test_a_narrower_image_is_seen_by_stereo_image(noise):
    """A side signal at half its level is 6 dB off in every octave; swapped channels have the same width."""
    left, right = noise, 0.1 * np.random.default_rng(3).standard_normal(len(noise))
    middle, side = (left + right) / 2, (left - right) / 2
    target = np.stack([left, right])
    assert stereo_image(target, target, RATE) == 0
    narrow = np.stack([middle + side / 2, middle - side / 2])
    assert stereo_image(narrow, target, RATE) == pytest.approx(20 * math.log10(2), abs=0.01)
    assert stereo_image(target[::-1], target, RATE) == pytest.approx(0, abs=1e-9)


def test_dual_mono_that_is_no_longer_mono_is_seen_by_stereo_image(noise):
    mono = np.stack([noise, noise])
    assert stereo_image(0.5 * mono, mono, RATE) == 0
    own_noise = mono + 0.04 * np.random.default_rng(4).standard_normal(mono.shape)
    assert stereo_image(own_noise, mono, RATE) > 20
    assert stereo_image(np.stack([noise, -noise]), mono, RATE) == pytest.approx(80)
