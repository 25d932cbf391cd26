"""Fixtures for tests of every part."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A weights file of a very small `frame` model with random weights."""
    import torch

    from lincae_core.models.frame import FrameConfig, FrameModel
    from lincae_core.models.weights import save_weights

    torch.manual_seed(0)
    config = FrameConfig(
        latent_dim=8, width=16, latent_width=16, expand=1, encoder_frame_blocks=1, encoder_latent_blocks=1,
        decoder_latent_blocks=1, decoder_frame_blocks=1, denoiser_blocks=1,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_weights(
        FrameModel(config).state_dict(), {"family": "frame", **config.to_dict()}, path,
        name="tiny", version="1", license="CC0-1.0",
    )  # fmt: skip
    return path
