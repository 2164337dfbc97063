import pytest

from tools.reporting.stats import compare, harmonic_mean, signed_rank_p, spread


def test_harmonic_mean():
    assert harmonic_mean(82.69, 63.22) == pytest.approx(71.66, abs=0.005)  # CoOp's published row
    assert harmonic_mean(0, 0) == 0


def test_spreads_by_hand():
    # 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14, over n - 1 = 2; t(0.975, 2) = 4.302653
    assert spread([1, 2, 6]) == pytest.approx(7**0.5)
    assert spread([1, 2, 6], "ci95") == pytest.approx(4.302653 * (7 / 3) ** 0.5, rel=1e-6)
    assert spread([5.0]) is None


def test_signed_rank_by_hand():
    # All five of one sign: 2 of the 2**5 sign patterns are as extreme.
    assert signed_rank_p([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    # Ranks 1..5, only rank 1 negative: rank sums 0 and 1 in either direction, 4 patterns.
    assert signed_rank_p([-1, 2, 3, 4, 5]) == pytest.approx(4 / 32)
    assert signed_rank_p([0.0, 0.0]) == 1


def test_a_comparison_averages_seeds_within_a_data_set():
    a, b = [81.0, 83.0, 70.0, 72.0], [80.0, 80.0, 71.0, 71.0]
    said = compare(a, b, ["x", "x", "y", "y"])
    assert said.difference == pytest.approx(1.0)  # 1, 3, -1, 1
    assert (said.pairs, said.groups) == (4, 2)
    # Paired t: sd of 1, 3, -1, 1 is sqrt(8 / 3); t(0.975, 3) = 3.182446
    assert said.half_width == pytest.approx(3.182446 * (8 / 3) ** 0.5 / 2, rel=1e-6)
    assert said.p_pairs is said.p_groups is None  # so few cannot be significant
    # Two seeds on each of six data sets, which differ by 1 to 6.
    a, names = [float(i // 2 + 1 + i % 2 - 0.5) for i in range(12)], [str(i // 2) for i in range(12)]
    said = compare(a, [0.0] * 12, names)
    assert said.p_groups == signed_rank_p([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert said.p_pairs == signed_rank_p(a)
    assert compare([1.0], [0.0], ["x"]).half_width is None
    with pytest.raises(ValueError, match="pairs are needed"):
        compare([], [], [])
