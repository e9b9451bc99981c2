# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a pod may go to: its selector, its required node affinity, its tolerations; pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pkgctl.cluster.nodes import Node, Taint

NO_MATCH = "does not match its node selector or affinity"
Term = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where pods with one wish may go.

    Attributes:
        nodes: the names; None is anywhere.
        why: for the other nodes, how many are out for which reason.
    """

    nodes: frozenset[str] | None
    why: Mapping[str, int]

    def __str__(self) -> str:
        """Return the reasons in one line, nothing if there are none."""
        rows = sorted(self.why.items(), key=lambda row: (-row[1], row[0]))
        return ", ".join(f"{number} {reason}" for reason, number in rows)


def allowed(wish: str, nodes: Iterable[Node]) -> Allowed:
    """Return which of the nodes a wish allows; the wish is a pod's ``wish``."""
    selector, terms, tolerations = json.loads(wish) if wish else ({}, None, [])
    names, why, count = [], Counter[str](), 0
    for node in nodes:
        count += 1
        obstacle = _obstacle(node, selector, terms, tolerations)
        if obstacle:
            why[obstacle] += 1
        else:
            names.append(node.name)
    return Allowed(None if len(names) == count else frozenset(names), why)


def _obstacle(
    node: Node,
    selector: Mapping[str, str],
    terms: Sequence[Term] | None,
    tolerations: Sequence[Mapping[str, Any]],
) -> str:
    """Return why a node is out, or nothing."""
    for taint in node.taints:
        if not any(tolerates(each, taint) for each in tolerations):
            return f"tainted {taint}"
    fits = all(node.labels.get(key) == value for key, value in selector.items())
    if fits and (terms is None or any(matches(term, node) for term in terms)):
        return ""
    return NO_MATCH


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """Whether one toleration bears one taint."""
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key") or ""
    if key and key != taint.key:
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == taint.value


def matches(term: Term, node: Node) -> bool:
    """Whether a node fulfils all of a term; a term that demands nothing matches no node."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not (expressions or fields):
        return False
    named = {"metadata.name": node.name}
    return all(_holds(each, node.labels) for each in expressions) and all(
        _holds(each, named) for each in fields
    )


def _holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels fulfil ``{key, operator, values}``; an operator nobody knows never holds."""
    here = labels.get(requirement["key"])
    values = requirement.get("values") or ()
    match requirement["operator"]:
        case "In":
            return here is not None and here in values
        case "NotIn":
            return here is None or here not in values
        case "Exists":
            return here is not None
        case "DoesNotExist":
            return here is None
        case "Gt" | "Lt" as operator:
            return _compares(here, values, operator)
    return False


def _compares(here: str | None, values: Sequence[str], operator: str) -> bool:
    try:
        own, bound = int(here or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return own > bound if operator == "Gt" else own < bound
