"""Pages as a browser shows them."""

import html.parser
import re
import shutil
import subprocess
from html import unescape as html_unescape

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and checks that its elements close."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href") and not v.startswith(("data:", "#"))]
        if tag not in ("meta", "link", "img", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def in_a_browser(text, script, tmp_path, width=1200, dark=False):
    """The title of the page after `script` has run in it; errors in its console fail."""
    page = tmp_path / f"page{width}.html"
    page.write_text(text.replace("</body>", f"<script>{script}</script></body>"))
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    ran = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"),
            *("--disable-component-update", f"--user-data-dir={tmp_path / f'profile{width}{dark}'}"),
            *([] if not dark else ["--blink-settings=preferredColorScheme=0"]),
            *(f"--window-size={width},900", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in ran.stderr, ran.stderr
    return html_unescape(re.search(r"<title>(.*?)</title>", ran.stdout).group(1))


in_browser = pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium is installed")


def luminance(colour):
    """Of "rgb(r, g, b)", between 0 and 1."""
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765
