"""The VAE of Stable Audio Open, by diffusers."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lincae_core.evaluation.dataset import SAMPLE_RATE
from lincae_core.evaluation.systems.system import System
from lincae_formats.errors import LincaeError

NAME = "stable-audio-vae"
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
STRETCH = 128  # latent frames computed at once
CONTEXT = 32  # latent frames beside them; the network reaches about 10 to each side


class StableAudioVae(System):
    """diffusers' AutoencoderOobleck: stereo at 44.1 kHz, 64 numbers per 2048 samples.

    Mono audio goes to both channels, and the mean of both outputs is taken. The latent is the mode of the posterior,
    so nothing is random. Long audio is computed in stretches with more context than the network's reach.

    Args:
        folder: with `config.json` and `diffusion_pytorch_model.safetensors`.
        device: auto, cpu or cuda.

    Raises:
        LincaeError: the weights or diffusers are not installed, or the config is damaged.
    """

    name = NAME
    label = "Stable Audio VAE"
    kind = "model"
    notes = "stereo VAE, given mono audio on both channels; mode of the posterior; bytes counted as float16"

    def __init__(self, folder: Path, device: str = "auto") -> None:
        if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
            raise LincaeError(f"no model {NAME!r}: {folder} lacks its files", f"get it: lincae models pull {NAME}")
        try:
            import diffusers
        except ImportError:
            raise LincaeError(f"{NAME} needs the package diffusers", "pip install 'lincae[eval]'") from None
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            self._hop = int(np.prod(config["downsampling_ratios"]))
            self._channels = int(config["audio_channels"])
            self.latent_rate = int(config["decoder_input_channels"]) * SAMPLE_RATE / self._hop
        except (ValueError, KeyError, TypeError, OSError):
            hint = f"get it again: lincae models pull {NAME}"
            raise LincaeError(f"{folder / CONFIG}: not a config of AutoencoderOobleck", hint) from None
        digest = hashlib.sha256((folder / CONFIG).read_bytes())
        with open(folder / WEIGHTS, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
        self.bytes_per_second = 2 * self.latent_rate
        self.version = f"diffusers {diffusers.__version__}"
        self.fingerprint = f"sha256:{digest.hexdigest()}"
        self._folder, self._device = folder, device
        self._vae: Any = None

    def encode(self, audio: np.ndarray) -> np.ndarray:
        """Audio ``[n]`` to latents ``[64, ceil(n / 2048)]``."""
        import torch

        frames = -(-len(audio) // self._hop)
        padded = np.pad(audio.astype(np.float32), (0, frames * self._hop - len(audio)))
        vae, parts = self._loaded(), []
        with torch.inference_mode():
            for low, first, last, high in _stretches(frames):
                x = torch.from_numpy(padded[low * self._hop : high * self._hop]).to(vae.device)
                z = vae.encode(x.expand(1, self._channels, -1)).latent_dist.mode()[0]
                parts.append(z[:, first - low : last - low].float().cpu().numpy())
        return np.concatenate(parts, 1)

    def decode(self, latent: np.ndarray, num_samples: int) -> np.ndarray:
        """Latents to audio ``[num_samples]``, the mean of the channels."""
        import torch

        vae, parts = self._loaded(), []
        with torch.inference_mode():
            for low, first, last, high in _stretches(latent.shape[1]):
                z = torch.from_numpy(np.ascontiguousarray(latent[:, low:high], np.float32)).to(vae.device)
                x = vae.decode(z[None]).sample[0].mean(0)
                parts.append(x[(first - low) * self._hop : (last - low) * self._hop].float().cpu().numpy())
        return np.concatenate(parts)[:num_samples]

    def close(self) -> None:
        """Frees the weights."""
        self._vae = None

    def _loaded(self) -> Any:
        if self._vae is None:
            from diffusers import AutoencoderOobleck

            from lincae_core.models.store import choose_device

            # low_cpu_mem_usage would need another package, and its loader warns of torch's future
            options = {"local_files_only": True, "use_safetensors": True, "low_cpu_mem_usage": False}
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", FutureWarning)
                    vae = AutoencoderOobleck.from_pretrained(str(self._folder), **options)
            except Exception as e:  # diffusers raises many types for a damaged file
                reason = f"{type(e).__name__}: {e}".splitlines()[0]
                hint = f"get it again: lincae models pull {NAME}"
                raise LincaeError(f"{self._folder}: cannot load its weights ({reason})", hint) from None
            self._vae = vae.to(choose_device(self._device)).eval()
        return self._vae


def _stretches(frames: int) -> list[tuple[int, int, int, int]]:
    """(low, first, last, high): compute [low, high), keep [first, last)."""
    return [
        (max(0, first - CONTEXT), first, min(first + STRETCH, frames), min(first + STRETCH + CONTEXT, frames))
        for first in range(0, frames, STRETCH)
    ]
