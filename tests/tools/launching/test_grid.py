import pytest

from runs import shipped
from tools.launching.grid import ELEVEN, PROTOCOLS, VARIANTS, Grid, expand
from tools.launching.published_configs import FEWSHOT, TRANSFER, USUAL


def grid(protocol, *trainers, **changes):
    pairs = tuple((trainer, config) for trainer, config in (trainers or [("CoOp", "mini")]))
    return Grid(**{"protocol": protocol, "trainers": pairs, "datasets": ("dtd",), "seeds": (1, 2), **changes})


def test_few_shot_is_every_method_data_set_shot_and_seed_once():
    runs = expand(
        grid("fewshot", ("CoOp", "mini"), ("MMTPA", "mini"), datasets=("dtd", "ucf101"), shots=(1, 4))
    )
    assert len(runs) == len({run.folder for run in runs}) == 2 * 2 * 2 * 2
    assert {(run.trainer, run.dataset, run.shots, run.seed) for run in runs} == {
        (t, d, k, s) for t in ("CoOp", "MMTPA") for d in ("dtd", "ucf101") for k in (1, 4) for s in (1, 2)
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_is_trained_before_it_is_tested(protocol):
    trainer = ("ZeroshotCLIP" if protocol == "zeroshot" else "CoOp", "mini")
    seen = set()
    for run in expand(grid(protocol, trainer)):
        assert run.tests is None or run.tests in seen
        seen.add(run.folder)


def test_a_method_that_learns_nothing_runs_once():
    runs = expand(grid("fewshot", ("ZeroshotCLIP", "mini"), shots=(1, 2, 4)))
    assert [run.folder for run in runs] == ["ZeroshotCLIP/mini/dtd"]
    assert len(expand(grid("base2new", ("ZeroshotCLIP", "mini")))) == 2


def test_one_source_model_serves_all_targets():
    runs = expand(grid("xd", datasets=("dtd", "eurosat", "ucf101"), seeds=(1,)))
    assert [run.step for run in runs] == ["fewshot", "xd_test", "xd_test", "xd_test"]
    assert {run.tests for run in runs[1:]} == {"imagenet/CoOp/mini_16shots/seed1"}
    variants = expand(grid("dg", datasets=VARIANTS, seeds=(1,)))
    assert [run.dataset for run in variants] == ["imagenet", *VARIANTS]


@pytest.mark.parametrize(
    ("protocol", "trainer", "dataset", "shots", "config"),
    [
        ("fewshot", "CoOp", "dtd", 1, "vit_b16_ep50"),
        ("fewshot", "CoOp", "dtd", 16, "vit_b16"),
        ("fewshot", "CoOp", "imagenet", 16, "vit_b16_ep50"),
        ("base2new", "CoOp", "dtd", 16, "vit_b16_ep50_ctxv1"),
        ("fewshot", "MMTPA", "dtd", 2, "vit_b16_ep50"),
        ("base2new", "MMTPA", "dtd", 16, "vit_b16"),
        ("xd", "MaPLe", "dtd", 16, "vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
        ("base2new", "MaPLe", "dtd", 16, "vit_b16_c2_ep5_batch4_2ctx"),
        ("fewshot", "PromptSRC", "dtd", 3, "vit_b16_c2_ep20_batch4_4+4ctx"),
    ],
)
def test_without_a_config_it_is_the_published_one(protocol, trainer, dataset, shots, config):
    (run,) = [
        run
        for run in expand(grid(protocol, (trainer, None), datasets=(dataset,), shots=(shots,), seeds=(1,)))
        if run.tests is None
    ]
    assert run.config == config


def test_published_configs_exist():
    for table in (USUAL, TRANSFER):
        for trainer, config in table.items():
            shipped.check_config(trainer, config)
    for trainer, by_shots in FEWSHOT.items():
        for config in by_shots.values():
            shipped.check_config(trainer, config)
    assert set(USUAL) == set(shipped.trainers())


def test_published_data_sets_exist():
    for dataset in ELEVEN + VARIANTS:
        shipped.check_dataset(dataset)


def test_wrong_grids_are_named():
    with pytest.raises(ValueError, match="protocol 'few' is unknown, choose from: fewshot, zeroshot"):
        expand(grid("few"))
    with pytest.raises(ValueError, match="the grid is empty"):
        expand(grid("fewshot", seeds=()))
    with pytest.raises(ValueError, match="data set 'atlantis' is unknown"):
        expand(grid("xd", source="atlantis"))
