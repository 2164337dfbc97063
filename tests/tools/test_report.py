"""The report as a person meets it: the program, its files, and the page in a browser."""

import csv
import errno
import re
import shutil
import sys

import pytest

from runs.errors import clean_errors
from runs.shipped import ELEVEN
from tests.tools.browser import Page, in_a_browser, in_browser, luminance
from tests.tools.outputs import leave
from tools import report
from tools.launching.cell import Cell
from tools.protocols.base_to_new import base_runs
from tools.protocols.few_shot import fewshot
from tools.protocols.transfer import target_runs

# Run in the page after its own script. Sorts the first table by its last column twice, tells the rows' order.
CLICKS = """
const table = document.querySelector("table"), orders = [];
const column = table.tHead.rows[0].cells.length - 1;
for (let i = 0; i < 2; i++) {
  table.tHead.rows[0].cells[column].querySelector("button").click();
  const rows = [...table.tBodies].flatMap(body => [...body.rows]);
  const name = row => row.cells[0].textContent.replace("DescribableTextures", "Desc") + " " + row.cells[1].textContent;
  orders.push(table.tHead.rows[0].cells[column].getAttribute("aria-sort") + ": " + rows.map(name).join(", "));
}
document.title = orders.join("; ");
"""
# Scrolls the widest table to its right end, and looks where the method's column is.
NARROW = """
const widest = [...document.querySelectorAll("table")].sort((a, b) => b.scrollWidth - a.scrollWidth)[0];
const around = widest.parentElement, style = getComputedStyle(document.body);
around.scrollLeft = 1e6;
const name = [...widest.tBodies[0].rows[0].cells].filter(cell => cell.className.includes("name")).at(-1);
document.title = [innerWidth, document.documentElement.scrollWidth, around.scrollLeft > 0,
  name.getBoundingClientRect().left - around.getBoundingClientRect().left,
  name.offsetWidth / around.clientWidth, style.color, style.backgroundColor].join("; ");
"""
PRINT = """
document.title = [...document.querySelectorAll("table")].map(table =>
  [table.tHead.rows[0].cells.length, table.scrollWidth, document.body.clientWidth].join(" ")).join("; ");
"""


