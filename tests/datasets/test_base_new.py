import math

import pytest
from hypothesis import given

from datasets.base_new import subsample_classes
from datasets.split import Split
from tests.datasets.layouts import make_split, splits


def classes(split: Split) -> dict[int, str]:
    return {item.label: item.classname for part in split for item in part}


def test_first_half_rounded_up_is_base() -> None:
    split = make_split(classes=5)
    assert classes(subsample_classes(split, "base")) == {0: "name 0", 1: "name 1", 2: "name 2"}
    assert classes(subsample_classes(split, "new")) == {0: "name 3", 1: "name 4"}
    assert subsample_classes(split, "all") is split


@given(splits(min_classes=2))
def test_base_and_new_are_a_partition(split: Split) -> None:
    base, new = subsample_classes(split, "base"), subsample_classes(split, "new")
    for whole, *halves in zip(split, base, new, strict=True):
        assert sorted(item.path for half in halves for item in half) == sorted(item.path for item in whole)
        assert [item.classname for item in whole if item in halves[0]] == [
            item.classname for item in halves[0]
        ]
    count = len({item.label for item in split.train})
    assert {item.label for item in base.train} == set(range(math.ceil(count / 2)))
    assert {item.label for item in new.train} == set(range(count // 2))


def test_a_data_set_for_testing_only_is_halved_too() -> None:
    split = make_split(classes=4)._replace(train=[], val=[])
    assert classes(subsample_classes(split, "new")) == {0: "name 2", 1: "name 3"}


def test_unknown_subset_is_refused() -> None:
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES is 'old'; it must be one of all, base, new"):
        subsample_classes(make_split(), "old")


def test_one_class_has_no_halves() -> None:
    with pytest.raises(ValueError, match="SUBSAMPLE_CLASSES is 'new', but there is only one class"):
        subsample_classes(make_split(classes=1), "new")


def test_a_half_of_one_class_is_told(capsys: pytest.CaptureFixture) -> None:
    subsample_classes(make_split(3), "base")
    assert capsys.readouterr().out == ""
    subsample_classes(make_split(3), "new")
    assert "the new half of 3 classes is one class" in capsys.readouterr().out
