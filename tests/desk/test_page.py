"""The page of a desk in headless Chromium: it plays what is rendered, keys move faders, and what is saved is heard."""

import base64
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

sync_api = pytest.importorskip("playwright.sync_api")
pytest.importorskip("uvicorn")

BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")]
CLOCK = "parseFloat(document.getElementById('clock').textContent.slice(2)) >= {}"
TAP = """() => {
  const text = (x) => btoa(Array.from(new Uint8Array(x.slice().buffer), (b) => String.fromCharCode(b)).join(""));
  globalThis.tapped = [];
  desk.tap = (stream, song, parts) => tapped.push([stream, song, parts.map(text)]);
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
        yield playwright.chromium.launch(executable_path=BROWSER, args=flags)


@pytest.fixture
def address(song):
    """The address of a desk that `lincae desk` serves."""
    command = [sys.executable, "-m", "lincae_cli", "desk", str(song), "--no-browser"]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=root)
    threading.Timer(120, process.kill).start()
    line = process.stdout.readline().strip()
    assert line.startswith("http://127.0.0.1:"), process.stderr.read()
    yield line
    process.terminate()
    _, err = process.communicate(timeout=20)
    assert "Traceback" not in err


@pytest.fixture
def opened(browser, address):
    """The page, and what its console says."""
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    outside = []
    page.on("request", lambda request: None if request.url.startswith(address) else outside.append(request.url))
    page.goto(address)
    until(page, "document.querySelector('.strip') && document.getElementById('status').textContent === 'ready'")
    yield page
    context.close()
    assert said == []
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []


def until(page, condition, limit=60):
    """Waits; the page's security policy allows no `wait_for_function`."""
    end = time.monotonic() + limit
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"{condition}: {page.text_content('#status')}"
        time.sleep(0.02)


def tapped(page):
    """The sound that was handed to the worklet, by its place in the song; later chunks replace earlier ones."""
    sound = np.full((2, 5 * 44100), np.nan, np.float32)
    for _, song, parts in page.evaluate("tapped"):
        for row, text in zip(sound, parts, strict=True):
            data = np.frombuffer(base64.b64decode(text), "<f4")
            row[song : song + len(data)] = data
    return sound


def level(page, name):
    return page.get_by_label(f"{name} level", exact=True)


def play(page, seconds):
    page.keyboard.press("Space")
    until(page, CLOCK.format(seconds))
    page.keyboard.press("Space")


def test_it_plays_what_render_gives(opened, song, rendered):
    opened.evaluate(TAP)
    play(opened, 1.5)
    sound, wanted = tapped(opened), rendered(song)
    there = ~np.isnan(sound[0])
    assert there.sum() > 1.5 * 44100
    np.testing.assert_allclose(sound[:, there], wanted[:, there], rtol=0, atol=1e-6)


def test_a_fader_moved_by_keys_changes_the_level_by_its_decibels(opened, song):
    fader = level(opened, "Master")
    assert fader.get_attribute("aria-valuetext") == "-2.0 dB"
    fader.focus()
    for key in ("ArrowDown", "ArrowDown", "PageDown", "ArrowUp", "Shift+ArrowDown"):
        opened.keyboard.press(key)
    assert fader.get_attribute("aria-valuetext") == "-5.6 dB"
    level(opened, "drums").focus()
    opened.keyboard.press("0")
    opened.keyboard.press("m")  # mutes the strip that has the focus
    opened.wait_for_selector("[aria-label='Mute drums'][aria-pressed=true]")
    opened.keyboard.press("Control+s")
    until(opened, "document.getElementById('status').textContent.startsWith('saved')")
    text = song.read_text()
    assert "gain: -5.60dB" in text
    assert re.search(r"drums:(\n    .*)*mute: true", text)
    assert "gain: -3dB" not in text


def test_moves_are_heard_soon_and_what_is_saved_renders_to_it(opened, song, rendered):
    opened.evaluate(TAP)
    opened.keyboard.press("r")
    opened.keyboard.press("Space")
    until(opened, CLOCK.format(0.8))
    level(opened, "vocals").focus()
    for _ in range(3):
        opened.keyboard.press("PageDown")
        time.sleep(0.3)
    until(opened, CLOCK.format(4.1))
    opened.keyboard.press("Space")
    delays = opened.evaluate("desk.latencies")
    assert 1 <= len(delays) <= 3
    opened.keyboard.press("Control+s")
    until(opened, "document.getElementById('status').textContent.startsWith('saved')")
    assert re.search(r"  vocals:\n(    .*\n)*    curve:", song.read_text())
    sound, wanted = tapped(opened), rendered(song)
    there = ~np.isnan(sound[0])
    # gains are written in decibels of limited length
    np.testing.assert_allclose(sound[:, there], wanted[:, there], rtol=0, atol=2 / 32768)


def test_a_reload_restores(opened):
    level(opened, "bass").focus()
    opened.keyboard.press("PageDown")
    opened.get_by_label("Solo vocals").click()
    opened.get_by_label("Position in the song").focus()
    for _ in range(3):
        opened.keyboard.press("ArrowRight")
    opened.keyboard.press("]")  # a loop from the beginning to here
    opened.wait_for_selector("[aria-label='Solo vocals'][aria-pressed=true]")
    time.sleep(0.6)  # a fader that was moved follows its curve again after half a second
    before = level(opened, "bass").get_attribute("aria-valuetext")
    opened.reload()
    opened.wait_for_selector("[aria-label='Solo vocals'][aria-pressed=true]")
    assert level(opened, "bass").get_attribute("aria-valuetext") == before
    sync_api.expect(opened.locator("#clock")).to_have_text("0:03.0")  # drawn with the next picture
    assert opened.get_attribute("#loop", "aria-pressed") == "true"
    assert opened.is_visible("#dirty")


def test_a_pointer_moves_faders_and_seeks(opened):
    box = level(opened, "drums").bounding_box()
    opened.mouse.move(box["x"] + 15, box["y"] + 0.2 * box["height"])
    opened.mouse.down()
    opened.mouse.move(box["x"] + 15, box["y"] + box["height"] * (1 - 0.53), steps=5)
    opened.mouse.up()
    assert float(level(opened, "drums").get_attribute("aria-valuenow")) == pytest.approx(-12, abs=0.3)
    level(opened, "drums").dblclick()
    assert level(opened, "drums").get_attribute("aria-valuetext") == "0.0 dB"
    box = opened.locator("#ruler").bounding_box()
    opened.mouse.click(box["x"] + box["width"] / 2, box["y"] + 8)
    sync_api.expect(opened.locator("#clock")).to_have_text("0:02.5")  # drawn with the next picture
    field = opened.get_by_label("drums level in dB")
    field.fill("-7.5 dB")
    field.press("Enter")
    assert level(opened, "drums").get_attribute("aria-valuetext") == "-7.5 dB"


@pytest.mark.parametrize(("width", "height"), [(360, 760), (1600, 1000)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_small_and_large_screens(browser, address, width, height, scheme):
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".strip .cap")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("#play", "#save", "#record", "#master .fader", "#strips .fader"):
        box = page.locator(selector).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= height
    unnamed = page.evaluate("""() => [...document.querySelectorAll("button, input, [role=slider], summary")].filter(
      (e) => !(e.getAttribute("aria-label") || e.textContent.trim())).map((e) => e.outerHTML)""")
    assert unnamed == []
    context.close()
