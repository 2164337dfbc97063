import multiprocessing
import os
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dassl.engine import TRAINER_REGISTRY
from datasets.base import SplitDataset
from datasets.files import md5_of
from datasets.origin import Download, Origin
from datasets.split import Item, Split, load_split, save_split
from tests.datasets.layouts import Link, make_cfg, make_split, rows


class Toy(SplitDataset):
    dataset_dir = "toy"
    image_dir = "images"
    split_file = "split_zhou_Toy.json"
    template = "a toy of a {}."


@pytest.fixture
def root(tmp_path: Path, link_images: Link) -> Path:
    """A data root that holds the Toy data set with 5 classes of 6 / 5 / 4 images."""
    split = make_split()
    link_images(tmp_path / "toy" / "images", [item.path for part in split for item in part])
    save_split(split, str(tmp_path / "toy" / "split_zhou_Toy.json"))
    return tmp_path


def test_a_declared_data_set_has_all_that_dassl_asks_for(root: Path) -> None:
    data = Toy(make_cfg(root))
    assert (
        Split(
            rows(data.train_x, root / "toy/images"),
            rows(data.val, root / "toy/images"),
            rows(data.test, root / "toy/images"),
        )
        == make_split()
    )
    assert all(os.path.isfile(datum.impath) and os.path.isabs(datum.impath) for datum in data.train_x)
    assert (data.num_classes, data.classnames) == (5, [f"name {c}" for c in range(5)])
    assert data.lab2cname == {c: f"name {c}" for c in range(5)}
    assert data.template == "a toy of a {}."
    assert data.dataset_dir == str(root / "toy")
    assert data.image_dir == str(root / "toy" / "images")
    assert not (root / "toy" / "split_fewshot").exists()


def random_states() -> tuple[Any, ...]:
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002
    return random.getstate(), numpys["state"]["key"].tolist(), torch.get_rng_state().tolist()


def test_the_draw_depends_on_nothing_but_split_shots_and_seed(
    root: Path, tmp_path_factory: Any, link_images: Link
) -> None:
    first = Toy(make_cfg(root, shots=2, seed=3))
    (root / "toy" / "split_fewshot" / "shot_2-seed_3.json").unlink()
    elsewhere = tmp_path_factory.mktemp("other")
    (root / "toy").rename(elsewhere / "toy")
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the global state is what must not matter)
    torch.manual_seed(0)
    states = random_states()
    second = Toy(make_cfg(elsewhere, shots=2, seed=3))
    assert random_states() == states
    assert rows(first.train_x, root / "toy/images") == rows(second.train_x, elsewhere / "toy/images")
    assert rows(first.val, root / "toy/images") == rows(second.val, elsewhere / "toy/images")
    assert (
        first.few_shot_hash == second.few_shot_hash != Toy(make_cfg(elsewhere, shots=2, seed=4)).few_shot_hash
    )


def test_base_and_new_are_halves_of_the_draw_of_all_classes(root: Path) -> None:
    whole, base, new = (Toy(make_cfg(root, 2, 1, subset)) for subset in ("all", "base", "new"))
    assert base.classnames == ["name 0", "name 1", "name 2"]
    assert new.classnames == ["name 3", "name 4"]
    assert new.lab2cname == {0: "name 3", 1: "name 4"}
    for part in ("train_x", "val", "test"):
        paths = [datum.impath for data in (base, new) for datum in getattr(data, part)]
        assert paths == [datum.impath for datum in getattr(whole, part)]
    assert whole.few_shot_hash == base.few_shot_hash == new.few_shot_hash
    assert [p.name for p in (root / "toy" / "split_fewshot").iterdir()] == ["shot_2-seed_1.json"]
    with pytest.raises(ValueError, match="all, base, new"):
        Toy(make_cfg(root, subset="half"))


