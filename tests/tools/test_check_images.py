import signal
import sys
from pathlib import Path

import pytest
from PIL import Image

from datasets.split import load_split, save_split
from runs import ROOT
from tests import copies
from tools.check_images import main


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven images of all kinds that can be read, and a file that is none and does not say it is."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for mode in ("RGB", "L", "P", "CMYK", "1", "I;16"):
        Image.new(mode, (9, 7)).save(folder / f"{mode.replace(';', '')}.{'jpg' if mode == 'CMYK' else 'png'}")
    Image.effect_noise((64, 64), 50).save(folder / "sub" / "noise.JPEG")
    (folder / "README.txt").write_text("no image")
    (folder / "sub" / "._noise.JPEG").write_text("left by macOS, no image")
    (folder / "a_folder.png").mkdir()
    return folder


def test_good_images_of_all_kinds(folder: Path, capsys: pytest.CaptureFixture) -> None:
    main([str(folder)])
    assert capsys.readouterr().out == "7 images checked, 0 cannot be read\n"


def test_its_processes_end_by_themselves(folder: Path, tmp_path: Path) -> None:
    """Whatever a program does on SIGTERM: they inherit it."""
    signalled = tmp_path / "signalled"

    def go_on(*_: object) -> None:
        signalled.touch()

    before = signal.signal(signal.SIGTERM, go_on)
    try:
        main([str(folder), "--workers", "3"])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not signalled.exists()


def test_all_that_fail_are_listed_with_the_reason(folder: Path, capsys: pytest.CaptureFixture) -> None:
    whole = (folder / "sub" / "noise.JPEG").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[:-300])
    (folder / "sub" / "text.png").write_text("no image")
    (folder / "sub" / "empty.jpg").touch()
    with pytest.raises(SystemExit) as ended:
        main([str(folder), "--workers", "2"])
    assert ended.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder}/cut.jpg: damaged: image file is truncated")
    assert lines[1].startswith(f"{folder}/sub/empty.jpg: not an image")
    assert lines[2].startswith(f"{folder}/sub/text.png: not an image")
    assert lines[3:] == ["10 images checked, 3 cannot be read"]


@pytest.mark.parametrize(
    "args", [[], ["a", "--root", "b", "--dataset-config-file", "c"], ["--root", "b"], ["none"]]
)
def test_a_users_mistake_is_one_line(args: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(args)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_data_set_from_any_folder(shared: Path, tmp_path: Path) -> None:
    split = load_split(str(shared / "data" / "splits" / "split_zhou_EuroSAT.json"))
    split = split._replace(train=split.train[::500], val=split.val[::500], test=split.test[::500])
    for part in split:
        for item in part:
            path = tmp_path / "eurosat" / "2750" / item.path
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    save_split(split, str(tmp_path / "eurosat" / "split_zhou_EuroSAT.json"))
    command = [sys.executable, str(ROOT / "tools" / "check_images.py"), "--root", str(tmp_path)]
    config = str(ROOT / "configs" / "datasets" / "eurosat.yaml")
    run = copies.run([*command, "--dataset-config-file", config], cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert run.stdout.splitlines()[-1] == f"{sum(map(len, split))} images checked, 1 cannot be read"
    assert run.stdout.splitlines()[-2].startswith(f"{path}: ")


def test_it_finds_what_a_run_would_not_read(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """And reads as the run does."""
    for part in ("train", "test"):
        for number, name in enumerate("ab"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.new("F", (4 + number, 4), 200.0).save(tmp_path / part / name / f"{part}.tif")
    command = [
        "--root",
        str(tmp_path),
        "--dataset-config-file",
        str(ROOT / "configs/datasets/image_folder.yaml"),
    ]
    with pytest.raises(SystemExit):
        main([*command, "--workers", "1"])
    out = capsys.readouterr().out
    assert out.count(": it has values from 200 to 200, not from 0 (black) to 1") == 4
    assert out.endswith("4 images checked, 4 cannot be read\n")
    main([*command, "--workers", "1", "--opts", "INPUT.WHITE", "255.0"])
    assert capsys.readouterr().out.endswith("4 images checked, 0 cannot be read\n")


def test_the_same_image_in_two_places_is_told(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number, name in enumerate(
        ("train/a/1", "train/b/1", "test/a/1", "test/b/1", "train/b/2", "test/b/2")
    ):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    (tmp_path / "test/a/copy.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())
    (tmp_path / "train/b/copy.png").write_bytes((tmp_path / "train/a/1.png").read_bytes())
    (tmp_path / "train/b/2.png").write_bytes((tmp_path / "train/b/1.png").read_bytes())
    main(["--root", str(tmp_path), "--dataset-config-file", str(ROOT / "configs/datasets/image_folder.yaml")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == (
        "Warning: 1 images are both in train and in other parts, first:"
        f" {tmp_path}/train/a/1.png and {tmp_path}/test/a/copy.png"
    )
    assert lines[2] == (
        "Warning: 1 images are in several classes, first:"
        f" {tmp_path}/train/a/1.png and {tmp_path}/train/b/copy.png"
    )
