# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML of K3s's settings: one map of scalars and lists of scalars. Anything else is refused."""

from __future__ import annotations

import json
import re

Scalar = str | int | bool
Document = dict[str, Scalar | list[Scalar]]
_KEY = re.compile(r"""(?:"([\w.+-]+)"|'([\w.+-]+)'|([\w.+-]+))\s*:(?:\s+(.*))?$""")
_ITEM = re.compile(r"\s*-(?:\s+(.*))?$")
_SWITCHES = {"true": True, "false": False}
# Characters that begin something that is no plain scalar.
_SPECIAL = "&*!|>%@`{[,]}"


class NotPlainError(ValueError):
    """The text is YAML of another kind, or none."""


def load(text: str) -> Document:
    """Return what a text says."""
    if text.lstrip().startswith("{"):
        return _from_json(text)
    found: Document = {}
    inside: list[Scalar] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#") or line.strip() in ("---", "..."):
            continue
        item = _ITEM.match(line)
        if item is not None and inside is not None:
            inside.append(_scalar(item[1] or "", number))
            continue
        inside = _entry(line, number, found)
    return {key: _settled(value) for key, value in found.items()}


def _settled(value: Scalar | list[Scalar]) -> Scalar | list[Scalar]:
    """A key with nothing after it is an empty value."""
    return "" if value == [] else value


def _entry(line: str, number: int, found: Document) -> list[Scalar] | None:
    match = _KEY.match(line)
    if match is None:
        raise NotPlainError(f"line {number} is no `key: value`: {line.strip()[:40]}")
    key, value = match[1] or match[2] or match[3], _uncommented(match[4] or "")
    if key in found:
        raise NotPlainError(f"line {number} says {key} again")
    if not value:
        inside: list[Scalar] = []
        found[key] = inside
        return inside
    found[key] = _flow(value, number) if value.startswith("[") else _scalar(value, number)
    return None


def _from_json(text: str) -> Document:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise NotPlainError(str(error)) from error
    for key, value in found.items():
        for each in value if isinstance(value, list) else [value]:
            if not isinstance(each, str | int | bool):
                raise NotPlainError(f"{key} is neither a scalar nor a list of them")
    return dict(found)


def _flow(value: str, number: int) -> list[Scalar]:
    if not value.endswith("]"):
        raise NotPlainError(f"line {number}: a list in brackets ends on its own line")
    words = re.findall(r"""\s*("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^,]+)\s*(?:,|$)""", value[1:-1])
    return [_scalar(word, number) for word in words if word.strip()]


def _uncommented(value: str) -> str:
    if value[:1] in ('"', "'"):
        return value.strip()
    return re.split(r"\s#", value, maxsplit=1)[0].strip()


def _scalar(text: str, number: int) -> Scalar:
    text = _uncommented(text)
    if text[:1] == '"':
        return _quoted(text, number)
    if text[:1] == "'":
        if len(text) < 2 or not text.endswith("'"):
            raise NotPlainError(f"line {number}: a quote does not end")
        return text[1:-1].replace("''", "'")
    if (text[:1] and text[0] in _SPECIAL) or re.search(r":(\s|$)", text):
        raise NotPlainError(f"line {number} is more than a plain scalar: {text[:40]}")
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    return int(text) if re.fullmatch(r"-?(0|[1-9]\d*)", text) else text


def _quoted(text: str, number: int) -> str:
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise NotPlainError(f"line {number}: {error}") from error
