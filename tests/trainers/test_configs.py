"""Every shipped config builds on the bundled model, its sizes adapted."""

from pathlib import Path

import pytest

from dassl.engine import TRAINER_REGISTRY
from tests.trainers.harness import CONFIGS, LEARNERS, METHODS, MINI_DEPTH, evaluate, n_learnable


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_builds_and_scores(config, make, images, data_root, tmp_path):
    method = Path(config).parent.name
    trainer = make(method, "OPTIM.MAX_EPOCH", 30, config=config)
    assert evaluate(trainer, images).shape == (6, 10)
    assert (n_learnable(trainer) > 0) == (method in LEARNERS)


@pytest.mark.parametrize("config", [config for config in CONFIGS if config.endswith("mini.yaml")])
def test_a_config_of_the_bundled_model_fits_as_it_is(config, data_root, tmp_path):
    import train
    from tests.conftest import ROOT

    method = Path(config).parent.name
    words = ["--trainer", method, "--config-file", ROOT / config]
    words += ["--dataset-config-file", ROOT / "configs/datasets/handwritten_digits.yaml"]
    cfg = train.setup_cfg(train.make_parser().parse_args([str(word) for word in words]))
    assert (cfg.MODEL.BACKBONE.NAME, tuple(cfg.INPUT.SIZE)) == ("mini", (32, 32))
    section = cfg.TRAINER.get(getattr(TRAINER_REGISTRY.get(method), "section", ""), {})
    # CLASS_DEPTH is TCP's, which shares the section with CoOp
    depths = [key for key in section if "DEPTH" in key and (key != "CLASS_DEPTH" or method == "TCP")]
    assert all(section[key] <= MINI_DEPTH for key in depths)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_configs_for_the_bundled_and_a_real_backbone(method):
    names = {Path(config).stem for config in CONFIGS if Path(config).parent.name == method}
    assert "mini" in names
    assert any(name.startswith(("vit_b16", "rn50")) for name in names)


def test_a_configs_method_exists():
    assert {Path(config).parent.name for config in CONFIGS} <= set(METHODS)
