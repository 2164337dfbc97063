import hashlib
import io
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets.base import SplitDataset
from datasets.caltech101 import Caltech101
from datasets.eurosat import CLASS_NAMES, EuroSAT
from datasets.fgvc_aircraft import FGVCAircraft
from datasets.imagenet import ImageNet
from datasets.imagenet_sketch import ImageNetSketch
from datasets.origin import CLASSNAMES, Download, Origin
from datasets.oxford_pets import OxfordPets
from datasets.split import Item, Split
from datasets.stanford_cars import StanfordCars
from tests.interruption import at_touch
from tests.tools.server import Server, running
from tools import ROOT, download, obtain, prepare
from tools.data_sets import load
from tools.place import Place, only_one

Files = dict[str, bytes]


def jpeg(number: int, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (8, 8), number % 200).save(file, "JPEG" if mode != "P" else "PNG")
    return file.getvalue()


def packed(files: Files, kind: str = "zip") -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def below(folder: str, files: Files) -> Files:
    return {f"{folder}/{name}": content for name, content in files.items()}


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def content_of(classes: dict[str, str], folder: str = "{}", ending: str = ".jpg") -> tuple[Files, bytes]:
    """Images of all classes, 2 / 1 / 2 of each, and the published split of them."""
    split = Split([], [], [])
    for label, (name, class_name) in enumerate(classes.items()):
        for number, part in enumerate(("train", "train", "val", "test", "test")):
            path = f"{folder.format(name)}/{name}_{number}{ending}"
            getattr(split, part).append(Item(path, label, class_name))
    images = {item.path: jpeg(i) for i, item in enumerate(item for part in split for item in part)}
    return images, json.dumps(split._asdict()).encode()


IMAGES, SPLIT = content_of(CLASS_NAMES)
ARCHIVE = packed(below("2750", IMAGES))
SIZES = (10, 20, 10, 20)
TABLE = "data set  state  classes  train  val  test\neurosat   ready       10     20   10    20  50 images decoded\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The hub, Google Drive and everybody's own servers, with a small EuroSAT as the published one."""
    monkeypatch.setattr(download, "PAUSE", 0.01)
    with running() as server:
        server.become_the_hub(monkeypatch)
        monkeypatch.setattr(download, "DRIVE", f"{server.address}/uc?id=")
        publish(monkeypatch, server, EuroSAT, SIZES, SPLIT, [])
        origin = replace(
            EuroSAT.origin, archives=[Download("hub:torchgeo/eurosat/EuroSAT.zip", md5(ARCHIVE))]
        )
        monkeypatch.setattr(EuroSAT, "origin", origin)
        server.add_to_hub("torchgeo/eurosat", {"EuroSAT.zip": ARCHIVE, "README.md": b""}, "dataset")
        yield server


