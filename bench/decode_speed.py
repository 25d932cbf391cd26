"""Encode and decode speed of a model, beside the network of `linear-cae` 0.1.4 on the same threads in one run.

The peer has random weights at the paper's configuration: speed does not depend on their values. Get it with

    pip install --no-deps --target build/peers linear-cae==0.1.4

Without it the model is measured alone. `--model random:unet` measures the same network in this project's code.
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

FRAME_SAMPLES = 4096


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--models", nargs="+", metavar="M", help="more models, or random:FAMILY")
    options.add_argument("--seconds", type=float, nargs="+", default=(10.0, 60.0), help="lengths of audio, s")
    options.add_argument("--runs", type=int, default=5, help="runs, of which the median counts")
    options.add_argument("--threads", type=int, default=common.cores(), help="threads; by default all cores")
    options.add_argument("--peer", type=Path, default=Path("build") / "peers", help="folder of linear-cae")
    options.add_argument("--peer-frames", type=int, default=32, help="latent frames the peer decodes at once")
    options.add_argument("--peer-runs", type=int, default=3)
    a = options.parse_args()
    if a.quick:
        a.seconds, a.runs, a.peer_frames, a.peer_runs = [4.0], 1, 8, 1
    torch.set_num_threads(a.threads)
    figures: common.Figures = {"threads": a.threads, "rows": []}
    for name in (a.model, *(a.models or ())):
        figures["rows"] += [ours(name, seconds, a.runs) for seconds in a.seconds]
    peer = load_peer(a.peer)
    if peer is not None:
        figures["linear_cae"] = theirs(peer, a.peer_frames, a.peer_runs)
        for row in figures["rows"]:
            for what in ("encode", "decode"):
                row[f"{what}_times_linear_cae"] = round(row[what] / figures["linear_cae"][what], 1)
    common.show(figures, a)


def ours(name: str, seconds: float, runs: int) -> common.Figures:
    """Times real time on one length of noise, mono, arrays in memory."""
    from lincae_core.evaluation.systems import Options, choose_systems

    print(f"{name}: {seconds:.3g} s", file=sys.stderr)
    (system,) = choose_systems([name], [], Options("cpu"))
    n = round(seconds * common.SAMPLE_RATE)
    audio = 0.1 * np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    z = system.encode(audio)
    spent = {
        "encode": common.times(lambda: system.encode(audio), runs),
        "decode": common.times(lambda: system.decode(z, n), runs),
    }
    return {"model": name, "seconds": seconds, **{k: round(seconds / v["median_s"], 2) for k, v in spent.items()}}


@torch.inference_mode()
def theirs(peer: Any, frames: int, runs: int) -> common.Figures:
    """Times real time of the peer on one piece of latent frames, without the overlaps of longer audio."""
    n, seconds = frames * FRAME_SAMPLES + 3 * 512, frames * FRAME_SAMPLES / common.SAMPLE_RATE
    print(f"linear-cae: {seconds:.3g} s", file=sys.stderr)
    audio, z = 0.1 * torch.randn(1, n), torch.randn(1, 64, frames)
    spent = {
        "encode": common.times(lambda: peer.encode(audio), runs),
        "decode": common.times(lambda: peer.decode(z), runs),
    }
    return {"seconds": round(seconds, 3), **{k: round(seconds / v["median_s"], 3) for k, v in spent.items()}}


def load_peer(folder: Path) -> Any | None:
    """The peer at the paper's configuration with random weights; None where it is not installed."""
    if folder.is_dir():
        sys.path.append(str(folder))
    if "huggingface_hub" not in sys.modules and importlib.util.find_spec("huggingface_hub") is None:
        stub = types.ModuleType("huggingface_hub")  # it only downloads weights, which are not needed here
        stub.hf_hub_download = None  # type: ignore[attr-defined]
        sys.modules["huggingface_hub"] = stub
    try:
        from linear_cae import Autoencoder as Peer  # type: ignore[import-not-found]
    except ImportError:
        print("linear-cae is not installed, so nothing is compared; see --help", file=sys.stderr)
        return None
    torch.manual_seed(0)
    frontend = {"hop_size": 512, "n_fft_factor": 4, "alpha_rescale": 0.65, "beta_rescale": 0.34}
    peer = Peer(frontend, {"hop": 512}, {}, name="lin-cae").eval()
    with torch.no_grad():
        for parameter in peer.parameters():
            if parameter.ndim > 1 and not parameter.any():
                parameter.normal_(std=0.02)  # layers that begin at zero would make the output noise alone
    return peer


if __name__ == "__main__":
    main()
