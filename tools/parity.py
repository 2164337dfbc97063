"""Check trainers against recorded numbers of the methods' released implementations.

    python tools/parity.py FOLDER [case ...]

FOLDER holds an index.json of cases; every case is a random CLIP, inputs, a released checkpoint taken apart, and what
the release computed from them: logits, loss, gradients, and a six-step training trajectory with its learning rates.
The checkpoint is put together as the release's users have it, written to disk and loaded the way `train.py --model-dir`
loads it; what the release drew at random is drawn as it was. For each case the largest relative error is printed; the
exit code is 1 above the tolerance or where a case has no trainer yet.
"rounding" is how far the trajectory's end moves when it starts one unit of the last place away; it is computed for
trajectories that end above the tolerance.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import argparse
import contextlib
import io
import json
import tempfile
from types import SimpleNamespace
from typing import Any

from runs.argument_types import at_least, expanded
from runs.errors import OneLineParser, clean_errors
from runs.importing import importing
from runs.settings import merge_pairs

TOLERANCE = 1e-4
COLUMNS = ("logits", "loss", "gradients", "trajectory", "rounding")


def parse() -> argparse.Namespace:
    parser = OneLineParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "folder", type=expanded, help="the recordings: index.json, shared/, a folder for each method"
    )
    parser.add_argument("cases", nargs="*", help="names out of index.json; all of them if none are given")
    parser.add_argument("--tolerance", type=at_least(0, float), default=TOLERANCE)
    return parser.parse_args()


with importing():
    if __name__ == "__main__":  # a slip is said before the imports, which take seconds
        parse()

    import torch
    from safetensors.torch import load_file, save_file
    from torch import Tensor

    import datasets  # noqa: F401  registers the data sets, whose templates zero-shot methods use
    import trainers  # noqa: F401  registers the methods
    from dassl.config import get_cfg_default
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY
    from runs.schema import extend_cfg
    from trainers.checkpoint import pick


class Case:
    """One recorded case: ``meta``, ``recorded`` tensors, the ``backbone`` and the release's ``checkpoint``."""

    def __init__(self, folder: Path, name: str, entry: dict[str, Any]) -> None:
        path = folder / entry["folder"] / name
        self.name, self.trainer, self.options = name, entry["trainer"], entry["options"]
        self.meta = json.loads(path.with_suffix(".json").read_text())
        self.recorded = load_file(path.with_suffix(".safetensors"))
        self.backbone = _backbone(folder, entry["clip"])
        self.towers = _towers.setdefault((folder, entry["clip"]), [])
        self.batches = _batches(folder)
        self.recipe = self.meta.get("trajectory", {})

    def epoch(self) -> list[dict[str, Tensor]]:
        """The batches of an epoch; of a release that trains in stages, each of them is one."""
        steps = self.recipe.get("stage1_steps", len(self.batches))
        if steps != self.recipe.get("stage2_steps", steps):
            raise ValueError(f"case {self.name}: its stages are of different lengths")
        return [self.batches[step % len(self.batches)] for step in range(steps)]

    def checkpoint(self) -> dict[str, dict[str, Tensor]]:
        """Model name -> state dict, as the release writes it."""
        states: dict[str, dict[str, Tensor]] = {}
        for model, sources in self.meta.get("checkpoint", {}).items():
            states[model] = {}
            for key, source in sources.items():
                kind, _, name = source.partition(":")
                known = [f"{kind}.{key}", f"{kind}.prompt_learner.{key}"]
                found = self.backbone[name] if kind == "clip" else self._first(known)
                states[model][key] = found
        return states

    def gradients(self, prefix: str = "grad.") -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value for key, value in self.recorded.items() if key.startswith(prefix)
        }

    def _first(self, keys: list[str]) -> Tensor:
        for key in keys:
            if key in self.recorded:
                return self.recorded[key]
        raise ValueError(f"case {self.name}: the recording lacks {' or '.join(keys)}")


#: Frozen, so all trainers on a recorded CLIP can have the same, once one has loaded them: by folder and kind.
_towers: dict[tuple[Path, str], list[Any]] = {}


def _backbone(folder: Path, kind: str) -> dict[str, Tensor]:
    weights = load_file(folder / "shared" / "clip_vit.safetensors")
    if kind == "rn":
        weights = {key: value for key, value in weights.items() if not key.startswith("visual.")}
        weights.update(load_file(folder / "shared" / "clip_rn_visual.safetensors"))
    weights = {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}
    if kind.startswith("vit") and kind != "vit":  # vit64: joint width 64
        width = int(kind.removeprefix("vit"))
        for key in ("text_projection", "visual.proj"):
            weights[key] = weights[key][:, :width].contiguous()
    return weights


