import numpy as np
import pytest

from tools.reporting.stats import half_widths, harmonic_mean, holm, paired_difference, signed_rank_p, spread

TRIALS = 4000


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
    assert signed_rank_p([[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]) == pytest.approx([2 / 32, 1])


def test_holm_by_hand():
    # The least of three thrice, the next twice, the largest once; none below one that came before.
    assert holm([0.03, 0.01, 0.04]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_comparison_takes_data_sets_as_the_unit():
    # Means of the data sets: 2, 0, 4; of six pairs in one and two in the others.
    a = [82.0] * 6 + [70.0, 72.0, 94.0, 94.0]
    b = [80.0] * 6 + [71.0, 71.0, 90.0, 90.0]
    said = paired_difference(a, b, ["x"] * 6 + ["y", "y", "z", "z"])
    assert said.difference == pytest.approx(2.0)
    # sd of 2, 0, 4 is 2; t(0.975, 2) = 4.302653
    assert said.half_width == pytest.approx(4.302653 * 2 / 3**0.5, rel=1e-6)
    assert (said.p, said.datasets, said.pairs) == (None, 3, 10)  # so few cannot be significant
    # Two seeds on each of six data sets, which differ by 1 to 6.
    a, names = [float(i // 2 + 1 + i % 2 - 0.5) for i in range(12)], [str(i // 2) for i in range(12)]
    assert paired_difference(a, [0.0] * 12, names).p == pytest.approx(2 / 64)
    with pytest.raises(ValueError, match="pairs are needed"):
        paired_difference([], [], [])


def test_two_data_sets_get_neither_interval_nor_p():
    said = paired_difference([1.0, 2.0] * 15, [0.0] * 30, ["x", "y"] * 15)
    assert (said.difference, said.half_width, said.p, said.pairs) == (1.5, None, None, 30)


def pairs(datasets, effect=1.0, noise=0.5):
    """Differences of 15 pairs on each data set, whose true mean is 0: (trials, data sets, pairs)."""
    draws = np.random.default_rng(7)
    of_datasets = draws.normal(0, effect, (TRIALS, datasets, 1))
    return of_datasets + draws.normal(0, noise, (TRIALS, datasets, 15))


@pytest.mark.parametrize("datasets", [3, 6, 11])
def test_the_interval_covers_the_truth_as_often_as_it_says(datasets):
    means = pairs(datasets).mean(axis=-1)
    covered = np.abs(means.mean(axis=-1)) <= half_widths(means)
    assert 0.94 < covered.mean() < 0.96  # three standard errors of 4000 trials: 0.0103


@pytest.mark.parametrize("datasets", [6, 11])
def test_p_is_below_alpha_no_more_often_than_it_says(datasets):
    p = signed_rank_p(pairs(datasets).mean(axis=-1))
    assert 0.02 < (p < 0.05).mean() < 0.05  # of the 2**n sign patterns not all shares can be had


def test_a_comparison_computes_what_is_simulated():
    """The simulation above is one of `paired_difference`: the same numbers, pair by pair."""
    drawn = pairs(11)
    names = [str(dataset) for dataset in range(11) for _ in range(15)]
    for trial in (0, 1, 2):
        means = drawn[trial].mean(axis=-1)
        said = paired_difference(drawn[trial].ravel().tolist(), [0.0] * 165, names)
        assert said.half_width == pytest.approx(half_widths(means))
        assert said.p == pytest.approx(signed_rank_p(means))


def test_of_several_methods_without_a_difference_hardly_ever_one_is_called_better():
    accuracies = np.random.default_rng(7).normal(0, 1, (TRIALS, 6, 11))  # five that are like the reference
    p = signed_rank_p(accuracies[:, 1:] - accuracies[:, :1])
    assert (p.min(axis=-1) < 0.05).mean() > 0.1
    assert np.mean([min(holm(of_trial)) < 0.05 for of_trial in p.tolist()]) < 0.05
