# SPDX-License-Identifier: GPL-3.0-or-later
"""What Pulumi asks of the pieces of a local testbed: checks, differences, and changes.

Pulumi keeps these classes in a stack's state by the name of this module, and a stack can only be
destroyed while they are found under it: neither may be renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pulumi.dynamic import (
    CreateResult,
    DiffResult,
    ReadResult,
    UpdateResult,
)

from testbed.local.editor import editor
from testbed.provider import Provider

Properties = dict[str, Any]
# Which testbed a piece belongs to, and its name there; the rest is what the piece is.
_PLACE = ("testbed", "name")
_FOREIGN = "__provider"


class PieceProvider(Provider):
    """What all kinds of pieces have in common.

    Attributes:
        kind: the kind, as ``pkgctl.local.declared`` calls it.
        replacing: what cannot be changed in place.
        learned: what is only known once the piece is there.
        hints: what says where a new piece goes among others, and changes none that is there.
    """

    kind = ""
    replacing: tuple[str, ...] = _PLACE
    learned: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    def diff(self, _id: str, _olds: Properties, _news: Properties) -> DiffResult:
        """Compare what is asked with what there was."""
        before, after = plain(_olds), plain(_news)
        ignored = {*self.learned, *self.hints, _FOREIGN}
        differ = [
            key
            for key in {**before, **after}
            if key not in ignored and before.get(key) != after.get(key)
        ]
        replaces = [key for key in differ if key in self.replacing]
        return DiffResult(changes=bool(differ), replaces=replaces, delete_before_replace=True)

    def create(self, props: Properties) -> CreateResult:
        """Make the piece; one that is there, as after a kill, becomes what is asked."""
        name = f"{props['testbed']}/{props['name']}"
        return CreateResult(name, {**asked(props), **self._edit(props)})

    def update(self, _id: str, _olds: Properties, _news: Properties) -> UpdateResult:
        """Change the piece in place."""
        return UpdateResult({**asked(_news), **self._edit(_news)})

    def delete(self, _id: str, _props: Properties) -> None:
        """Take the piece away."""
        editor().ask("edit", **self._piece(_props), values=None)

    def read(self, id_: str, props: Properties) -> ReadResult:
        """Return the piece as it is on the machine."""
        found = editor().ask("look", **self._piece(props))["found"]
        if found is None:
            return ReadResult("", {})
        place = {key: props[key] for key in _PLACE if key in props}
        outs = {**place, **plain(found)}
        inputs = {key: value for key, value in outs.items() if key not in self.learned}
        return ReadResult(id_, outs, inputs)

    def _edit(self, props: Properties) -> Properties:
        left_out = (*_PLACE, *self.learned, _FOREIGN)
        values = {key: value for key, value in plain(props).items() if key not in left_out}
        return editor().ask("edit", **self._piece(props), values=values)

    def _piece(self, props: Mapping[str, Any]) -> Properties:
        return {"testbed": props["testbed"], "kind": self.kind, "name": props.get("name", "")}


class TestbedProvider(PieceProvider):
    """The testbed without its nodes: the switch between them, the agent and the delay line."""

    __test__ = False  # pytest would take the name for a test class
    kind = "testbed"

    def create(self, props: Properties) -> CreateResult:
        """Make the testbed."""
        values = {key: value for key, value in asked(props).items() if key not in _PLACE}
        editor().ask("make", testbed=props["testbed"], values=values)
        return CreateResult(props["testbed"], asked(props))

    def delete(self, _id: str, _props: Properties) -> None:
        """Take the testbed away with all that is in it."""
        editor().ask("remove", testbed=_props["testbed"])


class SiteProvider(PieceProvider):
    """A place with nodes."""

    kind = "site"


class NodeProvider(PieceProvider):
    """A node; one with other disks or another access network is another node."""

    kind = "node"
    replacing = (*_PLACE, "disks", "access")
    learned = ("address", "address6")
    hints = ("number",)


class LinkProvider(PieceProvider):
    """An entry of the topology's list of links."""

    kind = "link"
    replacing = (*_PLACE, "from", "to")


def asked(props: Mapping[str, Any]) -> Properties:
    """Return what the program asks of a piece, without what Pulumi adds."""
    return {key: value for key, value in plain(props).items() if key != _FOREIGN}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: without what is None, and with whole numbers as such."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
