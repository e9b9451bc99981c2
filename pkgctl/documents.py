# SPDX-License-Identifier: GPL-3.0-or-later
"""YAML files that people write: guarded reading, and errors that name file, line and key.

The reader takes a file for hostile until it has proved otherwise: size, nesting and the number of
values are bounded, aliases cannot grow, tags are refused and a key may stand only once. Plain
words mean what they look like: only ``true`` and ``false`` are booleans, and keys are texts, so
``on:`` and ``no`` stay words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from pkgctl.errors import SpecError, nearest
from pkgctl.project import show_path

MAX_BYTES = 2**20
MAX_VALUES = 200_000
MAX_DEPTH = 40

Steps = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", re.ASCII)
_BOOLEANS = {"true": True, "false": False}
_PLAIN_TAGS = {"str", "int", "float", "bool", "null", "timestamp", "merge", "value"}
_CORE = "tag:yaml.org,2002:"


class Strict(BaseModel):
    """A part of a file: it cannot change, and an unknown key names the one that was meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _know_keys(cls, values: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in values if isinstance(values, dict) else ():
            if key not in known:
                raise PydanticCustomError(
                    "unknown_key", "unknown key; {hint}", {"key": key, "hint": nearest(key, known)}
                )
        return values


@dataclass(frozen=True)
class Document:
    """What a file says, and where each value of it stands.

    Attributes:
        name: the file as an error should call it.
        values: the plain values: texts, numbers, booleans, None, lists and dicts.
        places: the file and the line of each value, by the steps that lead to it.
    """

    name: str
    values: dict[str, Any]
    places: Mapping[Steps, tuple[str, int]]

    def error(self, message: str, *steps: str | int) -> SpecError:
        """Return the error about the value at these steps, or about the nearest one above."""
        place = next((self.places[up] for up in _upwards(steps) if up in self.places), None)
        name, line = place or (self.name, None)
        return SpecError(message, file=name, line=line, key=show_steps(steps))

    def explain(self, error: ValidationError) -> SpecError:
        """Return the first thing that pydantic found, in one line."""
        found = error.errors(include_url=False)
        steps, message = _in_words(found[0])
        while steps and steps not in self.places:
            steps = steps[:-1]  # pydantic adds the names of alternatives below the value
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return self.error(f"{message}{more}", *steps)

    def check(self, model: Callable[[Any], Any]) -> Any:
        """Return what the model makes of the values.

        Raises:
            SpecError: for the first thing that is wrong.
        """
        try:
            return model(self.values)
        except ValidationError as error:
            raise self.explain(error) from error

    def over(self, under: Document) -> Document:
        """Return both: mappings join key by key and this wins, lists follow those of under."""
        shifted = {_shift(steps, under.values): place for steps, place in self.places.items()}
        values = _join(under.values, self.values)
        return Document(self.name, values, {**under.places, **shifted})


def read(path: Path, what: str) -> Document:
    """Return the document in a file.

    Args:
        path: a regular file.
        what: what it should hold, such as ``topology``.

    Raises:
        SpecError: if it is too big, binary, empty, not YAML, or no mapping.
    """
    name = show_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", file=name) from error
    if len(data) > MAX_BYTES:
        raise SpecError(f"is over {MAX_BYTES // 2**20} MiB; a {what} is a small text", file=name)
    return parse(_decode(data, name, what), name, what)


def read_scalar(text: str) -> Any:
    """Return what one value means that was written on a command line: a number, a word, a list.

    Raises:
        SpecError: if it is no YAML.
    """
    return parse(f"value: {text}", text, "setting").values["value"]


def parse(text: str, name: str, what: str) -> Document:
    """Return the document in a text; see ``read``."""
    try:
        _check_depth(text, name)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, name) from error
    if root is None:
        raise SpecError(f"is empty; a {what} starts with its name", file=name)
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(f"holds no keys; a {what} starts with its name", file=name, line=1)
    builder = _Builder(name)
    return Document(name, builder.build(root, ()), builder.places)


def _check_depth(text: str, name: str) -> None:
    """Refuse what is nested so deeply that composing it would exhaust the stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else None
            raise SpecError(f"is nested more than {MAX_DEPTH} levels deep", file=name, line=line)


def show_steps(steps: Steps) -> str:
    """Return a key path such as ``links[0].rate``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return text.removeprefix(".")


