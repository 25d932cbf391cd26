"""Scores the linearity of several models with score_linearity.py and sets them side by side.

python bench/linearity.py --score frame=frame --score ablation=runs/frame-nonlinear/frame-nonlinear.safetensors
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import common
import table

TOOL = Path("..") / "shared" / "tools" / "score_linearity.py"
STEMS = Path("..") / "shared" / "stems"


def main() -> None:
    """Writes score_LABEL.json for every model, and linearity.json with all of them."""
    options = common.parser(__doc__)
    options.add_argument("--score", action="append", metavar="LABEL=MODEL", help="a model; may be repeated")
    options.add_argument("--tool", type=Path, default=TOOL, help="score_linearity.py")
    options.add_argument("--stems", type=Path, default=STEMS, help="folder of stems, as the tool takes it")
    options.add_argument("--parallel", action="store_true", help="all models at once, one thread each")
    options.add_argument("--seconds", type=float, help="only the first seconds of each track")
    options.add_argument("--tracks", nargs="*", help="only these tracks")
    a = options.parse_args()
    chosen = dict(pair.partition("=")[::2] for pair in a.score or [f"shipped={a.model}"])
    for label, model in chosen.items():
        if not label.isidentifier() or not model:
            options.error(f"--score {label}={model} is not LABEL=MODEL")
    if a.quick:
        a.seconds, a.tracks = a.seconds or 5.0, a.tracks or ["Lithium"]
    if not a.tool.is_file():
        sys.exit(f"{a.tool}: no such file; name the tool: --tool PATH")
    figures = {
        "tool": a.tool.name,
        "seconds_per_track": a.seconds,
        "tracks": sorted(p.name for p in a.stems.iterdir() if p.is_dir() and (not a.tracks or p.name in a.tracks)),
        "models": {label: common.model_facts(model) for label, model in chosen.items()},
    }
    scores: dict[str, dict[str, float]] = {}
    a.results.mkdir(parents=True, exist_ok=True)

    with common.scratch() as (_, environment):
        running = {}
        if a.parallel:
            environment = {**environment, "OMP_NUM_THREADS": "1"}
        for label, model in chosen.items():
            out = a.results / f"score_{label}.json"
            command = [sys.executable, str(a.tool), "--stems", str(a.stems), "--lincae", a.lincae, "--json", str(out)]
            command += ["--model", model]
            command += ["--seconds", str(a.seconds)] if a.seconds else []
            command += ["--tracks", *a.tracks] if a.tracks else []
            print(label, file=sys.stderr)
            running[label] = subprocess.Popen(command, env=environment, stdout=sys.stderr)
            if not a.parallel:
                running[label].wait()
        for label, process in running.items():
            if process.wait():
                sys.exit(f"{label}: {a.tool.name} failed")
            scores[label] = json.loads((a.results / f"score_{label}.json").read_text(encoding="utf-8"))
            # After every model: what is scored already is not lost when a later one fails.
            common.save("linearity", {**figures, "scores": scores}, a.results)
    print(table.markdown(scores))


if __name__ == "__main__":
    main()
