"""Run a whole protocol: every method on every data set with every seed, skipping what is done.

    python tools/launch.py base2new --trainers MMTPA CoOp CoCoOp MaPLe --seeds 1 2 3
    python tools/launch.py fewshot --trainers CoOp MMTPA --config mini --datasets shapes handwritten_digits
    python tools/launch.py xd --trainers CoOp --executor slurm --partition gpu --hours 4
    python tools/launch.py fewshot --trainers CoOp --search OPTIM.LR 2e-4 2e-3 2e-2 --on val

Shows the grid first. Ctrl-C, a crash or a killed machine lose nothing: the same command continues.
A method is written TRAINER or TRAINER/CONFIG; without a config (and without --config) it takes the one
that its authors used for the protocol.
"""

import argparse
import signal
import sys
from collections.abc import Sized
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from foundation.errors import WrongInput
from foundation.written_texts import CLASS_TEXTS, TEMPLATES
from runs import ROOT, shipped
from runs.argument_types import at_least, expanded
from runs.errors import OneLineParser, clean_errors
from runs.folder import check_room
from runs.importing import importing
from runs.record import FILE_NAME, read_record
from tools.launching.estimate import Estimate, duration
from tools.launching.grid import SOURCE, Grid
from tools.launching.local import Local, slots, visible_gpus
from tools.launching.run import Run, as_typed
from tools.launching.search import Search, check_keys, check_validation_images, search_of
from tools.launching.state import finished, settings
from tools.launching.status import Status, name_of
from tools.protocols import PROTOCOLS, check_protocol, expand

# Settings of a run that are not for the user of a grid, and what to do instead.
DECIDED_HERE = {
    "OUTPUT_DIR": "every run of a grid has a folder of its own, below --output",
    "RESUME": "what is unfinished continues by itself",
    "TRAIN.OVERWRITE": "a grid overwrites nothing; move away the folders of runs that are to be done again",
}


class Executor(Protocol):
    """Where runs are done."""

    data: Path
    output: Path

    @property
    def at_a_time(self) -> int:
        """Runs that may go on together."""

    def execute(self, status: Status) -> None:
        """Work until nothing waits."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments of this program."""
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("protocol", help=", ".join(PROTOCOLS))
    add("--trainers", nargs="+", required=True, metavar="TRAINER[/CONFIG]", help='methods, or "all"')
    add("--config", help="config of the methods that are given without one")
    add("--datasets", nargs="+", help="data sets, by the names of their configs; the published ones")
    add("--seeds", nargs="+", type=int, default=[1, 2, 3])
    add("--shots", nargs="+", type=int, help="images per class: 16; fewshot: 1 2 4 8 16")
    add("--source", default=SOURCE, help="xd, dg: what the models are trained on")
    add("--lengths", nargs="+", type=int, default=[2, 4, 8, 16], help="prompt_length: context tokens")
    add("--root", type=expanded, default=ROOT / "data", help="folder of the data sets")
    add("--output", type=expanded, default=ROOT / "output", help="folder of the results")
    add(
        "--search",
        nargs="+",
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="choose a setting's value; of several, all combinations are tried",
    )
    add("--on", help="what --search chooses by: val, the validation images")
    add("--dry-run", action="store_true", help="show the grid and the commands, run nothing")
    add("--executor", choices=("local", "slurm"), default="local")
    local = parser.add_argument_group("local")
    local.add_argument("--gpus", nargs="*", help="GPUs to use, none for the CPU; all that are visible")
    local.add_argument("--jobs", type=at_least(1), help="runs at a time, on each GPU or on the CPU")
    parser.add_argument("--threads", type=at_least(1), help="CPU threads of a run")
    slurm = parser.add_argument_group("slurm")
    slurm.add_argument("--partition", help="where to submit")
    slurm.add_argument("--hours", type=at_least(0.01, float), default=24.0, help="time limit of a job")
    slurm.add_argument("--memory", type=at_least(1), default=32, help="memory of a job in GB")
    slurm.add_argument("--gpus-per-job", type=at_least(0), default=1, help="0 for the CPU")
    slurm.add_argument(
        "--at-a-time", type=at_least(1), default=64, help="jobs of the array that may run together"
    )
    add(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="settings of every run; last",
    )
    return parser


