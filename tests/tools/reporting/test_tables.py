import csv
import io

import pytest

from tools.reporting.tables import Row, Table, Value, as_csv, as_latex, as_markdown, as_text

ROWS = (
    Row("Pets & co", "A", (Value(81.234, 0.5), Value(70.0))),
    Row("Pets & co", "B", (Value(90.0), Value(70.001))),
    Row("Pets & co", "C_1", (Value(95.0, None, "1/2 seeds"), Value())),
    Row("Pets & co", "D", (Value(99.0), Value(99.0)), published="a paper"),
    Row("Cars", "A", (Value(1.0), Value(remark="incomplete, 1/2"))),
    Row("Cars", "B", (Value(2.0), Value(5.0))),
    Row("Cars", "C_1", (Value(3.0), Value(4.0))),
)
TABLE = Table("x", "A 100 % table", "data set", ("Base", "Cost"), ROWS, ("a note",), frozenset({"Cost"}))


def test_ranks_are_within_a_section_among_complete_values_of_our_own():
    assert TABLE.ranks() == {
        (1, 0): 1,
        (0, 0): 2,
        (0, 1): 1,
        (1, 1): 1,  # as printed, equal
        (6, 0): 1,
        (5, 0): 2,
        (6, 1): 1,
        (5, 1): 2,
    }


def test_one_method_alone_is_not_the_best():
    assert Table("x", "t", "", ("Base",), ROWS[:1]).ranks() == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Value(81.236, 0.5), "81.24 ± 0.50"),
        (Value(81.2, None, "1/2 seeds"), "81.20 (1/2 seeds)"),
        (Value(remark="incomplete, 1/2"), "incomplete, 1/2"),
        (Value(), "-"),
        (Value(11056128, digits=0), "11,056,128"),
        (Value(0.00003, digits=4), "3e-05"),
        (Value(0.0), "0.00"),
    ],
)
def test_values_read_well(value, text):
    assert str(value) == text


def test_text():
    lines = as_text(TABLE).splitlines()
    assert lines[0] == "A 100 % table"
    assert lines[2].split() == ["Base", "Cost"]
    assert lines[3] == "Pets & co"
    assert lines[4].split() == ["A", "81.23", "±", "0.50'", "70.00*"]
    assert lines[7].split("  ")[1] == "D [published: a paper]"
    assert lines[-1] == "(a note)"


def test_csv_has_the_numbers_unrounded():
    rows = list(csv.DictReader(io.StringIO(as_csv(TABLE))))
    assert len(rows) == len(ROWS)
    assert (rows[0]["data set"], rows[0]["method"]) == ("Pets & co", "A")
    assert (float(rows[0]["Base"]), float(rows[0]["Base spread"])) == (81.234, 0.5)
    assert rows[2]["Base remark"] == "1/2 seeds"
    assert rows[3]["published in"] == "a paper"
    assert rows[4]["Cost"] == ""


def test_markdown():
    lines = as_markdown(TABLE).splitlines()
    assert lines[2:5] == [
        "| data set | method | Base | Cost |",
        "| --- | --- | ---: | ---: |",
        "| Pets & co | A | <u>81.23 ± 0.50</u> | **70.00** |",
    ]


def test_names_are_neither_markdown_nor_latex():
    row = Row("", r"CoOp (CTX_INIT '<b>a</b> | *b* &amp; c_d')", (Value(1.0),))
    table = Table("x", "<i>title</i>", "", ("A & B",), (row,))
    assert as_markdown(table).splitlines()[0] == r"### \<i\>title\</i\>"
    shown = as_markdown(table).splitlines()[-1]
    assert shown == r"| CoOp (CTX\_INIT '\<b\>a\</b\> \| \*b\* &amp;amp; c\_d') | 1.00 |"
    assert r"'\textless{}b\textgreater{}a\textless{}/b\textgreater{} \textbar{}" in as_latex(table)


def test_a_wide_latex_table_is_scaled_to_the_page():
    columns = tuple(f"data set {number}" for number in range(12))
    wide = as_latex(Table("x", "t", "", columns, (Row("", "A", (Value(1.0),) * 12),)))
    assert r"\resizebox{\textwidth}{!}{%" in wide
    assert wide.endswith("\\end{tabular}}\n\\end{table}\n")
    assert "resizebox" not in as_latex(TABLE)
    assert wide.count("{") == wide.count("}")


def test_latex():
    text = as_latex(TABLE)
    assert r"A 100 \% table" in text
    assert r"\multicolumn{3}{l}{\emph{Pets \& co}} \\" in text
    assert r"A & \underline{81.23 $\pm$ 0.50} & \textbf{70.00} \\" in text
    assert r"C\_1 & 95.00 (1/2 seeds) & - \\" in text
    assert text.count(r"\midrule") == 2
    for word in (r"\toprule", r"\bottomrule", r"\begin{tabular}{lrr}", r"\label{tab:x}"):
        assert word in text