def start(root: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    data = Toy(make_cfg(root, shots=3))
    results.put((data.few_shot_hash, [datum.impath for datum in data.train_x]))


def test_eight_processes_that_start_at_once_have_one_draw(root: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(8), context.Queue()
    processes = [context.Process(target=start, args=(root, barrier, results)) for _ in range(8)]
    for process in processes:
        process.start()
    got = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    assert all(result == got[0] for result in got)
    assert [p.name for p in (root / "toy" / "split_fewshot").iterdir()] == ["shot_3-seed_1.json"]
    assert (
        rows(Toy(make_cfg(root, shots=3)).train_x, root / "toy/images")
        == load_split(str(root / "toy" / "split_fewshot" / "shot_3-seed_1.json")).train
    )


def test_missing_folders_are_named_with_what_is_there(root: Path) -> None:
    (root / "flowers").mkdir()
    cases = {
        root / "none" / "nor": f"no folder {root}/none/nor \\(nor {root}/none\\)",
        root / "none": f"no folder {root}/none \\({root} has flowers, toy\\)",
        root / "flowers": f"no folder {root}/flowers/toy \\({root}/flowers has no folders\\)",
    }
    for folder, message in cases.items():
        with pytest.raises(
            FileNotFoundError, match=f"Toy: there is {message}; put .* DATASETS.md describes, or"
        ):
            Toy(make_cfg(folder))
    (root / "toy" / "images").rename(root / "toy" / "pictures")
    with pytest.raises(FileNotFoundError, match=f"no folder {root}/toy/images \\({root}/toy has pictures\\)"):
        Toy(make_cfg(root))


def test_a_missing_split_file_is_named(root: Path) -> None:
    (root / "toy" / "split_zhou_Toy.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=f"Toy: there is no split file {root}/toy/split_zhou_Toy.json"
    ):
        Toy(make_cfg(root))


def test_missing_images_and_classes_at_fault_are_errors(root: Path) -> None:
    (root / "toy/images/c0/train_0.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of the 75 images that .*split_zhou_Toy.json names are not in"
    ):
        Toy(make_cfg(root))
    split = make_split()
    save_split(split._replace(train=split.train[6:]), str(root / "toy/split_zhou_Toy.json"))
    with pytest.raises(
        ValueError, match=r"split_zhou_Toy.json: class 'name 0' \(label 0\) has no training images"
    ):
        Toy(make_cfg(root))


class ToyWithReader(Toy):
    def read_split(self) -> Split:
        return make_split()


def test_an_own_split_is_announced_in_every_run_and_gives_way_to_the_published(
    root: Path, capsys: pytest.CaptureFixture
) -> None:
    published = root / "toy" / "split_zhou_Toy.json"
    text = published.read_text()
    published.unlink()
    for _ in range(2):
        data = ToyWithReader(make_cfg(root))
        out = capsys.readouterr().out
        assert "WARNING" in out
        assert str(published) in out
        assert "NOT COMPARABLE" in out
    assert rows(data.train_x, root / "toy/images") == make_split().train
    assert load_split(str(root / "toy" / "split_own_ToyWithReader.json")) == make_split()
    assert not published.exists()
    published.write_text(text)
    ToyWithReader(make_cfg(root))
    assert "WARNING" not in capsys.readouterr().out


class MadeHere(SplitDataset):
    """Makes its images on first use, for testing only."""

    dataset_dir = "made"

    def prepare(self) -> None:
        for name in ("cat", "dog"):
            os.makedirs(os.path.join(self.dataset_dir, name), exist_ok=True)
            Path(self.dataset_dir, name, "1.jpg").write_text("")

    def read_split(self) -> Split:
        return Split([], [], [Item("cat/1.jpg", 0, "cat"), Item("dog/1.jpg", 1, "dog")])


def test_a_data_set_for_testing_only_that_is_made_on_first_use(tmp_path: Path) -> None:
    data = MadeHere(make_cfg(tmp_path / "fresh", shots=16, seed=1))
    assert [datum.impath for datum in data.test] == [
        str(tmp_path / f"fresh/made/{c}/1.jpg") for c in ("cat", "dog")
    ]
    assert data.classnames == ["cat", "dog"]
    assert data.train_x == data.test
    assert data.val is None
    assert data.few_shot_hash == ""
    assert not (tmp_path / "fresh/made/split_fewshot").exists()


def published(root: Path, *, md5: str = "", sizes: tuple[int, int, int, int] = (5, 30, 25, 20)) -> type[Toy]:
    """Toy as a published data set."""

    class Published(Toy):
        origin = Origin(sizes, files={Toy.split_file: Download("drive:id", md5)} if md5 else {})

    return Published


def test_what_is_not_as_published_is_said_in_every_run(root: Path, capsys: pytest.CaptureFixture) -> None:
    file = root / "toy" / Toy.split_file
    published(root, md5=md5_of(file))(make_cfg(root))
    published(root)(make_cfg(root))
    assert capsys.readouterr().out == ""
    cases = {
        f"{file} is not the published split (its md5 is not 123)": published(root, md5="123"),
        f"{file} has 5 / 30 / 25 / 20 classes, training, validation and test images where 6 / 30 / 25 / 20 were"
        " published": published(root, sizes=(6, 30, 25, 20)),
    }
    for what, dataset in cases.items():
        dataset(make_cfg(root))
        assert capsys.readouterr().out == (
            f"WARNING: Published: {what}; results are NOT COMPARABLE with published ones;"
            f" look into it with: python tools/prepare.py Published --root {root}\n"
        )


def test_an_image_in_two_places_is_refused_and_only_told_of_what_is_published(
    root: Path, capsys: pytest.CaptureFixture
) -> None:
    split = make_split()
    leaking = split._replace(test=[*split.test, Item("c0//train_0.jpg", 0, "name 0")])
    save_split(leaking, str(root / "toy" / Toy.split_file))
    message = (
        f"{root}/toy/{Toy.split_file} names 1 images twice, first: c0//train_0.jpg as train image of 'name 0'"
        " and as test image of 'name 0'"
    )
    with pytest.raises(ValueError) as caught:
        Toy(make_cfg(root))
    assert str(caught.value) == message
    published(root, sizes=(5, 30, 25, 21))(make_cfg(root))
    assert capsys.readouterr().out == f"WARNING: {message}\n"


@pytest.mark.parametrize(
    ("key", "value"), [("TEMPLATE", "an x-ray of a {}."), ("CSV", "list.csv"), ("NESTED", False)]
)
def test_keys_of_another_data_set_are_refused(root: Path, key: str, value: object) -> None:
    cfg = make_cfg(root)
    cfg.DATASET.IMAGE_FOLDER[key] = value
    with pytest.raises(
        ValueError, match=f"DATASET.IMAGE_FOLDER.{key} is a key of ImageFolder, Toy takes no notice of it"
    ):
        Toy(cfg)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_root_that_goes_away_under_a_run_is_one_line(
    run_train: Any, short_run: list[object], tiny_eurosat: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(
        TRAINER_REGISTRY.get("CoOp"), "after_epoch", lambda self: shutil.rmtree(tiny_eurosat), raising=False
    )
    arguments = list(short_run)
    arguments[arguments.index("--root") + 1] = tiny_eurosat
    arguments[arguments.index("--dataset-config-file") + 1] = "configs/datasets/eurosat.yaml"
    ended = run_train(*arguments, "OPTIM.MAX_EPOCH", 2, "DATALOADER.NUM_WORKERS", workers)
    last = ended.err.splitlines()[-1]
    assert (ended.code, "Traceback" in ended.err) == (2, False)
    assert re.fullmatch(rf'error: No image file at "{tiny_eurosat}/eurosat/2750/.*\.jpg"', last)
