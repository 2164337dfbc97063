import pytest

from runs import shipped
from runs.shipped import ELEVEN, VARIANTS
from tools.launching.grid import Grid
from tools.launching.published_configs import CHOICES, Choice, published_config
from tools.launching.state import setting
from tools.protocols import PROTOCOLS, expand


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
    assert len(expand(grid("base2new", ("ZeroshotCLIP", "mini")))) == 3


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
        ("fewshot", "CoOp", "dtd", 3, "vit_b16_ep100"),
        ("base2new", "CoOp", "dtd", 16, "vit_b16_ctxv1"),
        ("base2new", "CoOp", "imagenet", 16, "vit_b16_ep50_ctxv1"),
        ("xd", "CoOp", "dtd", 16, "vit_b16_ep50_ctxv1"),  # the source is ImageNet
        ("fewshot", "MMTPA", "imagenet", 16, "vit_b16"),
        ("fewshot", "MMTPA", "sun397", 1, "sun397_ep30"),
        ("fewshot", "MMTPA", "sun397", 16, "sun397_ep80"),
        ("base2new", "MMTPA", "sun397", 16, "sun397"),
        ("overfitting", "MMTPA", "sun397", 16, "sun397"),
        ("xd", "MMTPA", "sun397", 16, "vit_b16"),
        ("fewshot", "ProGrad", "dtd", 8, "rn50_lambda0.8"),
        ("fewshot", "ProGrad", "dtd", 4, "rn50_ep100"),
        ("fewshot", "ProGrad", "food101", 16, "rn50"),
        ("base2new", "ProGrad", "food101", 4, "rn50_ep100"),
        ("base2new", "ProGrad", "imagenet", 4, "rn50_ep50"),
        ("fewshot", "MMTPA", "dtd", 2, "vit_b16_ep50"),
        ("base2new", "MMTPA", "dtd", 16, "vit_b16"),
        ("xd", "MaPLe", "dtd", 16, "vit_b16_c2_ep5_batch4_2ctx_cross_datasets"),
        ("base2new", "MaPLe", "dtd", 16, "vit_b16_c2_ep5_batch4_2ctx"),
        ("base2new", "PromptSRC", "dtd", 3, "vit_b16_c2_ep20_batch4_4+4ctx"),
        ("xd", "PromptSRC", "dtd", 16, "vit_b16_c2_ep20_batch4_4+4ctx_cross_datasets"),
        ("fewshot", "PromptSRC", "dtd", 16, "vit_b16_c2_ep50_batch4_4+4ctx_few_shot_gpa45"),
        ("fewshot", "PromptSRC", "sun397", 1, "vit_b16_c2_ep50_batch4_4+4ctx_few_shot"),
    ],
)
def test_without_a_config_it_is_the_published_one(protocol, trainer, dataset, shots, config):
    (run,) = [
        run
        for run in expand(grid(protocol, (trainer, None), datasets=(dataset,), shots=(shots,), seeds=(1,)))
        if run.tests is None
    ]
    assert run.config == config


def test_published_configs_and_their_data_sets_exist():
    for trainer, choices in CHOICES.items():
        assert choices[-1] == Choice(choices[-1].config)  # for whatever no other is
        for choice in choices:
            shipped.check_config(trainer, choice.config)
            for dataset in choice.datasets:
                shipped.check_dataset(dataset)
            assert set(choice.protocols) <= set(PROTOCOLS)
    for trainer in shipped.trainers():
        shipped.check_config(trainer, published_config(trainer, "fewshot", "dtd", 16))


#: What the authors changed for a data set, by their releases.
OF_A_DATA_SET = {
    "MMTPA/sun397": {"OPTIM.LR": 0.002, "MMTPA.TEXT_PROMPT_NUMBER": 2, "MMTPA.VISION_PROMPT_NUMBER": 2},
    "MMTPA/vit_b16": {"OPTIM.LR": 0.0025, "MMTPA.TEXT_PROMPT_NUMBER": 4, "OPTIM.MAX_EPOCH": 20},
    "PromptSRC/vit_b16_c2_ep50_batch4_4+4ctx_few_shot": {"PROMPTSRC.GPA_MEAN": 30, "PROMPTSRC.GPA_STD": 30},
    "PromptSRC/vit_b16_c2_ep50_batch4_4+4ctx_few_shot_gpa45": {
        "PROMPTSRC.GPA_MEAN": 45,
        "PROMPTSRC.GPA_STD": 5,
    },
    "ProGrad/rn50_lambda0.8": {"LOSS.LAMBDA": 0.8, "LOSS.NAME": "prograd", "COOP.CTX_INIT": "True"},
    "CoOp/rn101": {"MODEL.BACKBONE.NAME": "RN101", "OPTIM.MAX_EPOCH": 200},
    "CoOp/vit_b32": {"MODEL.BACKBONE.NAME": "ViT-B/32", "OPTIM.MAX_EPOCH": 200},
    "CoOp/rn50_ctxv1": {"COOP.CTX_INIT": "a photo of a", "OPTIM.MAX_EPOCH": 200},
    "CoCoOp/vit_b16_c8_ep10_batch1": {"COCOOP.N_CTX": 8, "COCOOP.CTX_INIT": "", "OPTIM.MAX_EPOCH": 10},
    "CoCoOp/vit_b16_c16_ep10_batch1": {"COCOOP.N_CTX": 16, "DATALOADER.TRAIN_X.BATCH_SIZE": 1},
}


@pytest.mark.parametrize("config", OF_A_DATA_SET)
def test_a_config_has_the_values_of_its_release(config):
    settings = shipped.settings(*config.split("/"))
    settings = settings | settings.get("TRAINER", {})
    assert {key: setting(settings, key) for key in OF_A_DATA_SET[config]} == OF_A_DATA_SET[config]


def test_published_data_sets_exist():
    for dataset in ELEVEN + VARIANTS:
        shipped.check_dataset(dataset)


def test_wrong_grids_are_named():
    with pytest.raises(ValueError, match="protocol 'few' is unknown, choose from: base2new, fewshot"):
        expand(grid("few"))
    with pytest.raises(ValueError, match="the grid is empty"):
        expand(grid("fewshot", seeds=()))
    with pytest.raises(ValueError, match="data set 'atlantis' is unknown"):
        expand(grid("xd", source="atlantis"))
