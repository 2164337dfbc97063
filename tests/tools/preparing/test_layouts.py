"""The layouts of the other archives."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasets.caltech101 import Caltech101
from datasets.fgvc_aircraft import FGVCAircraft
from datasets.imagenet import ImageNet
from datasets.imagenet_sketch import ImageNetSketch
from datasets.origin import CLASSNAMES
from datasets.oxford_pets import OxfordPets
from datasets.stanford_cars import StanfordCars
from tests.tools.preparing.archives import below, content_of, jpeg, names, packed, publish
from tests.tools.preparing.server import Server
from tools.preparing import obtain


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
