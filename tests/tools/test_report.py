"""The report as a person meets it: the program, its files, and the page in a browser."""

import csv
import html.parser
import re
import shutil
import subprocess
import sys

import pytest

from runs.errors import clean_errors
from tests.tools.outputs import leave
from tools import report
from tools.launching import protocols
from tools.launching.protocols import Cell

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# Runs in the page after its own script: sorts the first table by its last column twice, tells the methods' order.
CLICKS = """
<script>
const table = document.querySelector("table"), orders = [];
const column = table.tHead.rows[0].cells.length - 1;
for (let i = 0; i < 2; i++) {
  table.tHead.rows[0].cells[column].querySelector("button").click();
  orders.push(table.tHead.rows[0].cells[column].getAttribute("aria-sort") + ": "
    + [...table.tBodies[0].rows].map(row => row.cells[1].textContent).join(" "));
}
document.title = orders.join("; ");
</script>
"""


@pytest.fixture
def output(tmp_path):
    accuracies = {("CoOp", 1): 60, ("CoOp", 4): 65, ("MMTPA", 1): 70, ("MMTPA", 4): 64, ("MaPLe", 1): 50}
    for (trainer, shots), accuracy in accuracies.items():
        run = protocols.fewshot(Cell(trainer, "mini", "dtd", 1, shots))[0]
        leave(tmp_path / "out", run, float(accuracy), backbone="mini <&>")
    return tmp_path / "out"


def run_report(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["report.py", *map(str, words)])
    with clean_errors():
        report.main()


def test_it_prints_and_writes_every_form(output, monkeypatch, capsys):
    run_report(monkeypatch, output)
    printed = capsys.readouterr()
    assert "Few-shot learning, mini <&>" in printed.out
    assert printed.err == ""
    folder = output / "report"
    rows = list(csv.DictReader((folder / "fewshot.csv").open()))
    assert [(r["method"], float(r["1 shot"])) for r in rows if r["data set"] != "Average"] == [
        ("CoOp", 60.0),
        ("MMTPA", 70.0),
        ("MaPLe", 50.0),
    ]
    assert r"\textbf{70.00}" in (folder / "fewshot.tex").read_text()
    assert "**70.00**" in (folder / "report.md").read_text()
    assert "![Accuracy over shots, mini <&>](fewshot.png)" in (folder / "report.md").read_text()
    assert (folder / "fewshot.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "fewshot.pdf").read_bytes().startswith(b"%PDF")


def test_warnings_are_printed_and_stand_in_the_report(output, monkeypatch, capsys):
    run = protocols.fewshot(Cell("PLOT", "mini", "dtd", 1, 1))[0]
    leave(output, run, 55.0, versions={"commit": "other"}, backbone="mini <&>")
    run_report(monkeypatch, output, "--to", output / "elsewhere")
    assert "warning: runs of different code are mixed" in capsys.readouterr().err
    for name in ("report.md", "report.html"):
        assert "runs of different code are mixed" in (output / "elsewhere" / name).read_text()


class Page(html.parser.HTMLParser):
    """Collects what a page would load, and checks that its elements close."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href") and not v.startswith(("data:", "#"))]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_loads_nothing(output, monkeypatch):
    run_report(monkeypatch, output)
    text = (output / "report" / "report.html").read_text()
    page = Page(text)
    assert (page.loads, page.open) == ([], [])
    assert "mini <&>" not in text
    assert "mini &lt;&amp;&gt;" in text
    assert re.search(r'<td class="best" data-value="70.0">70.00</td>', text)


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium is installed")
def test_the_page_in_a_browser(output, tmp_path, monkeypatch):
    run_report(monkeypatch, output)
    text = (output / "report" / "report.html").read_text()
    page = tmp_path / "page.html"
    page.write_text(text.replace("</body>", CLICKS + "</body>"))
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    ran = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in ran.stderr, ran.stderr
    title = re.search(r"<title>(.*?)</title>", ran.stdout).group(1)
    # By 4 shots: average and data set are the same here; MaPLe has none and stays last.
    assert title == (
        "descending: CoOp CoOp MMTPA MMTPA MaPLe MaPLe; ascending: MMTPA MMTPA CoOp CoOp MaPLe MaPLe"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/gone"], "there is no folder {}/gone"),
        (["{}"], "no tested run below {} (looked for result.json)"),
        (
            ["{}/out", "--reference", "PLOT"],
            "--reference 'PLOT' is not among the methods: CoOp, MMTPA, MaPLe",
        ),
        (["{}/out", "--to", "{}/out/dtd/CoOp/mini_1shots/seed1/result.json"], "folder of the report"),
    ],
)
def test_wrong_input_is_one_line(output, tmp_path, monkeypatch, capsys, words, said):
    if words == ["{}"]:
        shutil.rmtree(output)
    with pytest.raises(SystemExit) as ended:
        run_report(monkeypatch, *(word.format(tmp_path) for word in words))
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.startswith(f"error: {said.format(tmp_path)}")
    assert len(error.splitlines()) == 1
