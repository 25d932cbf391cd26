"""Scores models on clips of the training audio that no training saw: designs are compared there, not on test tracks.

python bench/held_out.py --score frame --score frame-0.3 --score runs/frame/frame.safetensors
"""

from __future__ import annotations

import sys
from pathlib import Path

import common
import numpy as np

from lincae_core.evaluation.mss import mss
from lincae_core.evaluation.sdr import sdr
from lincae_core.models import registry
from lincae_core.stream import decode_array, encode_array
from lincae_core.training.data import find_files, is_held_out
from lincae_core.training.recipe import DataSection
from lincae_core.training.validation import load_validation

MUSIC = Path("..") / "shared" / "corpus"


def main() -> None:
    """Writes held_out.json."""
    options = common.parser(__doc__)
    options.add_argument("--score", action="append", metavar="MODEL", help="a model; may be repeated")
    options.add_argument("--music", type=Path, default=MUSIC, help="what the models were trained on")
    options.add_argument("--files", type=int, default=24)
    options.add_argument("--seconds", type=float, default=8.0, help="of each file, from its beginning")
    a = options.parse_args()
    if a.quick:
        a.files, a.seconds = 2, 2.0
    share = DataSection.model_fields["held_out"].default
    files = [path for path in find_files(a.music) if is_held_out(path, share)]
    clips = load_validation(files, a.files, a.seconds, rms=0.1)
    rows = []
    for name in a.score or [a.model]:
        print(name, file=sys.stderr)
        model = registry.load(name, "cpu")
        decoded = [decode_array(model, encode_array(model, x[None]), len(x))[0] for x in clips]
        distances = [mss(y, x, common.SAMPLE_RATE) for x, y in zip(clips, decoded, strict=True)]
        ratios = [sdr(y, x) for x, y in zip(clips, decoded, strict=True)]
        rows.append(
            {
                "model": f"{model.name} {model.version}",
                "fingerprint": model.fingerprint,
                "mss": round(float(np.mean(distances)), 4),
                "snr_db": round(float(np.mean(ratios)), 2),
            }
        )
    common.save("held_out", {"files": len(clips), "seconds": a.seconds, "rows": rows}, a.results)


if __name__ == "__main__":
    main()
