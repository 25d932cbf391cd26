"""Fixtures for tests of every part; makes the helpers importable whatever the import mode; differences at the end."""

import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in the background so, and every process inherits it: tests interrupt those they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
DIFFERENCE = "largest relative difference"  # a test's property of (what, value)


@pytest.fixture
def differs(record_property):
    """Notes by how much something differs from its oracle, for the end of the run."""
    return lambda what, value: record_property(DIFFERENCE, (what, value))


def pytest_terminal_summary(terminalreporter):
    reports = [
        r for outcome in ("passed", "failed") for r in terminalreporter.stats.get(outcome, []) if r.when == "call"
    ]
    found = [tuple(value) for r in reports for name, value in r.user_properties if name == DIFFERENCE]
    if found:
        what, value = max(found, key=lambda pair: pair[1])
        terminalreporter.write_line(
            f"parity with the public packages: {len(found)} comparisons, {DIFFERENCE} {value:.1e} ({what})"
        )


@pytest.fixture(scope="module")
def one_thread():
    """One thread of torch for a module: threads that wait for each other cost small work more than they do of it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A weights file of a very small `frame64` model with random weights."""
    import torch

    from lincae_core.models.frame64 import Frame64Config, Frame64Model
    from lincae_core.models.store import save_weights

    torch.manual_seed(0)
    config = Frame64Config(
        latent_dim=8, width=16, latent_width=16, expand=1, encoder_frame_blocks=1, encoder_latent_blocks=1,
        decoder_latent_blocks=1, decoder_frame_blocks=1, denoiser_blocks=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(
        Frame64Model(config).state_dict(), config.to_dict(), path,
        name="tiny", version="1", license="CC0-1.0",
    )  # fmt: skip
    return path
