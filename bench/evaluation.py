"""Compares the shipped model, its ablation and the anchors with `lincae eval`, and a random-weight `unet` beside them.

The unet is slow on a CPU, and how bad an untrained network is shows in a few seconds: it has a run of its own on the
beginnings of the tracks, with the shipped model beside it. Parts are kept in build/eval, so that after a change of the
weights only what changed is measured again. The page with players is build/eval/report.html.

python bench/evaluation.py --data ../shared/stems --music ../shared/corpus
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import common

STEMS = Path("..") / "shared" / "stems"
MUSIC = Path("..") / "shared" / "corpus"
ABLATION = Path("runs") / "ablation" / "frame-nonlinear.safetensors"
OUT = Path("build") / "eval"
SPEED = "speed"  # the table left out: bench/decode_speed.py measures that on a quiet machine


def main() -> None:
    """Measures and writes eval.json."""
    options = common.parser(__doc__)
    options.add_argument("--data", type=Path, default=STEMS, help="tracks with stems")
    options.add_argument("--music", type=Path, default=MUSIC, help="what the models were trained on, for a second KLT")
    options.add_argument(
        "--ablation",
        default=str(ABLATION),
        help="weights trained without the linearity tricks (recipes/frame-nonlinear.yaml)",
    )
    options.add_argument("--slow", default="random:unet", help="the system with a run of its own; '' for none")
    options.add_argument("--slow-seconds", type=float, default=3.0, help="s of each track for it")
    options.add_argument("--out", type=Path, default=OUT, help="where parts, excerpts and the page are kept")
    a = options.parse_args()
    if not Path(a.ablation).is_file():
        print(f"{a.ablation}: not there, so left out; train it by recipes/frame-nonlinear.yaml", file=sys.stderr)
    models = [
        a.model,
        *([a.ablation] if Path(a.ablation).is_file() else []),
        "opus",
        "klt",
        *([f"klt:{a.music}"] if a.music.is_dir() else []),
    ]
    part: list[str] = []
    if a.quick:
        a.slow, models, part = "", [a.model, "opus"], ["--seconds", "2", "--tracks", "Lithium"]
    page = ["--html", str(a.out / "report.html")]
    figures: common.Figures = {"whole": run(a.lincae, a.data, models, [*part, *page], a.out)}
    common.save("eval", figures, a.results, a.model)  # what is measured is not lost if the slow one is stopped
    if a.slow:
        beginning = ["--seconds", f"{a.slow_seconds:g}"]
        figures["beginnings"] = run(a.lincae, a.data, [a.slow, a.model], beginning, a.out / "slow")
        common.save("eval", figures, a.results, a.model)


def run(lincae: str, data: Path, models: list[str], more: list[str], out: Path) -> dict[str, Any]:
    """What one `lincae eval` found: its tables, and what they were made of."""
    command = [lincae, "eval", "--data", str(data), *(word for m in models for word in ("--model", m)), *more]
    print(" ".join(["lincae", *command[1:]]), file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    result = out / "eval.json"
    done = subprocess.run(
        [*command, "--out", str(out), "--json", str(result), "--force"], stdout=subprocess.DEVNULL, env=os.environ
    )
    if done.returncode:
        sys.exit(f"lincae eval failed: exit {done.returncode}")
    found = json.loads(result.read_text(encoding="utf-8"))
    kept = ("name", "label", "version", "fingerprint", "notes", "latent_rate", "bytes_per_second")
    return {
        "command": " ".join(["lincae", *command[1:]]),
        "tracks": found["data"]["tracks"],
        "seconds": found["data"]["seconds"],
        "settings": found["settings"],
        "systems": [{key: system[key] for key in kept} for system in found["systems"]],
        "tables": [table for table in found["tables"] if table["name"] != SPEED],
    }


if __name__ == "__main__":
    main()
