"""Opens a report of `lincae eval` in headless Chromium and checks it: tables, players, pictures, a quiet console.

python bench/report_check.py report.html --screenshot report.png
"""

from __future__ import annotations

import argparse
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
)
WIDTH, HEIGHT = 1440, 3000  # of the screenshot

PROBE = """
<script>
window.errors = [];
addEventListener("error", e => errors.push(String(e.message || e.target.outerHTML.slice(0, 80))), true);
addEventListener("unhandledrejection", e => errors.push(String(e.reason)));
addEventListener("load", async () => {
  let playable = 0;
  const players = [...document.querySelectorAll("audio")];
  for (const player of players) {  // one after the other: a browser holds only so many at once
    await new Promise(done => {
      player.onloadedmetadata = player.onerror = done;
      player.preload = "metadata";
      player.load();
    });
    playable += player.duration > 0;
    player.onerror = null;
    player.removeAttribute("src");
    player.load();
  }
  const images = [...document.images];
  const broken = [...document.querySelectorAll("a[href^='#']")].filter(a => !document.getElementById(a.hash.slice(1)));
  const linking = [...document.querySelectorAll("[src], [href]")];
  const links = linking.map(e => e.getAttribute("src") || e.getAttribute("href"));
  const outside = links.filter(link => !/^(data:|#)/.test(link));
  await fetch("/", {method: "POST", body: JSON.stringify({
    players: players.length, playable: playable,
    images: images.length, drawn: images.filter(i => i.naturalWidth > 0).length,
    tables: [...document.querySelectorAll("table")].map(t => [t.id, t.rows.length]),
    broken_links: broken.map(a => a.hash), outside: outside, errors: errors,
  })});
});
</script>
"""


def find_browser() -> str | None:
    """Chromium or Chrome on this machine."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def check(report: Path, browser: str, screenshot: Path | None = None, limit: float = 180) -> dict[str, Any]:
    """What the browser made of the report.

    Args:
        report: the page.
        browser: Chromium.
        screenshot: PNG to write.
        limit: s, of which at most so many.

    Returns:
        players, playable, images, drawn, tables (id and rows), broken_links, outside, errors, console.

    Raises:
        SystemExit: the page did not finish in time.
    """
    page = report.read_text(encoding="utf-8").replace("<body>", "<body>" + PROBE, 1).encode()
    found: queue.Queue[dict[str, Any]] = queue.Queue()

    class Page(BaseHTTPRequestHandler):
        """The report with the probe in it, and where the probe sends what it found."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            found.put(json.loads(body))

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        flags = [*FLAGS, f"--user-data-dir={folder}/profile"]
        if screenshot is not None:
            picture = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={screenshot.resolve()}"]
            command = [browser, *flags, *picture, report.resolve().as_uri()]
            subprocess.run(command, check=True, capture_output=True, timeout=limit)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with open(Path(folder) / "log", "w+", encoding="utf-8", errors="replace") as log:
            url = f"http://127.0.0.1:{server.server_port}/"
            process = subprocess.Popen([browser, *flags, "--enable-logging=stderr", url], stdout=log, stderr=log)
            try:
                result = found.get(timeout=limit)
            except queue.Empty:
                raise SystemExit(f"{report}: the page did not finish in {limit:g} s") from None
            finally:
                process.terminate()
                process.wait()
                server.shutdown()
                server.server_close()
            log.seek(0)
            return {**result, "console": [line.strip() for line in log if ":CONSOLE" in line]}


def problems(found: dict[str, Any]) -> list[str]:
    """What is wrong with a report, in words."""
    wrong = [f"script error: {e}" for e in found["errors"]] + [f"console: {line}" for line in found["console"]]
    if not found["players"] or found["playable"] != found["players"]:
        wrong.append(f"{found['playable']} of {found['players']} players play")
    if not found["images"] or found["drawn"] != found["images"]:
        wrong.append(f"{found['drawn']} of {found['images']} pictures are drawn")
    wrong += [f"leads nowhere: {link}" for link in found["broken_links"]]
    wrong += [f"not self-contained: {link}" for link in found["outside"]]
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
