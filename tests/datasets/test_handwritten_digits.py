import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from datasets.handwritten_digits import HandwrittenDigits, make_split
from datasets.toy.painting import DIGITS
from tests.datasets.layouts import make_cfg, sizes


def test_it_is_written_on_first_use(tmp_path: Path) -> None:
    data = HandwrittenDigits(make_cfg(tmp_path / "root"))
    assert sizes(data) == (10, 898, 360, 539)
    assert data.classnames == list(DIGITS)
    assert sizes(HandwrittenDigits(make_cfg(tmp_path / "root", shots=16))) == (10, 160, 40, 539)


def test_the_pictures_are_the_real_ones(tmp_path: Path) -> None:
    data = HandwrittenDigits(make_cfg(tmp_path))
    digits = load_digits()
    for datum in data.test[::50]:
        number = int(Path(datum.impath).stem)
        assert digits.target[number] == datum.label
        with Image.open(datum.impath) as image:
            assert np.array_equal(np.round(np.asarray(image) / 255 * 16), digits.images[number])


def test_the_split_is_stratified_disjoint_and_fixed() -> None:
    labels = load_digits().target
    split = make_split(labels)
    paths = [item.path for part in split for item in part]
    assert len(paths) == len(set(paths)) == len(labels) == 1797
    whole = Counter(labels.tolist())
    for part, share in zip(split, (0.5, 0.2, 0.3)):
        for label, count in Counter(item.label for item in part).items():
            assert abs(count - share * whole[label]) <= 1
    digest = hashlib.sha256("\n".join(item.path for item in split.test).encode()).hexdigest()
    assert digest.startswith("37114ff4c1b7e61b")
