# SPDX-License-Identifier: GPL-3.0-or-later
"""Capacity, stress and the level of a disk as texts: cores, bytes, bytes a second, counts, parts.

The modules and the words of a perturbation read them here, so both judge alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from . import units
from .texts import quote

_Number = TypeVar("_Number", int, float)


def cores(value: object) -> float:
    """Return CPU cores above zero.

    Raises:
        ValueError: in one line.
    """
    return _above_zero(units.cpu(value), value, "cpu")


def memory(value: object) -> int:
    """Return bytes of memory above zero.

    Raises:
        ValueError: in one line.
    """
    return _above_zero(_size(value), value, "size")


def byte_rate(value: object) -> int:
    """Return bytes a second: ``"10Mi"`` and ``"10Mi/s"`` are both 10_485_760.

    Raises:
        ValueError: in one line.
    """
    text = value.strip().removesuffix("/s") if isinstance(value, str) else value
    return _above_zero(_size(text), value, "bytes a second")


def count(value: object) -> int:
    """Return a whole number above zero.

    Raises:
        ValueError: in one line.
    """
    text = str(value).strip()
    right = text.isascii() and text.isdigit() and len(text) < 19 and int(text) > 0
    if isinstance(value, bool) or not right:
        raise ValueError(f"{quote(value)} is no whole number above zero")
    return int(text)


def share(value: object) -> float:
    """Return the part of a disk that is to be filled, above zero: ``"90%"`` is 0.9.

    Raises:
        ValueError: in one line.
    """
    return _above_zero(units.ratio(value), value, "level")


READERS: Mapping[str, Callable[[object], float | int]] = {
    "cpu": cores,
    "memory": memory,
    "io": byte_rate,
    "read_bps": byte_rate,
    "write_bps": byte_rate,
    "read_iops": count,
    "write_iops": count,
    "pids": count,
}
STRESS_READERS: Mapping[str, Callable[[object], float | int]] = {
    "cpu": cores,
    "memory": memory,
    "io": count,
}


def read(texts: Mapping[str, object]) -> dict[str, float | int]:
    """Return the limits as numbers; ``io`` sets both directions, which may also be set apart.

    Raises:
        ValueError: one line that starts with the key at fault.
    """
    numbers = _numbers(texts, READERS, "limit")
    if "io" in numbers:
        both = numbers.pop("io")
        numbers = {"read_bps": both, "write_bps": both, **numbers}
    return numbers


def read_stress(texts: Mapping[str, object]) -> dict[str, float | int]:
    """Return a load as numbers: workers (a half works half of the time), bytes, workers.

    Raises:
        ValueError: one line that starts with the key at fault.
    """
    return _numbers(texts, STRESS_READERS, "stress")


def _numbers(
    texts: Mapping[str, object],
    readers: Mapping[str, Callable[[object], float | int]],
    what: str,
) -> dict[str, float | int]:
    numbers: dict[str, float | int] = {}
    for key, text in texts.items():
        try:
            numbers[key] = readers[key](text)
        except KeyError:
            raise ValueError(f"{key}: unknown {what}; known are {', '.join(readers)}") from None
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return numbers


def _size(value: object) -> int:
    """Return bytes; a bare number is refused, for whoever writes 128 hardly means so few bytes."""
    number = units.size(value)
    if number > 0 and str(value).strip()[-1].isdigit():
        better = f"{str(value).strip()}Mi"
        raise ValueError(f"size {quote(value)} has no unit; did you mean {better}?")
    return number


def _above_zero(number: _Number, value: object, what: str) -> _Number:
    if number <= 0:
        raise ValueError(f"{what} {quote(value)} must be above zero")
    return number
