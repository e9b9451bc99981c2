# SPDX-License-Identifier: GPL-3.0-or-later
"""How delays scatter and losses group, as formulas; pure.

The distributions have mean 0 and deviation 1:
  normal    Gauss's;
  uniform   √3·(2u − 1);
  pareto    (2·(1 − u)^(−1/3) − 3)/√3, Pareto's with shape 3, the one of `tc netem`: most packets a
            little early, never by more than 0.58 deviations, and a few very late;
  quantiles the inverse of the empirical distribution, linear between two quantiles.

Losses in bursts follow Gilbert's model (Gilbert, "Capacity of a burst-noise channel", 1960, with
all lost in the bad state): a good spell ends before a packet with probability p, a bad one with r.
A bad spell is 1/r packets long on average, and p/(p + r) of all packets are lost.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from .quality import NORMAL, Distribution

_ROOT3 = math.sqrt(3)


def quantile(distribution: Distribution, share: float) -> float:
    """Return the value below which a share of a distribution lies, in deviations.

    Args:
        distribution: as a Quality has it.
        share: 0 to 1, but neither 0 nor 1 for normal, and not 1 for pareto.
    """
    if isinstance(distribution, tuple):
        return empirical(distribution, share)
    if distribution == NORMAL:
        return NormalDist().inv_cdf(share)
    return uniform(share) if distribution == "uniform" else pareto(share)


def uniform(share: float) -> float:
    """Return a quantile of the uniform distribution."""
    return _ROOT3 * (2.0 * share - 1.0)


def pareto(share: float) -> float:
    """Return a quantile of Pareto's distribution of shape 3; share is below 1."""
    return (2.0 * float((1.0 - share) ** (-1 / 3)) - 3.0) / _ROOT3


def empirical(quantiles: tuple[float, ...], share: float) -> float:
    """Return a quantile between the evenly spread ones that are known."""
    place = share * (len(quantiles) - 1)
    below = min(int(place), len(quantiles) - 2)
    low, high = quantiles[below], quantiles[below + 1]
    return low + (place - below) * (high - low)


def gilbert(loss: float, burst: float) -> tuple[float, float]:
    """Return (p, r), by which packets are lost in spells of burst packets and loss is the mean.

    Good spells are one packet long at least. A loss too high for that gets longer bad spells.
    """
    p, r = loss / (burst * (1.0 - loss)), 1.0 / burst
    return (p, r) if p <= 1.0 else (1.0, (1.0 - loss) / loss)
