"""What is looked up can be kept by who reads it later."""

import threading
import weakref

import torch

from clip import Layout, kept
from clip.arrangement import arrange
from clip.lookup import MOST, looked_up

CPU = torch.device("cpu")


def test_what_was_looked_up_in_the_body_outlives_the_table():
    layout = Layout((3,), (2, 4), (1, 3))
    with kept() as first, kept() as second:
        order = weakref.ref(arrange(layout, CPU, True).order)
        backward = threading.Thread(target=lambda: arrange(layout, CPU, False))
        backward.start()
        backward.join()
    arrange(layout, CPU, True)
    assert len(first) == len(second) == 2
    arrange.cache_clear()
    assert order() is first[0].order
    first.clear()
    second.clear()
    assert order() is None


def test_a_table_is_bounded():
    made = looked_up(lambda number: torch.tensor(number))
    zero = weakref.ref(made(0))
    assert made(0) is zero()
    for number in range(1, MOST):
        made(number)
    assert made(0) is zero()
    for number in range(MOST, 2 * MOST):
        made(number)
    assert zero() is None
