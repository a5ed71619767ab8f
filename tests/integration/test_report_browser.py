"""The page in headless Chromium: no console error, no request, and a crystal that can be turned."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mof_report_runs import make_mof_run
from report_runs import make_comparison_run, make_run

from matgen.evaluation.report import build_report

pytestmark = pytest.mark.slow

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1200,900",
]  # fmt: skip
_LEVELS_OF_NO_CONCERN = ("DEBUG", "INFO")


class Browser:
    """The few WebDriver calls that are needed here."""

    def __init__(self, port: int, profile: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }  # fmt: skip
        self.session = self.call("/session", {"capabilities": {"alwaysMatch": wanted}}, "")["sessionId"]

    def call(self, path: str, body: dict | None = None, prefix: str | None = None, method: str | None = None) -> Any:
        start = f"/session/{self.session}" if prefix is None else prefix
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + start + path, data, method=method)
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)["value"]

    def open(self, page: Path) -> None:
        """Go to a page, and wait until all of it is there: on a busy machine the driver answers earlier."""
        self.call("/url", {"url": page.as_uri()})
        deadline = time.monotonic() + 60
        while self.script("return document.readyState") != "complete":
            assert time.monotonic() < deadline, f"{page} does not finish loading"
            time.sleep(0.1)

    def script(self, text: str) -> Any:
        return self.call("/execute/sync", {"script": text, "args": []})

    def errors(self) -> list[str]:
        lines = self.call("/se/log", {"type": "browser"})
        return [line["message"] for line in lines if line["level"] not in _LEVELS_OF_NO_CONCERN]

    def requested(self) -> list[str]:
        lines = self.call("/se/log", {"type": "performance"})
        events = [json.loads(line["message"])["message"] for line in lines]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("chromium and chromedriver are not installed (not run)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen([DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        browser = _connect(port, tmp_path_factory.mktemp("profile"))
        yield browser
        browser.call("", method="DELETE")
    finally:
        driver.terminate()
        driver.wait(30)


def _connect(port: int, profile: Path) -> Browser:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=5).close()
            return Browser(port, profile)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


DRAWN = """
const c = document.getElementById("viewer-canvas");
const copy = document.createElement("canvas"); copy.width = c.width; copy.height = c.height;
const context = copy.getContext("2d", {willReadFrequently: true}); context.drawImage(c, 0, 0);
const d = context.getImageData(0, 0, c.width, c.height).data;
let sum = 0, n = 0;
for (let i = 3; i < d.length; i += 4) if (d[i]) { n += 1; sum = (sum * 31 + d[i - 1] + i) % 1000000007; }
return [n, sum];
"""


def _painted(browser: Browser, before: Any = None) -> Any:
    """Wait until the canvas holds a picture other than `before`."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = browser.script(DRAWN)
        if now[0] > 1000 and now != before:
            return now
        time.sleep(0.1)
    raise AssertionError("the viewer did not draw")


def test_log_would_show_an_error(browser, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text("<!doctype html><link rel=icon href='data:,'><script>undefinedFunction()</script>")
    browser.open(path)
    assert any("undefinedFunction" in line for line in browser.errors())


def test_page_works_without_a_console_error(browser, tmp_path):
    page = build_report(make_run(tmp_path / "run"), tmp_path / "report.html")
    browser.requested(), browser.errors()
    browser.open(page)
    assert browser.script("return document.querySelectorAll('article.crystal button.picture').length") > 3
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    browser.script("document.querySelector('button.picture').click()")
    assert browser.script("return document.getElementById('viewer').open")
    first = _painted(browser)
    title = browser.script("return document.getElementById('viewer-title').textContent")
    assert title and title == browser.script("return document.querySelector('article.crystal h4').textContent")
    browser.script(
        "document.getElementById('viewer-canvas').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))"
    )
    turned = _painted(browser, first)
    browser.script("document.getElementById('viewer-super').click()")
    repeated = _painted(browser, turned)
    for control in ("viewer-bonds", "viewer-cell"):
        browser.script(f"document.getElementById('{control}').click()")
        repeated = _painted(browser, repeated)
    browser.script("document.querySelector('[data-axis=\"0\"]').click()")
    repeated = _painted(browser, repeated)
    browser.script("document.getElementById('viewer-next').click()")
    _painted(browser, repeated)
    assert browser.script("return document.getElementById('viewer-cif').href").startswith("data:chemical/x-cif")
    browser.script("document.getElementById('viewer-close').click()")
    assert not browser.script("return document.getElementById('viewer').open")
    assert browser.errors() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requested())


def test_pages_of_other_runs_open_without_a_console_error(browser, tmp_path):
    run = make_comparison_run(tmp_path / "run", 6)
    pages = [build_report(run, tmp_path / "both.html")]
    shutil.copytree(run / "records", tmp_path / "bare" / "records")
    pages.append(build_report(tmp_path / "bare", tmp_path / "bare.html"))
    for page in pages:
        browser.open(page)
        assert browser.script("return document.querySelectorAll('section').length") >= 7
        assert browser.errors() == []


def test_page_of_frameworks_works_without_a_console_error(browser, tmp_path):
    page = build_report(make_mof_run(tmp_path / "run"), tmp_path / "report.html")
    browser.requested(), browser.errors()
    browser.open(page)
    assert browser.script("return document.querySelectorAll('article.framework').length") == 5
    assert browser.script("return document.documentElement.scrollWidth <= innerWidth")
    browser.script("document.querySelector('article.framework button.picture:not([data-view])').click()")
    atoms = _painted(browser)
    assert browser.script("return document.getElementById('viewer-blocks').checked") is False
    browser.script("document.getElementById('viewer-blocks').click()")
    blocks = _painted(browser, atoms)
    for control in ("viewer-super", "viewer-bonds", "viewer-cell"):
        browser.script(f"document.getElementById('{control}').click()")
        blocks = _painted(browser, blocks)
    browser.script("document.getElementById('viewer-next').click()")
    _painted(browser, blocks)
    browser.script("document.getElementById('viewer-close').click()")
    browser.script("document.querySelector('article.framework button[data-view=\"blocks\"]').click()")
    assert browser.script("return document.getElementById('viewer-blocks').checked")
    _painted(browser)
    assert browser.errors() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requested())


def test_page_of_frameworks_without_scores_opens_without_a_console_error(browser, tmp_path):
    run = make_mof_run(tmp_path / "run")
    for folder in ("scores", "relaxed", "structures"):
        shutil.rmtree(run / folder)
        browser.open(build_report(run, tmp_path / f"no_{folder}.html"))
        assert browser.script("return document.querySelectorAll('section').length") >= 7
        assert browser.errors() == []
