from tests.tools.outputs import leave
from tools.launching.cell import Cell
from tools.protocols.few_shot import fewshot
from tools.reporting.collect import collect
from tools.reporting.mixtures import mixtures


def cell(**changes):
    return Cell(**{"trainer": "CoOp", "config": "vit_b16", "dataset": "dtd", "seed": 1, **changes})


def test_mixtures_are_named(tmp_path):
    leave(tmp_path, fewshot(cell())[0], 60.0)
    leave(tmp_path, fewshot(cell(trainer="MMTPA"))[0], 60.0)
    assert mixtures(collect([tmp_path])[0]) == []
    other = {"versions": {"commit": "0123456789abcdef-dirty"}, "backbone_hash": "b2", "few_shot_hash": "d2"}
    leave(tmp_path, fewshot(cell(trainer="MaPLe", config="mini"))[0], 60.0, **other)
    assert mixtures(collect([tmp_path])[0]) == [
        "runs of different code are mixed: c0ffee (2 runs), 01234567-dirty (1 run)",
        "runs with different weights of ViT-B/16 are mixed: b1 (2 runs), b2 (1 run)",
        "DescribableTextures: the methods did not see the same 16 shots of seed 1: dtd all  (2 runs), d2 (1 run)",
    ]


def test_shots_that_are_the_same_images_and_other_test_images_are_named(tmp_path):
    for shots in (8, 16):
        leave(tmp_path, fewshot(cell(shots=shots))[0], 60.0, few_shot_hash="all there are")
    metrics = {"accuracy": 60.0, "images": 99}
    leave(tmp_path, fewshot(cell(trainer="MMTPA", shots=1))[0], 60.0, metrics=metrics)
    assert mixtures(collect([tmp_path])[0]) == [
        "DescribableTextures: not all were tested on as many images: 100 (2 runs), 99 (1 run)",
        "DescribableTextures: 8 and 16 shots are the same images",
    ]


def test_seeds_that_are_the_same_images_are_named(tmp_path):
    for seed in (1, 2):
        leave(tmp_path, fewshot(cell(seed=seed))[0], 60.0, few_shot_hash="all there are")
    assert mixtures(collect([tmp_path])[0]) == [
        "DescribableTextures: 16 shots of seeds 1 and 2 are the same images"
    ]


def test_uncommitted_changes_are_named(tmp_path):
    leave(tmp_path, fewshot(cell())[0], 60.0, versions={"commit": "abc-dirty"})
    (warning,) = mixtures(collect([tmp_path])[0])
    assert "uncommitted changes" in warning