def _batches(folder: Path) -> list[dict[str, Tensor]]:
    inputs = load_file(folder / "shared" / "inputs.safetensors")
    pairs = [("images", "labels"), ("images2", "labels2")]
    return [{"img": inputs[images], "label": inputs[labels]} for images, labels in pairs]


def build(
    case: Case, trainer: type, settings: list[Any], scratch: Path, classes: list[str] | None = None
) -> Any:
    """The case's trainer on the recorded batches, its checkpoint loaded; of its classes, unless others are given."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    weights = scratch / "clip.safetensors"
    merge_pairs(cfg, [
        "MODEL.BACKBONE.NAME", f"quickgelu:{weights}",
        "INPUT.SIZE", tuple(case.meta["cfg"]["INPUT.SIZE"]),
        "OUTPUT_DIR", str(scratch / "output"),
        "DATASET.NAME", case.meta["cfg"]["DATASET.NAME"],
        "DATASET.SUBSAMPLE_CLASSES", "base",  # logits are of the classes that were trained
        "TEST.NO_TEST", True,
        "USE_CUDA", False,
        *optim(case.recipe),
        *settings,
    ])  # fmt: skip
    template = DATASET_REGISTRY.get(case.meta["cfg"]["DATASET.NAME"]).template
    names = classes or case.meta["classnames"]

    class OnRecordedBatches(trainer):
        def _load_towers(self) -> Any:
            if not case.towers:
                save_file(case.backbone, weights)
                case.towers.append(super()._load_towers())
            self.backbone_hash = case.towers[0].hash
            return case.towers[0]

        def build_data_loader(self) -> None:
            self.train_loader_x = case.epoch()
            self.train_loader_u = self.val_loader = self.test_loader = None
            self.num_classes, self.num_source_domains = len(names), 1
            self.lab2cname = dict(enumerate(names))
            self.images_in_order = case.epoch
            images = [
                SimpleNamespace(impath=f"{number}", label=int(label), domain=0)
                for number, label in enumerate(label for batch in case.batches for label in batch["label"])
            ]
            dataset = SimpleNamespace(classnames=names, template=template, train_x=images)
            self.dm = SimpleNamespace(dataset=dataset)

    OnRecordedBatches.__name__ = trainer.__name__
    built = OnRecordedBatches(cfg)
    for model, state in case.checkpoint().items():
        (scratch / "release" / model).mkdir(parents=True)
        torch.save({"state_dict": state, "epoch": 1}, scratch / "release" / model / "model.pth.tar-1")
        built.load_model(str(scratch / "release"), epoch=1)
    for name, method in built.model.draws.items():
        drawn = iter(case.recorded[f"extra.{name}"])
        setattr(built.model, method, lambda *_, drawn=drawn: next(drawn))
    return built


def optim(recipe: dict[str, Any]) -> list[Any]:
    """Settings of a recorded trajectory."""
    per_step = "after every step" in recipe.get("scheduler", "")
    beta1, beta2 = recipe.get("betas", (0.9, 0.999))
    return [
        "OPTIM.NAME", recipe.get("optimizer", "sgd"),
        "OPTIM.LR", recipe.get("lr", 0.002),
        "OPTIM.MOMENTUM", recipe.get("momentum", 0.9),
        "OPTIM.WEIGHT_DECAY", recipe.get("weight_decay", 5e-4),
        "OPTIM.ADAM_BETA1", beta1,
        "OPTIM.ADAM_BETA2", beta2,
        "OPTIM.ADAM_EPS", recipe.get("eps", 1e-8),
        "OPTIM.LR_SCHEDULER", "cosine",
        "OPTIM.LR_STEPS", per_step,
        "OPTIM.LR_FLOOR", recipe.get("eta_min", 0.0),
        "OPTIM.MAX_EPOCH", 2 if "stage1_steps" in recipe else recipe.get("max_epoch", 1),
        "OPTIM.WARMUP_EPOCH", -1 if per_step else recipe.get("warmup_epoch", 1),
        "OPTIM.WARMUP_TYPE", recipe.get("warmup_type", "constant"),
        "OPTIM.WARMUP_CONS_LR", recipe.get("warmup_cons_lr", 1e-5),
    ]  # fmt: skip


def compare(case: Case, trainer: type, settings: list[Any], tolerance: float) -> dict[str, float]:
    """Largest relative error of each recorded quantity; rounding where the trajectory's is above ``tolerance``."""
    errors = {}
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        built = build(case, trainer, settings, Path(scratch))
        built.set_model_mode("eval")
        errors["logits"] = of_value(
            built.model_inference(case.batches[0]["img"]), case.recorded["eval.logits"]
        )
        if "train.loss" not in case.recorded:
            return errors

        built.set_model_mode("train")
        built.batch_idx, built.num_batches = 0, len(case.epoch())
        loss = built.forward_backward(case.batches[0])["loss"]
        errors["loss"] = of_value(torch.as_tensor(loss), case.recorded["train.loss"])
        errors["gradients"] = compare_gradients(case, built.model)

    if "extra.stage2.loss" in case.recorded:
        for column, error in compare_second_stage(case, trainer, settings).items():
            errors[column] = max(errors[column], error)
    losses, rates, final = trajectory(case, trainer, settings)
    recorded = case.recorded.get("traj.lr_groups", case.recorded["traj.lr"][:, None])
    errors["trajectory"] = max(
        of_value(losses, case.recorded["traj.loss"]),
        of_each(rates, recorded.sort(dim=1).values),
        of_largest(final, recorded_logits(case, "traj.logits_final")),
    )
    if errors["trajectory"] > tolerance:
        moved = (trajectory(case, trainer, settings, seed)[2] for seed in (1, 2, 3))
        errors["rounding"] = max(of_largest(end, final) for end in moved)
    return errors


