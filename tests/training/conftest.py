"""Generated audio to train on."""

import numpy as np
import pytest
import soundfile as sf

RATE = 44100


@pytest.fixture(scope="session")
def audio(tmp_path_factory):
    """A folder of six files of tones and noise, 3 s each, of which smoke.yaml holds out two or more."""
    folder = tmp_path_factory.mktemp("audio")
    random = np.random.default_rng(0)
    t = np.arange(3 * RATE) / RATE
    for i in range(6):
        tone = 0.2 * np.sin(2 * np.pi * 110 * (i + 1) * t) * np.exp(-((3 * t) % 1))
        sf.write(folder / f"{i}.wav", tone + 0.02 * (i % 3) * random.standard_normal(len(t)), RATE)
    return folder
