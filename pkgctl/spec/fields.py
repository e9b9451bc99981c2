# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of value that an experiment file holds: quantities, names and choices of nodes.

Each is a pydantic type that reads the text of the file and keeps a plain number in the base unit
(bits/s, seconds, bytes, 0..1, cores), so that no later code parses a unit again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainValidator

from pkgctl.documents import Strict
from pkgctl.nodeside import perturbation, selection, units
from pkgctl.topologyfile import label

Selector = selection.Selector

_FREQUENCY = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*/\s*(s|m|h)", re.ASCII)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
LONGEST_JOB = 40
_SPEED = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*x", re.ASCII)


class Model(Strict):
    """A part of an experiment file: it cannot change, and unknown keys are errors."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


def frequency(text: object) -> float:
    """Return events a second: ``"30/s"`` is 30.0 and ``"90/m"`` is 1.5.

    Raises:
        ValueError: for anything else, a bare number included, and for zero.
    """
    match = _FREQUENCY.fullmatch(str(text).strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is no frequency; write one such as 30/s, 90/m or 100/h")
    if float(match[1]) == 0:
        raise ValueError(f"{text!r} never happens; a frequency must be above zero")
    return float(match[1]) / _SECONDS[match[2]]


def speed(text: object) -> float:
    """Return how many times faster than recorded a trace is replayed: ``"60x"`` is 60.0.

    Raises:
        ValueError: for anything else, and for zero.
    """
    match = _SPEED.fullmatch(str(text).strip()) if isinstance(text, str) else None
    if match is None or float(match[1]) == 0:
        raise ValueError(f"{text!r} is no speed; write one such as 60x")
    return float(match[1])


def _above_zero(read: Callable[[object], float], what: str) -> Callable[[object], float]:
    def read_positive(text: object) -> float:
        number = read(text)
        if number <= 0:
            raise ValueError(f"{what} {text!r} must be above zero")
        return number

    return read_positive


def job_label(text: object) -> str:
    """Return the name of a service or a queue, which leaves room for its jobs' numbers.

    Raises:
        ValueError: for anything else.
    """
    name = label(text)
    if len(name) > LONGEST_JOB:
        raise ValueError(f"{name!r} is too long; {LONGEST_JOB} characters are the most")
    return name


def _read_choice(value: object) -> Selector:
    try:
        choice = selection.read("", value)
    except ValueError as error:
        raise ValueError(str(error).lstrip(":. ")) from error
    if choice.is_random:
        raise ValueError("nodes are drawn at random for perturbations only; name them here")
    return choice


def _read_words(words: dict[str, Any]) -> dict[str, Any]:
    """Return the words of a perturbation, as they are, once they were found to make sense."""
    for word in ("name", "timeline"):
        if word in words:
            raise ValueError(f"{word}: the experiment sets it; leave it out")
    if "lease" in words:
        raise ValueError("lease: a perturbation of an experiment ends with its run; leave it out")
    perturbation.read(words)
    return words


Duration = Annotated[float, BeforeValidator(units.duration)]
Span = Annotated[float, BeforeValidator(_above_zero(units.duration, "duration"))]
Size = Annotated[int, BeforeValidator(units.size)]
Amount = Annotated[int, BeforeValidator(_above_zero(units.size, "size"))]
Ratio = Annotated[float, BeforeValidator(units.ratio)]
Cpu = Annotated[float, BeforeValidator(_above_zero(units.cpu, "cpu"))]
Frequency = Annotated[float, BeforeValidator(frequency)]
Speed = Annotated[float, BeforeValidator(speed)]
Name = Annotated[str, BeforeValidator(label)]
JobName = Annotated[str, BeforeValidator(job_label)]
Count = Annotated[int, Field(strict=True, ge=0, le=10_000)]
Where = Annotated[Selector, PlainValidator(_read_choice)]
Words = Annotated[dict[str, Any], AfterValidator(_read_words)]
