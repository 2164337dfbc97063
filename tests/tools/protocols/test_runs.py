import pytest

from runs import ROOT
from tools.launching.cell import Cell
from tools.protocols.base_to_new import base_runs, new_runs
from tools.protocols.few_shot import fewshot, zeroshot
from tools.protocols.overfitting import max_epoch, overfitting
from tools.protocols.prompt_length import prompt_length
from tools.protocols.transfer import target_runs


def cell(**changes):
    return Cell(**{"trainer": "CoOp", "config": "vit_b16", "dataset": "dtd", "seed": 2, **changes})


def only(runs):
    (run,) = runs
    return run


def test_folders_are_those_of_coop_and_maple():
    name = "dtd/shots_16/CoOp/vit_b16"
    assert only(fewshot(cell(shots=4))).folder == "dtd/CoOp/vit_b16_4shots/seed2"
    assert only(base_runs(cell())).folder == f"base2new/train_base/{name}/seed2"
    assert only(fewshot(cell(dataset="imagenet"))).folder == "imagenet/CoOp/vit_b16_16shots/seed2"
    assert only(prompt_length(cell(), 4)).folder == f"prompt_length/{name}/nctx4/seed2"
    assert only(zeroshot(cell(trainer="ZeroshotCLIP"))).folder == "ZeroshotCLIP/vit_b16/dtd"


def test_tests_take_the_model_that_the_training_has_left():
    train, test = only(base_runs(cell())), only(new_runs(cell()))
    assert test.tests == train.folder
    assert test.folder == "base2new/test_new/dtd/shots_16/CoOp/vit_b16/seed2"
    source = only(fewshot(cell(dataset="imagenet")))
    transfer = only(target_runs(cell()))
    assert (transfer.tests, transfer.folder) == (
        source.folder,
        "evaluation/CoOp/vit_b16_16shots/dtd/seed2",
    )
    other = only(target_runs(cell(), source="food101"))
    assert other.tests == "food101/CoOp/vit_b16_16shots/seed2"
    assert other.folder.startswith("evaluation_from_food101/")


def test_the_command_is_that_of_train_py(tmp_path):
    run = only(new_runs(cell(settings=("OPTIM.LR", "0.1"))))
    model = tmp_path / "base2new/train_base/dtd/shots_16/CoOp/vit_b16/seed2"
    assert run.command(ROOT / "data", tmp_path)[1:] == [
        *("train.py", "--root", "data", "--seed", "2", "--trainer", "CoOp"),
        *("--dataset-config-file", "configs/datasets/dtd.yaml"),
        *("--config-file", "configs/trainers/CoOp/vit_b16.yaml"),
        *("--output-dir", str(tmp_path / run.folder), "--eval-only", "--model-dir", str(model)),
        *("DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "new", "OPTIM.LR", "0.1"),
    ]


def test_a_method_that_learns_nothing_has_no_model_to_load():
    zero = cell(trainer="ZeroshotCLIP")
    runs = [only(base_runs(zero)), only(new_runs(zero))]
    runs += [only(target_runs(zero)), only(fewshot(zero))]
    assert all(run.evaluates and run.tests is None for run in runs)
    assert not only(fewshot(cell())).evaluates
    with pytest.raises(ValueError, match="CoOp is trained"):
        zeroshot(cell())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DATASET.NUM_SHOTS", "4"),
        ("SEED", "5"),
        ("DATASET.SUBSAMPLE_CLASSES", "all"),
        ("DATASET.NAME", "EuroSAT"),
    ],
)
def test_a_setting_that_undoes_what_a_step_varies_is_refused(key, value):
    with pytest.raises(
        ValueError, match=rf"{key} {value}: base2new_train sets it to .*, and its folder says so"
    ):
        base_runs(cell(settings=("OPTIM.LR", "0.1", key, value)))


def test_a_setting_that_says_what_the_step_says_is_not():
    assert fewshot(cell(shots=4, settings=("DATASET.NUM_SHOTS", "4")))
    assert fewshot(cell(settings=("DATASET.SUBSAMPLE_CLASSES", "base")))  # few-shot does not set it


def test_a_method_that_counts_steps_has_no_overfitting_curve_unless_it_is_given_epochs():
    of_steps = {"trainer": "CLIPLoRA"}
    with pytest.raises(ValueError, match=r"CLIPLoRA/vit_b16 trains 500 steps for each shot") as error:
        overfitting(cell(**of_steps))
    assert "\n" not in str(error.value)
    assert max_epoch(cell(settings=("OPTIM.STEPS_PER_SHOT", "0", "OPTIM.MAX_EPOCH", "7"), **of_steps)) == 7


def test_checkpoints_of_an_overfitting_curve_are_kept():
    with pytest.raises(ValueError, match=r"TRAIN\.CHECKPOINT_FREQ 7: overfitting sets it to 20"):
        overfitting(cell(settings=("TRAIN.CHECKPOINT_FREQ", "7")))


@pytest.mark.parametrize(
    ("epochs", "every", "tested"),
    [(25, 2, [*range(2, 25, 2), 25]), (10, 1, [*range(1, 11)]), (3, 1, [1, 2, 3])],
)
def test_overfitting_tests_about_ten_checkpoints(epochs, every, tested):
    train, *tests = overfitting(cell(settings=("OPTIM.MAX_EPOCH", str(epochs))))
    assert train.settings[4:6] == ("TRAIN.CHECKPOINT_FREQ", str(every))
    assert [(run.load_epoch, run.settings[3]) for run in tests] == [
        (epoch, subset) for epoch in tested for subset in ("base", "new")
    ]
    assert {run.tests for run in tests} == {train.folder}
    assert len({run.folder for run in tests}) == len(tests)


def test_epochs_are_those_of_the_config():
    assert max_epoch(cell(config="vit_b16_ep50")) == 50
    with pytest.raises(ValueError, match="nothing is trained"):
        overfitting(cell(trainer="ZeroshotCLIP"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainer": "Coop"}, r"trainer 'Coop' is unknown, choose from: .*CoOp"),
        ({"config": "vit_b61"}, r"CoOp has no config 'vit_b61', choose from: .*vit_b16"),
        ({"dataset": "oxford_pet"}, r"data set 'oxford_pet' is unknown, the nearest is oxford_pets"),
        ({"shots": 0}, "0 shots"),
    ],
)
def test_what_does_not_exist_is_named_with_what_does(changes, message):
    with pytest.raises(ValueError, match=message):
        cell(**changes)
