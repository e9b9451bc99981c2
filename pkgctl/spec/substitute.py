# SPDX-License-Identifier: GPL-3.0-or-later
"""Values put into an experiment file: overrides, parameters and the factors of a cell.

Pure functions from plain YAML values to plain YAML values. A text that is nothing but ``${name}``
becomes the value with its type; inside a longer text the value is put in as text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pkgctl.documents import Steps, show_steps

_PLACE = re.compile(r"\$\{([^{}]*)\}")
_INDEX = re.compile(r"\d+", re.ASCII)

Tree = dict[str, Any]


def put(document: Tree, key_path: str, value: Any) -> tuple[Tree, Steps]:
    """Return the document with the value at ``services.web.replicas``, and the steps to it.

    Raises:
        ValueError: if a part of the path is empty, or leads through a value that has no keys.
    """
    parts = key_path.split(".")
    if not all(parts):
        raise ValueError("a part of the key path is empty; write it as services.web.replicas")
    changed, steps = _put_below(document, (), parts, value)
    return dict(changed), steps


def _put_below(found: Any, above: Steps, parts: Sequence[str], value: Any) -> tuple[Any, Steps]:
    if not parts:
        return value, above
    head, *rest = parts
    if isinstance(found, list):
        at = _index(head, above, len(found))
        below, steps = _put_below(found[at], (*above, at), rest, value)
        return [*found[:at], below, *found[at + 1 :]], steps
    if found is not None and not isinstance(found, dict):
        raise ValueError(f"{show_steps(above)} is {found!r}, which has no keys in it")
    inside = found or {}
    below, steps = _put_below(inside.get(head), (*above, head), rest, value)
    return {**inside, head: below}, steps


def _index(text: str, above: Steps, length: int) -> int:
    if not _INDEX.fullmatch(text) or int(text) >= length:
        raise ValueError(f"{show_steps(above)} is a list of {length}; {text!r} is no place in it")
    return int(text)


def fill(value: Any, values: Mapping[str, Any]) -> Any:
    """Return the value with each ``${name}`` that ``values`` knows replaced; others stay."""
    if isinstance(value, dict):
        return {key: fill(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [fill(each, values) for each in value]
    return _fill_text(value, values) if isinstance(value, str) else value


def _fill_text(text: str, values: Mapping[str, Any]) -> Any:
    whole = _PLACE.fullmatch(text)
    if whole:
        return values.get(whole[1].strip(), text)
    return _PLACE.sub(lambda place: str(values.get(place[1].strip(), place[0])), text)


def places(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, str]]:
    """Yield the steps to, and the name of, each ``${name}`` in the value."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from places(each, (*steps, key))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from places(each, (*steps, index))
    elif isinstance(value, str):
        yield from ((steps, place.strip()) for place in _PLACE.findall(value))


def cross(factors: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return every combination of the factors' levels, the last factor turning fastest."""
    return [
        dict(zip(factors, levels, strict=True)) for levels in itertools.product(*factors.values())
    ]


def cell_id(levels: Mapping[str, Any]) -> str:
    """Return the name of a cell, such as ``replicas=1,perturb=none``."""
    return ",".join(f"{name}={level}" for name, level in levels.items())
