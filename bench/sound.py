"""Sound of every quality of a model beside Opus, by `lincae eval --judges`, as Markdown.

    python bench/sound.py --data STEMS [--seconds 10]

Mixtures, vocals, and vocals by subtraction; needs `pip install 'lincae[judges]'` and basic-pitch.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import common

TABLES = ("Sound of", "Stereo")


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="tracks with stems, as `lincae eval` takes them")
    options.add_argument("--seconds", default="10", help="of each track")
    options.add_argument("--opus", nargs="*", default=("12", "24"), help="kbit/s")
    options.add_argument("--out", type=Path, default=Path("build") / "sound", help="folder for figures and excerpts")
    a = options.parse_args()
    print(tables(a, [*systems(a.model), *(f"opus-{k}" for k in a.opus)], TABLES))


def systems(model: str) -> list[str]:
    """A model at each of its qualities."""
    from lincae_core.models.store import qualities

    return [f"{model}:{quality}" for quality in qualities(model)] or [model]


def tables(options: object, models: list[str], titles: tuple[str, ...], *more: str) -> str:
    """Those tables of `lincae eval` whose titles begin so, as Markdown."""
    a = options
    command = [*shlex.split(a.lincae), "eval", "--data", str(a.data), "-o", str(a.out), "--markdown", "-", *more]  # type: ignore[attr-defined]
    command += ["--seconds", "3" if a.quick else a.seconds, *(["--judges"] if "Sound of" in titles else [])]  # type: ignore[attr-defined]
    command += [word for model in models for word in ("--model", model)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    found = [part for part in done.stdout.split("\n\n**") if part.removeprefix("**").startswith(titles)]
    return "\n\n".join("**" + part.removeprefix("**").strip() for part in found)


if __name__ == "__main__":
    main()
