# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts with a unit: 5mbit, 40ms, 128Mi, 1%, 500m to numbers and back.

The only parser of units in the repository, for the controller and for the nodes alike. Each
reader returns a plain number in the base unit (bits/s, seconds, bytes, 0..1, cores) or raises
ValueError with one line that says what was found and what would be right. Each ``show_`` function
gives the shortest text that reads back as exactly the same number.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction

RATES: Mapping[str, int] = {"gbit": 10**9, "mbit": 10**6, "kbit": 10**3, "bit": 1}
DURATIONS: Mapping[str, Fraction] = {
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 10**3),
    "us": Fraction(1, 10**6),
}
SIZES: Mapping[str, int] = {
    "Ti": 2**40,
    "Gi": 2**30,
    "Mi": 2**20,
    "Ki": 2**10,
    "G": 10**9,
    "M": 10**6,
    "k": 10**3,
    "B": 1,
}
CPUS: Mapping[str, Fraction] = {"": Fraction(1), "m": Fraction(1, 1000)}

# tc reads the bps family as bytes a second, most people write it for bits: so it is refused.
_RATE_SLIPS: Mapping[str, str] = {
    **{f"{prefix}{end}": f"{prefix}bit" for prefix in "kmg" for end in ("bps", "b", "b/s", "")},
    **{f"{prefix}bit/s": f"{prefix}bit" for prefix in ("", "k", "m", "g")},
    "bps": "bit",
}
_SIZE_SLIPS: Mapping[str, str] = {
    **{f"{letter}b": f"{letter.upper()}i" for letter in "kmgt"},
    **{f"{letter}ib": f"{letter.upper()}i" for letter in "kmgt"},
    **{f"{letter}i": f"{letter.upper()}i" for letter in "kmgt"},
    **{letter: f"{letter.upper()}i" for letter in "kmgt"},
    "b": "B",
}
_DURATION_SLIPS: Mapping[str, str] = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "min": "m",
    "mins": "m",
    "minute": "m",
    "minutes": "m",
    "hour": "h",
    "hours": "h",
    "msec": "ms",
    "usec": "us",
    "µs": "us",
    "μs": "us",
}
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(.*)", re.ASCII | re.DOTALL)
_STEP = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", re.ASCII)
_LONGEST = 64  # characters; longer texts are no quantity anybody wrote


def rate(text: object) -> int:
    """Return bits a second: ``"5mbit"`` is 5_000_000.

    Raises:
        ValueError: for a bare number, a unit in bytes, zero, or a part of a bit.
    """
    number, unit = _split(text, "rate", "5mbit")
    if unit.lower() not in RATES:
        hint = _RATE_SLIPS.get(unit.lower()) or _nearest(unit.lower(), RATES, "mbit")
        raise ValueError(_unit_error("rate", text, unit, f"{_plain(number)}{hint}", RATES))
    bits = number * RATES[unit.lower()]
    if bits <= 0:
        raise ValueError(f"rate {_quote(text)} must be above zero; a dead link is a loss of 100%")
    return _whole(bits, "rate", text, "bits a second")


def duration(text: object) -> float:
    """Return seconds: ``"40ms"`` is 0.04 and ``"1m30s"`` is 90.0.

    Raises:
        ValueError: for a bare number other than 0 or an unknown unit.
    """
    number, unit = _split(text, "duration", "40ms")
    if not number and not unit:
        return 0.0
    steps = _steps(str(text).strip())
    if steps is not None and all(name in DURATIONS for _, name in steps):
        return float(sum((count * DURATIONS[name] for count, name in steps), Fraction(0)))
    raise ValueError(_unit_error("duration", text, unit, _better_duration(number, unit), DURATIONS))


def size(text: object) -> int:
    """Return bytes: ``"128Mi"`` is 134_217_728, and a bare number counts bytes.

    Raises:
        ValueError: for an unknown unit or a part of a byte.
    """
    number, unit = _split(text, "size", "128Mi")
    if unit and unit not in SIZES:
        hint = _SIZE_SLIPS.get(unit.lower()) or _nearest(unit, SIZES, "Mi")
        raise ValueError(_unit_error("size", text, unit, f"{_plain(number)}{hint}", SIZES))
    return _whole(number * SIZES[unit or "B"], "size", text, "bytes")


def ratio(text: object) -> float:
    """Return a part of one: ``"1%"`` is 0.01, and so is 0.01.

    Raises:
        ValueError: beyond 0..100 %, and for a bare 1, which may mean 1% as well as 100%.
    """
    number, unit = _split(text, "ratio", "1%")
    if unit not in ("", "%"):
        raise ValueError(f"ratio {_quote(text)} has the unknown unit {unit!r}; write 1% or 0.01")
    if not unit and (number > 1 or str(text).strip() == "1"):
        raise ValueError(f"ratio {_quote(text)} needs a percent sign; write {_plain(number)}%")
    part = number / 100 if unit else number
    if part > 1:
        raise ValueError(f"ratio {_quote(text)} is above 100%; it must lie between 0% and 100%")
    return float(part)


