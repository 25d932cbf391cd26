"""Layers: lincae_cli imports lincae_core imports lincae_formats; no import cycle, no two modules of one name."""

from collections import Counter
from pathlib import Path

import pytest

grimp = pytest.importorskip("grimp")
ROOT = Path(__file__).parents[1]
PACKAGES = {"lincae_cli": ROOT, "lincae_core": ROOT, "lincae_formats": ROOT / "formats"}
LAYERS = list(PACKAGES)  # each may import those after it


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph(*PACKAGES, cache_dir=None)


def test_imports_run_one_way(graph):
    wrong = [
        (module, imported)
        for module in graph.modules
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.split(".")[0] in LAYERS
        and LAYERS.index(imported.split(".")[0]) < LAYERS.index(module.split(".")[0])
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_there_is_no_import_cycle(graph, package):
    inside = {module for module in graph.modules if module.split(".")[0] == package}
    imports = {module: graph.find_modules_directly_imported_by(module) & inside for module in inside}
    # Importing a module imports the packages around it as well; that is no cycle of ours.
    left = {m: {i for i in found if not m.startswith(f"{i}.")} for m, found in imports.items()}
    while free := [m for m, found in left.items() if not found & left.keys() or not any(m in f for f in left.values())]:
        for module in free:
            del left[module]
    cyclic = {module: sorted(found & left.keys()) for module, found in left.items()}
    assert cyclic == {}


def test_no_two_modules_share_a_name():
    names = Counter(
        path.stem
        for package, folder in PACKAGES.items()
        for path in (folder / package).rglob("*.py")
        if path.stem not in ("__init__", "__main__")
    )
    assert [name for name, count in names.items() if count > 1] == []
