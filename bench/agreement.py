"""Whether `lincae eval` and score_linearity.py, which knows the command line alone, measure the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BAR = 0.01  # relative difference of a figure
STEMS = ("bass", "drums", "other", "vocals")
FIGURES = (  # table and column of `lincae eval`, name in score_linearity.py
    ("linearity", "Recons.", "recon"),
    ("linearity", "Hom.", "hom"),
    ("linearity", "Add.", "add"),
    *(("separation", stem.capitalize(), f"sep {stem}") for stem in STEMS),
    *(("stems", stem.capitalize(), f"recon {stem}") for stem in STEMS),
)


def sentence(scores: dict[str, Any], evaluation: dict[str, Any]) -> str:
    """How far the two are apart at most; '' where they did not see the same.

    Args:
        scores: figures of linearity.json.
        evaluation: figures of eval.json.
    """
    apart = dict(differences(scores, evaluation["whole"]))
    if not apart:
        return ""
    worst = max(apart, key=lambda what: apart[what])
    return (
        f"\n\nThe {len(apart)} MSS figures that `{scores['tool']}` measured of the same weights on the same tracks, "
        f"through the command line,\ndiffer from these by {100 * apart[worst]:.2g} % at most ({worst}). "
        f"Asked for: {100 * BAR:g} %."
    )


def differences(scores: dict[str, Any], run: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """What was measured by both, and their relative difference."""
    if scores["tracks"] != run["tracks"] or scores["seconds_per_track"] is not None or "--seconds" in run["command"]:
        return
    rows = {(t["name"], row["system"]): (t["columns"], row["cells"]) for t in run["tables"] for row in t["rows"]}
    for label, facts in scores["models"].items():
        for system in (s for s in run["systems"] if s["fingerprint"] == facts["fingerprint"]):
            for name, column, key in FIGURES:
                columns, cells = rows.get((name, system["name"]), ((), ()))
                ours, theirs = dict(zip(columns, cells, strict=True)).get(column), scores["scores"][label].get(key)
                if ours is not None and ours["value"] is not None and theirs:
                    yield f"`{key}` of {system['name']} {system['version']}", abs(ours["value"] / theirs - 1)
