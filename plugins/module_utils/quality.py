# SPDX-License-Identifier: GPL-3.0-or-later
"""The quality of one direction of a link, and how several qualities add up.

One value class that the topology, the perturbation layers, the node side and the reports share.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

from . import units


@dataclass(frozen=True, slots=True)
class Quality:
    """What a packet meets on the way from one node to another.

    Attributes:
        rate: bits a second of Ethernet frames (their 14-byte header counts); None is unshaped.
        delay: one-way delay in seconds, on top of what the machine itself takes.
        jitter: standard deviation of the delay in seconds, normally distributed.
        loss: probability that a packet is lost, 0..1; 1 is a dead link.
    """

    rate: int | None = None
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that no link can have."""
        if self.rate is not None and self.rate <= 0:
            raise ValueError(f"rate must be above zero bits/s, not {self.rate}")
        for name, value in (("delay", self.delay), ("jitter", self.jitter)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be zero or more seconds, not {value}")
        if not 0 <= self.loss <= 1:
            raise ValueError(f"loss must lie between 0 and 1, not {self.loss}")

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
            units.show_ratio(float(f"{self.loss:.6g}")) if self.loss else "",
        ]
        return " ".join(word for word in words if word) or "unshaped"

    def to_dict(self) -> dict[str, int | float | None]:
        """Return the plain numbers, ready for JSON."""
        return {"rate": self.rate, "delay": self.delay, "jitter": self.jitter, "loss": self.loss}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, int | float | None]) -> Quality:
        """Return the quality that to_dict wrote; missing keys take their defaults.

        Raises:
            ValueError: for an unknown key, or a value that is no number.
        """
        for key, value in numbers.items():
            _check_key(key, _KEYS)
            if isinstance(value, bool) or not isinstance(value, (int, float, type(None))):
                raise ValueError(f"{key}: {value!r} is not a number")
        given = {key: value for key, value in numbers.items() if value is not None}
        bits = given.pop("rate", None)
        return cls(rate=None if bits is None else int(bits), **given)


UNSHAPED = Quality()
_KEYS = tuple(field.name for field in fields(Quality))
_READERS: Mapping[str, Callable[[object], int | float]] = {
    "rate": units.rate,
    "delay": units.duration,
    "jitter": units.duration,
    "loss": units.ratio,
}


def parse(texts: Mapping[str, object]) -> Quality:
    """Return the quality that texts with units name: ``{"rate": "5mbit", "delay": "40ms"}``.

    Raises:
        ValueError: one line that starts with the key at fault.
    """
    numbers: dict[str, int | float | None] = {}
    for key, text in texts.items():
        _check_key(key, _KEYS)
        try:
            numbers[key] = _READERS[key](text)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return Quality.from_dict(numbers)


def compose(*qualities: Quality) -> Quality:
    """Return what packets meet that pass all the qualities, one after another.

    Rates take the smallest, delays add, independent jitters add as variances, and a packet
    arrives if none of them loses it.
    """
    if not qualities:
        return UNSHAPED
    rates = [quality.rate for quality in qualities if quality.rate is not None]
    return Quality(
        rate=min(rates, default=None),
        delay=math.fsum(quality.delay for quality in qualities),
        jitter=math.hypot(*(quality.jitter for quality in qualities)),
        loss=_either(quality.loss for quality in qualities),
    )


def _either(losses: Iterable[float]) -> float:
    """Return 1 - prod(1 - p), written so that one loss alone comes back as the same number."""
    total = 0.0
    for loss in losses:
        total = 1.0 if loss == 1 else min(1.0, total + loss * (1 - total))
    return total


def _check_key(key: str, known: tuple[str, ...]) -> None:
    if key in known:
        return
    close = difflib.get_close_matches(str(key), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    raise ValueError(f"{key}: unknown quality; {hint}")
