# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality of links that nobody measured: distance, the speed of light in fibre, access types.

A packet leaves through its site's access network, crosses the distance in fibre, and enters through
the other site's access network; the three compose. ``docs/links.md`` explains every number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pkgctl.nodeside import Quality

EARTH_RADIUS_KM = 6371.0  # mean radius
FIBRE_SECONDS_PER_KM = 5e-6  # ITU-T G.114, table A.1: 5 us/km, transmission and repeaters included


@dataclass(frozen=True, slots=True)
class Location:
    """A point on the globe, in degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Access:
    """How a site or a node reaches the others.

    Attributes:
        up: bits a second that leave, None without a limit.
        down: bits a second that arrive, None without a limit.
        delay: seconds that each direction adds.
        jitter: standard deviation of that delay, in seconds.
        loss: probability of loss in each direction, 0..1.
    """

    up: int | None = None
    down: int | None = None
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0

    def leaving(self) -> Quality:
        """Return what a packet meets on its way out."""
        return Quality(self.up, self.delay, self.jitter, self.loss)

    def arriving(self) -> Quality:
        """Return what a packet meets on its way in."""
        return Quality(self.down, self.delay, self.jitter, self.loss)


_MBIT = 1_000_000
_MS = 0.001

# Sources, and which of the numbers are chosen, in docs/links.md.
ACCESS: Mapping[str, Access] = {
    "lan": Access(),
    "fibre": Access(1000 * _MBIT, 1000 * _MBIT, 1 * _MS, 0.1 * _MS, 0.0),
    "dsl": Access(10 * _MBIT, 50 * _MBIT, 10 * _MS, 1 * _MS, 0.0005),
    "4g": Access(20 * _MBIT, 55 * _MBIT, 20 * _MS, 4 * _MS, 0.001),
    "5g": Access(30 * _MBIT, 240 * _MBIT, 10 * _MS, 2 * _MS, 0.0005),
    "satellite": Access(15 * _MBIT, 150 * _MBIT, 20 * _MS, 5 * _MS, 0.005),
}


def distance_km(one: Location, other: Location) -> float:
    """Return the great-circle distance, by the haversine formula."""
    south, north = math.radians(one.latitude), math.radians(other.latitude)
    east = math.radians(other.longitude - one.longitude)
    half = math.sin((north - south) / 2) ** 2
    half += math.cos(south) * math.cos(north) * math.sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))


def route_km(air_km: float) -> float:
    """Return how long the cable is, for cables do not run straight (ITU-T Y.1541, G.826)."""
    if air_km < 1000:
        return 1.5 * air_km
    return max(1500.0, 1.25 * air_km)


def backbone(one: Location | None, other: Location | None) -> Quality:
    """Return what the distance alone costs; nothing where it is not known."""
    if one is None or other is None:
        return Quality()
    delay = route_km(distance_km(one, other)) * FIBRE_SECONDS_PER_KM
    return Quality(delay=round(delay, 6))  # whole microseconds; the tables know no more