class _Builder:
    """Turns YAML's nodes into plain values and notes the line of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[Steps, tuple[str, int]] = {}
        self.count = 0

    def build(self, node: yaml.Node, steps: Steps) -> Any:
        self.count += 1
        if self.count > MAX_VALUES or len(steps) > MAX_DEPTH:
            raise self.refuse(node, steps, "too many values, or aliases that repeat one another")
        self.places.setdefault(steps, (self.name, node.start_mark.line + 1))
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, steps)
        if node.tag not in (f"{_CORE}map", f"{_CORE}seq"):
            raise self.refuse(node, steps, f"the tag {node.tag} is not understood; leave it out")
        if isinstance(node, yaml.SequenceNode):
            return [self.build(each, (*steps, index)) for index, each in enumerate(node.value)]
        return self.mapping(node, steps)

    def mapping(self, node: yaml.Node, steps: Steps) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == f"{_CORE}merge":
                merged = {**self.merged(value, steps), **merged}
                continue
            name = self.key(key, own, steps)
            self.places[(*steps, name)] = (self.name, key.start_mark.line + 1)
            own[name] = self.build(value, (*steps, name))
        return {**merged, **own}

    def key(self, node: yaml.Node, own: Mapping[str, Any], steps: Steps) -> str:
        if not isinstance(node, yaml.ScalarNode) or not node.value:
            raise self.refuse(node, steps, "a key must be a word")
        if node.value in own:
            _, line = self.places[(*steps, node.value)]
            raise self.refuse(
                node, (*steps, node.value), f"the key stands twice, first in line {line}"
            )
        return str(node.value)

    def merged(self, node: yaml.Node, steps: Steps) -> dict[str, Any]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        result: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise self.refuse(part, steps, "<< takes an alias of a mapping")
            result = {**self.build(part, steps), **result}
        return result

    def scalar(self, node: yaml.ScalarNode, steps: Steps) -> str | int | float | bool | None:
        kind = node.tag.removeprefix(_CORE)
        if kind not in _PLAIN_TAGS:
            raise self.refuse(node, steps, f"the tag {node.tag} is not understood; leave it out")
        if kind == "null":
            return None
        return str(node.value) if kind == "str" else _plain_word(node.value)

    def refuse(self, node: yaml.Node, steps: Steps, message: str) -> SpecError:
        line = node.start_mark.line + 1
        return SpecError(message, file=self.name, line=line, key=show_steps(steps[:6]))


def _plain_word(text: str) -> str | int | float | bool:
    """Return what an unquoted word looks like; everything unusual stays a text."""
    if text.lower() in _BOOLEANS:
        return _BOOLEANS[text.lower()]
    if len(text) < 20 and _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _decode(data: bytes, name: str, what: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"is no UTF-8 text; a {what} is YAML", file=name, line=line) from error
    if "\0" in text:
        raise SpecError(f"is a binary file; a {what} is YAML", file=name)
    return text


def _syntax_error(error: yaml.YAMLError, text: str, name: str) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', '')}, {problem}"
    if mark is None:
        return SpecError(f"no valid YAML: {problem}", file=name)
    line = [*text.splitlines(), ""][mark.line : mark.line + 1]
    tab = any(each[mark.column : mark.column + 1] == "\t" for each in line)
    hint = "; indent with spaces, not with tabs" if tab else ""
    # The parser stops behind the braces, which may be on the next line already.
    if any("${" in each for each in text.splitlines()[max(0, mark.line - 1) : mark.line + 1]):
        hint += '; inside braces a place needs quotes: {replicas: "${replicas}"}'
    return SpecError(f"no valid YAML: {problem}{hint}", file=name, line=mark.line + 1)


def _in_words(found: ErrorDetails) -> tuple[Steps, str]:
    """Return the steps to the value at fault, and what is wrong with it."""
    steps, kind = found["loc"], found["type"]
    if kind == "unknown_key":
        return (*steps, found["ctx"]["key"]), found["msg"]
    if kind == "missing":
        return steps[:-1], f"the key {steps[-1]} is missing"
    if kind in ("value_error", "assertion_error"):
        return steps, found["msg"].partition(", ")[2]
    text = repr(found["input"])
    shown = text if len(text) <= 60 else f"{text[:60]}…"
    return steps, f"found {shown}; {found['msg'][:1].lower()}{found['msg'][1:]}"


def _upwards(steps: Steps) -> Iterator[Steps]:
    return (steps[:length] for length in range(len(steps), -1, -1))


def _join(under: Any, over: Any) -> Any:
    if isinstance(under, dict) and isinstance(over, dict):
        shared = {key: _join(under[key], over[key]) for key in under.keys() & over.keys()}
        return {**under, **over, **shared}
    if isinstance(under, list) and isinstance(over, list):
        return [*under, *over]
    return over


def _shift(steps: Steps, under: Any) -> Steps:
    """Return where the steps lead after the document went over another."""
    shifted: list[str | int] = []
    for step in steps:
        if isinstance(step, int):
            shifted.append(step + (len(under) if isinstance(under, list) else 0))
            under = None
        else:
            shifted.append(step)
            under = under.get(step) if isinstance(under, dict) else None
    return tuple(shifted)
