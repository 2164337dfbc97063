import pytest

from tools.reporting.averages import Scope
from tools.reporting.tables import Value

SCOPE = Scope(("x", "y"), frozenset({1, 2}))


def test_a_data_set_says_which_seeds_are_missing():
    assert SCOPE.of_dataset({1: 60.0, 2: 62.0}) == Value(61.0, pytest.approx(2**0.5))
    assert SCOPE.of_dataset({1: 60.0}) == Value(60.0, None, "1/2 seeds")
    assert SCOPE.of_dataset({1: 60.0}, learns=False) == Value(60.0)
    assert SCOPE.of_dataset({}) == Value()


def test_the_average_spreads_over_the_seeds_averages():
    whole = {"x": {1: 60.0, 2: 64.0}, "y": {1: 80.0, 2: 78.0}}
    # Averages of the seeds: 70 and 71.
    assert SCOPE.average(whole) == Value(70.5, pytest.approx(0.5**0.5))


def test_nothing_is_averaged_over_what_happens_to_be_there():
    assert SCOPE.average({"x": {1: 60.0, 2: 64.0}}) == Value(remark="incomplete, 1/2")
    assert SCOPE.average({"x": {1: 60.0, 2: 64.0}, "y": {1: 80.0}}) == Value(remark="incomplete, 1/2")
    assert SCOPE.average({"x": {1: 60.0}, "y": {1: 80.0}}, learns=False) == Value(70.0)


def test_h_is_that_of_the_averages():
    base, new = {"x": {1: 80.0}, "y": {1: 60.0}}, {"x": {1: 40.0}, "y": {1: 60.0}}
    scope = Scope(("x", "y"), frozenset({1}))
    h = scope.harmonic(base, new, True, ("x", "y"))
    assert h.number == pytest.approx(2 * 70 * 50 / 120)  # not (53.33 + 60) / 2
    assert scope.harmonic(base, new, True, ("x",)).number == pytest.approx(2 * 80 * 40 / 120)
    assert scope.harmonic(base, {"x": {1: 40.0}}, True, ("x", "y")) == Value()


def test_what_learns_nothing_needs_no_seed_in_common():
    base, new = {"x": {1: 60.0}, "y": {7: 80.0}}, {"x": {2: 40.0}, "y": {3: 60.0}}
    assert SCOPE.average(base, learns=False) == Value(70.0)
    assert SCOPE.harmonic(base, new, False, ("x", "y")).number == pytest.approx(2 * 70 * 50 / 120)
    assert SCOPE.of_dataset({5: 60.0, 6: 60.0}, learns=False) == Value(60.0)
    assert SCOPE.average({"x": {1: 60.0}}, learns=False) == Value(remark="incomplete, 1/2")
