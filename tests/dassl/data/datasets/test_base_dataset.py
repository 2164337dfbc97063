import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum, build_dataset
from dassl.data.datasets import base_dataset as module


def test_a_datum_needs_its_file(items, tmp_path):
    item = items[5]
    assert (item.label, item.domain, item.classname) == (2, 1, "class 2")
    with pytest.raises(FileNotFoundError, match=r'No image file at ".*missing\.jpg"'):
        Datum(str(tmp_path / "missing.jpg"), 0)


def test_properties_come_from_the_training_images(items):
    data = DatasetBase(train_x=items[::-1], val=items[:4], test=items[:6])
    assert data.num_classes == 3
    assert data.lab2cname == {0: "class 0", 1: "class 1", 2: "class 2"}
    assert data.classnames == ["class 0", "class 1", "class 2"]
    assert (len(data.train_x), data.train_u, len(data.val), len(data.test)) == (24, None, 4, 6)


def test_no_training_images_is_an_error():
    with pytest.raises(ValueError, match="train_x is empty"):
        DatasetBase(train_x=[])


def test_few_shot_draw(items):
    data = DatasetBase(train_x=items, test=items)
    random.seed(1)
    train, val = data.generate_fewshot_dataset(items, items[:7], num_shots=3)
    assert [len(group) for group in data.split_dataset_by_label(train).values()] == [3, 3, 3]
    assert len({item.impath for item in train}) == 9
    assert sorted(len(group) for group in data.split_dataset_by_label(val).values()) == [2, 2, 3]
    random.seed(1)
    again = data.generate_fewshot_dataset(items, num_shots=3)
    assert [item.impath for item in again] == [item.impath for item in train]
    repeated = data.generate_fewshot_dataset(items[:4], num_shots=3, repeat=True)
    assert [len(group) for group in data.split_dataset_by_label(repeated).values()] == [3, 3, 3]
    assert data.generate_fewshot_dataset(items, num_shots=-1) is items


def test_groups_and_domains(items):
    data = DatasetBase(train_x=items, test=items)
    assert {domain: len(group) for domain, group in data.split_dataset_by_domain(items).items()} == {
        0: 12,
        1: 12,
    }
    data.domains = ["photo", "sketch"]
    data.check_input_domains(["photo"], ["sketch"])
    with pytest.raises(ValueError, match=r"must belong to \['photo', 'sketch'\], but got \[cartoon\]"):
        data.check_input_domains(["photo"], ["cartoon"])


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_download_unpacks_beside_the_archive(items, tmp_path, monkeypatch, kind):
    def fetch(url, dst):
        Path(dst).parent.mkdir()
        if kind == "zip":
            with zipfile.ZipFile(dst, "w") as archive:
                archive.writestr("a/b.txt", "text")
        else:
            with tarfile.open(dst, "w:gz") as archive:
                info = tarfile.TarInfo("a/b.txt")
                info.size = 4
                archive.addfile(info, io.BytesIO(b"text"))

    monkeypatch.setattr(module, "download_url", fetch)
    DatasetBase(train_x=items).download_data("https://example.org/x", str(tmp_path / "data" / f"x.{kind}"))
    assert (tmp_path / "data" / "a" / "b.txt").read_text() == "text"


@pytest.mark.parametrize("has_filter", [True, False])
def test_an_archive_cannot_write_elsewhere(items, tmp_path, monkeypatch, has_filter):
    if not has_filter:  # as Python 3.11.3 and older
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    def fetch(url, dst):
        with tarfile.open(dst, "w") as archive:
            info = tarfile.TarInfo("../outside.txt")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"text"))

    (tmp_path / "data").mkdir()
    monkeypatch.setattr(module, "download_url", fetch)
    with pytest.raises(tarfile.TarError):
        DatasetBase(train_x=items).download_data("https://example.org/x", str(tmp_path / "data" / "x.tar"))
    assert not (tmp_path / "outside.txt").exists()


def test_unknown_data_set_lists_the_known(cfg):
    DATASET_REGISTRY.register(type("KnownToThisTest", (), {}))
    try:
        cfg.DATASET.NAME = "KnownToThisTes"
        with pytest.raises(ValueError, match=r"do you mean \[KnownToThisTest\]"):
            build_dataset(cfg)
    finally:
        DATASET_REGISTRY._obj_map.pop("KnownToThisTest")
