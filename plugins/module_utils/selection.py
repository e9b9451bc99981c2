# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a selector names: a node, a site, a role, a kind, a pattern, or lists of those.

The same selectors serve the playbooks, the command line and the experiment files. Texts are read
into a Selector first (no testbed needed), and choose nodes of a testbed later.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

EVERYTHING = ("*", "all")
_NAMED = ("node", "site", "role", "kind")
_FIELDS = (*_NAMED, "label")
_MAPPING_KEYS = (*_FIELDS, "labels")


@dataclass(frozen=True, slots=True)
class Node:
    """What a selector can know about a node."""

    name: str
    site: str = ""
    role: str = ""
    kind: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    disks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Term:
    """One condition: the field of a node, and the patterns of which one must match.

    The field "any" stands for whichever of node, site, role and kind has such a name.
    """

    field: str
    patterns: tuple[str, ...]

    def __str__(self) -> str:
        """Return the text that a user would write."""
        return f"{self.field}:{','.join(self.patterns)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """Alternatives, each a set of terms that must all hold; word is where it was written."""

    word: str
    alternatives: tuple[tuple[Term, ...], ...]

    def choose(self, nodes: Sequence[Node]) -> frozenset[str]:
        """Return the names of the nodes that it stands for.

        Raises:
            ValueError: if a term names nothing, or if the terms together name nothing.
        """
        chosen: set[str] = set()
        for terms in self.alternatives:
            matches = [_matching(term, nodes, self.word) for term in terms]
            both = frozenset.intersection(*matches)
            if not both:
                shown = " and ".join(str(term) for term in terms)
                raise ValueError(f"{self.word}: no node is {shown}")
            chosen |= both
        return frozenset(chosen)


def read(word: str, value: object) -> Selector:
    """Return the selector that a value of that word means.

    Args:
        word: the word before the value, for errors: ``src``.
        value: ``"edge-1"``, ``"edge-a,edge-b"``, ``"site:edge-a"``, ``"*"``, a list of such
            texts, or a mapping such as ``{"site": "edge-a", "role": "edge"}``.

    Raises:
        ValueError: if it is none of these.
    """
    items: Sequence[object] = value if isinstance(value, (list, tuple)) else [value]
    alternatives = [terms for item in items for terms in _alternatives(word, item)]
    if not alternatives:
        raise ValueError(f"{word}: names nothing; write a node, a site, a role, a kind or *")
    return Selector(word, tuple(alternatives))


def _alternatives(word: str, item: object) -> list[tuple[Term, ...]]:
    if isinstance(item, Mapping):
        return [_from_mapping(word, item)]
    if isinstance(item, str):
        return [(_from_text(word, part.strip()),) for part in item.split(",")]
    raise ValueError(f"{word}: {item!r} is no selector; write a name, a list or {{site: NAME}}")


def _from_text(word: str, text: str) -> Term:
    if not text:
        raise ValueError(f"{word}: an empty name; write a node, a site, a role, a kind or *")
    name, colon, pattern = text.partition(":")
    if not colon:
        return Term("any", (text,))
    if name not in _FIELDS or not pattern:
        raise ValueError(f"{word}: {text!r} is no selector; write {_one_of('NAME')}")
    return Term(name, (pattern,))


def _from_mapping(word: str, mapping: Mapping[str, object]) -> tuple[Term, ...]:
    terms: list[Term] = []
    for key, value in mapping.items():
        if key not in _MAPPING_KEYS:
            raise ValueError(f"{word}.{key}: unknown; {_hint(str(key), _MAPPING_KEYS)}")
        if key in ("label", "labels") and isinstance(value, Mapping):
            terms.extend(Term("label", (f"{name}={wanted}",)) for name, wanted in value.items())
            continue
        names = value if isinstance(value, (list, tuple)) else [value]
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"{word}.{key}: {value!r} is neither a name nor a list of names")
        terms.append(Term(key.removesuffix("s"), tuple(str(name) for name in names)))
    if not terms:
        raise ValueError(f"{word}: an empty mapping; write {{site: NAME}}")
    return tuple(terms)


def _matching(term: Term, nodes: Sequence[Node], word: str) -> frozenset[str]:
    """Return the nodes of one term, or raise if it names nothing here."""
    found = [
        _named(pattern, nodes, word)
        if term.field == "any"
        else _having(term.field, pattern, nodes, word)
        for pattern in term.patterns
    ]
    return frozenset[str]().union(*found)


def _having(name: str, pattern: str, nodes: Sequence[Node], word: str) -> frozenset[str]:
    if pattern in EVERYTHING:
        return frozenset(node.name for node in nodes)
    found = frozenset(node.name for node in nodes if _MATCHES[name](node, pattern))
    if not found:
        known = sorted({value for node in nodes for value in _VALUES[name](node)})
        raise ValueError(f"{word}: no node has the {name} {pattern!r}; {_hint(pattern, known)}")
    return found


def _named(pattern: str, nodes: Sequence[Node], word: str) -> frozenset[str]:
    """Return the nodes for a bare name, whatever it is the name of."""
    if pattern in EVERYTHING:
        return frozenset(node.name for node in nodes)
    readings = {
        name: frozenset(node.name for node in nodes if _MATCHES[name](node, pattern))
        for name in _NAMED
    }
    found = {name: members for name, members in readings.items() if members}
    if "node" in found:
        return found["node"]
    if len(set(found.values())) > 1:
        ways = " or ".join(f"{name}:{pattern}" for name in found)
        raise ValueError(f"{word}: {pattern!r} has several meanings here; write {ways}")
    if not found:
        known = sorted({value for node in nodes for key in _NAMED for value in _VALUES[key](node)})
        raise ValueError(
            f"{word}: no node, site, role or kind is called {pattern!r}; {_hint(pattern, known)}"
        )
    return next(iter(found.values()))


def _labels(node: Node) -> list[str]:
    return [f"{name}={value}" for name, value in node.labels.items()]


_VALUES: Mapping[str, Callable[[Node], list[str]]] = {
    "node": lambda node: [node.name],
    "site": lambda node: [node.site],
    "role": lambda node: [node.role],
    "kind": lambda node: [node.kind],
    "label": _labels,
}


def _matcher(name: str) -> Callable[[Node, str], bool]:
    return lambda node, pattern: any(
        fnmatch.fnmatchcase(value, pattern) for value in _VALUES[name](node)
    )


_MATCHES = {name: _matcher(name) for name in _FIELDS}


def _one_of(what: str) -> str:
    return ", ".join(f"{name}:{what}" for name in _FIELDS)


def _hint(found: str, known: Sequence[str]) -> str:
    """Return the nearest right name, or a few of the known ones."""
    close = difflib.get_close_matches(found, [name for name in known if name], n=1)
    if close:
        return f"did you mean {close[0]}?"
    some = [name for name in known if name]
    return f"known are {', '.join(some[:8])}{', …' if len(some) > 8 else ''}"
