"""What scripts written for CoOp and Dassl rely on in train.py."""

import os
import shutil

import train
from runs.record import read_record
from tests.train.running import run_program


def test_the_functions_that_scripts_import(short_run, monkeypatch, root):
    monkeypatch.chdir(root)
    args = train.make_parser().parse_args([str(word) for word in short_run])
    cfg = train.get_cfg_default()
    train.extend_cfg(cfg)
    train.reset_cfg(cfg, args)
    assert (cfg.TRAINER.NAME, cfg.SEED, cfg.DATASET.SUBSAMPLE_CLASSES) == ("CoOp", 1, "all")
    assert train.setup_cfg(args).is_frozen()


def test_later_settings_win(tmp_path, root, monkeypatch):
    monkeypatch.chdir(root)
    (tmp_path / "dataset.yaml").write_text("DATASET: {NAME: One}\nSEED: 2\nOPTIM: {LR: 0.2, NAME: adam}\n")
    (tmp_path / "method.yaml").write_text("SEED: 3\nOPTIM: {LR: 0.3, MAX_EPOCH: 3}\n")
    args = [
        "--dataset-config-file",
        str(tmp_path / "dataset.yaml"),
        "--config-file",
        str(tmp_path / "method.yaml"),
    ]
    cfg = train.setup_cfg(train.make_parser().parse_args([*args, "--seed", "4", "OPTIM.MAX_EPOCH", "5"]))
    assert (cfg.DATASET.NAME, cfg.OPTIM.NAME, cfg.OPTIM.LR) == ("One", "adam", 0.3)
    assert (cfg.SEED, cfg.OPTIM.MAX_EPOCH) == (4, 5)


def test_another_dassl_is_used_and_named(root, short_run, tmp_path):
    shutil.copytree(root / "dassl", tmp_path / "other" / "dassl")
    with (tmp_path / "other" / "dassl" / "__init__.py").open("a") as file:
        file.write('\n__version__ = "0.6.3-other"\n')
    ran = run_program(root, short_run, {**os.environ, "DASSL_PATH": str(tmp_path / "other")}, apart=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"Using the Dassl in {tmp_path / 'other'} (DASSL_PATH)" in ran.stdout
    assert read_record(tmp_path / "run")["versions"]["dassl"] == "0.6.3-other"


def test_a_dassl_path_without_dassl_is_one_line(root, short_run, tmp_path):
    ran = run_program(root, short_run, {**os.environ, "DASSL_PATH": str(tmp_path)}, apart=True)
    assert ran.returncode == 2
    assert ran.stderr == f"error: DASSL_PATH {tmp_path} holds no dassl package\n"
