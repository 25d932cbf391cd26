"""What the shipped model must keep of the demo's stems: no buzz, octaves, stereo and polarity exact."""

import numpy as np
import pytest
import soundfile as sf

from lincae_core.demo import NAMES, STEMS
from lincae_core.evaluation.metrics import LIMIT_DB, octave_levels, sdr, stereo_image, tone
from lincae_core.evaluation.protocols import stereo_leaks
from lincae_core.evaluation.systems import Options, choose_systems

RATE = 44100
SECONDS = 5


@pytest.fixture(scope="module")
def system():
    (found,) = choose_systems(["frame"], [], Options("cpu"))
    return found


@pytest.fixture(scope="module")
def mixture():
    """Five seconds of the demo's mixture, ``[2, n]``."""
    stems = [sf.read(STEMS / f"{name}.flac", dtype="float32", frames=SECONDS * RATE)[0].T for name in NAMES]
    return np.sum(stems, axis=0, dtype=np.float32)


@pytest.fixture(scope="module")
def decoded(system, mixture):
    return system.roundtrip(mixture)


def test_it_does_not_buzz_at_its_frame_rate(decoded, mixture):
    assert 0.7 < tone(decoded.mean(0), mixture.mean(0), RATE) < 1.4


def test_noise_comes_back_without_a_comb(system):
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, SECONDS * RATE)).astype(np.float32)
    assert 0.7 < tone(system.roundtrip(noise)[0], noise[0], RATE) < 1.4


def test_octaves_come_back_at_their_level(decoded, mixture):
    assert octave_levels(decoded.mean(0), mixture.mean(0), RATE) < 2


def test_the_stereo_image_keeps_its_width(decoded, mixture):
    assert stereo_image(decoded, mixture, RATE) < 2


def test_dual_mono_hard_panned_and_antiphase_are_exact(system, mixture):
    leaks = stereo_leaks(system, mixture.mean(0))
    assert leaks == {"dual_mono": -LIMIT_DB, "hard_panned": -LIMIT_DB, "antiphase": -LIMIT_DB}


def test_an_inverted_file_decodes_to_the_inverted_audio(system, mixture):
    z = system.encode(mixture[0])
    n = mixture.shape[1]
    up, down = system.decode(z, n), system.decode(-1.0 * z, n)
    assert np.abs(up + down).max() < 1e-5 * np.abs(up).max()


def test_half_the_volume_is_half_of_every_sample(system, mixture):
    z, n = system.encode(mixture[0]), mixture.shape[1]
    assert sdr(system.decode(0.5 * z, n), 0.5 * system.decode(z, n)) > 60
