"""Writes a model's card from what its training and its scoring left behind; no figure is typed by hand.

python bench/card.py RUN_DIR SCORE.json --hardware "2 CPU cores" -o lincae_core/weights/frame-0.4.md
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import yaml

from lincae_core.models.registry import read_info

SCORES = {
    "recon": "reconstruction of mixtures, MSS",
    "snr dB": "reconstruction of mixtures, SNR in dB",
    "hom / recon": "homogeneity, MSS against reconstruction",
    "add / recon": "additivity (sum of the stems' latents), MSS against reconstruction",
    "sep bass / recon bass": "bass by subtraction, MSS against its reconstruction",
    "sep drums / recon drums": "drums by subtraction, MSS against its reconstruction",
    "sep other / recon other": "other by subtraction, MSS against its reconstruction",
    "sep vocals / recon vocals": "vocals by subtraction, MSS against its reconstruction",
    "enc hom": "encoder homogeneity, relative error",
    "enc add": "encoder additivity, relative error",
}

LIMITS = """The budget is small, and 64 linear measurements of 4096 samples hold the waveform below some hundred Hz and the level of
bands above. What lies between is the decoder's guess: music comes back with its bass, its rhythm and its colour, with
voices and details blurred. It is no replacement for a hi-fi codec. What holds is the arithmetic. One step decodes best:
what training looks at is what one step gives, and `--steps 2` is further from the truth."""


def encoder(model: dict[str, Any]) -> str:
    """What makes the latents."""
    if not model["linear_path"]:
        return "a network; what linearity it has it learned"
    if model["encoder_network"]:
        return "a linear analysis plus a network"
    return "a linear analysis alone, so sums, differences and gains of latents are exact to rounding"


def method(recipe: dict[str, Any]) -> str:
    """How it learned."""
    tricks = recipe["linearity"]["mixtures"] == "latent"
    parts = ["the paper's two linearity tricks (arXiv 2510.23530)" if tricks else "no linearity tricks: the ablation"]
    decoded = recipe.get("decoded", {})
    if decoded.get("spectral"):
        parts.append(
            "a loss beyond the paper's on what one decoding step gives: the multi-resolution mel distance by which it is "
            "scored below, and the distance of frames"
        )
    share = recipe["consistency"].get("share", 1)
    parts.append("consistency training" + (f" on {share:.3g} of the items" if share < 1 else ""))
    return "; ".join(parts)


def begins(recipe: dict[str, Any]) -> str:
    """What the training began from, a line; nothing where it began from scratch."""
    if not recipe["initial"]:
        return ""
    return f"- Began from the weights of `{recipe['initial']}`, which have a card of their own.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the training")
    parser.add_argument("score", type=Path, help="--json output of score_linearity.py")
    parser.add_argument("--hardware", required=True)
    parser.add_argument("--recipe", help="how the recipe is called with its changes; by default recipes/NAME.yaml")
    parser.add_argument("-o", "--output", type=Path, required=True)
    a = parser.parse_args()
    recipe = yaml.safe_load((a.run / "recipe.yaml").read_text())
    info = read_info(a.run / f"{recipe['name']}.safetensors")
    last = list(csv.DictReader((a.run / "metrics.csv").open()))[-1]
    score = json.loads(a.score.read_text())
    scores = "\n".join(f"| {text} | {score[key]:.3f} |" for key, text in SCORES.items() if key in score)
    data, model = recipe["data"], recipe["model"]
    a.output.write_text(f"""# {info.name} {info.version}

An audio autoencoder: 64 numbers for every 4096 samples at 44.1 kHz, per channel (`lincae models show {info.name}`).

- Fingerprint: `{info.fingerprint}`
- Family `{info.family}`, {info.parameters / 1e6:.1f} million parameters, float16, {info.size_bytes / 1e6:.1f} MB
- Licence of the weights: CC BY-SA 4.0 (the training audio holds share-alike music)

## Training

- Encoder: {encoder(model)}.
- Method: {method(recipe)}.
- Data: 625 clips of up to 38 s (6.6 h) of free music, speech and drums, from packages of the Debian archive (game music for
  the most part); {data["held_out"]:.0%} of the files held out.
{begins(recipe)}- Budget: {float(last["elapsed_s"]) / 60:.0f} minutes, {int(last["step"])} steps of {data["batch"]} crops of
  {data["crop_frames"]} STFT frames and as many mixtures.
- Hardware: {a.hardware}.
- Recipe: `{a.recipe or f"recipes/{info.name}.yaml"}`.

## Scores

On three tracks of 30 s that were not trained on (Software-Entwicklungskit, CC0), mono, by `score_linearity.py`. MSS is the
multi-scale spectral distance; smaller is better. Up to version 0.3 designs were compared on a third of these tracks, later ones on
held-out clips of the training data (`recipes/EXPERIMENTS.md`), so other music may come out somewhat worse.

| measure | value |
|---|---|
{scores}

## Limits

{LIMITS}
""")


if __name__ == "__main__":
    main()
