"""Writes a model's card from what its training and its scoring left behind; no figure is typed by hand.

python bench/card.py RUN_DIR SCORE.json --hardware "2 CPU cores" -o lincae_core/weights/frame.md
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the training")
    parser.add_argument("score", type=Path, help="--json output of score_linearity.py")
    parser.add_argument("--hardware", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    a = parser.parse_args()
    recipe = yaml.safe_load((a.run / "recipe.yaml").read_text())
    info = read_info(a.run / f"{recipe['name']}.safetensors")
    last = list(csv.DictReader((a.run / "metrics.csv").open()))[-1]
    score = json.loads(a.score.read_text())
    scores = "\n".join(f"| {text} | {score[key]:.3f} |" for key, text in SCORES.items() if key in score)
    trick = recipe["linearity"]["mixtures"] == "latent"
    how = "the paper's two linearity tricks" if trick else "no linearity tricks: the ablation"
    a.output.write_text(f"""# {info.name} {info.version}

A linear audio autoencoder: 64 numbers for every 4096 samples at 44.1 kHz, per channel (`lincae models show {info.name}`).

- Fingerprint: `{info.fingerprint}`
- Family `{info.family}`, {info.parameters / 1e6:.1f} million parameters, float16, {info.size_bytes / 1e6:.1f} MB
- Licence of the weights: CC BY-SA 4.0 (the training audio holds share-alike music)

## Training

- Method: consistency training (arXiv 2510.23530) with {how}.
- Data: 625 clips of up to 38 s (6.6 h) of free music, speech and drums, from packages of the Debian archive (game music for
  the most part); {recipe["data"]["held_out"]:.0%} of the files held out.
- Budget: {float(last["elapsed_s"]) / 60:.0f} minutes, {int(last["step"])} steps of {recipe["data"]["batch"]} crops of
  {recipe["data"]["crop_frames"]} STFT frames and as many mixtures.
- Hardware: {a.hardware}.
- Recipe: `recipes/{info.name}.yaml`.

## Scores

On three tracks of 30 s that were not trained on (Software-Entwicklungskit, CC0), mono, by `score_linearity.py`. MSS is the
multi-scale spectral distance; smaller is better.

| measure | value |
|---|---|
{scores}

## Limits

The budget is small. Expect a muffled, noisy sketch of the input rather than a faithful copy; what holds is the arithmetic:
sums, differences and gains of latents decode to sums, differences and gains of sounds as well as the sounds themselves do.
""")


if __name__ == "__main__":
    main()
