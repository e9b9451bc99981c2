# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from pkgctl import linkmodel
from pkgctl.linkmodel import ACCESS, Location

FRANKFURT, VIENNA = Location(50.11, 8.68), Location(48.21, 16.37)


def test_the_distance_is_that_of_the_great_circle():
    assert linkmodel.distance_km(FRANKFURT, VIENNA) == pytest.approx(597, abs=2)
    assert linkmodel.distance_km(Location(0, 0), Location(0, 180)) == pytest.approx(20015, abs=1)
    assert linkmodel.distance_km(Location(10, 179), Location(10, -179)) == pytest.approx(219, abs=1)
    assert linkmodel.distance_km(VIENNA, VIENNA) == 0


@pytest.mark.parametrize(
    ("air", "route"), [(0, 0), (100, 150), (1000, 1500), (1100, 1500), (1200, 1500), (2000, 2500)]
)
def test_a_cable_is_longer_than_the_way_through_the_air(air, route):
    assert linkmodel.route_km(air) == route


def test_the_distance_costs_five_microseconds_per_kilometre_of_cable():
    link = linkmodel.backbone(FRANKFURT, VIENNA)

    assert link.delay == pytest.approx(597 * 1.5 * 5e-6, rel=0.01)
    assert (link.rate, link.jitter, link.loss) == (None, 0.0, 0.0)


def test_an_unknown_distance_costs_nothing():
    assert linkmodel.backbone(None, VIENNA).is_unshaped


def test_a_lan_adds_nothing_and_every_other_access_type_does():
    assert ACCESS["lan"].leaving().is_unshaped and ACCESS["lan"].arriving().is_unshaped
    for name in set(ACCESS) - {"lan"}:
        assert ACCESS[name].up and ACCESS[name].down and ACCESS[name].delay > 0


def test_the_directions_of_an_access_network_differ_in_rate_only():
    up, down = ACCESS["dsl"].leaving(), ACCESS["dsl"].arriving()

    assert (up.rate, down.rate) == (10_000_000, 50_000_000)
    assert (up.delay, up.jitter, up.loss) == (down.delay, down.jitter, down.loss)
