from collections import Counter
from pathlib import Path

import pytest

from datasets.fgvc_aircraft import FGVCAircraft
from tests.datasets.layouts import Link, make_cfg, rows, sizes


@pytest.fixture
def root(tmp_path: Path, link_images: Link) -> Path:
    """Three of the variants in the layout of the archive's folder data/."""
    folder, variants = tmp_path / "fgvc_aircraft", ("707-320", "Boeing 717", "F/A-18")
    number = iter(range(1025794, 1026000))
    images = {
        part: [(next(number), variant) for variant in variants for _ in range(count)]
        for part, count in (("train", 6), ("val", 5), ("test", 4))
    }
    link_images(folder / "images", [f"{image:07}.jpg" for part in images.values() for image, _ in part])
    (folder / "variants.txt").write_text("".join(f"{variant}\n" for variant in variants))
    for part, lines in images.items():
        text = "".join(f"{image:07} {variant}\n" for image, variant in lines)
        (folder / f"images_variant_{part}.txt").write_text(text)
    return tmp_path


def test_the_archives_lists_are_the_split(root: Path, capsys: pytest.CaptureFixture) -> None:
    data = FGVCAircraft(make_cfg(root))
    assert sizes(data) == (3, 18, 15, 12)
    assert data.classnames == ["707-320", "Boeing 717", "F/A-18"]
    assert rows(data.train_x, root / "fgvc_aircraft" / "images")[6] == ("1025800.jpg", 1, "Boeing 717")
    assert data.template.format("707-320") == "a photo of a 707-320, a type of aircraft."
    warning = capsys.readouterr().out
    assert warning.count("\n") == 1
    assert (
        "has 3 / 18 / 15 / 12 classes, training, validation and test images where 100 / 3,334 / 3,333"
        in warning
    )
    assert "NOT COMPARABLE" in warning
    few = FGVCAircraft(make_cfg(root, 5))
    assert Counter(d.label for d in few.train_x) == {0: 5, 1: 5, 2: 5}
    assert Counter(d.label for d in few.val) == {0: 4, 1: 4, 2: 4}


def test_an_unknown_variant_is_named(root: Path) -> None:
    (root / "fgvc_aircraft" / "variants.txt").write_text("707-320\nBoeing 717\n")
    with pytest.raises(ValueError, match=r"variants.txt has no 'F/A-18'"):
        FGVCAircraft(make_cfg(root))
