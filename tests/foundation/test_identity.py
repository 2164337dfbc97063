"""Which settings, and what behind them, make two runs the same."""

import copy
from types import SimpleNamespace

import pytest

from foundation import identity
from foundation.identity import differences, differing_inputs, inputs

CONFIG = {
    "SEED": 1,
    "OUTPUT_DIR": "a",
    "OPTIM": {"LR": 0.1, "STEPSIZE": (10,)},
    "DATASET": {"NAME": "DTD", "ROOT": "data"},
    "DATALOADER": {"NUM_WORKERS": 4, "TEST": {"BATCH_SIZE": 100}},
    "TRAIN": {"CHECKPOINT_FREQ": 0},
}


def changed(key, value):
    config = copy.deepcopy(CONFIG)
    *sections, name = key.split(".")
    place = config
    for section in sections:
        place = place.setdefault(section, {})
    place[name] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("OUTPUT_DIR", "b"),
        ("DATALOADER.NUM_WORKERS", 0),
        ("DATASET.ROOT", "elsewhere"),
        ("OPTIM.STEPSIZE", [10]),
        ("OPTIM.LR", 0.1),
        ("OF.A_LATER_VERSION", True),
    ],
)
def test_these_are_the_same_run(key, value):
    assert differences(CONFIG, changed(key, value)) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("OPTIM.LR", 0.2, "OPTIM.LR: 0.1 -> 0.2"),
        ("OPTIM.STEPSIZE", [20], "OPTIM.STEPSIZE: (10,) -> [20]"),
        ("DATASET.NAME", "Shapes", "DATASET.NAME: DTD -> Shapes"),
    ],
)
def test_these_are_others(key, value, said):
    assert differences(CONFIG, changed(key, value)) == [said]


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        ("MMTPA", {"VARIANT": "paper"}, ["TRAINER.MMTPA.TEXT_END: first -> own"]),
        ("MMTPA", {"VARIANT": "paper", "HIERARCHICAL": False}, []),
        ("MMTPA", {"VARIANT": "release"}, []),
        ("CoOp", {"VARIANT": "paper"}, []),
    ],
)
def test_what_older_runs_did_without_a_key_counts_where_it_was_another_thing(method, settings, said):
    then = {"TRAINER": {"NAME": method, "MMTPA": settings}}
    now = {"TRAINER": {"NAME": method, "MMTPA": settings | {"TEXT_END": "own"}}}
    assert differences(then, now) == said


def test_what_a_person_wants_to_hear_comes_first():
    other = {"DATASET": {"NAME": "Shapes"}, "A": 2, "SEED": 2, "TRAINER": {"NAME": "MaPLe"}}
    then = {"DATASET": {"NAME": "DTD"}, "A": 1, "SEED": 1, "TRAINER": {"NAME": "CoOp"}}
    assert [said.partition(":")[0] for said in differences(then, other)] == [
        *("TRAINER.NAME", "DATASET.NAME", "SEED", "A")
    ]


def test_one_list_of_what_does_not_count_and_all_of_it_exists(root, monkeypatch):
    """A key that was renamed would count from then on."""
    from runs.schema import extend_cfg, get_cfg_default

    cfg = get_cfg_default()
    extend_cfg(cfg)
    known = identity.flat(cfg).keys()
    assert identity.NOT_OF_THE_RESULT - known == set()
    assert set(identity.OF_A_BATCH) <= identity.COMPUTING


def own_images(root):
    return {"DATASET": {"NAME": "ImageFolder", "ROOT": root}}


def test_the_folder_of_ones_own_images_is_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flowers, birds = own_images("flowers/"), own_images(str(tmp_path / "birds"))
    assert differences(flowers, own_images(str(tmp_path / "flowers"))) == []
    assert differences(flowers, birds) == [f"DATASET.ROOT: flowers/ -> {tmp_path}/birds"]
    assert differences(own_images(""), birds) == []  # not given: the launcher's


def trainer(root="/data", images=("a/1.png", "b/2.png"), names=("a", "b"), **attributes):
    items = [SimpleNamespace(impath=f"{root}/{path}", label=i, domain=0) for i, path in enumerate(images)]
    dataset = SimpleNamespace(train_x=items, train_u=None, val=None, test=items[:1], classnames=list(names))
    return SimpleNamespace(dm=SimpleNamespace(dataset=dataset), backbone_hash="0123", **attributes)


def test_inputs_are_what_settings_only_name():
    assert inputs(trainer()).keys() == {"backbone weights", "training images", "test images", "class names"}
    assert inputs(trainer()) == inputs(trainer("/elsewhere/on/another/disk"))
    other = inputs(trainer(images=("a/1.png", "b/3.png")))
    [said] = differing_inputs(inputs(trainer()), other)
    assert said.startswith("training images: ")
    [said] = differing_inputs(inputs(trainer()), inputs(trainer(names=("a", "c"))))
    assert said.startswith("class names: ")
    assert differing_inputs({}, other) == []  # of an older version


def test_processes_count_where_images_are_scored_together():
    assert inputs(trainer(scores_batches=True))["processes"] == 1
    assert "processes" not in inputs(trainer(scores_batches=False))


def test_plugins_without_any_of_it():
    assert inputs(SimpleNamespace()) == {}
