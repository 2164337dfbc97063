import math

import pytest
from yacs.config import CfgNode

from foundation.keys import (
    Key,
    above,
    at_least,
    at_most,
    between,
    check,
    declare,
    each,
    one_of,
    share,
    tree,
    value,
)

KEYS = {
    "OPTIM.LR": Key(0.1, "learning rate", at_least(0)),
    "OPTIM.NAME": Key("sgd", "optimiser", one_of("sgd", "adam")),
    "SIZE": Key((32, 32), "of images", each(at_least(1), 2)),
    "EPOCHS": Key(10, "epochs", at_least(1)),
    "MEAN": Key(0.5, "any"),
    "FAST": Key(False, "in a hurry"),
    "WORDS": Key("", "any text"),
}


def test_keys_are_declared_with_their_defaults():
    cfg = CfgNode({"OPTIM": {"MOMENTUM": 0.9}})
    declare(cfg, KEYS)
    assert cfg.OPTIM == {"MOMENTUM": 0.9, "LR": 0.1, "NAME": "sgd"}
    assert tree(KEYS)["OPTIM"] == {"LR": 0.1, "NAME": "sgd"}
    check(cfg, KEYS)


def test_a_default_is_not_shared():
    keys = {"MEAN": Key([0.5], "of pixels")}
    one, other = CfgNode(), CfgNode()
    declare(one, keys)
    one.MEAN.append(1.0)
    declare(other, keys)
    assert other.MEAN == [0.5]


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("OPTIM.LR", -0.1, "OPTIM.LR is -0.1, 0 or more is needed"),
        ("OPTIM.LR", math.nan, "OPTIM.LR is nan, 0 or more is needed"),
        ("OPTIM.LR", math.inf, "OPTIM.LR is inf, 0 or more is needed"),
        ("OPTIM.LR", True, "OPTIM.LR is True, a number is needed"),
        ("OPTIM.NAME", "sdg", "OPTIM.NAME is 'sdg', choose from: sgd, adam"),
        ("SIZE", (32,), r"SIZE is \(32,\), 2 values, of each: 1 or more is needed"),
        ("SIZE", ("a", 3), "SIZE is "),
        ("SIZE", 3, "SIZE is 3, a list is needed"),
        ("EPOCHS", 0, "EPOCHS is 0, 1 or more is needed"),
        ("EPOCHS", 1.5, "EPOCHS is 1.5, a whole number is needed"),
        ("MEAN", math.inf, "MEAN is inf, a finite number is needed"),
        ("FAST", 1, "FAST is 1, True or False is needed"),
        ("WORDS", None, "WORDS is None, a text is needed"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name, wrong, message):
    cfg = CfgNode(tree(KEYS))
    node = cfg
    for section in name.split(".")[:-1]:
        node = node[section]
    node[name.split(".")[-1]] = wrong
    with pytest.raises(ValueError, match=f"^{message}"):
        check(cfg, KEYS)


def test_ends_of_ranges():
    assert at_least(1).holds(1)
    assert not above(1).holds(1)
    assert at_most(3).holds(-5)
    assert share.holds(0)
    assert share.holds(1)
    assert not between(0, 1, below=True).holds(1)


def test_a_key_that_a_config_lacks_has_its_default():
    assert value(CfgNode({"OPTIM": {}}), "OPTIM.LR", KEYS) == 0.1
    assert value(CfgNode({}), "OPTIM.LR", KEYS) == 0.1
    assert value(CfgNode({"OPTIM": {"LR": 2.0}}), "OPTIM.LR", KEYS) == 2.0
    check(CfgNode({}), KEYS)
