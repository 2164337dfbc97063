from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dassl.data.datasets import Datum
from datasets.eurosat import EuroSAT
from tools.show import choose, main


def test_a_gallery_of_a_data_set(tiny_eurosat: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for path in (tiny_eurosat / "eurosat" / "2750" / "Forest").glob("*.jpg"):
        Image.new("RGB", (40, 16), (0, 255, 0)).save(path)
    command = ["dataset", "eurosat", "--root", str(tiny_eurosat), "--output", str(tmp_path / "a.png")]
    main([*command, "--classes", "5"])
    assert capsys.readouterr().out == f"{tmp_path}/a.png: eurosat: 5 of 10 classes, test images\n"
    main([*command[:-1], str(tmp_path / "new" / "a.png")])
    assert (tmp_path / "new" / "a.png").is_file()
    main([*command, "--classes", "50"])
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > picture.height > 300
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    green = (np.abs(pixels - [0, 255, 0]).sum(-1) < 60).mean()
    assert 0.02 < green < 0.1  # one square of fewer than ten in the picture


def test_classes_lie_at_even_distances(tmp_path: Path) -> None:
    images = []
    for label in range(10):
        for number in range(3):
            path = tmp_path / f"{label}_{number}.jpg"
            path.touch()
            images.append(Datum(str(path), label, 0, f"class {label}"))
    assert [image.label for image in choose(images, tmp_path, 4, 0)] == [0, 2, 5, 7]
    assert [image.label for image in choose(images, tmp_path, 99, 0)] == list(range(10))
    first = choose(images, tmp_path, 5, 0)
    assert first == choose(images[::-1], tmp_path, 5, 0)
    assert any(first != choose(images, tmp_path, 5, seed) for seed in (1, 2, 3))


def test_the_same_pictures_wherever_the_data_lie(tiny_eurosat: Path, tmp_path: Path) -> None:
    pictures = []
    for number in range(2):
        root = tiny_eurosat if number == 0 else tiny_eurosat.rename(tmp_path / "elsewhere")
        main(
            [
                "dataset",
                "eurosat",
                "--root",
                str(root),
                "--output",
                str(tmp_path / "a.png"),
                "--part",
                "train",
            ]
        )
        pictures.append((tmp_path / "a.png").read_bytes())
    assert pictures[0] == pictures[1]


def test_a_dollar_in_a_class_name_is_no_formula(tiny_eurosat: Path, tmp_path: Path) -> None:
    path = tiny_eurosat / "eurosat" / EuroSAT.split_file
    path.write_text(path.read_text().replace('"Forest"', '"a $ and $ _^"'))
    main(["dataset", "eurosat", "--root", str(tiny_eurosat), "--output", str(tmp_path / "a.svg")])
    assert (tmp_path / "a.svg").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--classes", "0"], "--classes 0 must be 1 or more"),
        (["--output", "a.txt"], "--output a.txt must end in .png"),
        (["--root", "none"], "there is no folder"),
    ],
)
def test_a_users_mistake_is_one_line(
    words: list[str], message: str, tiny_eurosat: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["dataset", "eurosat", "--root", str(tiny_eurosat), "--output", str(tmp_path / "a.png")]
    with pytest.raises(SystemExit) as ended:
        main([*command, *words])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