@pytest.fixture
def output(tmp_path):
    accuracies = {("CoOp", 1): 60, ("CoOp", 4): 65, ("MMTPA", 1): 70, ("MMTPA", 4): 64, ("MaPLe", 1): 50}
    for (trainer, shots), accuracy in accuracies.items():
        run = fewshot(Cell(trainer, "mini", "dtd", 1, shots))[0]
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
    assert r"![Accuracy over shots, mini \<&\>](fewshot.png)" in (folder / "report.md").read_text()
    assert (folder / "fewshot.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "fewshot.pdf").read_bytes().startswith(b"%PDF")


def test_warnings_are_printed_and_stand_in_the_report(output, monkeypatch, capsys):
    run = fewshot(Cell("PLOT", "mini", "dtd", 1, 1))[0]
    leave(output, run, 55.0, versions={"commit": "other"}, backbone="mini <&>")
    run_report(monkeypatch, output, "--to", output / "elsewhere")
    assert "warning: runs of different code are mixed" in capsys.readouterr().err
    for name in ("report.md", "report.html"):
        assert "runs of different code are mixed" in (output / "elsewhere" / name).read_text()


def test_results_of_which_something_must_be_said_can_be_left_out(output, monkeypatch, capsys):
    run_report(monkeypatch, output, "--without", "reconstruction")
    assert "CoOp" in capsys.readouterr().out
    for path in output.rglob("result.json"):
        path.write_text(path.read_text().replace('"schema"', '"disclosures": ["features_only"], "schema"', 1))
    with pytest.raises(SystemExit):
        run_report(monkeypatch, output, "--without", "features_only")
    assert capsys.readouterr().err == "error: --without features_only leaves no result\n"


def test_a_report_takes_the_place_of_the_earlier_one_and_of_nothing_else(output, tmp_path, monkeypatch):
    folder = tmp_path / "report"
    run = base_runs(Cell("CoOp", "mini", "dtd", 1))[0]
    leave(output, run, 60.0, backbone="mini <&>")
    run_report(monkeypatch, output, "--to", folder)
    (folder / "README.md").write_text("mine")
    (folder / "cost.txt").write_text("mine")
    assert (folder / "base2new_16shots.csv").is_file()
    shutil.rmtree(output / "base2new")
    run_report(monkeypatch, output, "--to", folder)
    assert not list(folder.glob("base2new*"))
    assert not list(folder.glob(".report*"))
    assert (folder / "README.md").read_text() == (folder / "cost.txt").read_text() == "mine"
    listed = (folder / "files.txt").read_text().split()
    assert {path.name for path in folder.iterdir()} == {*listed, "files.txt", "README.md", "cost.txt"}


def test_a_list_of_files_names_none_outside(output, tmp_path, monkeypatch):
    folder = tmp_path / "report"
    folder.mkdir()
    (tmp_path / "keep").write_text("mine")
    (folder / "files.txt").write_text("../keep\n/etc/passwd\n\n.\n")
    run_report(monkeypatch, output, "--to", folder)
    assert (tmp_path / "keep").read_text() == "mine"


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(output, monkeypatch, capsys):
    run_report(monkeypatch, output)
    before = {path.name: path.read_bytes() for path in (output / "report").iterdir()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(report, "page", full)  # the last of all files
    with pytest.raises(SystemExit) as ended:
        run_report(monkeypatch, output, "--title", "Other")
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"error: folder of the report {output / 'report'} cannot be written: No space left on device\n"
    )
    assert {path.name: path.read_bytes() for path in (output / "report").iterdir()} == before


def test_the_page_is_well_formed_and_loads_nothing(output, monkeypatch):
    run_report(monkeypatch, output)
    text = (output / "report" / "report.html").read_text()
    page = Page(text)
    assert (page.loads, page.open) == ([], [])
    assert "mini <&>" not in text
    assert "mini &lt;&amp;&gt;" in text
    assert re.search(r'<td class="best" data-value="70.0">70.00</td>', text)


@in_browser
def test_sorting_in_a_browser(output, tmp_path, monkeypatch):
    for trainer, accuracy in (("CoOp", 30.0), ("MMTPA", 90.0)):
        leave(
            output,
            fewshot(Cell(trainer, "mini", "eurosat", 1, 4))[0],
            accuracy,
            backbone="mini <&>",
        )
    run_report(monkeypatch, output)
    title = in_a_browser((output / "report" / "report.html").read_text(), CLICKS, tmp_path)
    # Averages stay together and in front, 47.5 and 77; MaPLe has none with 4 shots and stays last of each.
    down, up = title.split("; ")
    assert down == (
        "descending: Average MMTPA, Average CoOp, Average MaPLe, "
        "EuroSAT MMTPA, Desc CoOp, Desc MMTPA, EuroSAT CoOp, Desc MaPLe, EuroSAT MaPLe"
    )
    assert up == (
        "ascending: Average CoOp, Average MMTPA, Average MaPLe, "
        "EuroSAT CoOp, Desc MMTPA, Desc CoOp, EuroSAT MMTPA, Desc MaPLe, EuroSAT MaPLe"
    )


@pytest.fixture
def wide(tmp_path):
    """A transfer to ten data sets by methods with long names: the widest table there is."""
    for trainer in ("CoOp", "MMTPA"):
        for seed in (1, 2):
            for number, rate in enumerate(("0.1", "0.2")):
                settings = ("OPTIM.LR", rate, "TRAINER.COOP.CTX_INIT", f"a <b>photo</b> & more of {rate}")
                out = tmp_path / "out" / str(number)
                source = Cell(trainer, "vit_b16", "imagenet", seed, settings=settings)
                leave(out, fewshot(source)[0], 70.0 + seed)
                for dataset in ELEVEN[1:]:
                    target = Cell(trainer, "vit_b16", dataset, seed, settings=settings)
                    leave(out, target_runs(target)[0], 50.0 + seed + number)
    return tmp_path / "out"


def test_names_are_text_wherever_they_stand(wide, monkeypatch):
    run_report(monkeypatch, wide, "--title", "<i>Mine</i> & others")
    text = (wide / "report" / "report.html").read_text()
    assert "&lt;b&gt;photo&lt;/b&gt; &amp; more" in text
    assert "&lt;i&gt;Mine&lt;/i&gt; &amp; others" in text
    assert not re.search("<b>|<i>", text)
    assert (Page(text).loads, Page(text).open) == ([], [])
    assert not re.search(r"(?<!\\)<[bi]>", (wide / "report" / "report.md").read_text())


@in_browser
@pytest.mark.parametrize("dark", [False, True])
def test_a_narrow_screen_keeps_the_methods_in_sight(wide, tmp_path, monkeypatch, dark):
    run_report(monkeypatch, wide)
    text = (wide / "report" / "report.html").read_text()
    title = in_a_browser(text, NARROW, tmp_path, 400, dark)
    width, page, scrolls, name, share, ink, paper = title.split("; ")
    assert float(page) <= float(width)  # the page itself does not scroll sideways
    assert scrolls == "true"  # the table does
    assert abs(float(name)) <= 1  # and the method's column stays at its left edge
    assert float(share) < 0.5  # leaving room for the numbers
    assert luminance(ink) > 0.6 if dark else luminance(ink) < 0.2
    assert luminance(paper) < 0.1 if dark else luminance(paper) > 0.9


@in_browser
def test_print_loses_no_column(wide, tmp_path, monkeypatch):
    run_report(monkeypatch, wide)
    text = (wide / "report" / "report.html").read_text()
    # A landscape A4 page without its margins is 1032 CSS pixels wide.
    printed = text.replace("@media print", "@media all").replace("@media screen", "@media not all")
    title = in_a_browser(printed, PRINT, tmp_path, 1032)
    tables = [tuple(map(float, table.split(" "))) for table in title.split("; ")]
    assert max(columns for columns, _, _ in tables) == 13
    for _, table_width, room in tables:
        assert table_width <= room + 1


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
