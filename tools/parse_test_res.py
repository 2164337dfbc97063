"""Mean and spread of the results of several seeds: CoOp's command, for those who have scripts around it.

    python tools/parse_test_res.py output/my_experiment                 its folders seed1/, seed2/, ...
    python tools/parse_test_res.py output/my_experiment --multi-exp     folders of such experiments
    python tools/parse_test_res.py output/my_experiment --ci95          95 % interval instead of standard deviation
    python tools/parse_test_res.py output/my_experiment --test-log      runs with --eval-only

Reads result.json where there is one, else log.txt as the original CoOp leaves it. As in CoOp the standard deviation
is that of the population (n) and the interval 1.96 std / sqrt(n); tools/report.py takes those of a sample.
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from runs.argument_types import expanded
from runs.errors import OneLineParser, clean_errors
from runs.record import FILE_NAME, read_record

LOG = "log.txt"
# The last result behind this line counts; the older spelling is Dassl's before 0.5.
END_OF_TRAINING = {"Finish training", "Finished training"}
START_OF_RESULT = {"=> result"}
METRICS = ("accuracy", "error")


def results_of(folder: Path, test_log: bool) -> tuple[Path, dict[str, float]]:
    """The file that was read in a run's folder and its accuracy and error in percent; none where it has not ended.

    FileNotFoundError where the folder holds neither a record nor a log.
    """
    if (folder / FILE_NAME).is_file():
        metrics = read_record(folder)["metrics"] or {}
        names = {"accuracy": "accuracy", "error_rate": "error"}
        return folder / FILE_NAME, {names[key]: metrics[key] for key in names if key in metrics}
    path = folder / LOG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds neither {FILE_NAME} nor {LOG}")
    ended, found = False, {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        ended |= line.strip() in (START_OF_RESULT if test_log else END_OF_TRAINING)
        match = re.search(r"\* (accuracy|error): ([\d.eE+-]+)%", line)
        if ended and match:
            found[match.group(1)] = float(match.group(2))
    return path, found


def summarise(directory: Path, test_log: bool, ci95: bool) -> dict[str, float]:
    """Print the results of the runs in `directory` and their means, which are returned."""
    print(f"Parsing files in {directory}")
    columns: dict[str, list[float]] = {}
    for folder in subfolders(directory):
        path, results = results_of(folder, test_log)
        if not results:
            continue
        print(
            f"file: {path}. "
            + "".join(f"{name}: {results[name]:.2f}%. " for name in METRICS if name in results)
        )
        for name, value in results.items():
            columns.setdefault(name, []).append(value)
    if not columns:
        raise ValueError(f"no result of a finished run in {directory}")
    print(f"===\nSummary of directory: {directory}")
    for name, values in columns.items():
        spread = np.std(values) * (1.96 / np.sqrt(len(values)) if ci95 else 1.0)
        print(f"* {name}: {np.mean(values):.2f}% +- {spread:.2f}%")
    print("===")
    return {name: float(np.mean(values)) for name, values in columns.items()}


def subfolders(directory: Path) -> list[Path]:
    """What CoOp looks at: everything in a folder that is not hidden, by name."""
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no folder {directory}")
    return sorted(path for path in directory.iterdir() if not path.name.startswith("."))


def main() -> None:
    """CoOp's arguments and output."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=expanded, help="folder of an experiment")
    parser.add_argument("--ci95", action="store_true", help="95 %% interval instead of standard deviation")
    parser.add_argument("--test-log", action="store_true", help="logs of runs that only tested")
    parser.add_argument("--multi-exp", action="store_true", help="several experiments, and their average")
    args = parser.parse_args()
    if not args.multi_exp:
        summarise(args.directory, args.test_log, args.ci95)
        return
    means = [summarise(folder, args.test_log, args.ci95) for folder in subfolders(args.directory)]
    print("Average performance")
    for name in METRICS:
        values = [mean[name] for mean in means if name in mean]
        if values:
            print(f"* {name}: {np.mean(values):.2f}%")


if __name__ == "__main__":
    with clean_errors():
        main()
