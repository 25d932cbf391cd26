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
from lincae_core.training.recipe import LinearStartSection

LENGTH = (SPAN - 1) * HOP + WINDOW  # samples that a latent frame's functions may cover
BEFORE = BESIDE * HOP + LEAD  # of these, samples before the latent frame
EXCERPT_SECONDS = 2.0  # of a clip
MOST_SECONDS = 1200.0  # of audio that is looked at: enough for a covariance
PIECE_SECONDS = 120.0  # of excerpts end to end, that many at once
PROBE_LEVEL = 0.7  # of a principal component's, about, so that they count alike


def begin_linear(model: FrameModel, clips: Clips, start: LinearStartSection, seed: int) -> None:
    """Sets the linear path of a fresh model.

    Most latents are principal components of four MDCT frames (Karhunen-Loeve transform): the linear codec of least
    squared error, which spends everything on the lowest octaves. The last ones are probes: see `begin_probes`.
    The synthesis gives back the principal components; what the probes tell is for the networks.

    Args:
        model: with a linear path; changed in place.
        clips: the training audio.
        start: how many probes, and of what.
        seed: of the choice of audio and of the probes' noise.
    """
    assert isinstance(model.encoder, LinearEncoder)
    assert model.decoder.linear is not None
    components, variances = principal_functions(clips, model.config.latent_dim - start.probes, seed)
    # a quarter of the way from true levels to equal ones: networks learn better, silence stays silent
    scale = variances**-0.25
    scale = scale / (variances.sqrt() * scale).square().mean().sqrt()
    with torch.no_grad():
        model.encoder.linear.weight[: len(components)] = _analysing(model, components * scale[:, None])
        model.decoder.linear.weight[:, : len(components)] = _as_frames(model, components / scale[:, None]).flatten(1).T
    begin_probes(model, clips, start, seed)


def begin_probes(model: FrameModel, clips: Clips, start: LinearStartSection, seed: int) -> None:
    """Makes the last latents of a model's linear path probes: noise of a mel band each.

    The inner product of a probe with the audio is as large as its band is loud there; the synthesis gives nothing
    for it. The arguments are those of `begin_linear`.
    """
    assert isinstance(model.encoder, LinearEncoder)
    assert model.decoder.linear is not None
    if start.probes:
        noises = probe_functions(start, seed)
        level = _levels(clips, noises, seed).clamp_min(1e-4)
        with torch.no_grad():
            weight = _analysing(model, noises * (PROBE_LEVEL / level)[:, None])
            model.encoder.linear.weight[-start.probes :] = weight
            model.decoder.linear.weight[:, -start.probes :] = 0


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


def probe_functions(start: LinearStartSection, seed: int) -> Tensor:
    """Noise of neighbouring mel bands under a sine window ``[probes, LENGTH]``, of unit norm.

    Neighbours take turns at ``start.places`` places, evenly spaced over a latent frame: together they tell when a
    sound begins, each alone how loud its band is.
    """
    from librosa import mel_frequencies

    random = np.random.default_rng(seed)
    edges = mel_frequencies(start.probes + 1, fmin=start.low, fmax=start.high)
    frequency = np.fft.rfftfreq(LENGTH, 1 / 44100)
    out = np.zeros((start.probes, LENGTH))
    for i, (row, floor, ceiling) in enumerate(zip(out, edges, edges[1:], strict=False)):
        inside = (frequency >= floor) & (frequency < ceiling)
        noise = np.fft.irfft(inside * np.exp(2j * np.pi * random.random(len(frequency))), n=LENGTH)
        centre = LENGTH // 2 + round(((i % start.places + 0.5) / start.places - 0.5) * LATENT_HOP)
        first = min(max(centre - start.length // 2, 0), LENGTH - start.length)
        row[first : first + start.length] = np.sin(np.pi * (np.arange(start.length) + 0.5) / start.length)
        row *= noise
        row /= max(float(np.linalg.norm(row)), 1e-12)
    return torch.from_numpy(out.astype(np.float32))


def _analysing(model: FrameModel, functions: Tensor) -> Tensor:
    """Weights ``[n, 16 * 2048]`` whose products with uncompressed frames are those of functions with the audio.

    ``<t, x>`` is a sum over frames, as the windows' squares add up to 1.5 everywhere; Parseval gives ``2 / WINDOW``.
    """
    return _as_frames(model, functions).flatten(1) * (2 / WINDOW / 1.5)


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
