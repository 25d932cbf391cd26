"""A report in every form, read back: our figures, the paper's beside them, and which is which."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from eval_helpers import Affine

from lincae_core.evaluation import report
from lincae_core.evaluation.dataset import find_tracks
from lincae_core.evaluation.references import Identity
from lincae_core.evaluation.report import (
    PAPER_LINEARITY,
    PAPER_SEPARATION,
    Cell,
    Column,
    Row,
    mark_best,
    render,
    tables,
    write_html,
)
from lincae_core.evaluation.results import Settings, dump_results, evaluate
from lincae_formats.errors import LincaeError

NAMES = ["sound", "vocals", "separated", "linearity", "separation", "stems", "sums", "sdr", "si-sdr", "speed"]


class Odd(Affine):
    """A label that every format must escape, and no arithmetic of latents."""

    name, label, fingerprint, linear = "odd", "A|B & <i>50 %_$#~^{}\\", "odd:1", False


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def results(folder, base):
    found, failures = evaluate(
        folder, find_tracks(folder), [Identity(), Affine(0.003), Odd()], base, Settings(seconds=0.7), device="cpu"
    )
    assert not failures
    return found


@pytest.fixture(scope="module")
def shown(results):
    return {table.name: table for table in tables(results)}


def published():
    return {"linearity": PAPER_LINEARITY, "separation": PAPER_SEPARATION}


def titles(table):
    return [column.title for column in table.columns]


def mean(results, system, measure, metric, target="mixture"):
    key = (system, measure, metric, target)
    (found,) = [m for m in results["measures"] if (m["system"], m["measure"], m["metric"], m["target"]) == key]
    return found["mean"]


def test_tables_hold_what_was_measured_and_what_was_published(results, shown):
    assert list(shown) == NAMES
    affine = shown["linearity"].rows[1]
    assert affine.cells[2].value == mean(results, "affine", "add", "mss")
    assert affine.cells[4].value == mean(results, "affine", "enc_add", "error")
    assert shown["separation"].rows[1].cells[-1].value == mean(results, "affine", "sep", "mss", "vocals")
    assert titles(shown["sums"]) == ["2", "3", "4"]
    assert shown["sums"].rows[1].cells[0].n == 2
    assert shown["sums"].rows[1].cells[2].n == 1  # one track has no bass
    assert shown["sums"].rows[1].cells[2].low is None
    for name, figures in published().items():
        paper = [row for row in shown[name].rows if row.source == "paper"]
        assert {row.label: tuple(c.value for c in row.cells) for row in paper} == figures
        assert [row.source for row in shown[name].rows] == ["measured"] * 3 + ["paper"] * 4
    assert all(row.source == "measured" for name in NAMES if name not in published() for row in shown[name].rows)


def test_the_paper_has_a_column_for_each_of_ours(shown):
    assert titles(shown["linearity"]) == ["Recons.", "Hom.", "Add.", "Enc. hom. err", "Enc. add. err"]
    assert titles(shown["separation"]) == ["Recons.", "Bass", "Drums", "Other", "Vocals"]


def test_a_stem_that_no_track_has_is_no_column(results):
    fewer = {**results, "measures": [m for m in results["measures"] if m["target"] != "bass"]}
    table = {t.name: t for t in tables(fewer)}["separation"]
    assert titles(table) == ["Recons.", "Drums", "Other", "Vocals"]
    assert [c.value for c in table.rows[-1].cells] == [v for i, v in enumerate(PAPER_SEPARATION["Lin-CAE"]) if i != 1]


def test_csv(results, shown):
    rows = list(csv.DictReader(io.StringIO(render(results, "csv"))))
    assert {row["table"] for row in rows} == set(NAMES)
    cells = [
        (t, r, c, cell) for t in shown.values() for r in t.rows for c, cell in zip(t.columns, r.cells, strict=True)
    ]
    filled = [(t, r, c, cell) for t, r, c, cell in cells if cell.value is not None]
    assert len(rows) == len(filled)
    for row, (table, line, column, cell) in zip(rows, filled, strict=True):
        assert (row["table"], row["system"], row["source"], row["column"]) == (
            table.name, line.label, line.source, column.title,
        )  # fmt: skip
        assert float(row["mean"]) == pytest.approx(cell.value, rel=1e-5)
        assert (row["low"] == "") == (cell.low is None)
        assert int(row["n"] or 0) == cell.n
    assert {row["source"] for row in rows} == {"measured", "paper"}


def test_json(results, base, tmp_path):
    (tmp_path / "deep.json").write_text(dump_results(results, base, tmp_path))
    read = json.loads((tmp_path / "deep.json").read_text())
    assert read["measures"] == results["measures"]
    by_name = {table["name"]: table for table in read["tables"]}
    for name, figures in published().items():
        paper = {r["label"]: [c["value"] for c in r["cells"]] for r in by_name[name]["rows"] if r["source"] == "paper"}
        assert paper == {label: list(values) for label, values in figures.items()}
    example = read["examples"][0]
    assert (tmp_path / example["estimate"]).resolve() == (base / results["examples"][0]["estimate"]).resolve()
    assert (tmp_path / example["estimate"]).is_file()
    assert json.loads(dump_results(results, base, base))["examples"] == results["examples"]
    assert [table["name"] for table in read["tables"]] == [table.name for table in tables(results)]


def test_markdown(results, shown):
    text = render(results, "markdown")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip().replace("\\|", "|") for cell in row] for row in rows]
    assert [row for row in rows if row[0] == ""] == [["", "source", *titles(t)] for t in shown.values()]
    start = next(i for i, row in enumerate(rows) if "Enc. hom. err" in row)
    measured = [row for row in rows[start:] if row[1] == "measured here"]
    assert [row[0] for row in measured[:3]] == ["Identity", "Affine", Odd.label]
    assert float(measured[1][4].split()[0]) == pytest.approx(mean(results, "affine", "add", "mss"), abs=6e-4)
    assert re.fullmatch(r"\d\.\d{3} ±\d\.\d{3}", measured[1][4])
    assert measured[2][3] == "-"
    paper = [row for row in rows if row[1] == "the paper's"]
    assert ["Lin-CAE", "the paper's", *(f"{v:.2f}" for v in PAPER_LINEARITY["Lin-CAE"])] in paper
    assert len(paper) == 8


def test_latex(results):
    text = render(results, "latex")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(NAMES)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(NAMES)
    bare = re.sub(r"\\[&%$#_{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#~^_<]", re.sub(r"\\(textless|textgreater)", "", bare).replace("<i>", ""))
    for tabular in re.findall(r"\\begin\{tabular\}\{(l r*|lr*)\}(.*?)\\end", text, re.S):
        lines = [line for line in tabular[1].splitlines() if line.endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(tabular[0])}
    assert "Lin-CAE (paper) & 1.01" in text
    assert re.search(r"^Affine & [\d.]+ \{\\scriptsize\$\\pm\$[\d.]+\}", text, re.M)


def test_terminal(results):
    text = render(results, "terminal")
    assert max(map(len, text.splitlines())) < 160
    assert not re.search(r"[ \t]$", text, re.M)
    assert "\x1b" not in text
    first = next(part for part in text.split("\n\n") if part.startswith("Linearity")).splitlines()
    assert re.match("Linearity.*lower is better", first[0])
    assert next(line for line in first if line.startswith("Lin-CAE (paper)")).split()[2:] == [
        f"{v:.2f}" for v in PAPER_LINEARITY["Lin-CAE"]
    ]
    points = {
        [m.start() for m in re.finditer(r"\.\d", line)][1] for line in first if re.match(r"Identity|Affine", line)
    }
    assert len(points) == 1  # figures stand below each other


class Page(HTMLParser):
    """What is in a page: tags with their attributes, and the text of table cells."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.cells, self.rows, self.text = [], [], None, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.cells = []
        elif tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows.append([cell.strip() for cell in self.cells])
            self.cells = None

    def handle_data(self, data):
        self.text += data
        if self.cells:
            self.cells[-1] += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page(results, base, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_html(results, base, path)
    return Page(path.read_text(encoding="utf-8"))


def test_the_page_is_whole_and_needs_nothing_else(page):
    assert page.open == []
    links = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert all(link.startswith(("data:", "#")) for link in links)
    anchors = {link[1:] for link in links if link.startswith("#")}
    assert anchors <= {a["id"] for _, a in page.tags if "id" in a}
    assert {a["id"] for a in page.of("table")} == set(NAMES)


def test_the_page_has_a_player_and_a_picture_of_every_operation_and_system(page, results):
    operations = {(e["track"], e["operation"]) for e in results["examples"]}
    assert len(operations) == 2 * 4
    wanted = len(results["examples"]) + len(operations)  # the truth of each, too
    assert len(page.of("audio")) == len(page.of("img")) == wanted
    assert all(a["src"].startswith("data:audio/ogg;base64,") for a in page.of("audio"))
    missing = len(operations) * 3 - len(results["examples"])
    assert page.text.count("no arithmetic of latents") == missing == 6


def test_the_page_says_whose_figures_are_whose(page):
    groups = [row[0] for row in page.rows if len(row) == 1]
    assert groups == ["measured in this run", "the paper's figures, on its own data (arXiv 2510.23530)"] * 2
    start = next(i for i, row in enumerate(page.rows) if len(row) == 1 and "paper" in row[0])
    labels = [row[0] for row in page.rows[start + 1 : start + 5]]
    assert labels == list(PAPER_LINEARITY)
    assert [cell.split()[0] for cell in page.rows[start + 4][1:]] == [f"{v:.2f}" for v in PAPER_LINEARITY["Lin-CAE"]]
    assert Odd.label in page.text  # escaped


def test_figures_that_read_the_same_are_marked_the_same():
    figures = {"a": 0.00014, "b": 0.00012, "c": 0.2, "identity": 0.0, None: 0.0}
    rows = [Row(str(n), "measured" if n else "paper", (Cell(v).shown(3, True),), n) for n, v in figures.items()]
    assert [row.label for row in mark_best([Column("Error")], rows) if row.cells[0].best] == ["a", "b"]


def test_the_page_marks_the_best(page, shown):
    cells = [a for a in page.of("td") if a.get("class") == "best"]
    best = [(row.system, cell) for table in shown.values() for row in table.rows for cell in row.cells if cell.best]
    assert len(cells) == len(best) > 0
    assert {system for system, _ in best} <= {"affine", "odd"}


def test_the_table_of_sound_has_what_each_system_costs(results, shown):
    assert titles(shown["sound"]) == ["kbit/s", "SDR, dB", "Tone", "Octaves, dB", "MSS"]
    identity, affine, _ = shown["sound"].rows
    assert identity.cells[0].value == pytest.approx(32 * 44.1)
    assert affine.cells[2].value == pytest.approx(1, abs=0.2)
    assert affine.cells[4].value == mean(results, "affine", "recon", "mss")


def test_a_page_of_many_tracks_has_players_of_some(results, base, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HEARD", 1)
    write_html(results, base, tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert 0 < len(page.of("audio")) < len(results["examples"])
    assert "of 2 tracks, the first 1" in page.text


def test_an_excerpt_that_is_gone(results, base, tmp_path):
    gone = {**results, "examples": [{**results["examples"][0], "estimate": "none.ogg"}]}
    with pytest.raises(LincaeError, match=r"none\.ogg"):
        write_html(gone, base, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
