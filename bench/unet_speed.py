"""The `unet` family beside the network of `linear-cae` 0.1.4: the same random weights, in turns on the same threads.

Compared are the bare networks on one identical window; each package's own way through one length of audio (the peer's
as it comes, all of it at once, and in chunks of the windows' length); where the time of one window goes; and what
bfloat16, which `unet` does not compute in, would bring. Get the peer with

    pip install --no-deps --target build/peers linear-cae==0.1.4
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from decode_speed import FRAME_SAMPLES, GET_PEER, PEER, PEER_VERSION, load_peer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from training_speed import peak

from lincae_core.models.autoencoder import Autoencoder
from lincae_core.models.frontend import BINS
from lincae_core.models.published import convert
from lincae_core.models.unet import WINDOW, UnetConfig, UnetModel, to_frames, to_image
from lincae_core.stream import decode_array, encode_array

TIMES = 8 * WINDOW  # STFT frames in a window
CHUNK = 512 * TIMES + 1536  # samples that give as many
KINDS = (  # by what a kernel's name contains
    ("convolutions", ("conv",)),
    ("matrix products", ("mm", "linear")),
    ("attention", ("attention", "softmax", "qkv")),
    ("group norms", ("group_norm",)),
    ("SiLU", ("silu",)),
    ("nearest neighbours", ("upsample",)),
    ("sums, scales and copies", ("",)),
)
Call = Callable[[], Any]


def main() -> None:
    """Measures and writes unet_speed.json."""
    options = common.parser(__doc__)
    options.add_argument("--seconds", type=float, default=10.0, help="length of audio, s")
    options.add_argument("--runs", type=int, default=7, help="turns on one window, of which the median counts")
    options.add_argument("--audio-runs", type=int, default=3, help="turns on the audio")
    options.add_argument("--threads", type=int, default=common.cores(), help="threads; by default all cores")
    options.add_argument("--peer", type=Path, default=common.ROOT / "build" / "peers", help="where the peer lies")
    a = options.parse_args()
    if a.quick:
        a.seconds, a.runs, a.audio_runs = 1.0, 1, 1
    torch.set_num_threads(a.threads)
    peer = load_peer(a.peer)
    if peer is None:
        sys.exit(f"{PEER} is not there, so nothing can be compared; get it with: {GET_PEER}")
    config = UnetConfig(latent_scale=peer.scale_factor)
    model = UnetModel(config)
    model.load_state_dict(convert(peer.generator.state_dict(), config, PEER))
    ours = Autoencoder(model, {"name": "unet", "version": "random", "fingerprint": ""}, torch.device("cpu"))
    figures: common.Figures = {"threads": a.threads, "peer": {"name": PEER, "version": PEER_VERSION}}
    with torch.inference_mode():
        calls, differences = window(ours.model, peer.generator)
        figures["window"] = {
            what: {**turns(pair, a.runs), "largest_relative_difference": differences[what]}
            for what, pair in calls.items()
        }
        figures["bfloat16"] = bfloat16(ours.model, calls["decode"], a.runs)
        figures["profile"] = {name: shares(call, a.runs) for name, call in calls["decode"].items()}
        figures["audio"] = audio(ours, peer, a.seconds, a.audio_runs)
    figures["peak_gflop_s"] = peak(torch.device("cpu"), "float32")
    figures["window_gflop"] = {what: gflop(call["theirs"]) for what, call in calls.items()}
    common.save("unet_speed", figures, a.results)


def window(model: Any, peer: Any) -> tuple[dict[str, dict[str, Call]], dict[str, float]]:
    """Both networks on one window, decoding (pyramid and one evaluation) and encoding; how far their results differ."""
    print(f"one window: {WINDOW} latent frames", file=sys.stderr)
    frames, z, sigma = inputs()
    image = to_image(frames).transpose(2, 3).contiguous()
    calls: dict[str, dict[str, Call]] = {
        "decode": {
            "ours": lambda: model.denoise(sigma * frames, sigma, model.decoder(z)),
            "theirs": lambda: peer.forward_generator(z.mT, sigma * image, float(sigma)),
        },
        "encode": {
            "ours": lambda: model.encoder(frames),
            "theirs": lambda: peer.encoder(image),
        },
    }
    mine, truth = calls["decode"]["ours"](), to_frames(calls["decode"]["theirs"]().transpose(2, 3))
    latents, true_latents = calls["encode"]["ours"](), calls["encode"]["theirs"]().mT
    return calls, {"decode": difference(mine, truth), "encode": difference(latents, true_latents)}


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit noise as frames, latents and the noise level of one window."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(1, TIMES, 2 * BINS, generator=generator)
    return frames, torch.tanh(torch.randn(1, WINDOW, 64, generator=generator)), torch.tensor([UnetConfig().sigma_max])


def bfloat16(model: UnetModel, decode: Mapping[str, Call], runs: int) -> common.Figures:
    """Decoding one window in bfloat16, in turns with the peer and with `unet` as it is; how far the results differ."""
    print("one window in bfloat16", file=sys.stderr)
    half = copy.deepcopy(model).bfloat16()  # channels last: images of another type than float32 are laid out so
    p, (frames, z, sigma) = model.preconditioning, inputs()

    def denoised(pyramid: list[torch.Tensor]) -> torch.Tensor:
        low = [image.bfloat16().contiguous(memory_format=torch.channels_last) for image in pyramid]
        inner = half.denoiser((p.c_in(sigma) * sigma * frames).bfloat16(), sigma.bfloat16(), low)
        return p.c_skip(sigma) * sigma * frames + p.c_out(sigma) * inner

    truth = to_frames(decode["theirs"]().transpose(2, 3))
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "the denoiser alone": lambda: denoised(model.decoder(z)),
        "all of it": lambda: denoised(half.decoder(z.bfloat16())),
    }
    return {
        way: {
            **turns({"ours": call, "theirs": decode["theirs"], "float32": decode["ours"]}, runs),
            "largest_relative_difference": difference(call(), truth),
        }
        for way, call in ways.items()
    }


def audio(ours: Autoencoder, peer: Any, seconds: float, runs: int) -> common.Figures:
    """Each package's own way through the same length of noise: from samples to latents, and back."""
    n = round(seconds * common.SAMPLE_RATE)
    print(f"{seconds:g} s of audio", file=sys.stderr)
    x = 0.1 * np.random.default_rng(0).standard_normal((1, n), dtype=np.float32)
    tensor = torch.from_numpy(x)

    def encode(chunk: int | None) -> torch.Tensor:
        peer.max_chunk_size = chunk
        return peer.encode(tensor)

    def decode(z: torch.Tensor, chunk: int | None) -> torch.Tensor:
        peer.max_chunk_size = chunk
        return peer.decode(z, full_length=n)

    latents = {"ours": encode_array(ours, x), "whole": encode(None), "chunks": encode(CHUNK)}
    calls: dict[str, dict[str, Call]] = {
        "encode": {
            "ours": lambda: encode_array(ours, x),
            "whole": lambda: encode(None),
            "chunks": lambda: encode(CHUNK),
        },
        "decode": {
            "ours": lambda: decode_array(ours, latents["ours"], n),
            "whole": lambda: decode(latents["whole"], None),
            "chunks": lambda: decode(latents["chunks"], CHUNK),
        },
    }
    computed = {
        "ours": WINDOW * len(ours.model.windows(0, latents["ours"].shape[2], 0, latents["ours"].shape[2])),
        "whole": latents["whole"].shape[-1],
        "chunks": WINDOW * (latents["chunks"].shape[1] if latents["chunks"].ndim == 4 else 1),
    }
    return {
        "seconds": seconds,
        "latent_frames": -(-n // FRAME_SAMPLES),
        "latent_frames_computed": computed,
        **{what: turns(group, runs) for what, group in calls.items()},
    }


def turns(calls: Mapping[str, Call], runs: int) -> common.Figures:
    """Seconds of every call, which take turns, and by how much "ours" is faster: the medians of either."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    mine = times.pop("ours")
    return {
        "runs": runs,
        "seconds": {name: round(statistics.median(t), 4) for name, t in {"ours": mine, **times}.items()},
        "times_faster": {
            name: round(statistics.median(b / a for a, b in zip(mine, t, strict=True)), 3) for name, t in times.items()
        },
    }


def shares(call: Call, runs: int) -> common.Figures:
    """Seconds of one call by kind of work."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(runs):
            call()
    seconds = dict.fromkeys((kind for kind, _ in KINDS), 0.0)
    for event in record.key_averages():
        kind = next(kind for kind, parts in KINDS if any(part in event.key for part in parts))
        seconds[kind] += event.self_cpu_time_total / 1e6 / runs
    return {kind: round(s, 4) for kind, s in seconds.items()}


def gflop(call: Call) -> float:
    """GFLOP of the peer's call as published: convolutions and matrix products, by definition."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its kernel cannot be counted
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            call()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return round(counter.get_total_flops() / 1e9, 1)


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Largest difference over the largest magnitude."""
    return float(f"{float((ours - theirs).abs().max() / theirs.abs().max()):.2g}")


if __name__ == "__main__":
    main()
