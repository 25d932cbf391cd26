"""Confidence intervals against a simulation and the worked case of two values."""

import math

import numpy as np
import pytest

from lincae_core.evaluation.confidence import mean_interval


def test_two_values():
    """With one degree of freedom t is a Cauchy variable, whose quantile is a tangent."""
    mean, low, high = mean_interval([1.0, 3.0])
    margin = math.tan(math.pi * 0.475)  # s / sqrt(n) is 1
    assert (mean, low, high) == (2, pytest.approx(2 - margin), pytest.approx(2 + margin))


def test_holds_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(5, 2, 6)) for _ in range(2000)]
    held = np.mean([low <= 5 <= high for _, low, high in intervals])
    assert held == pytest.approx(0.95, abs=0.015)


def test_many_values_tell_the_mean_more_exactly():
    values = np.random.default_rng(0).normal(0, 1, 1000)
    (_, low, high), (_, lower, higher) = mean_interval(values), mean_interval(values[:100])
    assert 2 < (higher - lower) / (high - low) < 5


def test_of_equal_values_it_is_a_point_and_of_one_there_is_none():
    assert mean_interval([0.5, 0.5, 0.5]) == (0.5, 0.5, 0.5)
    assert mean_interval([0.5]) == (0.5, None, None)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_refuses(values):
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)
