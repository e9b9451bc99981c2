# SPDX-License-Identifier: GPL-3.0-or-later
"""Capacity limits as texts: cores, bytes, bytes a second, counts.

The quota module and the words of a perturbation read them here, so both judge alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from . import units

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
    return _above_zero(units.size(value), value, "size")


def byte_rate(value: object) -> int:
    """Return bytes a second: ``"10Mi"`` and ``"10Mi/s"`` are both 10_485_760.

    Raises:
        ValueError: in one line.
    """
    text = value.strip().removesuffix("/s") if isinstance(value, str) else value
    return _above_zero(units.size(text), value, "bytes a second")


def count(value: object) -> int:
    """Return a whole number above zero.

    Raises:
        ValueError: in one line.
    """
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise ValueError(f"{value!r} is no whole number above zero")
    return int(text)


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


def read(texts: Mapping[str, object]) -> dict[str, float | int]:
    """Return the limits as numbers; ``io`` sets both directions, which may also be set apart.

    Raises:
        ValueError: one line that starts with the key at fault.
    """
    numbers: dict[str, float | int] = {}
    for key, text in texts.items():
        try:
            numbers[key] = READERS[key](text)
        except KeyError:
            raise ValueError(f"{key}: unknown limit; known are {', '.join(READERS)}") from None
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    if "io" in numbers:
        both = numbers.pop("io")
        numbers = {"read_bps": both, "write_bps": both, **numbers}
    return numbers


def _above_zero(number: _Number, value: object, what: str) -> _Number:
    if number <= 0:
        raise ValueError(f"{what} {value!r} must be above zero")
    return number
