"""Settings chosen on validation images: every combination is trained, the best of them alone is tested.

The candidates are the trainings of a protocol, once with each combination of the values and evaluated on the
validation images, below search/<combination>/. For each method, data set and number of shots the combination with the
best mean accuracy over the seeds is chosen; then the protocol's tests are run on the models that were trained with it.
No other model meets a test image.
"""

import ast
import contextlib
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import mean

from foundation.errors import WrongInput
from runs import shipped
from tools.launching.grid import Grid
from tools.launching.run import Run
from tools.launching.state import finished, settings
from tools.protocols import PROTOCOLS, expand

FOLDER = "search"
ON = "val"
#: Settings that a search decides itself.
DECIDED = {
    "TEST.SPLIT": "candidates are evaluated on validation images, the chosen ones on test images",
    "TEST.NO_TEST": "without an evaluation there is nothing to choose by",
}
#: And those of which two values are tested on different images.
NOT_SEARCHED = DECIDED | {
    "DATASET.SUBSAMPLE_CLASSES": "accuracies on different classes cannot be compared",
    "TEST.TEMPERATURE": "it changes no prediction",
}
_LONGEST = 60  # characters of a folder's name

Pairs = tuple[str, ...]  #: KEY VALUE KEY VALUE ...


@dataclass(frozen=True)
class Choice:
    """The best combination for one method, data set and number of shots.

    Attributes:
        cell: which these are, a folder of the protocol without its seed.
        chosen: the combination.
        accuracies: of each combination the seeds and their accuracies on validation images, in percent.
    """

    cell: str
    chosen: Pairs
    accuracies: dict[Pairs, dict[int, float]]

    def __str__(self) -> str:
        tried = ", ".join(
            f"{said(pairs)} {mean(of_seeds.values()):.2f} %" for pairs, of_seeds in self.accuracies.items()
        )
        return f"chosen on {ON} for {self.cell}: {said(self.chosen)} (of {tried})"

    def as_json(self) -> str:
        """What the record of a test of it says."""
        tried = [
            {"settings": _as_dict(pairs), "seed": seed, "accuracy": accuracy}
            for pairs, of_seeds in self.accuracies.items()
            for seed, accuracy in of_seeds.items()
        ]
        return json.dumps({"on": ON, "chosen": _as_dict(self.chosen), "tried": tried})


@dataclass(frozen=True)
class Search:
    """A grid of values of some settings for a grid of runs.

    Attributes:
        options: keys and their values, in the order in which they were given.
    """

    grid: Grid
    options: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def combinations(self) -> list[Pairs]:
        """All combinations of the values."""
        keys = [key for key, _ in self.options]
        return [
            tuple(itertools.chain(*zip(keys, values)))
            for values in itertools.product(*(values for _, values in self.options))
        ]

    def runs(self, pairs: Pairs) -> list[Run]:
        """The runs of the protocol with a combination; ValueError also for a key that the protocol varies itself."""
        return expand(replace(self.grid, settings=self.grid.settings + pairs))

    def candidates(self) -> dict[str, dict[Pairs, list[Run]]]:
        """By cell and combination, the runs that are to be evaluated on validation images, one for each seed.

        ValueError where that would be on classes that the protocol holds back.
        """
        found: dict[str, dict[Pairs, list[Run]]] = {}
        for pairs in self.combinations:
            for run in self.runs(pairs):
                if run.tests is None:
                    if run.evaluates and not PROTOCOLS[self.grid.protocol].tests_learned_classes:
                        at_home = [p.name for p in PROTOCOLS.values() if p.tests_learned_classes]
                        raise WrongInput(
                            f"--search: {run.trainer} learns nothing, so {self.grid.protocol} would choose on the very "
                            f"classes that it holds back: {' or '.join(at_home)} searches for it"
                        )
                    candidate = self._candidate(run, pairs)
                    found.setdefault(cell_of(run.folder, run.seed), {}).setdefault(pairs, []).append(
                        candidate
                    )
        return found

    def _candidate(self, run: Run, pairs: Pairs) -> Run:
        return replace(
            run,
            folder=f"{FOLDER}/{folder_name(pairs)}/{run.folder}",
            settings=(*run.settings, "TEST.SPLIT", ON, "TEST.NO_TEST", "False"),
            remark=" ".join([run.remark, said(pairs)]).strip(),
            search=json.dumps({"candidate": _as_dict(pairs)}),
        )

    def choices(self, output: Path) -> dict[str, Choice]:
        """By cell, what is chosen where all candidates are finished; of equal ones the first."""
        found = {}
        for cell, of_pairs in self.candidates().items():
            accuracies = {
                pairs: {run.seed: _accuracy(run, output) for run in runs} for pairs, runs in of_pairs.items()
            }
            known = {
                pairs: {seed: accuracy for seed, accuracy in of_seeds.items() if accuracy is not None}
                for pairs, of_seeds in accuracies.items()
            }
            if known == accuracies:
                best = max(known, key=lambda pairs: mean(known[pairs].values()))
                found[cell] = Choice(cell, best, known)
        return found

    def tests(self, choices: dict[str, Choice]) -> Iterator[Run]:
        """The protocol's tests of the models that were chosen, in the protocol's folders."""
        for pairs in self.combinations:
            for run in self.runs(pairs):
                choice = choices.get(cell_of(run.tests or run.folder, run.seed))
                if choice is None or choice.chosen != pairs:
                    continue
                if run.tests is None and run.evaluates:  # nothing is learned
                    yield replace(run, search=choice.as_json())
                else:
                    model = f"{FOLDER}/{folder_name(pairs)}/{run.tests or run.folder}"
                    yield replace(run, evaluates=True, tests=model, search=choice.as_json())


