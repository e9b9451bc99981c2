# SPDX-License-Identifier: GPL-3.0-or-later
"""Which nodes a selector names: a node, a site, a role, a kind, a pattern, or lists of those.

The same selectors serve the playbooks, the command line and the experiment files. Texts are read
into a Selector first (no testbed needed), and choose nodes of a testbed later. Some of the nodes
may be drawn at random (``random 2 of edge``); a seed makes the draw the same again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from . import units
from .texts import hint, plain, quote

LONGEST = 200
EVERYTHING = ("*", "all")
_NAMED = ("node", "site", "role", "kind")
_FIELDS = (*_NAMED, "label")
_MAPPING_KEYS = (*_FIELDS, "labels")
_DRAW = re.compile(r"random\s+(\S+)\s+of\s+(.+)", re.DOTALL)
_WILD = re.compile(r"[*?\[]")


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
class Draw:
    """Some of the nodes that a selector stands for: a count of them, or a part of them.

    The draw ranks the nodes by a hash of the seed and the name. So it does not hang on the order
    in which nodes are listed, a larger draw holds the smaller one, and a node that comes or goes
    changes at most one of those drawn.
    """

    among: Selector
    count: int | None = None
    part: Fraction | None = None

    def choose(self, nodes: Sequence[Node], seed: int) -> frozenset[str]:
        """Return the names of the nodes drawn.

        Raises:
            ValueError: if fewer are there than are to be drawn.
        """
        found, word = self.among.choose(nodes), self.among.word
        if self.part is not None:
            count = max(1, int(self.part * len(found) + Fraction(1, 2)))
        else:
            count = self.count or 0
        if count > len(found):
            raise ValueError(f"{word}: {count} cannot be drawn from {len(found)} nodes")
        ranks = {name: hashlib.sha256(f"{seed}/{word}/{name}".encode()).digest() for name in found}
        return frozenset(sorted(ranks, key=lambda name: (ranks[name], name))[:count])


@dataclass(frozen=True, slots=True)
class Selector:
    """Alternatives, each a set of terms that must all hold; word is where it was written."""

    word: str
    alternatives: tuple[tuple[Term, ...] | Draw, ...]

    @property
    def is_random(self) -> bool:
        """Whether it draws, so that the seed matters."""
        return any(isinstance(each, Draw) for each in self.alternatives)

    def choose(self, nodes: Sequence[Node], seed: int = 0) -> frozenset[str]:
        """Return the names of the nodes that it stands for.

        Raises:
            ValueError: if a term names nothing, or if the terms together name nothing.
        """
        found = [
            each.choose(nodes, seed) if isinstance(each, Draw) else _meeting(each, nodes, self.word)
            for each in self.alternatives
        ]
        return frozenset[str]().union(*found)


def read(word: str, value: object) -> Selector:
    """Return the selector that a value of that word means.

    Args:
        word: the word before the value, for errors: ``src``.
        value: ``"edge-1"``, ``"edge-a,edge-b"``, ``"site:edge-a"``, ``"*"``, ``"random 2 of edge"``
            or ``"random 30% of *"``, a list of such texts, or a mapping such as
            ``{"site": "edge-a", "role": "edge"}`` or ``{"random": 2, "of": {"site": "edge-a"}}``.

    Raises:
        ValueError: if it is none of these.
    """
    return Selector(word, tuple(_all_alternatives(word, value, drawn=False)))


def _all_alternatives(word: str, value: object, *, drawn: bool) -> list[tuple[Term, ...] | Draw]:
    items: Sequence[object] = value if isinstance(value, (list, tuple)) else [value]
    alternatives = [each for item in items for each in _alternatives(word, item, drawn=drawn)]
    if not alternatives:
        raise ValueError(f"{word}: names nothing; write a node, a site, a role, a kind or *")
    return alternatives


def _alternatives(word: str, item: object, *, drawn: bool) -> list[tuple[Term, ...] | Draw]:
    if isinstance(item, Mapping):
        if "random" in item:
            return [_drawing(word, item, drawn=drawn)]
        return [_from_mapping(word, item)]
    if isinstance(item, str):
        if match := _DRAW.fullmatch(item.strip()):
            return [_drawing(word, {"random": match[1], "of": match[2]}, drawn=drawn)]
        return [(_from_text(word, part.strip()),) for part in item.split(",")]
    raise ValueError(
        f"{word}: {quote(item)} is no selector; write a name, a list or {{site: NAME}}"
    )


def _drawing(word: str, mapping: Mapping[str, object], *, drawn: bool) -> Draw:
    """Return the draw of a mapping with the keys random and of."""
    if drawn or set(mapping) != {"random", "of"}:
        raise ValueError(f"{word}: a draw is written as random 2 of NAME or random 30% of NAME")
    among = Selector(word, tuple(_all_alternatives(word, mapping["of"], drawn=True)))
    wanted = mapping["random"]
    text = str(wanted).strip() if isinstance(wanted, (str, int)) else ""
    if text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0:
        return Draw(among, count=int(text))
    if text.endswith("%"):
        try:
            part = Fraction(str(units.ratio(text)))
        except ValueError as error:
            raise ValueError(f"{word}: {error}") from error
        if part > 0:
            return Draw(among, part=part)
    raise ValueError(f"{word}: {quote(wanted)} is no number of nodes; write random 2 or random 30%")


def _from_text(word: str, text: str) -> Term:
    if not text:
        raise ValueError(f"{word}: an empty name; write a node, a site, a role, a kind or *")
    if len(text) > LONGEST:
        raise ValueError(f"{word}: {quote(text)} is too long for a name")
    if text.startswith("random "):
        raise ValueError(f"{word}: a draw is written as random 2 of NAME or random 30% of NAME")
    name, colon, pattern = text.partition(":")
    if not colon:
        return Term("any", (text,))
    if name not in _FIELDS or not pattern:
        raise ValueError(f"{word}: {quote(text)} is no selector; write {_one_of('NAME')}")
    return Term(name, (pattern,))


def _from_mapping(word: str, mapping: Mapping[str, object]) -> tuple[Term, ...]:
    terms: list[Term] = []
    for key, value in mapping.items():
        if key not in _MAPPING_KEYS:
            raise ValueError(f"{word}.{plain(key)}: unknown; {hint(key, _MAPPING_KEYS)}")
        if key in ("label", "labels") and isinstance(value, Mapping):
            terms.extend(Term("label", (f"{name}={wanted}",)) for name, wanted in value.items())
            continue
        names = value if isinstance(value, (list, tuple)) else [value]
        if not names or not all(
            isinstance(name, str) and 0 < len(name) <= LONGEST for name in names
        ):
            raise ValueError(f"{word}.{key}: {quote(value)} is neither a name nor a list of names")
        terms.append(Term(key.removesuffix("s"), tuple(str(name) for name in names)))
    if not terms:
        raise ValueError(f"{word}: an empty mapping; write {{site: NAME}}")
    return tuple(terms)


def _meeting(terms: tuple[Term, ...], nodes: Sequence[Node], word: str) -> frozenset[str]:
    """Return the nodes for which all terms hold, or raise if there are none."""
    both = frozenset.intersection(*(_matching(term, nodes, word) for term in terms))
    if not both:
        raise ValueError(f"{word}: no node is {' and '.join(str(term) for term in terms)}")
    return both


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
    found = _fitting(name, pattern, nodes)
    if not found:
        known = sorted({value for node in nodes for value in _VALUES[name](node)})
        raise ValueError(f"{word}: no node has the {name} {quote(pattern)}; {hint(pattern, known)}")
    return found


def _named(pattern: str, nodes: Sequence[Node], word: str) -> frozenset[str]:
    """Return the nodes for a bare name, whatever it is the name of."""
    readings = {name: _fitting(name, pattern, nodes) for name in _NAMED}
    found = {name: members for name, members in readings.items() if members}
    if "node" in found:
        return found["node"]
    if len(set(found.values())) > 1:
        ways = " or ".join(f"{name}:{pattern}" for name in found)
        raise ValueError(f"{word}: {quote(pattern)} has several meanings here; write {ways}")
    if not found:
        known = sorted({value for node in nodes for key in _NAMED for value in _VALUES[key](node)})
        raise ValueError(
            f"{word}: no node, site, role or kind is called {quote(pattern)}; "
            f"{hint(pattern, known)}"
        )
    return next(iter(found.values()))


def _fitting(name: str, pattern: str, nodes: Sequence[Node]) -> frozenset[str]:
    """Return the nodes of which a field fits a pattern."""
    if pattern in EVERYTHING:
        return frozenset(node.name for node in nodes)
    fits, values = _fitter(pattern), _VALUES[name]
    return frozenset(node.name for node in nodes if any(map(fits, values(node))))


def _fitter(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a name fits; a plain name fits itself."""
    if not _WILD.search(pattern):
        return pattern.__eq__
    # Not by fnmatch itself, which keeps every pattern it ever met.
    return re.compile(fnmatch.translate(pattern)).match


def _labels(node: Node) -> list[str]:
    return [f"{name}={value}" for name, value in node.labels.items()]


_VALUES: Mapping[str, Callable[[Node], list[str]]] = {
    "node": lambda node: [node.name],
    "site": lambda node: [node.site],
    "role": lambda node: [node.role],
    "kind": lambda node: [node.kind],
    "label": _labels,
}


def _one_of(what: str) -> str:
    return ", ".join(f"{name}:{what}" for name in _FIELDS)