def grid_of(args: argparse.Namespace) -> Grid:
    """The grid that the arguments ask for; ValueError for a name that does not exist."""
    check_protocol(args.protocol)
    protocol = PROTOCOLS[args.protocol]
    names = all_trainers(args) if args.trainers == ["all"] else args.trainers
    trainers = []
    for name in names:
        trainer, _, config = name.partition("/")
        shipped.check_trainer(trainer)
        trainers.append((trainer, config or args.config))
    for dataset in args.datasets or ():
        shipped.check_dataset(dataset)
    if len(args.opts) % 2:
        raise ValueError(f"--opts: {args.opts[-1]} has no value (KEY VALUE pairs)")
    for option, keys in {"--search": [key for key, *_ in args.search], "--opts": args.opts[::2]}.items():
        for key in keys:
            if key in DECIDED_HERE:
                raise WrongInput(f"{option} {key}: {DECIDED_HERE[key]}")
    opts = [part for pair in zip(args.opts[::2], args.opts[1::2]) for part in (pair[0], _from_here(*pair))]
    for name, values in {"seeds": args.seeds, "shots": args.shots, "lengths": args.lengths}.items():
        if min(values or [1]) < (0 if name == "seeds" else 1):
            raise ValueError(f"--{name} {min(values)}: must be {0 if name == 'seeds' else 1} or more")
    return Grid(
        args.protocol,
        tuple(trainers),
        tuple(args.datasets or protocol.datasets),
        tuple(args.seeds),
        tuple(args.shots or protocol.shots),
        args.source,
        tuple(args.lengths),
        tuple(opts),
    )


def _from_here(key: str, value: str) -> str:
    """A setting's value as a run takes it, which is started in the checkout: a file of here by its whole path."""
    if key in (CLASS_TEXTS, TEMPLATES) and Path.cwd() != ROOT and Path(value).expanduser().is_file():
        return str(Path(value).expanduser().absolute())
    return value


def all_trainers(args: argparse.Namespace) -> list[str]:
    """Every method that has the config, and takes part in the protocol."""
    names = [name for name in shipped.trainers() if not args.config or args.config in shipped.configs(name)]
    if not names:
        raise ValueError(f"no trainer has a config {args.config!r}")
    protocol = PROTOCOLS[args.protocol]
    configs = {name: args.config or shipped.configs(name)[0] for name in names}
    targets = args.datasets or protocol.datasets if protocol.has_source else ()
    others = protocol.other_classes or any(_differ(args.source, target) for target in targets)
    return [
        name
        for name, config in configs.items()
        if protocol.for_learning in (None, shipped.learns(name, config))
        and not (others and _learns_each_class(name, config))
    ]


def states(runs: list[Run], output: Path) -> tuple[set[str], dict[Run, str]]:
    """The folders of finished runs, and runs whose folder holds something else, with what it is."""
    done: set[str] = set()
    foreign: dict[Run, str] = {}
    for run in runs:
        try:
            if finished(run, output):
                done.add(run.folder)
        except ValueError as error:
            foreign[run] = str(error)
    return done, foreign


def check_settings(runs: list[Run]) -> None:
    """ValueError where a run's KEY VALUE pairs are not those of its method and data set, or a value is not allowed."""
    with importing():
        from runs.schema import check_values  # here, because it takes seconds

    for run in {(run.trainer, run.config, run.dataset, run.step): run for run in runs}.values():
        check_values(settings(run))


def check_classes(protocol: str, runs: list[Run], settings: tuple[str, ...] = ()) -> None:
    """ValueError where models are to be tested on classes that they were not trained on, and one takes no others."""
    if PROTOCOLS[protocol].other_classes:
        where, instead = "tests classes that were not trained", "fewshot is for that"
        tests = [run for run in runs if run.tests]
    else:
        tests = _of_other_classes(runs)
        names = ", ".join(dict.fromkeys(run.dataset for run in tests))
        where = f"tests on {names} classes that are not all those that were trained"
        instead = "other --datasets, or other --trainers"
    tested = dict.fromkeys((run.trainer, run.config) for run in tests)
    fixed = [
        f"{trainer}/{config}" for trainer, config in tested if _learns_each_class(trainer, config, settings)
    ]
    if fixed:
        raise WrongInput(
            f"{protocol} {where}, and {', '.join(fixed)} would learn something for each of its own classes: {instead}"
        )


def _of_other_classes(runs: list[Run]) -> list[Run]:
    """Tests on a data set with another number of classes than the one of the training, by what is published of both."""
    trained = {run.folder: run.dataset for run in runs if not run.tests}
    pairs = {run: (trained.get(run.tests, run.dataset), run.dataset) for run in runs if run.tests}
    return [run for run, (source, target) in pairs.items() if source != target and _differ(source, target)]


def _differ(*names: str) -> bool:
    import datasets  # noqa: F401  registers them; here, because it takes seconds
    from dassl.data.datasets import DATASET_REGISTRY

    found = (DATASET_REGISTRY.get(shipped.registered_name(name)) for name in names)
    origins: list[Any] = [getattr(dataset, "origin", None) for dataset in found]
    return None not in origins and len({origin.sizes[0] for origin in origins}) > 1


def _learns_each_class(trainer: str, config: str, settings: tuple[str, ...] = ()) -> bool:
    from tools.launching.small_model import small_model  # here, because it takes seconds

    model = small_model(trainer, config, settings)
    return model is not None and model.own_classes_only


def earlier_runs(output: Path) -> Estimate:
    """What the records below `output` tell of how long runs take; unreadable ones are left out."""
    estimate = Estimate()
    for path in output.rglob(FILE_NAME):
        try:
            estimate.add(read_record(path))
        except (ValueError, KeyError):
            continue  # the run that it belongs to, if of this grid, is listed as such
    return estimate


