"""The fingerprint by which a history names an operand: a hash that follows the frames as they are read."""

import hashlib

import numpy as np

from .header import Header


class Fingerprint:
    """SHA-256 over stored latents, chunk after chunk in time; within a chunk of time, channel after channel.

    The zeros of chunks without anything else are positive.

    Attributes:
        frames: How many frames were hashed so far, from the beginning.
    """

    def __init__(self, header: Header) -> None:
        """Begins before the first frame."""
        self.frames = 0
        self._all = header.frames
        self._chunk = header.chunk_frames
        self._hash = hashlib.sha256()

    def feed(self, start: int, stored: np.ndarray) -> None:
        """Takes frames as stored, little-endian `[channels, latent_dim, n]`, of whole chunks, each the next."""
        if start != self.frames:
            return
        whole = stored.shape[2] - stored.shape[2] % self._chunk
        if whole:
            chunks = stored[:, :, :whole].reshape(*stored.shape[:2], -1, self._chunk)
            self._hash.update(np.ascontiguousarray(chunks.transpose(2, 0, 1, 3)).data)
        if whole < stored.shape[2]:
            self._hash.update(np.ascontiguousarray(stored[:, :, whole:]).data)
        self.frames += stored.shape[2]

    @property
    def complete(self) -> bool:
        """Whether every frame was hashed."""
        return self.frames == self._all

    def __str__(self) -> str:
        """`sha256:` and 64 hexadecimal digits, of what was hashed so far."""
        return "sha256:" + self._hash.hexdigest()
