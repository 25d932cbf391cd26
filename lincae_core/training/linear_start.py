"""What a linear path begins as: the best linear codec of the training audio, and probes of the bands it leaves out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lincae_core.evaluation.systems.klt import HOP as BLOCK
from lincae_core.evaluation.systems.klt import SPAN as LATENT_HOP
from lincae_core.evaluation.systems.klt import covariance, principal_vectors
from lincae_core.evaluation.systems.mdct import imdct
from lincae_core.models.frame import FrameModel, LinearEncoder
from lincae_core.models.frontend import BINS, HOP, LEAD, WINDOW
from lincae_core.models.linear import BESIDE, SPAN
from lincae_core.training.data import Clips

LENGTH = (SPAN - 1) * HOP + WINDOW  # samples that a latent frame's functions may cover
BEFORE = BESIDE * HOP + LEAD  # of these, samples before the latent frame
PROBE = 8192  # samples of a probe
EXCERPT_SECONDS = 2.0  # of a clip
MOST_SECONDS = 1200.0  # of audio that is looked at: enough for a covariance
PIECE_SECONDS = 120.0  # of excerpts end to end, that many at once
PROBE_LEVEL = 0.7  # of a principal component's, about, so that they count alike


def begin_linear(model: FrameModel, clips: Clips, probes: int, low: float, high: float, seed: int) -> None:
    """Sets the linear path of a fresh model.

    Most latents are principal components of four MDCT frames (Karhunen-Loeve transform): the linear codec of least
    squared error, which spends everything on the lowest octaves. The last ``probes`` are one function for each of as
    many mel bands above: noise of that band, whose inner product with the audio is as large as the band is loud.
    The synthesis gives back the principal components; what the probes tell is for the networks.

    Args:
        model: with a linear path; changed in place.
        clips: the training audio.
        probes: latents that are probes; fewer than there are latents.
        low: lowest frequency that is probed, Hz.
        high: highest, Hz.
        seed: of the choice of audio and of the probes' noise.
    """
    assert isinstance(model.encoder, LinearEncoder)
    assert model.decoder.linear is not None
    components, variances = principal_functions(clips, model.config.latent_dim - probes, seed)
    # a quarter of the way from true levels to equal ones: networks learn better, silence stays silent
    scale = variances**-0.25
    scale = scale / (variances.sqrt() * scale).square().mean().sqrt()
    synthesis = torch.cat([components / scale[:, None], torch.zeros(probes, LENGTH)])
    noises = probe_functions(probes, low, high, seed)
    level = _levels(clips, noises, seed).clamp_min(1e-4)
    analysis = torch.cat([components * scale[:, None], noises * (PROBE_LEVEL / level)[:, None]])
    with torch.no_grad():
        # <t, x> is a sum over frames, as the windows' squares add up to 1.5 everywhere; Parseval gives 2 / WINDOW
        model.encoder.linear.weight.copy_(_as_frames(model, analysis).flatten(1) * (2 / WINDOW / 1.5))
        model.decoder.linear.weight.copy_(_as_frames(model, synthesis).flatten(1).T)


def principal_functions(clips: Clips, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """The leading principal components as functions of time ``[count, LENGTH]`` of unit norm, and their variances."""
    pieces = list(_excerpts(clips, seed))
    total = covariance(pieces) / max(2 * sum(len(p) for p in pieces) / LATENT_HOP, 1)
    basis = principal_vectors(total, count)
    variances = np.maximum(np.einsum("ij,ij->j", basis, total @ basis), 1e-12)
    out = np.zeros((count, LENGTH), np.float32)
    frames = LATENT_HOP // BLOCK
    # MDCT frame f covers samples (f - 1) 1024 to (f + 1) 1024, so four of them 5120, centred on a latent frame's 4096
    start = BEFORE - (BLOCK * (frames + 1) - LATENT_HOP) // 2
    for row, vector in zip(out, basis.T, strict=True):
        shifted = np.pad(vector.reshape(frames, BLOCK), ((1, 0), (0, 0)))
        row[start : start + BLOCK * (frames + 1)] = imdct(shifted, BLOCK * (frames + 1))
    return torch.from_numpy(out), torch.from_numpy(variances.astype(np.float32))


def probe_functions(count: int, low: float, high: float, seed: int) -> Tensor:
    """Noise of ``count`` neighbouring mel bands under a sine window ``[count, LENGTH]``, of unit norm."""
    from librosa import mel_frequencies

    random = np.random.default_rng(seed)
    edges = mel_frequencies(count + 1, fmin=low, fmax=high)
    frequency = np.fft.rfftfreq(LENGTH, 1 / 44100)
    window = np.zeros(LENGTH)
    start = (LENGTH - PROBE) // 2
    window[start : start + PROBE] = np.sin(np.pi * (np.arange(PROBE) + 0.5) / PROBE)
    out = np.zeros((count, LENGTH))
    for row, floor, ceiling in zip(out, edges, edges[1:], strict=False):
        inside = (frequency >= floor) & (frequency < ceiling)
        row[:] = np.fft.irfft(inside * np.exp(2j * np.pi * random.random(len(frequency))), n=LENGTH) * window
        row /= max(float(np.linalg.norm(row)), 1e-12)
    return torch.from_numpy(out.astype(np.float32))


def _as_frames(model: FrameModel, functions: Tensor) -> Tensor:
    """The STFT of functions ``[n, LENGTH]``, not compressed, ``[n, 16, 2048]``."""
    window = model.frontend.window.to(functions.device)
    spectrum = torch.fft.rfft(functions.unfold(-1, WINDOW, HOP) * window)[..., :BINS]
    return torch.cat([spectrum.real, spectrum.imag], -1)


def _levels(clips: Clips, functions: Tensor, seed: int) -> Tensor:
    """RMS of the inner products of functions ``[n, LENGTH]`` with the audio, ``[n]``."""
    power, count = torch.zeros(len(functions)), 0
    for audio in _excerpts(clips, seed):
        if len(audio) >= LENGTH:
            pieces = torch.from_numpy(audio).unfold(0, LENGTH, LATENT_HOP)
            power += (pieces @ functions.T).square().sum(0)
            count += len(pieces)
    return (power / max(count, 1)).sqrt()


def _excerpts(clips: Clips, seed: int) -> Iterator[np.ndarray]:
    """Short parts of the clips, at the loudness they are trained at, end to end in pieces of 120 s."""
    random = np.random.default_rng(seed)
    held: list[np.ndarray] = []
    for i in random.permutation(len(clips.start))[: int(MOST_SECONDS / EXCERPT_SECONDS)]:
        length = min(int(clips.length[i]), int(EXCERPT_SECONDS * 44100))
        first = int(clips.start[i]) + int(random.integers(0, int(clips.length[i]) - length + 1))
        held.append(clips.audio[first : first + length].cpu().numpy().astype(np.float32) * float(clips.gain[i]))
        if sum(map(len, held)) >= PIECE_SECONDS * 44100:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)
