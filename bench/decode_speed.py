"""Encode and decode speed of the model beside the network of `linear-cae` 0.1.4, on the same threads in one run.

The peer has random weights at the paper's configuration: speed does not depend on the weights' values. Get it with

    pip install --no-deps --target build/peers linear-cae==0.1.4

Without it the model is measured alone.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from training_speed import peak

from lincae_core.models.autoencoder import Autoencoder
from lincae_core.models.registry import load
from lincae_core.stream import decode_array, encode_array

PEER = "linear-cae"
PEER_VERSION = "0.1.4"
GET_PEER = f"pip install --no-deps --target build/peers {PEER}=={PEER_VERSION}"
FRAME_SAMPLES = 4096


def main() -> None:
    """Measures and writes decode_speed.json."""
    options = common.parser(__doc__)
    options.add_argument("--seconds", type=float, nargs="+", default=(10.0, 60.0), help="lengths of audio, s")
    options.add_argument("--runs", type=int, default=5, help="runs, of which the median counts")
    options.add_argument("--threads", type=int, default=common.cores(), help="threads; by default all cores")
    options.add_argument("--peer", type=Path, default=common.ROOT / "build" / "peers", help="where the peer lies")
    options.add_argument("--peer-frames", type=int, default=32, help="latent frames the peer decodes at once")
    options.add_argument("--peer-runs", type=int, default=3)
    a = options.parse_args()
    if a.quick:
        a.seconds, a.runs, a.peer_frames, a.peer_runs = [4.0], 1, 8, 1
    torch.set_num_threads(a.threads)

    model = load(a.model, device="cpu")
    peer = load_peer(a.peer)
    short = a.peer_frames * FRAME_SAMPLES / common.SAMPLE_RATE
    lengths = sorted({*a.seconds, *([short] if peer else [])})
    figures: common.Figures = {"threads": a.threads, "rows": [ours(model, s, a.runs) for s in lengths]}
    figures["work"] = work(model, figures["rows"][-1])
    if peer is None:
        print(f"{PEER} is not there, so nothing is compared; get it with: {GET_PEER}", file=sys.stderr)
    else:
        figures["peer"] = theirs(peer, a.peer_frames, a.peer_runs)
        figures["ratios"] = {
            what: {f"{row['seconds']:.3g}": round(row[key] / figures["peer"][key], 1) for row in figures["rows"]}
            for what, key in (("decode", "decode_times_real_time"), ("encode", "encode_times_real_time"))
        }
    common.save("decode_speed", figures, a.results, a.model)


def ours(model: Autoencoder, seconds: float, runs: int) -> common.Figures:
    """Speed on one length of noise, mono, arrays in memory."""
    print(f"{model.name}: {seconds:.3g} s", file=sys.stderr)
    n = round(seconds * common.SAMPLE_RATE)
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, n), dtype=np.float32)
    z = encode_array(model, audio)
    return _speeds(
        n / common.SAMPLE_RATE,
        common.median_seconds(lambda: encode_array(model, audio), runs),
        common.median_seconds(lambda: decode_array(model, z, n), runs),
    )


def work(model: Autoencoder, row: common.Figures) -> common.Figures:
    """FLOPs of a second of audio, how fast they were done in the row's runs, and the machine's peak in float32."""
    n = 20 * common.SAMPLE_RATE
    audio = 0.1 * np.random.default_rng(0).standard_normal((1, n), dtype=np.float32)
    z = encode_array(model, audio)
    found: common.Figures = {"peak_gflop_s": peak(torch.device("cpu"), "float32")}
    for what, call in (("encode", lambda: encode_array(model, audio)), ("decode", lambda: decode_array(model, z, n))):
        with FlopCounterMode(display=False) as counter:
            call()
        gflop = counter.get_total_flops() / 1e9 / 20
        rate = gflop * row[f"{what}_times_real_time"]
        found[what] = {"gflop_per_audio_s": round(gflop, 3), "gflop_s": round(rate, 1)}
    return found


@torch.inference_mode()
def theirs(peer: Any, frames: int, runs: int) -> common.Figures:
    """Speed of the peer on one piece of `frames` latent frames, without the overlaps that its long audio costs."""
    n = frames * FRAME_SAMPLES + 3 * 512
    print(f"{PEER}: {n / common.SAMPLE_RATE:.3g} s", file=sys.stderr)
    audio = 0.1 * torch.randn(1, n)
    z = torch.randn(1, 64, frames)
    speeds = _speeds(
        frames * FRAME_SAMPLES / common.SAMPLE_RATE,
        common.median_seconds(lambda: peer.encode(audio), runs),
        common.median_seconds(lambda: peer.decode(z), runs),
    )
    parameters = sum(p.numel() for p in peer.generator.parameters())
    return {"name": PEER, "version": PEER_VERSION, "parameters": parameters, "latent_frames": frames, **speeds}


def load_peer(folder: Path) -> Any | None:
    """The peer at the paper's configuration with random weights; None where it is not installed."""
    if folder.is_dir():
        sys.path.append(str(folder))
    if "huggingface_hub" not in sys.modules and importlib.util.find_spec("huggingface_hub") is None:
        # It only downloads weights, which are not wanted here.
        stub = types.ModuleType("huggingface_hub")
        stub.hf_hub_download = None  # type: ignore[attr-defined]
        sys.modules["huggingface_hub"] = stub
    try:
        from linear_cae import Autoencoder as Peer  # type: ignore[import-not-found]
    except ImportError:
        return None
    torch.manual_seed(0)
    frontend = {"hop_size": 512, "n_fft_factor": 4, "alpha_rescale": 0.65, "beta_rescale": 0.34}
    peer = Peer(frontend, {"hop": 512}, {}, name="lin-cae").eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.02)  # layers that begin at zero would make the output noise alone
    return peer


def _speeds(seconds: float, encode: dict[str, float | int], decode: dict[str, float | int]) -> common.Figures:
    return {
        "seconds": round(seconds, 3),
        "encode": encode,
        "decode": decode,
        "encode_times_real_time": round(seconds / encode["median_s"], 3),
        "decode_times_real_time": round(seconds / decode["median_s"], 3),
    }


if __name__ == "__main__":
    main()
