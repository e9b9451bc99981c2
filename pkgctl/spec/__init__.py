# SPDX-License-Identifier: GPL-3.0-or-later
"""Experiment files: read, overridden, crossed over their factors and checked.

``load("scaling.yaml", ["repeats=1"])`` returns an Experiment whose cells hold nothing but plain,
checked values; every way in which the file can be wrong ends here, as one SpecError.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pkgctl import documents, project, topology
from pkgctl.documents import Document
from pkgctl.errors import SpecError, nearest
from pkgctl.nodeside import perturbation, selection, words
from pkgctl.spec import check, substitute
from pkgctl.spec.check import Misplaced
from pkgctl.spec.fields import Model
from pkgctl.spec.models import Body, Head, Parameter

MEASURES = ("latency", "throughput", "slo", "provisioning", "scaling", "utilisation", "jobs")
MOST_CELLS = 1000
# A factor of such a name needs no ${}: it sets the key of its name.
DIRECT = ("perturb", "scheduler", "provision")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One combination of the factors' levels, and what the file says with them put in."""

    id: str
    factors: Values
    body: Body


@dataclass(frozen=True)
class Experiment:
    """A whole experiment; ``values`` are the file's after overrides and parameters."""

    file: Path
    head: Head
    topology: topology.Topology
    cells: tuple[Cell, ...]
    values: Values

    @property
    def nodes(self) -> tuple[selection.Node, ...]:
        """The nodes, as choices of nodes see them."""
        return targets(self.topology)

    def trace(self, name: str) -> Path:
        """Return the file of a trace that the experiment names."""
        return check.trace_path(name, self.file)


def targets(net: topology.Topology) -> tuple[selection.Node, ...]:
    """Return the nodes of a topology, as choices of nodes see them."""
    return tuple(
        selection.Node(
            name=node.name,
            site=node.site,
            role=node.role or "",
            kind=node.kind or "",
            labels=node.labels,
            disks=tuple(node.disks),
        )
        for node in net.nodes
    )


def load(name: str, settings: Sequence[str] = ()) -> Experiment:
    """Return the experiment of a file, or of a name of those that come with pkgctl.

    Args:
        name: a path, or a bare name that is looked up in ``experiments/``.
        settings: overrides such as ``repeats=1``, ``load.0.duration=2s`` or ``trace=FILE``.

    Raises:
        SpecError: for everything that is wrong with the file or the settings.
    """
    file = project.find("experiment", name, project.experiments())
    return parse(documents.read(file, "experiment"), file, settings)


def parse(document: Document, file: Path, settings: Sequence[str] = ()) -> Experiment:
    """Return the experiment that a document means; ``file`` is where it lies.

    Raises:
        SpecError: for everything that is wrong with the document or the settings.
    """
    document, given = _override(document, settings)
    try:
        return _build(document, given, file)
    except Misplaced as error:
        raise document.error(str(error), *error.steps) from error
    except ValidationError as error:
        raise document.explain(error) from error


def _override(document: Document, settings: Sequence[str]) -> tuple[Document, dict[str, Any]]:
    """Return the document with the settings of keys put in, and the settings of parameters."""
    declared = document.values.get("parameters")
    parameters = tuple(declared) if isinstance(declared, dict) else ()
    given: dict[str, Any] = {}
    for setting in settings:
        key, value = _read_setting(setting)
        if key in parameters:
            given[key] = value
        else:
            document = _put(document, key, value, setting, parameters)
    return document, given


def _read_setting(setting: str) -> tuple[str, Any]:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise SpecError(f"--set {setting!r} is no setting; write key=value, such as repeats=1")
    return key, documents.read_scalar(text)


def _put(
    document: Document, key: str, value: Any, setting: str, parameters: Sequence[str]
) -> Document:
    """Return the document with a key set; errors about the value then name the setting."""
    known = (*parameters, *_known_keys())
    head = key.partition(".")[0]
    if head not in known:
        raise SpecError(
            f"no such key or parameter; {nearest(head, known)}", file=f"--set {setting}"
        )
    try:
        values, steps = substitute.put(document.values, key, value)
    except ValueError as error:
        raise SpecError(str(error), file=f"--set {setting}") from error
    return replace(
        document, values=values, places={**document.places, steps: (f"--set {setting}", 0)}
    )