def search_of(grid: Grid, given: Sequence[Sequence[str]], on: str | None) -> Search | None:
    """The search that the arguments --search KEY VALUE ... and --on ask for, None without any.

    ValueError for one on test images, a key without values, or one that is given twice.
    """
    if on not in (None, ON):
        why = "choosing by test images makes the tested accuracy worthless; " if on == "test" else ""
        raise WrongInput(f"--on {on}: {why}settings are chosen on {ON}, the validation images")
    if not given:
        if on:
            raise WrongInput(f"--on {on} says where --search KEY VALUE ... chooses, and that is not given")
        return None
    if why := PROTOCOLS[grid.protocol].never_searched:
        raise WrongInput(f"--search: {grid.protocol} {why}")
    options: dict[str, tuple[str, ...]] = {}
    for key, *values in given:
        if not values:
            raise WrongInput(f"--search {key} has no values: --search KEY VALUE VALUE ...")
        if key in options or key in grid.settings[::2]:
            raise WrongInput(f"--search {key}: it is given {'twice' if key in options else 'by --opts, too'}")
        if key in NOT_SEARCHED:
            raise WrongInput(f"--search {key}: {NOT_SEARCHED[key]}")
        _check_different(key, values)
        options[key] = tuple(values)
    for key in grid.settings[::2]:
        if key in DECIDED:
            raise WrongInput(f"--opts {key}: with --search, {DECIDED[key]}")
    return Search(grid, tuple(options.items()))


def _check_different(key: str, values: Sequence[str]) -> None:
    """ValueError where two values are the same."""
    seen: dict[str, str] = {}
    for value in values:
        meant = _meant(value)
        if meant in seen:
            twice = "there twice" if seen[meant] == value else f"{seen[meant]}, which is there already"
            raise WrongInput(f"--search {key}: {value} is {twice}")
        seen[meant] = value


def _meant(value: str) -> str:
    """A setting's value in one way of writing it: "2e-3" and "0.002" are the same number."""
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(float(read) if type(read) is int else read)


def check_keys(search: Search) -> None:
    """ValueError for a key of another method's section: of a method that does not read it all candidates are alike."""
    from dassl.config import get_cfg_default  # here, because it takes seconds
    from dassl.engine import TRAINER_REGISTRY
    from runs.schema import declared_keys, extend_cfg
    from runs.settings import leaves

    cfg = get_cfg_default()
    extend_cfg(cfg)
    known = dict(leaves(cfg))
    for trainer, _ in search.grid.trainers:
        if not hasattr(TRAINER_REGISTRY.get(trainer), "declared_keys"):
            continue  # who knows what it reads
        own = declared_keys(trainer)
        for key, _ in search.options:
            if key.startswith("TRAINER.") and key in known and key not in own:
                raise WrongInput(f"--search {key}: {trainer} does not read it")


def check_validation_images(runs: Sequence[Run], data: Path) -> None:
    """ValueError where a data set has no validation images to choose by; what `data` does not hold is not looked at."""
    from dassl.data.datasets import DATASET_REGISTRY

    for run in {run.dataset: run for run in runs}.values():
        name = shipped.registered_name(run.dataset)
        dataset = DATASET_REGISTRY.get(name)
        origin = getattr(dataset, "origin", None)
        none = origin is not None and origin.sizes[2] == 0
        if not none and data.is_dir():
            cfg = settings(run).clone()
            cfg.defrost()
            cfg.DATASET.ROOT = str(data)
            with contextlib.redirect_stdout(io.StringIO()):
                none = not dataset(cfg).val
        if none:
            raise WrongInput(
                f"--search: {name} has no validation images to choose by; settings that were chosen on another data "
                "set are given by --opts KEY VALUE"
            )


def _accuracy(run: Run, output: Path) -> float | None:
    """Of a finished candidate on validation images, in percent; None where it is not finished."""
    try:
        record = finished(run, output)
    except ValueError:  # another run is in its folder
        return None
    return record["metrics"]["accuracy"] if record and record["metrics"] else None


def cell_of(folder: str, seed: int) -> str:
    """A protocol's folder without the seed, over which a choice is made."""
    return "/".join(part for part in folder.split("/") if part != f"seed{seed}")


def folder_name(pairs: Pairs) -> str:
    """ "LR_0.002-N_CTX_4": readable, and another one for each combination."""
    name = re.sub(r"[^\w.+-]+", "_", said(pairs).replace(", ", "-").replace(" ", "_"))
    if len(name) > _LONGEST or name != said(pairs).replace(", ", "-").replace(" ", "_"):
        name = f"{name[:_LONGEST]}-{sha256(json.dumps(pairs).encode()).hexdigest()[:8]}"
    return name


def said(pairs: Pairs) -> str:
    """ "LR 0.002, N_CTX 4"; a key's section only where two keys end alike."""
    ends = [key.rpartition(".")[2] for key in pairs[::2]]
    return ", ".join(
        f"{key if ends.count(end) > 1 else end} {value}"
        for key, value, end in zip(pairs[::2], pairs[1::2], ends)
    )


def _as_dict(pairs: Pairs) -> dict[str, str]:
    return dict(zip(pairs[::2], pairs[1::2]))
