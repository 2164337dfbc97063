import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    """A data root with the plugin's images: two classes, vertical and horizontal stripes."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, per_class in (("train", 8), ("val", 2), ("test", 3)):
        folder = root / "stripes" / split
        folder.mkdir(parents=True)
        for label, classname in enumerate(("vertical", "horizontal")):
            for number in range(per_class):
                image = Image.fromarray(rng.integers(0, 160, (20, 20, 3), dtype=np.uint8))
                draw = ImageDraw.Draw(image)
                for at in range(number % 3, 20, 4):
                    line = (at, 0, at, 20) if label == 0 else (0, at, 20, at)
                    draw.line(line, fill=(255, 200, 40 * number), width=2)
                image.save(folder / f"{label}_{classname}_{number}.png")
    return root
