import random
from collections import Counter
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.fewshot import check_draw, draw_hash, draw_images, few_shot
from datasets.split import Item, Split, load_split, save_split
from tests.datasets.layouts import make_split, splits


@given(splits(), st.integers(1, 10), st.integers(-1, 99))
def test_each_class_gets_its_shots_and_the_next_draw_contains_this_one(
    split: Split, shots: int, seed: int
) -> None:
    draw, more = draw_images(split, shots, seed), draw_images(split, shots + 1, seed)
    for part, limit in (("train", shots), ("val", min(shots, 4))):
        drawn, there = getattr(draw, part), getattr(split, part)
        assert set(drawn) <= set(there)
        assert len(set(drawn)) == len(drawn)
        available = Counter(item.label for item in there)
        assert Counter(item.label for item in drawn) == {c: min(limit, n) for c, n in available.items()}
        assert set(drawn) <= set(getattr(more, part))
    assert draw.test == []
    check_draw(draw, split, shots, "the draw")


@given(splits(), st.integers(1, 10), st.integers(0, 9), st.randoms(use_true_random=False))
def test_the_order_of_the_split_and_random_states_do_not_matter(
    split: Split, shots: int, seed: int, rng: random.Random
) -> None:
    first = draw_images(split, shots, seed)
    random.seed(rng.random())
    np.random.seed(rng.randrange(1000))  # noqa: NPY002 (the global state is what must not matter)
    shuffled = Split(*(rng.sample(part, len(part)) for part in split))
    assert draw_images(shuffled, shots, seed) == first


def test_the_draw_is_the_documented_one() -> None:
    # Written out here once more; who changes the algorithm changes everybody's draws.
    paths = [f"c0/train_{i}.jpg" for i in range(6)]
    ranked = sorted(paths, key=lambda path: sha256(f"7:{path}".encode()).hexdigest())
    draw = draw_images(make_split(classes=1), 3, 7)
    assert [item.path for item in draw.train] == ranked[:3]
    assert [item.path for item in draw.train] == ["c0/train_0.jpg", "c0/train_3.jpg", "c0/train_5.jpg"]
    assert draw_hash(draw) == "91ccfe7abbfa8c76e05d0cbd91d311e1214fceb75464a37b98c715d2e953faf7"


def test_seeds_give_different_draws() -> None:
    split = make_split(classes=10, train=50)
    drawn = [{item.path for item in draw_images(split, 16, seed).train} for seed in (1, 2, 3)]
    overlaps = [
        len(a & b) / len(a) for a, b in ((drawn[0], drawn[1]), (drawn[0], drawn[2]), (drawn[1], drawn[2]))
    ]
    # 16 of 50 drawn twice at random share 32 %; the standard deviation over 10 classes is about 3 %.
    assert all(0.2 < overlap < 0.45 for overlap in overlaps)


def test_hash_is_of_images_and_labels_in_any_order() -> None:
    draw = draw_images(make_split(), 2, 1)
    assert draw_hash(draw) == draw_hash(draw._replace(train=draw.train[::-1], test=make_split().test))
    assert draw_hash(draw) != draw_hash(draw._replace(train=draw.train[1:]))
    assert draw_hash(draw) != draw_hash(draw._replace(val=[]))
    assert draw_hash(draw) != draw_hash(
        draw._replace(train=[i._replace(label=i.label + 1) for i in draw.train])
    )


def test_all_images_below_one_shot(tmp_path: Path) -> None:
    split = make_split()
    assert few_shot(split, -1, 1, str(tmp_path)) is split
    assert few_shot(split, 0, 1, str(tmp_path)) is split
    assert list(tmp_path.iterdir()) == []


def test_a_draw_is_kept_with_relative_paths_and_taken_again(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    split = make_split()
    file = tmp_path / "split_fewshot" / "shot_2-seed_1.json"
    first = few_shot(split, 2, 1, str(file.parent))
    assert f"made and kept as {file}" in capsys.readouterr().out
    assert load_split(str(file)) == first._replace(test=[])
    assert first.test == split.test
    # Another draw that fits is taken as it is, with the split's class names.
    other = draw_images(split, 2, 99)
    save_split(Split(*([i._replace(classname="old name") for i in part] for part in other)), str(file))
    assert few_shot(split, 2, 1, str(file.parent)) == other._replace(test=split.test)
    assert f"Few-shot draw: {file}" in capsys.readouterr().out


def test_a_kept_draw_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    split = make_split()
    file = tmp_path / "shot_2-seed_1.json"
    draw = draw_images(split, 2, 1)
    cases = {
        r"2 of its 10 train images are not in the train part .* \(1 are test images\), first: c0": (
            draw._replace(train=[split.test[0], Item("x.jpg", 0, "name 0"), *draw.train[2:]])
        ),
        r"1 of its 10 train images .* \(0 are test images\)": (
            draw._replace(train=[draw.train[0]._replace(label=3), *draw.train[1:]])
        ),
        r"it has 1 train images of label 0 \(in 1 places\) where 2 were asked for and 6 are there": draw._replace(
            train=draw.train[1:]
        ),
        r"it has 0 val images of label 0 \(in 0 places\) where 2 were": draw._replace(val=[]),
        r"it has 3 train images of label 0 \(in 3 places\) where 2": draw_images(split, 3, 1)._replace(
            val=draw.val
        ),
        r"it has 1 train images of label 0 \(in 2 places\)": draw._replace(
            train=[draw.train[1], *draw.train[1:]]
        ),
    }
    for message, bad in cases.items():
        save_split(bad, str(file))
        with pytest.raises(ValueError, match=message) as caught:
            few_shot(split, 2, 1, str(tmp_path))
        assert str(file) in str(caught.value)
        assert "move the file away" in str(caught.value)


def test_a_small_class_is_taken_whole_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    split = make_split(classes=2, train=9)
    split = split._replace(train=split.train[5:])  # 4 images of class 0 are left
    for _ in range(2):  # when the draw is made, and when it is read again
        draw = few_shot(split, 8, 1, str(tmp_path))
        assert Counter(item.label for item in draw.train) == {0: 4, 1: 8}
        assert (
            "Warning: DATASET.NUM_SHOTS is 8, 1 of 2 classes have fewer training images, of which all are taken: "
            "name 0 (4)\n"
        ) in capsys.readouterr().out


def test_a_read_only_folder_does_not_stop_a_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    draw = few_shot(make_split(), 2, 1, str(tmp_path / "file"))
    assert draw == draw_images(make_split(), 2, 1)._replace(test=make_split().test)
    assert "not kept" in capsys.readouterr().out
