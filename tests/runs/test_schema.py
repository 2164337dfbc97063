"""The config of a command line: what is allowed, and what stays as it was typed."""

import sys
from pathlib import Path

import pytest

from dassl.config import get_cfg_default
from dassl.engine import TRAINER_REGISTRY
from foundation.keys import check
from runs.command_line import make_parser
from runs.schema import check_values, declared_keys, extend_cfg, not_read, setup_cfg
from runs.settings import leaves
from tests import copies
from tests.trainers.harness import METHODS


def with_pairs(*pairs, trainer="CoOp"):
    return setup_cfg(
        make_parser().parse_args(["--trainer", trainer, "DATASET.NAME", "EuroSAT", *map(str, pairs)])
    )


WRONG = [
    ("TEST.SPLIT", "validation", "choose from: test, val"),
    ("TEST.FINAL_MODEL", "best", "choose from: last_step, best_val"),
    ("TEST.EVALUATOR", "Clasification", "choose from: .*Classification"),
    ("TEST.TOP_K", 0, "1 or more is needed"),
    ("TEST.CLASS_CHUNK", -1, "0 or more is needed"),
    ("OPTIM.NAME", "sdg", "choose from: adam, .*sgd"),
    ("OPTIM.LR", -0.002, "0 or more is needed"),
    ("OPTIM.LR", "nan", "0 or more is needed"),
    ("OPTIM.LR", "inf", "0 or more is needed"),
    ("OPTIM.WEIGHT_DECAY", -1, "0 or more is needed"),
    ("OPTIM.MOMENTUM", 1.5, "0 or more and below 1 is needed"),
    ("OPTIM.MOMENTUM", -0.1, "0 or more and below 1 is needed"),
    ("OPTIM.ADAM_BETA1", 1.0, "below 1 is needed"),
    ("OPTIM.ADAM_BETA2", -1, "below 1 is needed"),
    ("OPTIM.RMSPROP_ALPHA", 2, "0 to 1 is needed"),
    ("OPTIM.SGD_DAMPNING", 2, "0 to 1 is needed"),
    ("OPTIM.MAX_EPOCH", 0, "1 or more is needed"),
    ("OPTIM.MAX_EPOCH", -3, "1 or more is needed"),
    ("OPTIM.WARMUP_EPOCH", 11, r"more than all epochs \(OPTIM.MAX_EPOCH 10\)"),
    ("OPTIM.WARMUP_TYPE", "cosine", "choose from: linear, constant"),
    ("OPTIM.WARMUP_CONS_LR", -1, "0 or more is needed"),
    ("OPTIM.LR_SCHEDULER", "cosin", "choose from: single_step, multi_step, cosine"),
    ("OPTIM.GAMMA", 0, "more than 0 is needed"),
    ("OPTIM.STEPSIZE", "('a',)", "each"),
    ("OPTIM.SGD_NESTEROV", True, r"OPTIM.MOMENTUM \(now 0.0\) above 0"),
    ("TRAIN.PRINT_FREQ", 0, "1 or more is needed"),
    ("TRAIN.COUNT_ITER", "train", "choose from: train_x, train_u, smaller_one"),
    ("TRAIN.RESUME_INTERVAL", -1, "0 or more is needed"),
    ("TRAINER.CLASS_SAMPLE", -1, "0 or more is needed"),
    ("DATALOADER.NUM_WORKERS", -1, "0 or more is needed"),
    ("DATALOADER.TRAIN_X.BATCH_SIZE", 0, "1 or more is needed"),
    ("DATALOADER.TEST.BATCH_SIZE", 0, "1 or more is needed"),
    ("DATALOADER.TRAIN_X.SAMPLER", "random", "choose from: RandomSampler, "),
    ("DATALOADER.K_TRANSFORMS", 0, "1 or more is needed"),
    ("DATALOADER.CACHE_MB", -1, "0 or more is needed"),
    ("MODEL.TEXT_CHUNK", -1, "0 or more is needed"),
    ("MODEL.TEXT_MEMORY", -0.5, "0 or more is needed"),
    ("MODEL.HEAD.ACTIVATION", "gelu", "choose from: relu, leaky_relu"),
    ("DATASET.SUBSAMPLE_CLASSES", "novel", "choose from: all, base, new"),
    ("DATASET.VAL_PERCENT", 1.5, "0 to 1 is needed"),
    ("SEED", 2**32, "4294967295 or less is needed"),
    ("INPUT.SIZE", "(224,)", "2 values"),
    ("INPUT.SIZE", "(0, 32)", "each: 1 or more"),
    ("INPUT.PIXEL_MEAN", "[0.5]", "3 values"),
    ("INPUT.PIXEL_STD", "[0.5, 0.5, 0.0]", "more than 0"),
    ("INPUT.INTERPOLATION", "bicubik", "choose from: .*bicubic"),
    ("INPUT.TRANSFORMS", "('random_flp',)", "choose from: .*random_flip"),
    ("INPUT.RRCROP_SCALE", "(1.0, 0.08)", "the smaller one first"),
    ("INPUT.GB_K", 20, "an odd number is needed"),
    ("INPUT.COLORJITTER_H", 0.7, "0 to 0.5 is needed"),
    ("TRAINER.COOP.N_CTX", 0, "1 or more is needed"),
    ("TRAINER.COOP.PREC", "fp8", "choose from: fp32, fp16, amp, bf16"),
    ("TRAINER.COOP.CLASS_TOKEN_POSITION", "middel", "choose from: end, middle, front"),
]


