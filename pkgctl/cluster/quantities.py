# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities as Kubernetes writes them, to whole numbers and back: ``100m``, ``64Mi``, ``1e3``."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

_QUANTITY = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII
)
_BINARY = {f"{letter}i": Fraction(1024**power) for power, letter in enumerate("KMGTPE", 1)}
_DECIMAL = {letter: Fraction(1000**power) for power, letter in enumerate("kMGTPE", 1)}
_SMALL = {letter: Fraction(1, 1000**power) for power, letter in enumerate("mun", 1)}
_SCALES = {**_BINARY, **_DECIMAL, **_SMALL}


@lru_cache(maxsize=4096)
def exactly(text: str) -> Fraction:
    """Return a quantity as the number that it is.

    Raises:
        ValueError: if it is none.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    number, exponent, suffix = match.groups()
    if exponent:
        return Fraction(number) * Fraction(10) ** int(exponent[1:])
    return Fraction(number) * _SCALES[suffix] if suffix else Fraction(number)


@lru_cache(maxsize=4096)
def millicores(text: str) -> int:
    """Return an amount of CPU in thousandths of a core, rounded up as Kubernetes does."""
    return math.ceil(exactly(text) * 1000)


@lru_cache(maxsize=4096)
def whole(text: str) -> int:
    """Return an amount of bytes, or of things, rounded up as Kubernetes does."""
    return math.ceil(exactly(text))


def show_millicores(amount: int) -> str:
    """Return an amount of CPU as Kubernetes writes it: ``2`` or ``1500m``."""
    return str(amount // 1000) if amount % 1000 == 0 else f"{amount}m"


def show_bytes(amount: int) -> str:
    """Return an amount of bytes as Kubernetes writes it, exactly: ``64Mi`` or ``1000``."""
    for suffix, scale in reversed(_BINARY.items()):
        if amount and amount % scale == 0:
            return f"{amount // scale}{suffix}"
    return str(amount)
