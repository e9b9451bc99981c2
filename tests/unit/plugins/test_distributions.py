# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import statistics

import pytest

from ansible_collections.pkgctl.testbed.plugins.module_utils.distributions import gilbert, quantile

MANY = 100_000
SHARES = [(number + 0.5) / MANY for number in range(MANY)]


@pytest.mark.parametrize("distribution", ["normal", "uniform", "pareto"])
def test_a_distribution_has_the_mean_0_and_the_deviation_1(distribution):
    values = [quantile(distribution, share) for share in SHARES]

    assert values == sorted(values)
    assert statistics.fmean(values) == pytest.approx(0, abs=0.01)
    # The rarest values of Pareto's weigh much, and no grid meets them.
    assert statistics.pstdev(values) == pytest.approx(1, abs=0.05)


def test_between_known_quantiles_it_is_linear():
    measured = (-1.0, 0.0, 3.0)

    assert [quantile(measured, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [
        *(-1.0, -0.5, 0.0, 1.5, 3.0)
    ]


def test_bad_spells_are_as_long_and_as_frequent_as_asked():
    p, r = gilbert(0.02, 5.0)

    assert 1 / r == pytest.approx(5.0)
    assert p / (p + r) == pytest.approx(0.02)


def test_a_loss_too_high_for_its_bursts_gets_longer_ones():
    p, r = gilbert(0.9, 2.0)

    assert p == 1.0
    assert p / (p + r) == pytest.approx(0.9)
