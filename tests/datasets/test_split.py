import json
from pathlib import Path

import pytest

from datasets.split import Item, Split, check_classes, check_files, load_split, save_split
from tests.datasets.layouts import Link, make_split

# What the data sets' papers and CoOp's tables say: classes, train, val, test, a name.
PUBLISHED = {
    "Caltech101": (100, 4128, 1649, 2465, "airplane"),
    "DescribableTextures": (47, 2820, 1128, 1692, "polka-dotted"),
    "EuroSAT": (10, 13500, 5400, 8100, "Annual Crop Land"),
    "OxfordFlowers": (102, 4093, 1633, 2463, "pink primrose"),
    "OxfordPets": (37, 2944, 736, 3669, "abyssinian"),
    "StanfordCars": (196, 6509, 1635, 8041, "2012 Audi TTS Coupe"),
    "UCF101": (101, 7639, 1898, 3783, "Apply_Eye_Makeup"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_splits_are_read_and_pass_the_checks(shared: Path, name: str) -> None:
    split = load_split(str(shared / "data" / "splits" / f"split_zhou_{name}.json"))
    check_classes(split, name)
    names = {item.classname for item in split.train}
    assert (len(names), *map(len, split)) == PUBLISHED[name][:4]
    assert PUBLISHED[name][4] in names


def test_a_mark_at_the_beginning_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    save_split(make_split(), str(path))
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / encoding).write_text(path.read_text(encoding="utf-8"), encoding=encoding)
        assert load_split(str(tmp_path / encoding)) == make_split()


def test_what_is_saved_is_what_coop_writes_and_reads_back(tmp_path: Path) -> None:
    split = Split([Item("a/é 1.jpg", 0, "a")], [], [Item("a/2.jpg", 0, "a")])
    path = tmp_path / "new" / "split.json"
    save_split(split, str(path))
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "train": [["a/é 1.jpg", 0, "a"]],
        "val": [],
        "test": [["a/2.jpg", 0, "a"]],
    }
    assert load_split(str(path)) == split
    assert [p.name for p in path.parent.iterdir()] == ["split.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"train": [', "is not a JSON file"),
        ("[]", "keys must be train, val and test"),
        ('{"train": [], "val": []}', "keys must be train, val and test"),
        ('{"train": 3, "val": [], "test": []}', "'train' must be a list"),
        ('{"train": [["a.jpg", 0]], "val": [], "test": []}', r"train\[0\].*\['a.jpg', 0\]"),
        ('{"train": [["a.jpg", null, "a"]], "val": [], "test": []}', "expected"),
        ('{"train": [["a.jpg", "one", "a"]], "val": [], "test": []}', "label 'one'"),
        ('{"train": [["a.jpg", true, "a"]], "val": [], "test": []}', r"found \['a.jpg', True, 'a'\]"),
        ('{"train": [["a.jpg", 1.0, "a"]], "val": [], "test": []}', "expected"),
        ('{"train": [["a.jpg", NaN, "a"]], "val": [], "test": []}', "NaN is no number"),
        ('{"train": [["a.jpg", "--1", "a"]], "val": [], "test": []}', "label '--1' must be a number"),
        ('{"train": [], "train": [], "val": [], "test": []}', "'train' is there twice"),
        ('{"train": [["a\\u0000.jpg", 0, "a"]], "val": [], "test": []}', "is the name of no file"),
        ('{"train": [["a\\udce9.jpg", 0, "a"]], "val": [], "test": []}', "is the name of no file"),
        ('{"train": [["", 0, "a"]], "val": [], "test": []}', "'' must be a path below the image folder"),
        ('{"train": [["/etc/a.jpg", 0, "a"]], "val": [], "test": []}', "below the image folder"),
        ('{"train": [["x/../../a.jpg", 0, "a"]], "val": [], "test": []}', "below the image folder"),
    ],
)
def test_a_file_that_is_no_split_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        load_split(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_classes_at_fault_are_named() -> None:
    good = make_split(3, 2, 1, 1)
    check_classes(good, "here")
    check_classes(good._replace(train=[], val=[]), "here")

    def without(split: Split, label: int) -> Split:
        return Split(*([item for item in part if item.label != label] for part in split))

    def renamed(label: int, name: str) -> Split:
        return Split(
            *([i._replace(classname=name) if i.label == label else i for i in part] for part in good)
        )

    same_names = Split(
        *([i._replace(classname=f"name{' _'[i.label % 2]}0") for i in part] for part in make_split(2))
    )
    cases = {
        "here: labels run up to 2 but there is no image of label 1": without(good, 1),
        "here: class 'name 1' (label 1) has no training images": good._replace(train=without(good, 1).train),
        "here: label 0 has two names, 'name 0' and 'other'": good._replace(val=[Item("x.jpg", 0, "other")]),
        "here: labels 0 and 1 have the same class name 'name_0'": same_names,
        "here: label -1 is negative": good._replace(test=[Item("x.jpg", -1, "x")]),
        "here: label 1 has the class name ' _', which is no name": renamed(1, " _"),
        "here: label 2 has the class name 'red\\nfox', which is no name": renamed(2, "red\nfox"),
        "here has no test images": good._replace(test=[]),
    }
    for message, split in cases.items():
        with pytest.raises(ValueError) as caught:
            check_classes(split, "here")
        assert str(caught.value) == message
    check_classes(same_names, "here", same_names=True)


def test_missing_images_are_counted_and_the_first_five_named(tmp_path: Path, link_images: Link) -> None:
    split = make_split(2, 3, 1, 1)
    link_images(tmp_path, [item.path for part in split for item in part])
    check_files(split, str(tmp_path), "the split")
    for i in range(3):
        (tmp_path / f"c1/train_{i}.jpg").unlink()
    more = split._replace(
        test=[*split.test, *(Item(f"no/{i}.jpg", 0, "name 0") for i in range(4)), Item("r.jpg", 0, "")]
    )
    with pytest.raises(FileNotFoundError) as caught:
        check_files(more, str(tmp_path), "the split")
    assert str(caught.value) == (
        f"8 of the 15 images that the split names are not in {tmp_path}, "
        "first: c1/train_0.jpg, c1/train_1.jpg, c1/train_2.jpg, no/0.jpg, no/1.jpg"
    )


def test_images_a_folder_too_deep_are_found(tmp_path: Path, link_images: Link) -> None:
    split = make_split(2, 1, 0, 1)
    link_images(tmp_path / "2750" / "2750", [item.path for part in split for item in part])
    with pytest.raises(
        FileNotFoundError, match=f"c1/test_0.jpg; they lie a folder deeper, in {tmp_path}/2750/2750$"
    ):
        check_files(split, str(tmp_path / "2750"), "the split")
