"""Linearity of every quality of a model by `lincae eval`, beside the best linear codec, as Markdown.

    python bench/linearity.py --data STEMS

Every sum and difference of the paper's protocols, as MSS and SDR; what separation costs is "Sep." against "Recons.".
"""

from __future__ import annotations

from pathlib import Path

import common
from sound import systems, tables

from lincae_core.evaluation.dataset import find_tracks


def main() -> None:
    options = common.parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="tracks with stems, as `lincae eval` takes them")
    options.add_argument("--seconds", default="30", help="of each track")
    options.add_argument(
        "--out", type=Path, default=Path("build") / "linearity", help="folder for figures and excerpts"
    )
    a = options.parse_args()
    anchors = ["klt"] if len(find_tracks(a.data)) > 1 else []  # fitted on the other tracks
    found = tables(
        a, [*systems(a.model), *anchors], ("Linearity", "Oracle", "Reconstruction", "SDR"), "--subtype", "FLOAT"
    )
    print(found)


if __name__ == "__main__":
    main()
