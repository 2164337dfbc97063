"""Every shipped config opens with the command that runs it, and merges over the defaults."""

import shlex
from pathlib import Path

import pytest

import train
from tests.conftest import ROOT

CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").rglob("*.yaml"))


def command_of(config: str) -> list[str]:
    """The words of the command at the top of a config file."""
    command = ""
    for line in (ROOT / config).read_text(encoding="utf-8").splitlines():
        command += line.removeprefix("#").removesuffix("\\")
        if not line.endswith("\\"):
            break
    words = shlex.split(command)
    assert words[:2] == ["python", "train.py"], "a config file opens with the command that runs it"
    return words[2:]


def test_there_are_configs():
    assert any("trainers/MMTPA/" in config for config in CONFIGS)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_opens_with_a_command_that_runs_it(config, monkeypatch):
    monkeypatch.chdir(ROOT)
    args = train.make_parser().parse_args(command_of(config))
    assert config in (args.config_file, args.dataset_config_file)
    cfg = train.setup_cfg(args)
    train.check_values(cfg)
    assert cfg.MODEL.BACKBONE.NAME


@pytest.mark.parametrize("config", [c for c in CONFIGS if "/trainers/" in c])
def test_a_method_is_in_the_folder_of_its_name(config):
    args = train.make_parser().parse_args(command_of(config))
    assert args.trainer == Path(config).parent.name