def publish(
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    dataset: type[SplitDataset],
    sizes: tuple[int, int, int, int],
    split: bytes,
    archives: list[bytes],
) -> None:
    """Replace what a data set declares by small archives on the server; its other declarations stay."""
    downloads = []
    for number, archive in enumerate(archives):
        server.files[f"/{number}.zip"] = archive
        downloads.append(Download(f"{server.address}/{number}.zip", md5(archive)))
    assert dataset.origin
    changed: dict[str, Any] = {"sizes": sizes, "archives": downloads}
    if dataset.split_file:
        server.files[f"/uc?id={dataset.split_file}"] = split
        changed["files"] = {dataset.split_file: Download(f"drive:{dataset.split_file}", md5(split))}
    monkeypatch.setattr(dataset, "origin", replace(dataset.origin, **changed))


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[str, str]]:
    """Run the tool on the data root tmp_path/data; returns what it printed and its errors."""

    def run(*words: object) -> tuple[str, str]:
        errors = ""
        try:
            prepare.main([*map(str, words), "--root", str(tmp_path / "data"), "--workers", "1"])
        except SystemExit as end:
            errors = str(end.code)  # a text, which Python prints before it exits with code 1
        return capsys.readouterr().out, errors

    return run


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def put(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return put


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# From its origin


def test_from_the_origin_and_again_at_no_cost(server: Server, run: Any, tmp_path: Path) -> None:
    out, errors = run("eurosat")
    assert (out, errors) == (TABLE, "")
    assert names(tmp_path / "data" / "eurosat") == [".verified.json", "2750", EuroSAT.split_file]
    assert names(tmp_path / "data" / ".downloads") == ["eurosat.lock"]
    server.asked.clear()
    for path in (tmp_path / "data" / "eurosat" / "2750").rglob("*.jpg"):
        path.write_bytes(b"not read again")
    assert run("EuroSAT")[0].endswith(TABLE)
    assert not server.asked


def test_from_the_mirror_when_the_origin_fails(
    server: Server, run: Any, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    del server.files["/api/datasets/torchgeo/eurosat/tree/main"]
    inside = {"2750/x": b"", EuroSAT.split_file: SPLIT, "split_fewshot/shot_1-seed_1.pkl": pickle.dumps([])}
    mirror = packed(below("eurosat", inside | below("2750", IMAGES)))
    server.add_to_hub(obtain.MIRROR, {"eurosat.zip": mirror, "dtd.zip": b""}, "model")
    out, errors = run("eurosat")
    assert not errors
    assert "fetching it from the mirror" in out
    assert out.endswith(TABLE)
    assert names(tmp_path / "data" / "eurosat") == [".verified.json", "2750", EuroSAT.split_file]


def test_when_nobody_has_it(server: Server, run: Any, tmp_path: Path) -> None:
    del server.files["/api/datasets/torchgeo/eurosat/tree/main"]
    out, errors = run("eurosat")
    assert "eurosat   NOT READY" in out
    assert errors.startswith(f"error: eurosat: {obtain.MIRROR} on the Hugging Face hub: ")
    assert "404" in errors
    assert errors.endswith("give it with --archive FILE")
    assert "\n" not in errors
    _, errors = run("eurosat", "--source", "origin")
    assert errors.startswith("error: eurosat: torchgeo/eurosat on the Hugging Face hub: ")


def test_when_the_split_cannot_be_fetched(server: Server, run: Any, tmp_path: Path) -> None:
    split = server.files.pop(f"/uc?id={EuroSAT.split_file}")
    out, errors = run("eurosat")
    assert "NOT READY" in out
    assert "Google Drive" in errors
    assert "with a browser from" in errors
    server.files[f"/uc?id={EuroSAT.split_file}"] = split
    server.asked.clear()
    assert run("eurosat") == (TABLE, "")
    assert {path for path, _ in server.asked} == {f"/uc?id={EuroSAT.split_file}"}  # the images were there


def test_others_are_prepared_when_one_fails(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obtain, "MIRROR", "no/mirror")
    out, errors = run("stanford_cars", "eurosat", "handwritten_digits")
    lines = out.splitlines()[-4:]
    assert [line.split()[:3] for line in lines[1:]] == [
        ["stanford_cars", "NOT", "READY"],
        ["eurosat", "ready", "10"],
        ["handwritten_digits", "ready", "10"],
    ]
    assert errors.startswith("error: stanford_cars: no/mirror on the Hugging Face hub")


def test_what_breaks_off_never_looks_complete(server: Server, run: Any, tmp_path: Path) -> None:
    broken = ARCHIVE.replace(jpeg(49), jpeg(49)[:-4] + b"xxxx")
    assert broken != ARCHIVE
    path = tmp_path / "EuroSAT.zip"
    path.write_bytes(broken)
    _, errors = run("eurosat", "--archive", path, "--no-checksum")
    assert "EuroSAT.zip is damaged" in errors
    assert names(tmp_path / "data" / "eurosat") == []


def test_a_run_that_is_killed_while_it_extracts(server: Server, run: Any, tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    path.write_bytes(packed({f"2750/{i}.jpg": bytes(2_000) for i in range(20)}))
    folder = tmp_path / "data" / "eurosat"
    words = ["eurosat", "--root", str(tmp_path / "data"), "--archive", str(path), "--no-checksum"]
    killed = subprocess.run(
        [sys.executable, str(ROOT / "tools/prepare.py"), *words],
        env=at_touch(10, folder, "kill run", tmp_path / "killed", "/2750/", "prepare.py"),
        stderr=subprocess.DEVNULL,
    )
    assert killed.returncode == -signal.SIGKILL
    (left,) = names(folder)
    assert left.startswith(".extracting-")
    assert run("eurosat") == (TABLE, "")
    assert names(folder) == [".verified.json", "2750", EuroSAT.split_file]


def test_two_at_the_same_moment(server: Server, run: Any, tmp_path: Path) -> None:
    place = Place("eurosat", EuroSAT, tmp_path / "data")
    with only_one(place):
        assert run("eurosat")[1] == "error: eurosat: another process prepares it at this moment"
    assert run("eurosat") == (TABLE, "")


# From files that are here


def test_an_archive_that_is_here(server: Server, run: Any, put: Any) -> None:
    archive = put("EuroSAT.zip", ARCHIVE)
    split = put(EuroSAT.split_file, SPLIT)
    assert run("eurosat", "--archive", archive, split) == (TABLE, "")
    assert not server.asked
    assert archive.exists()


def test_an_archive_of_somebody_else(server: Server, run: Any, put: Any) -> None:
    other = packed(below("some/2750", IMAGES))
    archive = put("EuroSAT.zip", other)
    _, errors = run("eurosat", "--archive", archive)
    assert f"is not the authors' archive (md5 {md5(other)}, not {md5(ARCHIVE)}); --no-checksum" in errors
    assert run("eurosat", "--archive", archive, "--no-checksum") == (TABLE, "")


def test_an_archive_of_something_else(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    archive = put("dtd.zip", packed({"dtd/images/a.jpg": b""}))
    _, errors = run("eurosat", "--archive", archive, "--no-checksum")
    assert errors == f"error: eurosat: {archive}: no folder 2750 in it, but dtd"
    _, errors = run("eurosat", "--archive", put(EuroSAT.split_file, b"{}"))
    assert f"{EuroSAT.split_file} is not the published file" in errors


def test_what_is_there_is_never_replaced(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    mine = put("data/eurosat/list.txt", b"mine")
    run(
        "eurosat",
        "--archive",
        put("a.zip", packed(below("2750", IMAGES) | {"list.txt": b"theirs"})),
        "--no-checksum",
    )
    assert mine.read_bytes() == b"mine"


def test_malicious_archives_leave_nothing(server: Server, run: Any, put: Any, tmp_path: Path) -> None:
    _, errors = run(
        "eurosat",
        "--archive",
        put("a.zip", packed(below("2750", IMAGES) | {"../../x": b""})),
        "--no-checksum",
    )
    assert "'../../x', a path out of its folder; nothing is extracted" in errors
    assert names(tmp_path / "data" / "eurosat") == []
    assert names(tmp_path / "data") == [".downloads", "eurosat"]


# The layouts of the other archives


def test_caltechs_archive_in_the_archive(
    server: Server, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, split = content_of({"airplanes": "airplane", "Faces": "face"})
    inner = packed(below("101_ObjectCategories", images), "tar")
    outer = packed({"caltech-101/101_ObjectCategories.tar.gz": inner, "caltech-101/Annotations.tar": b""})
    publish(monkeypatch, server, Caltech101, (2, 4, 2, 4), split, [outer])
    assert run("caltech101")[1] == ""
    assert names(tmp_path / "data/caltech-101/101_ObjectCategories") == ["Faces", "airplanes"]


def test_the_two_archives_of_the_pets(
    server: Server, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, split = content_of({"Abyssinian": "abyssinian", "pug": "pug"}, folder="images")
    split = split.replace(b'"images/', b'"')
    annotations = {"annotations/trainval.txt": b"", "annotations/test.txt": b""}
    archives = [packed(images, "tar"), packed(annotations, "tar")]
    publish(monkeypatch, server, OxfordPets, (2, 4, 2, 4), split, archives)
    assert run("oxford_pets")[1] == ""
    folder = tmp_path / "data/oxford_pets/annotations"
    assert names(folder) == ["test.txt", "trainval.txt"]
    server.asked.clear()
    for path in (*folder.iterdir(), folder.parent / ".verified.json"):
        path.unlink()
    folder.rmdir()
    assert run("oxford_pets")[1] == ""  # with the published split, nobody needs them
    assert not server.asked


def test_the_data_folder_of_aircraft(
    server: Server, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"variants.txt": b"707-320\nA310\n"}
    for number, part in enumerate(("train", "val", "test")):
        data[f"images_variant_{part}.txt"] = f"{number}1 707-320\n{number}2 A310\n".encode()
        data |= {f"images/{number}{i}.jpg": jpeg(i) for i in (1, 2)}
    archive = packed(
        below("fgvc-aircraft-2013b/data", data) | {"fgvc-aircraft-2013b/README.html": b""}, "tar"
    )
    publish(monkeypatch, server, FGVCAircraft, (2, 2, 2, 2), b"", [archive])
    assert run("fgvc_aircraft")[1] == ""
    assert (tmp_path / "data/fgvc_aircraft/variants.txt").exists()


def test_the_two_folders_of_cars_from_the_mirror(
    server: Server, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, split = content_of(
        {"a": "2012 Audi TTS Coupe", "b": "1998 Nissan 240SX Coupe"}, folder="cars_train"
    )
    images, split = (
        {name.replace("train/a_4", "test/a_4"): content for name, content in images.items()},
        split.replace(b"train/a_4", b"test/a_4"),
    )
    publish(monkeypatch, server, StanfordCars, (2, 4, 2, 4), split, [])
    mirror = packed(below("stanford_cars", images) | {"stanford_cars/devkit/cars_meta.mat": b""})
    server.add_to_hub(obtain.MIRROR, {"stanford_cars.zip": mirror}, "model")
    out, errors = run("stanford_cars")
    assert not errors
    assert "stanford_cars  ready        2      4    2     4" in out
    assert names(tmp_path / "data/stanford_cars")[1:] == [
        "cars_test",
        "cars_train",
        "devkit",
        StanfordCars.split_file,
    ]


def test_a_folder_of_classes_by_another_name(
    server: Server, run: Any, put: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageNetSketch, "origin", replace(ImageNetSketch.origin, sizes=(3, 0, 0, 6)))
    put("data/imagenet/classnames.txt", b"n1 tench\nn2 sunglasses\nn3 sunglasses\n")
    archive = put("sketch.zip", packed({f"sketch/n{i}/{j}.JPEG": jpeg(i) for i in (1, 2, 3) for j in (1, 2)}))
    out, errors = run("imagenet_sketch", "--archive", archive)
    assert not errors
    assert "imagenet_sketch  ready        3      -    -     6  6 images decoded" in out
    assert names(tmp_path / "data/imagenet-sketch/images") == ["n1", "n2", "n3"]


def test_imagenet_needs_a_person(server: Server, run: Any, tmp_path: Path) -> None:
    images = tmp_path / "data/imagenet/images"
    images.mkdir(parents=True)
    (images / "ILSVRC2012_img_train.tar").touch()
    _, errors = run("imagenet")
    assert f"ILSVRC2012_devkit_t12.tar.gz into {images}, and let torchvision unpack them there" in errors
    assert f"[ImageNet('{images}', part) for part in ('train', 'val')]" in errors


def test_imagenet_as_torchvision_unpacks_it(
    server: Server, run: Any, put: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ImageNet.origin
    monkeypatch.setattr(ImageNet, "origin", replace(ImageNet.origin, sizes=(2, 4, 0, 2)))
    for name in ("train/n1/1.JPEG", "train/n1/2.JPEG", "train/n2/1.JPEG", "train/n2/2.JPEG", "val/n1/3.JPEG"):
        put(f"data/imagenet/images/{name}", jpeg(1))
    put("data/imagenet/images/meta.bin", b"")
    put("data/imagenet/images/val/n2/3.JPEG", jpeg(1))
    server.files[f"/uc?{CLASSNAMES['classnames.txt'].source.replace('drive:', 'id=')}"] = (
        b"n1 tench\nn2 missile\n"
    )
    out, errors = run("imagenet")
    assert not errors
    assert "imagenet  ready        2      4    -     2  6 images decoded" in out


# Verification


@pytest.fixture
def eurosat(server: Server, run: Any, tmp_path: Path) -> Path:
    assert run("eurosat") == (TABLE, "")
    return tmp_path / "data" / "eurosat"


def test_missing_images_are_counted_and_named(eurosat: Path, run: Any) -> None:
    for number in range(5):
        (eurosat / f"2750/Forest/Forest_{number}.jpg").unlink()
    (eurosat / "2750/River/River_0.jpg").unlink()
    _, errors = run("eurosat")
    first = ", ".join(f"Forest/Forest_{i}.jpg" for i in (0, 1))
    assert errors.startswith("error: eurosat: 6 of the 50 images that")
    assert first in errors
    assert errors.count(".jpg") == 5
    assert errors.endswith(f"move {eurosat} away and run this again to begin anew")


def test_verify_reads_everything_again(eurosat: Path, run: Any, server: Server) -> None:
    (eurosat / "2750/River/River_0.jpg").write_bytes(b"no image")
    (eurosat / "2750/River/River_1.jpg").write_bytes(jpeg(0)[:-60])
    server.asked.clear()
    _, errors = run("eurosat", "--verify")
    assert errors.startswith(
        "error: eurosat: 2 of the 50 images of eurosat cannot be read, first: River/River_0.jpg (cannot"
    )
    assert run("eurosat", "--verify", "--quick")[0].endswith("20   10    20  50 images there, not decoded\n")
    assert "cannot be read" in run("eurosat")[1]  # the quick look is not remembered for more than it was
    assert not server.asked


def test_other_kinds_of_images_are_named(eurosat: Path, run: Any) -> None:
    for number, mode in enumerate(("L", "CMYK", "P", "L")):
        (eurosat / f"2750/River/River_{number}.jpg").write_bytes(jpeg(0, mode))
    out, _ = run("eurosat", "--verify")
    note = "50 images decoded, 1 CMYK (read as RGB), 2 grey (read as RGB), 1 palette (read as RGB)"
    assert out.endswith(f"20   10    20  {note}\n")


def test_another_split_than_the_published_one(eurosat: Path, run: Any) -> None:
    other = SPLIT + b"\n"
    (eurosat / EuroSAT.split_file).write_bytes(other)
    _, errors = run("eurosat")
    assert f"{EuroSAT.split_file} is not the published file (md5 {md5(other)}, not" in errors
    (eurosat / EuroSAT.split_file).unlink()
    assert "the published split" in run("eurosat", "--verify")[1]


def test_other_numbers_than_published(
    server: Server, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert EuroSAT.origin
    monkeypatch.setattr(EuroSAT, "origin", replace(EuroSAT.origin, sizes=(10, 13_500, 5_400, 8_100)))
    _, errors = run("eurosat")
    assert (
        "10 / 20 / 10 / 20 classes, training, validation and test images where 10 / 13,500 / 5,400" in errors
    )


def test_a_folder_that_cannot_be_written(eurosat: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (eurosat / ".verified.json").unlink()
    (eurosat / ".verified.json").mkdir()  # as good as a read-only disk, for root too
    assert "Not remembered that eurosat is right" in run("eurosat")[0]


def test_verify_of_what_is_not_there(server: Server, run: Any, tmp_path: Path) -> None:
    _, errors = run("eurosat", "dtd", "--verify")
    assert [line.split(": ")[1] for line in errors.splitlines()] == ["eurosat", "dtd"]
    assert not (tmp_path / "data").exists()


# Links


@pytest.mark.parametrize("images_alone", [False, True])
def test_a_folder_that_is_elsewhere(server: Server, run: Any, tmp_path: Path, images_alone: bool) -> None:
    tree = tmp_path / "elsewhere" / "2750"
    for name, content in IMAGES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(content)
    if not images_alone:
        (tree.parent / "split_fewshot").mkdir()
        (tree.parent / "readme.txt").touch()
    before = sorted(tree.parent.rglob("*"))
    out, errors = run("eurosat", "--link", tree if images_alone else tree.parent)
    assert not errors
    assert out.endswith(TABLE)
    folder = tmp_path / "data" / "eurosat"
    assert os.readlink(folder / "2750") == str(tree)
    load("eurosat", str(tmp_path / "data"), "DATASET.NUM_SHOTS", 1, "SEED", 1)
    assert (folder / "split_fewshot" / "shot_1-seed_1.json").exists()
    assert sorted(tree.parent.rglob("*")) == before


def test_a_link_to_something_else(server: Server, run: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "images").mkdir(parents=True)
    _, errors = run("eurosat", "--link", tmp_path / "elsewhere")
    assert errors == f"error: eurosat: {tmp_path}/elsewhere has no folder 2750, but images"


# The command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eurosatt"], "'eurosatt' is unknown, the nearest is eurosat"),
        (["all", "dtd"], "all stands alone"),
        (["dtd", "eurosat", "--link", "."], "--archive and --link are for one data set"),
        (["dtd", "--link", ".", "--verify"], "exclude each other"),
        (["dtd", "--archive", "none.zip"], "there is no none.zip"),
        (["dtd", "--archive", "."], "--archive . is a folder; --link takes folders"),
        (["dtd", "--workers", "0"], "--workers 0 must be 1 or more"),
        ([], "the following arguments are required: NAME"),
    ],
)
def test_wrong_arguments(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        prepare.main([*words, "--root", str(tmp_path)])
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_all_means_what_has_an_origin(tmp_path: Path) -> None:
    args = prepare.parse(["all", "--root", str(tmp_path)])
    assert len(args.names) == 15
    assert {"imagenet", "imagenetv2", "ucf101"} < set(args.names)
    assert "shapes" not in args.names


def test_every_declaration_is_whole() -> None:
    for name in prepare.parse(["all", "--root", "x"]).names:
        dataset = prepare.data_sets()[name]
        origin = dataset.origin
        assert isinstance(origin, Origin)
        assert all(len(item.md5) in (0, 32) for item in [*origin.archives, *origin.files.values()])
        assert not dataset.split_file or dataset.split_file in origin.files
        assert origin.archives or origin.mirrored or origin.by_hand
        docs = (ROOT / "DATASETS.md").read_text(encoding="utf-8")
        for item in [*origin.archives, *origin.files.values()]:
            assert item.md5 in docs
            assert item.source.partition(":")[2].rpartition("/")[2].strip("*") in docs
        assert f"| {' / '.join(f'{size:,}' if size else '-' for size in origin.sizes[1:])} |" in docs


def test_an_unknown_checksum_is_said(server: Server, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["/eurosat.zip"] = ARCHIVE
    source = f"{server.address}/eurosat.zip"
    monkeypatch.setattr(EuroSAT, "origin", replace(EuroSAT.origin, archives=[Download(source)]))
    out, errors = run("eurosat")
    assert not errors
    assert out == (
        f"eurosat: no checksum of {source} is known; what it holds is verified all the same\n{TABLE}"
    )


def test_verifying_what_is_not_there(run: Any, tmp_path: Path) -> None:
    (tmp_path / "data" / "dtd").mkdir(parents=True)
    out, errors = run("eurosat", "--verify")
    assert "NOT READY" in out
    assert f"there is no folder {tmp_path}/data/eurosat ({tmp_path}/data has dtd)" in errors
    assert "prepare.py EuroSAT --root" in errors
    assert "\n" not in errors


# On the real archive


def test_the_real_eurosat(shared: Path, run: Any, run_train: Any, tmp_path: Path) -> None:
    split = shared / "data" / "splits" / EuroSAT.split_file
    out, errors = run("eurosat", "--archive", shared / "data" / "EuroSAT.zip", split, "--no-checksum")
    assert not errors
    assert out.endswith("eurosat   ready       10  13,500  5,400  8,100  27,000 images decoded\n")
    ended = run_train(
        *("--root", tmp_path / "data", "--output-dir", tmp_path / "run", "--seed", 1, "--trainer", "CoOp"),
        *("--dataset-config-file", "configs/datasets/eurosat.yaml"),
        *("--config-file", "configs/trainers/CoOp/mini.yaml"),
        *("DATASET.NUM_SHOTS", 1, "OPTIM.MAX_EPOCH", 1),
    )
    assert ended.code == 0, ended.err
    for row in ("# classes  10", "# train_x  10", "# val      10", "# test     8,100"):
        assert row in ended.out
    assert "epoch [1/1] batch [1/1]" in (tmp_path / "run" / "log.txt").read_text()
    accuracy = json.loads((tmp_path / "run" / "result.json").read_text())["metrics"]["accuracy"]
    correct = re.search(r"\* total: 8,100\n\* correct: ([\d,]+)", ended.out)
    assert correct
    assert accuracy == pytest.approx(int(correct[1].replace(",", "")) / 81)
