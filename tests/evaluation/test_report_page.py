"""The report in a real browser: players load, pictures and tables are there, the console is quiet."""

import importlib.util
import re
from pathlib import Path

import pytest
from eval_helpers import Affine

from lincae_core.evaluation.dataset import find_tracks
from lincae_core.evaluation.report import write_html
from lincae_core.evaluation.results import Settings, evaluate

SCRIPT = Path(__file__).parents[2] / "bench" / "report_check.py"
spec = importlib.util.spec_from_file_location("report_check", SCRIPT)
report_check = importlib.util.module_from_spec(spec)
spec.loader.exec_module(report_check)
BROWSER = report_check.find_browser()

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def report(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    results, _ = evaluate(
        folder, find_tracks(folder, ["Apple & Pear"]), [Affine()], out, Settings(seconds=0.5), device="cpu"
    )
    write_html(results, out, out / "report.html")
    return out / "report.html"


def test_a_browser_shows_all_of_it(report, tmp_path):
    found = report_check.check(report, BROWSER, tmp_path / "page.png")
    assert report_check.problems(found) == []
    assert found["players"] == found["images"] == 8
    assert len(found["tables"]) == 10
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")


def test_the_check_sees_what_is_wrong(report, tmp_path):
    text = report.read_text(encoding="utf-8")
    text = re.sub(r"data:audio/ogg;base64,.{100}", "data:audio/ogg;base64,", text, count=1)
    text = re.sub(r"data:image/png;base64,.{100}", "data:image/png;base64,", text, count=1)
    text = text.replace('href="#systems"', 'href="#nowhere"').replace("</body>", "<script>nothing()</script></body>")
    text = text.replace("</body>", '<img src="https://127.0.0.1:9/a.png"></body>')
    bad = tmp_path / "bad.html"
    bad.write_text(text, encoding="utf-8")
    wrong = "\n".join(report_check.problems(report_check.check(bad, BROWSER)))
    for part in ("7 of 8 players", "of 9 pictures", "#nowhere", "nothing is not defined", "127.0.0.1:9/a.png"):
        assert part in wrong
