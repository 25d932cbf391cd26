"""Opens a report of `lincae eval` in headless Chromium and checks it: tables, players, pictures, a quiet console.

python bench/report_check.py report.html --screenshot report.png
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROBE = """
<script>
window.errors = [];
addEventListener("error", e => errors.push(String(e.message)), true);
addEventListener("load", async () => {
  const players = [...document.querySelectorAll("audio")];
  const ready = a => a.readyState ? 0 : new Promise(r => { a.onloadedmetadata = a.onerror = r; a.load(); });
  await Promise.all(players.map(ready));
  const images = [...document.images];
  const note = document.createElement("script");
  note.id = "probe"; note.type = "application/json";
  note.textContent = JSON.stringify({
    players: players.length, playable: players.filter(a => a.duration > 0).length,
    images: images.length, drawn: images.filter(i => i.naturalWidth > 0).length,
    tables: [...document.querySelectorAll("table")].map(t => [t.id, t.rows.length]), errors: errors,
  });
  document.body.append(note);
});
</script>
"""


def find_browser() -> str | None:
    """Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def check(report: Path, browser: str, screenshot: Path | None = None) -> dict[str, object]:
    """What the browser made of the report.

    Returns:
        players, playable, images, drawn, tables (id and rows), errors, console.
    """
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(report.read_text(encoding="utf-8").replace("<body>", "<body>" + PROBE, 1), encoding="utf-8")
        profile = f"--user-data-dir={folder}/profile"
        if screenshot is not None:
            size = "--window-size=1280,2400"
            subprocess.run(
                [browser, *flags, profile, size, f"--screenshot={screenshot.resolve()}", report.resolve().as_uri()],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
        done = subprocess.run(
            [browser, *flags, profile, "--enable-logging=stderr", "--virtual-time-budget=60000", "--dump-dom",
             page.as_uri()],
            check=True, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
    match = re.search(r'<script id="probe"[^>]*>(.*?)</script>', done.stdout, re.S)
    if match is None:
        raise SystemExit(f"{report}: the page never finished loading")
    found: dict[str, object] = json.loads(match[1])
    found["console"] = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return found


def problems(found: dict[str, object]) -> list[str]:
    """What is wrong with a report, in words."""
    wrong = [f"script error: {e}" for e in found["errors"]] + [f"console: {line}" for line in found["console"]]
    if not found["players"] or found["playable"] != found["players"]:
        wrong.append(f"{found['playable']} of {found['players']} players play")
    if not found["images"] or found["drawn"] != found["images"]:
        wrong.append(f"{found['drawn']} of {found['images']} pictures are drawn")
    if not found["tables"] or any(rows < 2 for _, rows in found["tables"]):
        wrong.append(f"tables: {found['tables']}")
    return wrong


def main() -> None:
    """Prints what was found; exits with 1 where something is wrong."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("report", type=Path)
    options.add_argument("--screenshot", type=Path, help="PNG to write")
    a = options.parse_args()
    browser = find_browser()
    if browser is None:
        sys.exit("no Chromium here; install it: apt install chromium")
    found = check(a.report, browser, a.screenshot)
    print(json.dumps(found))
    if wrong := problems(found):
        sys.exit("; ".join(wrong))


if __name__ == "__main__":
    main()