def show(what: str, runs: list[Run], done: set[str], estimate: Estimate, at_a_time: int) -> None:
    """Print the grid: finished of all runs for each method and data set, and the time that is left."""
    rows = [
        {"method": f"{run.trainer}/{run.config}", "data set": run.dataset, "done": run.folder in done}
        for run in runs
    ]
    cells = pd.DataFrame(rows).groupby(["method", "data set"], sort=False)["done"]
    table = (
        cells.agg(lambda done: f"{done.sum()}/{len(done)}").unstack(fill_value="").rename_axis(columns=None)
    )
    left = [run for run in runs if run.folder not in done]
    seconds, unknown = estimate.total(left, at_a_time)
    about = f", about {duration(seconds)} with {at_a_time} at a time" if unknown < len(left) else ""
    about += f" (without {unknown} unlike any earlier run)" if unknown and about else ""
    print(f"{what}: {counted(runs)}, {len(done)} done, {len(left)} to do{about}\n")
    print(f"{table.to_string()}\n", flush=True)


def work(
    what: str, runs: list[Run], executor: Executor, output: Path, dry_run: bool = False
) -> dict[Run, str]:
    """Show the runs and do what is not done; returns those that failed, with why."""
    done, foreign = states(runs, output)
    estimate = earlier_runs(output)
    show(what, runs, done, estimate, executor.at_a_time)
    if dry_run:
        for run in runs:
            if run.folder not in done:
                print(as_typed(run.command(executor.data, output)))
        return {}

    check_room(output)
    status = Status(runs, done, estimate, executor.at_a_time)
    for run, reason in foreign.items():
        if run in status.waiting:  # else it tests the model of one before it
            status.waiting.remove(run)
            status.fail(run, reason)
    before = signal.signal(signal.SIGTERM, _as_ctrl_c)
    try:
        executor.execute(status)
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(
            f"{len(status.done)} of {counted(runs)} done; the same command continues"
        ) from interrupt
    finally:
        signal.signal(signal.SIGTERM, before)
        if status.failed:
            print(f"\n{counted(status.failed)} failed:")
            for run, reason in status.failed.items():
                print(f"  {name_of(run)}: {reason}\n    {near(output / run.folder)}")
    return status.failed


def work_and_choose(search: Search, executor: Executor, output: Path, dry_run: bool) -> dict[Run, str]:
    """Do the runs of a search: those that are chosen from, and the tests of what was chosen; as `work`."""
    check_keys(search)
    for pairs in search.combinations:
        check_settings(search.runs(pairs))
        check_classes(search.grid.protocol, search.runs(pairs), search.grid.settings + pairs)
    candidates = search.candidates()
    runs = [run for of_pairs in candidates.values() for of_seeds in of_pairs.values() for run in of_seeds]
    check_validation_images(runs, executor.data)
    failed = work(f"{search.grid.protocol}, search", runs, executor, output, dry_run)
    choices = search.choices(output)
    for cell in candidates:
        print(choices.get(cell) or f"not chosen yet for {cell}: not all candidates are finished")
    tests = list(search.tests(choices))
    if not tests:
        return failed
    print()
    tested = {run.tests for run in tests}
    models = [run for run in runs if run.folder in tested]
    what = f"{search.grid.protocol}, tests of what was chosen"
    return failed | work(what, models + tests, executor, output, dry_run)


def main() -> None:
    """Show the grid, run what is not done, list what failed; exit code 1 where something did."""
    args = make_parser().parse_args()
    output = args.output.absolute()
    grid = grid_of(args)
    given = [[key, *(_from_here(key, value) for value in values)] for key, *values in args.search]
    search = search_of(grid, given, args.on)
    executor = executor_of(args, args.root.absolute(), output)
    if search:
        failed = work_and_choose(search, executor, output, args.dry_run)
        what = "the search and the tests of what was chosen"
    else:
        runs = expand(grid)
        if grid.settings:
            check_settings(runs)
        check_classes(grid.protocol, runs, grid.settings)
        failed = work(grid.protocol, runs, executor, output, args.dry_run)
        what = counted(runs)
    if failed:
        sys.exit(1)
    if not args.dry_run:
        print(f"All done ({what}). Tables and figures: python tools/report.py {near(output)}")


def executor_of(args: argparse.Namespace, data: Path, output: Path) -> Executor:
    """Where the runs are done."""
    if args.executor == "slurm":
        from tools.launching.slurm import Slurm

        return Slurm(
            data,
            output,
            partition=args.partition,
            hours=args.hours,
            memory=args.memory,
            gpus=args.gpus_per_job,
            threads=args.threads or 4,
            at_a_time=args.at_a_time,
        )
    return Local(
        data, output, slots(visible_gpus() if args.gpus is None else args.gpus, args.jobs, args.threads)
    )


def counted(runs: Sized) -> str:
    """ "1 run", "2 runs"."""
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def near(path: Path) -> Path:
    """`path` as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _as_ctrl_c(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    with clean_errors():
        main()
