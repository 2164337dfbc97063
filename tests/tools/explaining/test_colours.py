"""Colours say more or less than uniform, on one scale."""

import numpy as np
import pytest

from tools.explaining.colours import COOL, WARM, of_cosines, of_mass


def test_masses():
    rgba = of_mass(np.array([4.0, 400.0, 2.0, 1.0, 0.5, 0.25, 0.0]))
    assert rgba[:, 3] == pytest.approx([0.75, 0.75, 0.375, 0, 0.375, 0.75, 0.75])
    assert rgba[0, :3] * 255 == pytest.approx(WARM)
    assert rgba[5, :3] * 255 == pytest.approx(COOL)


def test_cosines():
    assert of_cosines(np.array([0.1, 0.2, 0.3]), 0.1, 0.3)[:, 3] == pytest.approx([0, 0.375, 0.75])
    assert of_cosines(np.array([0.1, 0.1]), 0.1, 0.1)[:, 3] == pytest.approx([0, 0])
