"""Runs the benchmarks one after the other, then writes BENCHMARKS.md. Leave the machine alone meanwhile."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import common
import held_out
import linearity
import report

ALL = (
    "evaluation",
    "cli_speed",
    "library",
    "extraction",
    "decode_speed",
    "unet_speed",
    "training_speed",
    "memory",
    "arrangement",
    "sizes",
    "linearity",
    "held_out",
)


def main() -> None:
    """Runs; a benchmark that fails does not stop the others."""
    options = common.parser(__doc__)
    options.add_argument("--only", nargs="+", choices=ALL, default=ALL, metavar="NAME", help=", ".join(ALL))
    options.add_argument("--score", action="append", metavar="LABEL=MODEL", help="models for linearity")
    options.add_argument("--tool", type=Path, default=linearity.TOOL, help="score_linearity.py")
    options.add_argument("--stems", type=Path, default=linearity.STEMS)
    options.add_argument("--peer", type=Path, help="where linear-cae lies")
    a = options.parse_args()
    shared = ["--lincae", a.lincae, "--model", a.model]
    if a.results != options.get_default("results"):
        shared += ["--results", str(a.results)]
    if a.quick:
        shared.append("--quick")
    extra: dict[str, list[str]] = {
        "decode_speed": ["--peer", str(a.peer)] if a.peer else [],
        "unet_speed": ["--peer", str(a.peer)] if a.peer else [],
        "linearity": ["--tool", str(a.tool), "--stems", str(a.stems)],
        "evaluation": ["--data", str(a.stems)],
    }
    for pair in a.score or []:
        extra["linearity"] += ["--score", pair]
    peers = a.peer or common.ROOT / "build" / "peers"
    missing = {
        "evaluation": "" if a.stems.is_dir() else f"{a.stems} is not there; name it: --stems PATH",
        "linearity": "" if a.tool.is_file() else f"{a.tool} is not there; name it: --tool PATH",
        "held_out": "" if held_out.MUSIC.is_dir() else f"{held_out.MUSIC} is not there",
        "unet_speed": ""
        if peers.is_dir() or find_spec("linear_cae")
        else f"linear-cae is not there; {report.GET_PEER}",
    }
    failed = []
    for name in a.only:
        if missing.get(name):
            print(f"{name}: skipped, {missing[name]}", file=sys.stderr)
            continue
        print(f"== {name}", file=sys.stderr)
        script = str(Path(__file__).with_name(f"{name}.py"))
        if subprocess.run([sys.executable, script, *shared, *extra.get(name, [])]).returncode:
            failed.append(name)
    writing = [sys.executable, str(Path(__file__).with_name("report.py")), "--results", str(a.results)]
    if a.quick:
        writing += ["--output", str(a.results / "BENCHMARKS.md")]
    failed += ["report"] if subprocess.run(writing).returncode else []
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