def trajectory(
    case: Case, trainer: type, settings: list[Any], moved: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the recorded steps the losses and the groups' learning rates, in ascending order, and the logits after them.

    With a seed in ``moved`` the parameters start up to a unit of their last place away: where rounding leads to.
    """
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        built = build(case, trainer, settings, Path(scratch))
        if moved is not None:
            random = torch.Generator().manual_seed(moved)
            for parameter in built.model.parameters():
                away = 2 * torch.rand(parameter.shape, generator=random) - 1
                parameter.data *= 1 + torch.finfo(parameter.dtype).eps * away
        losses, rates, step = [], [], built.forward_backward

        def record(batch: dict[str, Tensor]) -> dict[str, float]:
            rates.append(sorted(group["lr"] for group in built.optim.param_groups))
            summary = step(batch)
            losses.append(summary["loss"])
            return summary

        built.forward_backward = record
        built.train()
        final = logits(case, trainer, settings, built, Path(scratch), "traj.logits_final")
        return torch.tensor(losses).double(), torch.tensor(rates).double(), final


def compare_second_stage(case: Case, trainer: type, settings: list[Any]) -> dict[str, float]:
    """The same for the beginning of a release's second stage: what it starts from, and its first loss and gradients."""
    recorded, stage = case.gradients("extra.stage2."), "extra.stage2.logits"
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        built = build(case, trainer, settings, Path(scratch))
        built.epoch = 1
        built.before_epoch()
        found = logits(case, trainer, settings, built, Path(scratch), stage)
        of_logits = of_value(found, recorded_logits(case, stage))
        named = {name: value for name, value in built.model.named_parameters() if name in recorded}
        starts = [of_largest(value.detach(), recorded[name]) for name, value in named.items()]
        built.set_model_mode("train")
        built.batch_idx, built.num_batches = 0, len(case.epoch())
        loss = built.forward_backward(case.batches[0])["loss"]
        moved = {name: value.grad for name, value in built.model.named_parameters() if value.grad is not None}
    if {f"grad.{name}" for name in moved} != {name for name in recorded if name.startswith("grad.")}:
        raise ValueError(f"case {case.name}: its second stage trains {', '.join(moved)} here")
    return {
        "logits": max(of_logits, *starts),
        "loss": of_value(torch.as_tensor(loss), recorded["loss"]),
        "gradients": max(of_largest(grad, recorded[f"grad.{name}"]) for name, grad in moved.items()),
    }


def logits(
    case: Case, trainer: type, settings: list[Any], built: Any, scratch: Path, recorded: str
) -> Tensor:
    """Of the first batch, as `recorded_logits` has them: those of other classes from a checkpoint, as in a test."""
    built.set_model_mode("eval")
    found = built.model_inference(case.batches[0]["img"])
    if f"{recorded}_selective" not in case.recorded:
        return found
    built.save_model(0, str(scratch / "run"))
    (scratch / "others").mkdir()
    other = build(case, trainer, settings, scratch / "others", case.meta["selective_categories"])
    other.load_model(str(scratch / "run"), epoch=1)
    other.set_model_mode("eval")
    return torch.cat([found, other.model_inference(case.batches[0]["img"])], dim=1)


def recorded_logits(case: Case, name: str) -> Tensor:
    """Of the classes that were trained, and where they were recorded of a list with others in it, too."""
    parts = [case.recorded[key] for key in (name, f"{name}_selective") if key in case.recorded]
    return torch.cat(parts, dim=1)


def is_bad(errors: dict[str, float], tolerance: float) -> bool:
    """Whether an error is above the tolerance. A trajectory's grows from step to step: to the tolerance comes what
    rounding the start alone makes of it, four times, as the recorded run and ours round in every step.
    """
    allowed = {"trajectory": tolerance + 4 * errors.get("rounding", 0.0)}
    return any(
        not error <= allowed.get(name, tolerance) for name, error in errors.items() if name != "rounding"
    )


def compare_gradients(case: Case, model: Any) -> float:
    """Largest error of any parameter's gradient, relative to the recorded tensor's largest value."""
    recorded, names = case.gradients(), model.released_names()
    without = case.meta.get("no_gradient", [])
    worst, compared = 0.0, set()
    for name, parameter in model.named_parameters():
        # Recordings name parameters from the release's whole model, checkpoints from the saved part of it.
        theirs = names.get(name, name)
        known = theirs in without or theirs.partition("[")[0] in recorded
        theirs = theirs if known else f"prompt_learner.{theirs}"
        if parameter.grad is None and (theirs in without or name in model.released_without):
            continue
        whole = recorded.get(theirs.partition("[")[0])
        if whole is None:
            raise ValueError(
                f"case {case.name}: no gradient was recorded for {names.get(name, name)} ({name} here)"
            )
        worst = max(worst, ((parameter.grad - pick(recorded, theirs)).abs().max() / whole.abs().max()).item())
        compared.add(theirs.partition("[")[0])
    if compared != recorded.keys():
        raise ValueError(
            f"case {case.name}: no gradient here for {', '.join(sorted(recorded.keys() - compared))}"
        )
    return worst


def of_value(ours: Tensor, recorded: Tensor) -> float:
    """Largest error relative to each value. A logit near zero is a difference of large terms, whose rounding it does
    not carry itself: values below a tenth of the largest count as that."""
    floor = 0.1 * recorded.abs().max()
    return ((ours - recorded).abs() / recorded.abs().clamp(min=floor)).max().item()


def of_each(ours: Tensor, recorded: Tensor) -> float:
    """Largest error relative to each value, however small."""
    return ((ours - recorded).abs() / recorded.abs()).max().item()


def of_largest(ours: Tensor, recorded: Tensor) -> float:
    """Largest error relative to the tensor's largest value."""
    return ((ours - recorded).abs().max() / recorded.abs().max()).item()


def find_trainer(case: Case) -> tuple[type, list[Any]] | None:
    """The trainer that reproduces a release and the case's options in its keys; None where there is none."""
    options = dict(zip(case.options[::2], case.options[1::2]))
    for name in TRAINER_REGISTRY.registered_names():
        trainer = TRAINER_REGISTRY.get(name)
        release = getattr(trainer, "released_as", {}).get(case.trainer)
        if name != case.trainer and release is None:
            continue
        ours = f"TRAINER.{getattr(trainer, 'section', '')}."
        if release is not None:
            theirs = f"TRAINER.{release.section}."
            if any(options.pop(theirs + key, value) != value for key, value in release.only.items()):
                return None
            options = {key.replace(theirs, ours): value for key, value in options.items()}
            options = {trainer.whole_name(key): value for key, value in release.settings.items()} | options
            options.update(
                {trainer.whole_name(key): case.meta[theirs] for theirs, key in release.recorded.items()}
            )
        if hasattr(trainer, "section"):
            options[f"{ours}PREC"] = "fp32"
        return trainer, [part for option in options.items() for part in option]
    return None


@clean_errors()
def main() -> int:
    args = parse()
    _towers.clear()
    index_file = args.folder / "index.json"
    if not index_file.is_file():
        raise FileNotFoundError(f"{args.folder} holds no recordings: there is no index.json")
    index = json.loads(index_file.read_text())
    unknown = sorted(set(args.cases) - index.keys())
    if unknown:
        raise ValueError(f"no such case: {', '.join(unknown)}; there are: {', '.join(index)}")

    print(
        f"{'case':<22}{'trainer':<24}"
        + "".join(f"{column:>12}" for column in COLUMNS)
        + "   largest relative error"
    )
    failed, without = [], []
    for name in args.cases or index:
        case = Case(args.folder, name, index[name])
        found = find_trainer(case)
        if found is None:
            without.append(f"{name} ({case.trainer})")
            print(f"{name:<22}{case.trainer:<24}   no trainer yet")
            continue
        errors = compare(case, *found, args.tolerance)
        bad = is_bad(errors, args.tolerance)
        failed += [name] if bad else []
        cells = "".join(
            f"{errors[column]:>12.1e}" if column in errors else f"{'-':>12}" for column in COLUMNS
        )
        print(f"{name:<22}{case.trainer:<24}{cells}   {'TOO LARGE' if bad else 'ok'}", flush=True)
    if failed:
        print(f"above {args.tolerance:g}: {', '.join(failed)}")
    if without:
        print(f"no trainer yet: {', '.join(without)}")
    return 1 if failed or without else 0


if __name__ == "__main__":
    sys.exit(main())
