# SPDX-License-Identifier: GPL-3.0-or-later
"""That a libvirt host has of a testbed only what the stack knows of.

A program that is killed, or a machine that is made and cannot start, leaves what no state has. It
is found by its name. Apart from the host's other resource, whose outputs machines are made with:
they would seem to change in a preview each time that there is something to sweep.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, UpdateResult

from pkgctl.errors import TestbedError
from pkgctl.remote import names, sweeping
from testbed import stack
from testbed.hypervisor import is_here
from testbed.machines import CONSOLES
from testbed.provider import Props, Provider, say


class LeftoversProvider(Provider):
    """Refuses a host with things of that name at first; later sweeps what no state knows."""

    replaced = ("uri", "testbed")

    def diff(self, _id: str, _olds: Props, _news: Props) -> DiffResult:
        """Return what is different; what no state knows is to go."""
        found = super().diff(_id, _olds, _news)
        return found if found.changes else DiffResult(changes=bool(_orphans(_news)))

    def create(self, props: Props) -> CreateResult:
        """Refuse a host that has a testbed of that name; who made it is not known."""
        left = [f"{kind} {name}" for kind, name in sweeping.left(props["uri"], props["testbed"])]
        if left:
            raise TestbedError(refusal(props["name"], props["testbed"], props["uri"], left))
        return CreateResult(props["uri"], dict(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Remove what no state knows, so that it can be made again."""
        _sweep(_news, keep=stack.things(_news["stack"]))
        return UpdateResult(dict(_news))

    def delete(self, _id: str, _props: Props) -> None:
        """Remove all that is left, and the logs that can be reached."""
        _sweep(_props)
        if is_here(_id):
            for log in Path(CONSOLES).glob(names.domain(_props["testbed"], "*.log*")):
                log.unlink(missing_ok=True)


class Leftovers(pulumi.dynamic.Resource, module="testbed", name="Leftovers"):
    """What a host has of the testbed beside what the stack knows: nothing, after each update."""

    def __init__(
        self, name: str, uri: str, testbed: str, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare it.

        Args:
            name: the host's.
            uri: where its libvirt answers.
            testbed: whose things are looked for.
            opts: the resource's.
        """
        props = {"name": name, "uri": uri, "testbed": testbed, "stack": stack.name()}
        super().__init__(LeftoversProvider(), name, props, opts)


def refusal(host: str, testbed: str, uri: str, left: list[str]) -> str:
    """Return why a host is refused, in one line."""
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return (
        f"{host} has a testbed {testbed!r} already: {', '.join(left[:3])}{more}; choose another "
        f"name (pkgctl-testbed:testbed), or remove it: pkgctl down --name {testbed} --host {uri}"
    )


def _orphans(props: Props) -> list[sweeping.Thing]:
    """Return what the host has of the testbed and the stack's state has not."""
    left = sweeping.left(props["uri"], props["testbed"])
    known = stack.things(props["stack"]) if left else set()
    return [thing for thing in left if thing not in known]


def _sweep(props: Props, keep: Collection[sweeping.Thing] = ()) -> None:
    for line in sweeping.remove(props["uri"], props["testbed"], keep):
        say(f"host {props['name']}: {line}, which no state knew of")