def _build(document: Document, given: Values, file: Path) -> Experiment:
    for key in document.values:
        if key not in _known_keys():
            raise Misplaced(f"unknown key; {nearest(key, _known_keys())}", key)
    parameters = _Parameters.model_validate(_part(document.values, _Parameters)).parameters
    values = substitute.fill(document.values, _parameter_values(parameters, given))
    head = Head.model_validate(_part(values, Head))
    _check_factors(head, _part(values, Body))
    _check_measure(head)
    net = topology.load(head.topology, beside=file.parent)
    return Experiment(file, head, net, tuple(_cells(head, values, net, file)), values)


class _Parameters(Model):
    parameters: dict[str, Parameter] = Field(default={})


def _known_keys() -> tuple[str, ...]:
    return (*_keys(Head), *_keys(Body))


def _keys(model: type[Model]) -> tuple[str, ...]:
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _part(values: Values, model: type[Model]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in _keys(model)}


def _parameter_values(declared: Mapping[str, Parameter], given: Values) -> dict[str, Any]:
    for name, parameter in declared.items():
        if name in _known_keys():
            raise Misplaced("is a key of the file too; choose another name", "parameters", name)
        if parameter.required and name not in given:
            raise Misplaced(_required(name, parameter), "parameters", name)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    return {**defaults, **given}


def _required(name: str, parameter: Parameter) -> str:
    about = f" ({parameter.help})" if parameter.help else ""
    return f"has no value; give it with --set {name}=VALUE{about}"


def _check_measure(head: Head) -> None:
    for index, measure in enumerate(head.measure):
        if measure not in MEASURES:
            raise Misplaced(
                f"nothing is called {measure!r}; {nearest(measure, MEASURES)}", "measure", index
            )


def _check_factors(head: Head, body: Values) -> None:
    names = tuple(substitute.places(body))
    for steps, name in names:
        if name not in head.factors:
            hint = nearest(name, (*head.factors, *head.parameters))
            raise Misplaced(f"${{{name}}} is no factor or parameter; {hint}", *steps)
    for name, levels in head.factors.items():
        _check_factor(name, levels, body, {used for _, used in names})
    count = math.prod(map(len, head.factors.values()))
    if count > MOST_CELLS:
        raise Misplaced(f"make {count} cells; {MOST_CELLS} are the most", "factors")


def _check_factor(name: str, levels: Sequence[Any], body: Values, used: set[str]) -> None:
    if name not in used and name not in DIRECT:
        raise Misplaced(f"is used nowhere; put ${{{name}}} where it belongs", "factors", name)
    if name not in used and name in body:
        raise Misplaced(f"is set here, and by the factor {name} too; keep one of them", name)
    if len(set(map(str, levels))) != len(levels):
        raise Misplaced("has a level twice", "factors", name)


def _cells(head: Head, values: Values, net: topology.Topology, file: Path) -> list[Cell]:
    nodes, raw = targets(net), _part(values, Body)
    cells = []
    for levels in substitute.cross(head.factors):
        direct = {name: levels[name] for name in DIRECT if name in levels and name not in raw}
        filled = _complete(substitute.fill(raw, levels), head.seed, file)
        body = Body.model_validate({**filled, **direct})
        _check_body(body, nodes, file, direct)
        cells.append(Cell(substitute.cell_id(levels), levels, body))
    return cells


def _complete(raw: dict[str, Any], seed: int, file: Path) -> dict[str, Any]:
    """Return a cell's values with a seed for each perturbation, and whole paths of its files."""
    found = raw.get("perturbations")
    if not isinstance(found, dict):
        return raw
    complete = {
        name: {
            "seed": words.seed_of(seed, "perturb", name),
            **perturbation.located(given, file.parent, Path.cwd()),
        }
        if isinstance(given, dict)
        else given
        for name, given in found.items()
    }
    return {**raw, "perturbations": complete}


def _check_body(body: Body, nodes: check.Nodes, file: Path, direct: Values) -> None:
    """Check a cell; a key that only a factor sets is shown as that factor."""
    try:
        check.check_body(body, nodes, file=file)
    except Misplaced as error:
        if error.steps[0] in direct:
            raise Misplaced(str(error), "factors", *error.steps) from error
        raise
