# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality of one direction of a link, and how several qualities add up.

One value class that the topology, the perturbation layers, the node side and the reports share.
"""

from __future__ import annotations

import difflib
import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from . import units

Distribution = str | tuple[float, ...]
NORMAL = "normal"
DISTRIBUTIONS = (NORMAL, "uniform", "pareto")
MOST_QUANTILES = 4096


@dataclass(frozen=True, slots=True)
class Quality:
    """What a packet meets on the way from one node to another.

    Attributes:
        rate: bits a second of Ethernet frames (their 14-byte header counts); None is unshaped.
        delay: one-way delay in seconds, on top of what the machine itself takes.
        jitter: standard deviation of the delay in seconds.
        loss: probability that a packet is lost, 0..1; 1 is a dead link.
        distribution: how the delay scatters about its mean: ``normal``, ``uniform``, ``pareto``,
            or the quantiles of another one in rising order, with mean 0 and deviation 1.
        burst: mean number of packets in a bad spell, in which all are lost (Gilbert's model);
            0 loses each packet by itself.
        duplicate: probability that a packet arrives twice.
        reorder: probability that a packet is not delayed, and so overtakes others.
        corrupt: probability that one bit of a packet is flipped.
    """

    rate: int | None = None
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    distribution: Distribution = NORMAL
    burst: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no link can have."""
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above zero bits/s, not {self.rate}")
        for name, value in (("delay", self.delay), ("jitter", self.jitter)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be zero or more seconds, not {value}")
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")
        if self.burst and not 1 <= self.burst < math.inf:
            raise ValueError(f"burst must be one packet or more, not {self.burst}")
        _check_distribution(self.distribution)

    @property
    def is_unshaped(self) -> bool:
        """Whether packets pass as if nothing were there."""
        return self == UNSHAPED

    @property
    def is_down(self) -> bool:
        """Whether nothing passes."""
        return self.loss == 1

    def show(self) -> str:
        """Return a short text such as ``20mbit 12ms ±1ms 0.1%``; delays are cut to 1 us."""
        if self.is_down:
            return "down"
        words = [
            units.show_rate(self.rate) if self.rate is not None else "",
            units.show_duration(round(self.delay, 6)) if self.delay else "",
            f"±{units.show_duration(round(self.jitter, 6))}" if self.jitter else "",
            f"({self._shape()})" if self.jitter and self.distribution != NORMAL else "",
            units.show_ratio(float(f"{self.loss:.6g}")) if self.loss else "",
            f"in bursts of {self.burst:g}" if self.loss and self.burst else "",
            *(
                f"{name} {units.show_ratio(float(f'{share:.6g}'))}"
                for name in _SHARES[1:]
                if (share := getattr(self, name))
            ),
        ]
        return " ".join(word for word in words if word) or "unshaped"

    @property
    def unbounded(self) -> Quality:
        """The same, but for the rate."""
        return _unbounded(self) if self.rate is not None else self

    def _shape(self) -> str:
        return self.distribution if isinstance(self.distribution, str) else "as measured"

    def to_dict(self) -> dict[str, Any]:
        """Return rate, delay, jitter, loss, and what else is unusual, ready for JSON."""
        usual = {"rate": self.rate, "delay": self.delay, "jitter": self.jitter, "loss": self.loss}
        found = usual | {
            name: getattr(self, name)
            for name in _UNUSUAL
            if getattr(self, name) != getattr(UNSHAPED, name)
        }
        if isinstance(self.distribution, tuple):
            # As it is read back, so that a layer equals itself.
            found["distribution"] = list(self.distribution)
        return found

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Quality:
        """Return the quality that to_dict wrote; missing keys take their defaults.

        Raises:
            ValueError: for an unknown key, or a value of the wrong kind.
        """
        if numbers.keys() <= _USUAL:
            return _usual(*(numbers.get(key) for key in _USUAL))
        given: dict[str, Any] = {}
        for key, value in numbers.items():
            _check_key(key, _KEYS)
            if value is None:
                continue
            if key == "distribution":
                given[key] = value if isinstance(value, str) else tuple(value)
            else:
                given[key] = _number(key, value)
        return cls(**given)


# A matrix has many links and few different ones; typed, for True is no 1.
@functools.lru_cache(maxsize=1 << 15, typed=True)
def _usual(*values: object) -> Quality:
    """Return the quality with these values of the usual keys."""
    given = zip(_USUAL, values, strict=True)
    return Quality(**{key: _number(key, value) for key, value in given if value is not None})


def _number(key: str, value: object) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key}: {value!r} is not a number")
    return int(value) if key == "rate" else value


@functools.lru_cache(maxsize=1 << 15)
def _unbounded(quality: Quality) -> Quality:
    return replace(quality, rate=None)


def _check_distribution(distribution: Distribution) -> None:
    if isinstance(distribution, str):
        if distribution not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise ValueError(f"distribution {distribution!r} is unknown; known are {known}")
    elif not 2 <= len(distribution) <= MOST_QUANTILES or list(distribution) != sorted(distribution):
        raise ValueError(f"distribution must be 2 to {MOST_QUANTILES} quantiles in rising order")


_USUAL = dict.fromkeys(("rate", "delay", "jitter", "loss")).keys()
_SHARES = ("loss", "duplicate", "reorder", "corrupt")
_UNUSUAL = ("distribution", "burst", "duplicate", "reorder", "corrupt")
UNSHAPED = Quality()
_KEYS = tuple(field.name for field in fields(Quality))


def _distribution(value: object) -> Distribution:
    """Return the distribution of that name, or of these quantiles."""
    found = tuple(value) if isinstance(value, (list, tuple)) else str(value)
    _check_distribution(found)
    return found


def packets(value: object) -> float:
    """Return a mean number of packets, 1 or more.

    Raises:
        ValueError: in one line.
    """
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not 1 <= number < math.inf:
        raise ValueError(f"{value!r} is no number of packets, 1 or more")
    return number


READERS: Mapping[str, Callable[[object], Any]] = {
    "rate": units.rate,
    "delay": units.duration,
    "jitter": units.duration,
    "loss": units.ratio,
    "distribution": _distribution,
    "burst": packets,
    "duplicate": units.ratio,
    "reorder": units.ratio,
    "corrupt": units.ratio,
}


def parse(texts: Mapping[str, object]) -> Quality:
    """Return the quality that texts with units name: ``{"rate": "5mbit", "delay": "40ms"}``.

    Raises:
        ValueError: one line that starts with the key at fault.
    """
    numbers: dict[str, Any] = {}
    for key, text in texts.items():
        _check_key(key, _KEYS)
        try:
            numbers[key] = READERS[key](text)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return Quality.from_dict(numbers)


def compose(*qualities: Quality) -> Quality:
    """Return what packets meet that pass all the qualities, one after another.

    Rates take the smallest, delays add, independent jitters add as variances, and a packet
    arrives if none of them loses it; duplicates, overtaking and bit errors add up as losses do.
    The sum of several jitters is taken as normal, and losses come in the longest of the bursts.
    The order of the qualities makes no difference, and UNSHAPED adds nothing.
    """
    if not qualities:
        return UNSHAPED
    rates = [quality.rate for quality in qualities if quality.rate is not None]
    return Quality(
        rate=min(rates, default=None),
        delay=math.fsum(quality.delay for quality in qualities),
        jitter=math.hypot(*sorted(quality.jitter for quality in qualities)),
        loss=_either(quality.loss for quality in qualities),
        distribution=_joined([each.distribution for each in qualities if each.jitter]),
        burst=max(each.burst for each in qualities),
        duplicate=_either(each.duplicate for each in qualities),
        reorder=_either(each.reorder for each in qualities),
        corrupt=_either(each.corrupt for each in qualities),
    )


def _joined(distributions: Sequence[Distribution]) -> Distribution:
    return distributions[0] if len(distributions) == 1 else NORMAL


def standardised(delays: Sequence[float], most: int = 256) -> tuple[float, ...]:
    """Return the quantiles of measured delays, with mean 0 and deviation 1, as a distribution.

    Args:
        delays: seconds, in any order; at least two different ones.
        most: how many quantiles to keep, evenly spread.

    Raises:
        ValueError: if they do not scatter.
    """
    mean, deviation = statistics.fmean(delays), statistics.pstdev(delays)
    if deviation == 0:
        raise ValueError("the delays do not scatter; give delay instead")
    ordered = sorted((delay - mean) / deviation for delay in delays)
    count = min(len(ordered), most)
    step = (len(ordered) - 1) / (count - 1)
    return tuple(round(ordered[round(index * step)], 6) for index in range(count))


def _either(losses: Iterable[float]) -> float:
    """Return 1 - prod(1 - p), written so that one loss alone comes back as the same number."""
    total = 0.0
    for loss in sorted(losses):
        total = 1.0 if loss == 1 else min(1.0, total + loss * (1 - total))
    return total


def _check_key(key: str, known: tuple[str, ...]) -> None:
    if key in known:
        return
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    raise ValueError(f"{key}: unknown quality; {hint}")
