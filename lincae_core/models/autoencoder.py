"""The autoencoder that users meet: audio to latents and back, stretch by stretch, at any loudness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lincae_core.models.consistency import sample
from lincae_core.models.families import Model
from lincae_core.models.frame64 import FRAME, RATIO
from lincae_core.models.frontend import HOP, LEAD
from lincae_core.models.noise import frame_noise
from lincae_core.models.windows import Window, cut, joined

EDGE = 2  # STFT frames beside a stretch that overlap its samples
BATCH = {"cpu": 1, "cuda": 32}  # windows computed at once, where a network sees windows


class Autoencoder:
    """A model with its weights, working on one channel of one stretch of a timeline at a time.

    Everything is stateless: what a stretch gives depends on the audio (or latents) around it, its place on the
    timeline and the seed, never on how the timeline was cut. `lincae_core.stream` walks whole files.

    Args:
        model: the networks, in evaluation mode.
        info: metadata of the weights: name, version, fingerprint, config.
        device: where to compute.
    """

    def __init__(self, model: Model, info: dict[str, Any], device: torch.device) -> None:
        self.model = model.to(device).eval()
        self.device = device
        self.name: str = info["name"]
        self.version: str = info["version"]
        self.fingerprint: str = info["fingerprint"]
        self.config = model.config
        self.sample_rate = model.sample_rate
        self.samples_per_frame = model.samples_per_frame
        self.latent_dim = model.config.latent_dim
        self.latent_scale = model.config.latent_scale

    def level(self, rms: float) -> float:
        """Factor s that the networks never see: the signal's RMS over the reference; 0 for silence, 1 if unused."""
        if not self.config.gain_equivariant:
            return 1.0
        return rms / self.config.reference_rms if rms > 1e-12 else 0.0

    @torch.inference_mode()
    def encode_stretch(self, audio: np.ndarray, level: float, first: int, before: int, count: int) -> np.ndarray:
        """Audio around a stretch to its latents, ``s E(x / s)``.

        Args:
            audio: ``[4096 K + 1536]`` float32: K latent frames' samples with 768 samples on both sides.
            level: s, from `level`.
            first: place on the timeline of the first of the K latent frames.
            before: latent frames of context at the start, to drop.
            count: latent frames to keep.

        Returns:
            ``[latent_dim, count]`` float32.
        """
        if level == 0:
            return np.zeros((self.latent_dim, count), np.float32)
        x = torch.from_numpy(np.ascontiguousarray(audio, np.float32)).to(self.device) / level
        frames = self.model.frontend.analyse(x[None])[0]
        low, last = first + before, first + len(frames) // RATIO
        parts: list[Tensor] = []
        for group in self._groups(self.model.windows(low, low + count, first, last)):
            z = self.model.encoder(joined([cut(frames, w, first, RATIO) for w in group]))
            parts += [v[w.low - w.start : w.high - w.start] for v, w in zip(z, group, strict=True)]
        return (torch.cat(parts).T * (level * self.latent_scale)).cpu().numpy()

    @torch.inference_mode()
    def decode_stretch(
        self, z: np.ndarray, level: float, channel: int, first: int, before: int, count: int, ends: tuple[bool, bool],
        steps: int = 1, seed: int = 0,
    ) -> np.ndarray:  # fmt: skip
        """Latents around a stretch to its samples, ``s D(z / s)``.

        Args:
            z: ``[latent_dim, K]`` float32: the stretch with its context.
            level: RMS of the whole file's latents in this channel (0: silence).
            channel: channel, for the noise.
            first: place on the timeline of z's first frame.
            before: latent frames of context at the start.
            count: latent frames of the stretch.
            ends: whether the stretch begins at the file's first frame, and ends at its last.
            steps: sampling steps.
            seed: of the noise.

        Returns:
            ``[4096 count]`` float32.
        """
        size = self.samples_per_frame
        if level == 0:
            return np.zeros(count * size, np.float32)
        scale = level if self.config.gain_equivariant else 1.0
        x = torch.from_numpy(np.array(z.T, np.float32, order="C")).to(self.device) / (scale * self.latent_scale)
        # frames beyond the file do not exist; inside it, two on each side reach into the stretch
        left, right = (0 if ends[0] else 1), (0 if ends[1] else 1)
        low, high = first + before - left, first + before + count + right
        parts = []
        for group in self._groups(self.model.windows(low, high, first, first + len(x))):
            frames, group = self._decode(joined([cut(x, w, first) for w in group]), group, channel, steps, seed)
            parts += [
                v[(w.low - w.start) * RATIO : (w.high - w.start) * RATIO] for v, w in zip(frames, group, strict=True)
            ]
        frames = (torch.cat(parts) if len(parts) > 1 else parts[0])[
            left * (RATIO - EDGE) : (high - low) * RATIO - right * (RATIO - EDGE)
        ]
        blocks = self.model.frontend.synthesise(frames[None])[0]
        weight = self.model.frontend.overlap(len(frames))
        skip = LEAD + left * EDGE * HOP
        keep = slice(skip, skip + count * size)
        return (blocks[keep] / weight[keep] * scale).cpu().numpy()

    def _decode(
        self, z: Tensor, group: list[Window], channel: int, steps: int, seed: int
    ) -> tuple[Tensor, list[Window]]:
        """Latents ``[W, K, latent_dim]`` of windows to frames ``[W, 8 N, 2048]``, and the parts these belong to."""
        features: Any
        features, group = self.model.features(z, group)

        def noise(step: int) -> Tensor:
            parts = [frame_noise(seed, channel, step, w.start, w.stop, RATIO * FRAME) for w in group]
            return joined([torch.from_numpy(n).view(-1, FRAME) for n in parts]).to(self.device)

        def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
            return self.model.denoise(noisy, sigma, features)

        return sample(denoise, noise, self.model.preconditioning, steps), group

    def _groups(self, windows: list[Window]) -> Iterator[list[Window]]:
        size = BATCH.get(self.device.type, 1)
        return (windows[i : i + size] for i in range(0, len(windows), size))
