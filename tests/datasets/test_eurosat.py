import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from dassl.data.datasets import DATASET_REGISTRY
from datasets.eurosat import CLASS_NAMES, EuroSAT
from datasets.split import load_split
from tests.datasets.layouts import Link, make_cfg


@pytest.fixture(scope="module")
def root(shared: Path, tmp_path_factory: pytest.TempPathFactory, link_images: Link) -> Path:
    """The authentic layout: the published split, and a file for each image that it names."""
    root = tmp_path_factory.mktemp("data")
    published = shared / "data" / "splits" / "split_zhou_EuroSAT.json"
    link_images(
        root / "eurosat" / "2750", [item.path for part in load_split(str(published)) for item in part]
    )
    shutil.copy(published, root / "eurosat")
    return root


def test_published_split(root: Path) -> None:
    data = DATASET_REGISTRY.get("EuroSAT")(make_cfg(root))
    assert (len(data.train_x), len(data.val), len(data.test)) == (13500, 5400, 8100)
    assert data.classnames == list(CLASS_NAMES.values())
    assert data.template == "a centered satellite photo of {}."


@pytest.mark.parametrize(
    ("subset", "labels", "test"), [("all", 10, 8100), ("base", 5, 4200), ("new", 5, 3900)]
)
def test_few_shots(root: Path, subset: str, labels: int, test: int) -> None:
    data = EuroSAT(make_cfg(root, 16, 1, subset))
    assert Counter(datum.label for datum in data.train_x) == dict.fromkeys(range(labels), 16)
    assert Counter(datum.label for datum in data.val) == dict.fromkeys(range(labels), 4)
    assert len(data.test) == test


def test_own_split_has_the_same_classes_and_sizes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat" / "2750").symlink_to(root / "eurosat" / "2750")
    data = EuroSAT(make_cfg(tmp_path))
    assert "NOT COMPARABLE" in capsys.readouterr().out
    assert (len(data.train_x), len(data.val), len(data.test)) == (13500, 5400, 8100)
    assert data.classnames == list(CLASS_NAMES.values())
    for datum in data.train_x:
        assert datum.classname == CLASS_NAMES[Path(datum.impath).parent.name]


def test_the_real_archive_holds_what_the_split_names(shared: Path, tmp_path: Path) -> None:
    split = load_split(str(shared / "data" / "splits" / "split_zhou_EuroSAT.json"))
    with zipfile.ZipFile(shared / "data" / "EuroSAT.zip") as archive:
        images = {name for name in archive.namelist() if name.endswith(".jpg")}
        assert images == {f"2750/{item.path}" for part in split for item in part}
        for item in split.test[::500]:
            with Image.open(archive.extract(f"2750/{item.path}", tmp_path)) as image:
                assert image.convert("RGB").size == (64, 64)
