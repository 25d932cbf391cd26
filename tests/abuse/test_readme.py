"""The list of abuses is complete."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_abuse_is_in_the_list():
    listed = (HERE / "README.md").read_text(encoding="utf-8")
    tests = {name for path in HERE.glob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)}
    named = set(re.findall(r"`(test_\w+)`", listed))
    assert tests - named == {"test_every_abuse_is_in_the_list"}
    everywhere = {
        n for path in HERE.parent.rglob("test_*.py") for n in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert named <= everywhere