def cpu(text: object) -> float:
    """Return cores: ``"500m"`` and ``"0.5"`` are both 0.5.

    Raises:
        ValueError: for any other unit.
    """
    number, unit = _split(text, "cpu", "500m")
    if unit not in CPUS:
        raise ValueError(
            f"cpu {_quote(text)} has the unknown unit {unit!r}; write cores as 0.5 or 500m"
        )
    return float(number * CPUS[unit])


def show_rate(bits: int) -> str:
    """Return bits a second as text, such as ``5mbit``."""
    return _shortest(Fraction(bits), RATES)


def show_duration(seconds: float) -> str:
    """Return seconds as text, such as ``40ms``."""
    return "0s" if seconds == 0 else _shortest(_exact(seconds), DURATIONS)


def show_size(count: int) -> str:
    """Return bytes as text, such as ``128Mi``."""
    return _shortest(Fraction(count), SIZES) if count else "0B"


def show_ratio(part: float) -> str:
    """Return a part of one as text with a percent sign, such as ``0.1%``."""
    return f"{_plain(_exact(part) * 100)}%"


def show_cpu(cores: float) -> str:
    """Return cores as text, such as ``0.5`` or ``1m``."""
    return _shortest(_exact(cores), CPUS)


def _split(value: object, what: str, example: str) -> tuple[Fraction, str]:
    """Return the number and what follows it, refusing what is no quantity at all."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{what} {_quote(value)} is no quantity; write one such as {example}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{what} {value} is not finite; write one such as {example}")
    if not isinstance(value, str):
        return _positive(_exact(value), what, value), ""
    text = value.strip()
    if text.startswith("-"):
        raise ValueError(f"{what} {_quote(value)} must not be negative")
    match = _NUMBER.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        raise ValueError(f"{what} {_quote(value)} is no quantity; write one such as {example}")
    return Fraction(match[1].rstrip(".")), match[2].strip()


def _steps(text: str) -> list[tuple[Fraction, str]] | None:
    """Return the parts of a duration such as 1m30s, or None if it is not made of such parts."""
    found = list(_STEP.finditer(text))
    if not found or "".join(match[0] for match in found) != text:
        return None
    return [(Fraction(match[1].rstrip(".")), match[2]) for match in found]


def _better_duration(number: Fraction, unit: str) -> str:
    if any(sign.isdigit() for sign in unit):
        return f"{_plain(number)}{unit}s" if unit[-1].isdigit() else "1m30s"
    hint = _DURATION_SLIPS.get(unit.lower()) or _nearest(unit.lower(), DURATIONS, "ms")
    return f"{_plain(number)}{hint}"


def _positive(number: Fraction, what: str, value: object) -> Fraction:
    if number < 0:
        raise ValueError(f"{what} {_quote(value)} must not be negative")
    return number


def _whole(number: Fraction, what: str, text: object, base: str) -> int:
    if number.denominator != 1:
        raise ValueError(f"{what} {_quote(text)} is not a whole number of {base}")
    return int(number)


def _unit_error(
    what: str, text: object, unit: str, better: str, units: Mapping[str, object]
) -> str:
    found = f"the unknown unit {unit!r}" if unit else "no unit"
    if "bps" in unit.lower():
        found = f"the unit {unit!r}, which tc reads as bytes a second"
    known = ", ".join(reversed(list(units)))
    return f"{what} {_quote(text)} has {found}; did you mean {better}? (units: {known})"


def _nearest(unit: str, units: Mapping[str, object], usual: str) -> str:
    close = difflib.get_close_matches(unit, list(units), n=1)
    return close[0] if close and unit else usual


def _quote(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _exact(number: float) -> Fraction:
    """Return the number that the shortest decimal text of a float names."""
    return Fraction(Decimal(repr(number)))


def _shortest(number: Fraction, units: Mapping[str, int] | Mapping[str, Fraction]) -> str:
    """Return the shortest exact text; among equals the one that needs no leading zero."""
    quotients = ((number / factor, name) for name, factor in units.items())
    texts = [f"{_plain(count)}{name}" for count, name in quotients if _is_decimal(count)]
    return min(texts, key=lambda text: (len(text), text.startswith("0.")))


def _is_decimal(number: Fraction) -> bool:
    """Return whether a decimal text of the number ends."""
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _plain(number: Fraction) -> str:
    """Return an ending decimal as text without an exponent."""
    digits = 0
    while (number * 10**digits).denominator != 1:
        digits += 1
    scaled = str(int(number * 10**digits)).rjust(digits + 1, "0")
    return scaled if digits == 0 else f"{scaled[:-digits]}.{scaled[-digits:]}"
