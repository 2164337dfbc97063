"""What a report holds: the tables and charts of all protocols, costs, searches and paired differences."""

from collections.abc import Iterator
from dataclasses import replace

from tools.protocols import PROTOCOLS
from tools.reporting import probabilities
from tools.reporting.charts import Chart
from tools.reporting.cost import cost
from tools.reporting.paired_differences import paired_differences
from tools.reporting.result import Result
from tools.reporting.searches import searches
from tools.reporting.selection import Group, groups
from tools.reporting.tables import Table


def all_tables(results: list[Result], spread: str, reference: str | None) -> list[Table]:
    """Every table that there are results for; with several backbones or splits the names of their files say which.

    ValueError for a `reference` that no backbone has.
    """
    found: list[Table] = []
    grouped = groups(results)
    unknown: list[ValueError] = []
    for group, of_group in grouped:
        tables = [
            table
            for make in (
                *(protocol.tables for protocol in PROTOCOLS.values()),
                probabilities.tables,
                cost,
                searches,
            )
            for table in make(group, of_group, spread)
        ]
        try:
            tables += paired_differences(
                group, of_group, reference, [protocol.measures for protocol in PROTOCOLS.values()]
            )
        except ValueError as error:  # another group may have the reference
            unknown.append(error)
        found += tables if len(grouped) == 1 else [_renamed(table, group) for table in tables]
    if len(unknown) == len(grouped):
        raise unknown[0]
    return found


def _renamed(table: Table, group: Group) -> Table:
    return replace(table, name=f"{table.name}_{group.ending}")


def all_charts(results: list[Result], spread: str) -> Iterator[Chart]:
    """Every chart that there are results for, named as tables are."""
    grouped = groups(results)
    for group, chosen in grouped:
        for make in (*(protocol.charts for protocol in PROTOCOLS.values()), probabilities.charts):
            for chart in make(group, chosen, spread):
                name = chart.name if len(grouped) == 1 else f"{chart.name}_{group.ending}"
                yield replace(chart, name=name)
