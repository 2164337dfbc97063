"""All records below some folders as one list of results."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from runs.record import FILE_NAME, read_record
from tools.protocols import PROTOCOLS
from tools.reporting.filing import filed
from tools.reporting.own_images import name_own_images
from tools.reporting.result import Result
from tools.reporting.variants import name_variants


def collect(folders: Iterable[Path]) -> tuple[list[Result], list[str]]:
    """The results below `folders`, in a fixed order, and warnings about what was left out or does not fit together.

    FileNotFoundError where there is none, saying what was looked for.
    """
    folders = list(folders)
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    warnings: list[str] = []
    records: dict[Path, dict[str, Any]] = {}
    for path in sorted({path.resolve() for folder in folders for path in folder.rglob(FILE_NAME)}):
        try:
            records[path] = read_record(path)
        except (ValueError, OSError) as error:
            warnings.append(f"skipped: {error}")
    results, without_model = [], []
    for path, record in records.items():
        if "candidate" in record.get("search", {}):
            continue  # of a search; what it has chosen says what was tried
        try:
            result = filed(path, record, records)
        except (ValueError, KeyError) as error:
            reason = f"{error} missing" if isinstance(error, KeyError) else str(error)
            warnings.append(f"skipped: {path}: {reason}")
            continue
        if result:
            results.append(result)
            if result.training is record and result.learns and record["kind"] == "eval":
                without_model.append(path)
    if not results:
        skipped = f"; {len(warnings)} skipped: {warnings[0]}" if warnings else ""
        raise FileNotFoundError(
            f"no tested run below {', '.join(map(str, folders))} (looked for {FILE_NAME}){skipped}"
        )
    if without_model:
        warnings.append(
            f"{len(without_model)} tested models have no record here and are taken to be of the base classes of the "
            f"same data set, shots and seed: {without_model[0]}"
        )
    name_own_images(results)
    name_variants(results)
    checked: list[Result] = []
    for protocol in PROTOCOLS.values():
        meant, left_out = protocol.check([result for result in results if result.protocol == protocol.name])
        checked += meant
        warnings += left_out
    results, doubled = _without_doubles(checked)
    return results, warnings + doubled


def _without_doubles(results: list[Result]) -> tuple[list[Result], list[str]]:
    """One result for each cell, the latest; a warning where others of the same settings differ from it."""
    cells: dict[tuple[Any, ...], list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: (result.record["time"]["started"], result.path)):
        cells[result.cell].append(result)
    differing: dict[str, list[list[Result]]] = defaultdict(list)
    for cell in cells.values():
        if len({result.accuracy for result in cell}) > 1:
            differing[cell[0].method].append(cell)
    warnings = []
    for method, (cell, *others) in differing.items():
        found = ", ".join(f"{result.accuracy:.2f}" for result in cell)
        more = f" (so it is {len(others)} times more)" if others else ""
        warnings.append(
            f"{len(cell)} runs of {method} on {cell[0].dataset} with seed {cell[0].seed} have the same settings and "
            f"different results ({found}); the latest counts: {cell[-1].path}{more}"
        )
    return sorted((cell[-1] for cell in cells.values()), key=lambda result: result.cell), warnings
