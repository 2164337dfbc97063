"""Figures for papers."""

import numpy as np
import pytest

from datasets.shapes import THINGS
from tests.tools.explaining.models import NAMES, ready, side_by_side
from tools.explaining.figure import figure
from tools.explaining.maps import explain


@pytest.mark.parametrize(("method", "rows", "maps"), [("MMTPA", 3, 8), ("PLOT", 3, 4), ("MaPLe", 1, 3)])
def test_a_row_for_each_class_or_a_map_for_each(method, rows, maps, tmp_path):
    model, transform = ready(method, tmp_path)
    picture = side_by_side(THINGS[0], THINGS[47], np.random.default_rng(0))
    explanation = explain(model, picture, transform, NAMES, 3)
    drawn = figure(explanation, "a $ and _^ title")
    assert len(drawn.axes) >= rows * (maps + 1)
    titles = [axis.get_title() for axis in drawn.axes]
    for one in explanation.candidates:
        assert any(one.name in title.replace("\n", " ") for title in titles)
        for word in one.pairs[0][0].words:
            assert any(word in title.replace("\n", " ") for title in titles)
    patches = sum(len(axis.patches) for axis in drawn.axes)
    drawn_maps = sum(len(axis.images) == 2 for axis in drawn.axes)
    assert patches == explanation.prompts * drawn_maps
    drawn.savefig(tmp_path / "figure.png", dpi=50)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
