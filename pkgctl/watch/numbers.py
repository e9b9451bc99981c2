# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers in four or five characters, for tables that must be narrow; ``-`` is not known."""

from __future__ import annotations

UNKNOWN = "-"
_DECIMAL, _BINARY = 1000, 1024


def figure(value: float | None) -> str:
    """Return a rate with its decimal prefix: ``950``, ``1.23k``, ``12.3M``, ``5M``."""
    return UNKNOWN if value is None else _scaled(value, _DECIMAL, ("", "k", "M", "G", "T"))


def size(value: float | None) -> str:
    """Return bytes with a binary prefix: ``512``, ``1.5K``, ``384M``."""
    return UNKNOWN if value is None else _scaled(value, _BINARY, ("", "K", "M", "G", "T"))


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes[:-1]:
        # What would be rounded up to the next prefix is written with it.
        if value < base - 0.5:
            return f"{_three(value)}{prefix}"
        value /= base
    return f"{_three(value)}{prefixes[-1]}"


def _three(value: float) -> str:
    """Return a number below a thousand or so with three digits, less where they are zeros."""
    if value < 0.005:
        return "0"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def share(value: float | None) -> str:
    """Return a part of one in whole percent: ``42%``, and ``<1%`` for a little."""
    if value is None:
        return UNKNOWN
    return "<1%" if 0 < value < 0.005 else f"{min(value * 100, 9999):.0f}%"


def ratio(value: float | None) -> str:
    """Return a part of one in percent with its digits: ``2%``, ``0.12%``."""
    return UNKNOWN if value is None else f"{float(f'{value * 100:.2g}'):g}%"


def cores(value: float | None) -> str:
    """Return cores: ``0.42``, ``1``, ``12.5``."""
    return UNKNOWN if value is None else _three(value)


def time(seconds: float) -> str:
    """Return a short time: ``850us``, ``12.3ms``, ``1.5s``."""
    if seconds < 0.9995e-3:
        return f"{_three(seconds * 1e6)}us"
    return f"{_three(seconds * 1e3)}ms" if seconds < 0.9995 else f"{_three(seconds)}s"
