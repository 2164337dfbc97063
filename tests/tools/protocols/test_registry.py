"""What a protocol's declaration says is all that the launcher and the report need."""

from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.launching.grid import Grid
from tools.protocols import PROTOCOLS, expand
from tools.protocols.protocol import Protocol, of_each_cell
from tools.reporting.charts import LinesChart
from tools.reporting.collect import collect
from tools.reporting.contents import all_charts, all_tables
from tools.reporting.paired_differences import measure
from tools.reporting.selection import of_protocol
from tools.reporting.series import lines_over, table_over
from tools.reporting.tested import Place


def train(cell):
    return [cell.run("seeds", f"seeds/{cell.place}/seed{cell.seed}", "DATASET.NUM_SHOTS", cell.shots)]


def tables(group, results, spread):
    chosen = of_protocol(results, "seeds")
    if chosen:
        yield table_over("seeds", "Over seeds", "seed", lambda r: r.at, group, chosen, spread)


def charts(group, results, spread):
    lines = lines_over(of_protocol(results, "seeds"), lambda r: r.at, spread)
    if lines:
        yield LinesChart("seeds", "Over seeds", lines, "seed", group.accuracy, [])


SEEDS = Protocol(
    "seeds",
    of_each_cell(train),
    datasets=("dtd",),
    place=lambda tested: Place(at=tested.record["seed"]) if "seeds" in tested.path.parts else None,
    tables=tables,
    charts=charts,
    measures=lambda results, constant: [("seeds", measure(of_protocol(results, "seeds"), constant, []))],
)


def test_a_declaration_is_all_that_a_new_protocol_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(PROTOCOLS, "seeds", SEEDS)
    runs = expand(Grid("seeds", (("CoOp", "mini"), ("MMTPA", "mini")), SEEDS.datasets, (1, 2)))
    for run, accuracy in zip(runs, (60.0, 61.0, 70.0, 71.0), strict=True):
        leave(tmp_path, run, accuracy)
    few_shot = Cell("CoOp", "mini", "dtd", 1).run("fewshot", "dtd/CoOp/mini_16shots/seed1")
    leave(tmp_path, few_shot, 50.0)
    results, warnings = collect([tmp_path])
    assert not warnings
    assert {r.at: r.accuracy for r in results if (r.protocol, r.trainer) == ("seeds", "MMTPA")} == {
        1: 70,
        2: 71,
    }
    found = {table.name: table for table in all_tables(results, "std", None)}
    assert found["seeds"].columns == ("1 seed", "2 seeds")
    assert [(row.section, row.values[0].number) for row in found["comparison"].rows] == [("seeds", 10.0)]
    assert {chart.name for chart in all_charts(results, "std")} == {"fewshot", "seeds"}


def test_every_protocol_is_on_its_page(root):
    page = (root / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert not [name for name in PROTOCOLS if f"| `{name}` |" not in page]
