import pytest
from PIL import Image

from datasets.images_in import images_in


def test_images_at_any_depth_and_nothing_else(tmp_path):
    picture = Image.new("RGB", (4, 4))
    for name in ("b.png", "below/a.JPG", "figure.pdf", ".hidden/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert images_in(str(tmp_path)) == [str(tmp_path / "b.png"), str(tmp_path / "below" / "a.JPG")]


def test_a_folder_without_any(tmp_path):
    with pytest.raises(ValueError, match=rf"^there are no images in {tmp_path}$"):
        images_in(str(tmp_path))
