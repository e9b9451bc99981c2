# SPDX-License-Identifier: GPL-3.0-or-later
"""Bits of error messages: a value as found, cut to a length, and the nearest right name."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Collection, Mapping

_LONGEST = 64
_MOST = 400
_PLAIN = re.compile(r"[\w.:*-]{1,64}")
_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _LONGEST


def quote(value: object) -> str:
    """Return a value as Python writes it, on one line and cut to a length a line can bear."""
    try:
        return " ".join(_short.repr(value).split())
    except ValueError:
        return "a number of thousands of digits"


def short(error: Exception) -> str:
    """Return the words of an error on one line, cut to what a line can bear."""
    text = " ".join(str(error).split())
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def plain(value: object) -> str:
    """Return a text without quotes if it looks like a name, else as quote does."""
    return value if isinstance(value, str) and _PLAIN.fullmatch(value) else quote(value)


def hint(found: object, known: Collection[str], slips: Mapping[str, str] | None = None) -> str:
    """Return the nearest right name, or a few of the known ones.

    Args:
        found: what was written.
        known: what would be right.
        slips: other spellings, each with the right name that it means.
    """
    right = [name for name in known if name]
    spellings = {**{name: name for name in right}, **(slips or {})}
    text = str(found)[:_LONGEST] if isinstance(found, str) else ""
    name = spellings.get(text) or spellings.get(text.lower())
    if name not in right:
        close = difflib.get_close_matches(text, list(spellings), n=1)
        close = close or difflib.get_close_matches(text.lower(), list(spellings), n=1)
        name = spellings[close[0]] if close else None
    if name in right:
        return f"did you mean {name}?"
    if not right:
        return "there are none"
    return f"known are {', '.join(right[:8])}{', …' if len(right) > 8 else ''}"