@pytest.mark.parametrize(("name", "wrong", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_a_value_that_is_not_allowed_is_named(name, wrong, message):
    momentum = ["OPTIM.NAME", "sgd", "OPTIM.MOMENTUM", "0"] if name == "OPTIM.SGD_NESTEROV" else []
    with pytest.raises(ValueError, match=f"^{name} is .*{message}"):
        check_values(with_pairs(*momentum, name, wrong))


OF_METHODS = [
    ("MMTPA", "VARIANT", "realease", "choose from: paper, release"),
    ("MMTPA", "EPS", 0, "more than 0"),
    ("MMTPA", "MAX_ITER", 0, "1 or more"),
    ("MMTPA", "TEXT_PROMPT_NUMBER", 0, "1 or more"),
    ("MuDPT", "INJECTION", "tranformer", "choose from: transformer, linear, text_to_vision"),
    ("MuDPT", "NORM", "none", "choose from: pre, post"),
    ("PLOT", "CSC", True, "choose from: False"),
    ("PLOT", "N", 0, "1 or more"),
    ("KgCoOp", "W", -1, "0 or more"),
    ("PromptSRC", "GPA_STD", 0, "more than 0"),
    ("APLe", "ORDER", "text", "choose from: language, vision"),
    ("APLe", "SCHEDULE", "epochs", "choose from: phase, epoch, batch"),
    ("APLe", "SHARES", "(0.5, 0.6, 0.1)", "three that are not negative and add up to 1"),
    ("APLe", "TEMPERATURE", 0, "more than 0"),
    ("APLe", "ALPHA", 2, "0 to 1"),
]


@pytest.mark.parametrize(("method", "name", "wrong", "message"), OF_METHODS)
def test_a_methods_value_that_is_not_allowed_is_named(method, name, wrong, message):
    key = f"TRAINER.{TRAINER_REGISTRY.get(method).section}.{name}"
    with pytest.raises(ValueError, match=f"^{key} is .*{message}"):
        check_values(with_pairs(key, wrong, trainer=method))


def test_the_temperature_of_prograd_is_no_key_of_its_section():
    with pytest.raises(ValueError, match=r"^LOSS\.T is 0\.0, more than 0"):
        check_values(with_pairs("LOSS.T", 0, trainer="ProGrad"))


def test_another_methods_keys_are_not_looked_at():
    check_values(with_pairs("TRAINER.MMTPA.VARIANT", "mine"))


def test_settings_of_another_method_are_named():
    given = ["TRAINER.MMTPA.VARIANT", "release", "TRAINER.COOP.N_CTX", 4, "LOSS.T", 2.0]
    assert not_read(with_pairs(*given)) == {"TRAINER.MMTPA.VARIANT": "release"}
    assert not_read(with_pairs(*given, trainer="MMTPA")) == {"TRAINER.COOP.N_CTX": 4}


def test_methods_of_one_section_have_the_same_defaults():
    """Else the one that is registered last would decide what the others do."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    declared = dict(leaves(cfg))
    for method in METHODS:
        defaults = {name: key.default for name, key in declared_keys(method).items()}
        assert {name: declared[name] for name in defaults} == defaults


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_allowed(method):
    cfg = get_cfg_default()
    extend_cfg(cfg)
    check(cfg, declared_keys(method))


def test_every_key_of_ours_is_declared():
    """So that each has a range, where it needs one, and a line that says what it is."""
    cfg = get_cfg_default()
    extend_cfg(cfg)
    declared = set(declared_keys())
    for method in METHODS:
        declared |= set(declared_keys(method))
    from runs.key_list import of_data_sets

    declared |= set(of_data_sets())
    assert [name for name in dict(leaves(cfg)) if name not in declared] == []


@pytest.mark.parametrize("trainer", ["", "CoOps"])
def test_a_trainer_that_does_not_exist_lists_those_that_do(trainer):
    with pytest.raises(
        ValueError, match=r"^trainer .*(is missing|the nearest is CoOp).*choose from: .*MMTPA"
    ):
        check_values(with_pairs("TRAINER.NAME", trainer))


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.yaml").write_text("DATASET: {NAME: EuroSAT}\nTEST: {FEATURE_CACHE: ~/features}\n")
    (tmp_path / "old").mkdir()
    options = ["--root", "~/data", "--output-dir", "~/out", "--resume", "~/old", "--model-dir", "~/model"]
    args = make_parser().parse_args(
        [*options, "--config-file", "~/mine.yaml", "MODEL.INIT_WEIGHTS", "~/w.pt"]
    )
    cfg = setup_cfg(args)
    assert args.model_dir == str(tmp_path / "model")
    assert (str(tmp_path / "data"), str(tmp_path / "out")) == (cfg.DATASET.ROOT, cfg.OUTPUT_DIR)
    assert (str(tmp_path / "old"), str(tmp_path / "w.pt")) == (cfg.RESUME, cfg.MODEL.INIT_WEIGHTS)
    assert str(tmp_path / "features") == cfg.TEST.FEATURE_CACHE


@pytest.mark.parametrize("name", ["20241127_153000", "1e3", "None", "True", "[a]", "(1)"])
def test_names_of_folders_stay_what_was_typed(name):
    cfg = setup_cfg(
        make_parser().parse_args(
            ["--output-dir", name, "--root", name, "--backbone", name, "--trainer", name]
        )
    )
    assert (name, name) == (cfg.OUTPUT_DIR, cfg.DATASET.ROOT)
    assert (name, name) == (cfg.MODEL.BACKBONE.NAME, cfg.TRAINER.NAME)


def test_the_page_says_what_is_declared(root: Path):
    """In a process of its own: tests register methods, too."""
    made = copies.run([sys.executable, "-m", "runs.key_list"], cwd=root, apart=True)
    assert made.returncode == 0, made.stderr
    assert (root / "docs" / "keys.md").read_text(encoding="utf-8") == made.stdout
