# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of the nodes' disks: refuses, in the preview already, what would lose their content.

Not Pulumi's own protection, which would refuse to destroy the stack, nor a hook before deletion,
without whose program nothing could be destroyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, UpdateResult

from pkgctl.nodeside import units
from testbed.machines import Machine
from testbed.provider import Props, Provider

ROOT = "root"
_MOST = 4

# For each node, what each of its disks is: a text that differs where it would be another.
Kept = Mapping[str, Mapping[str, str]]


class DisksProvider(Provider):
    """Compares the disks that are there with those that are wanted."""

    compared = ("testbed", "disks")

    def check(self, _olds: Props, news: Props) -> CheckResult:
        """Refuse the loss of a disk, unless it is allowed."""
        before, after = _olds.get("disks") or {}, news["disks"]
        same = _olds.get("testbed") == news["testbed"]
        losses = [] if news.get("replace") else lost(before, after if same else {})
        # No property is named, or Pulumi would put all of its value before the reason.
        return CheckResult(news, [CheckFailure("", refusal(losses))] if losses else [])

    def create(self, props: Props) -> CreateResult:
        """Note the disks."""
        return CreateResult("disks", dict(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Note the disks."""
        return UpdateResult(dict(_news))


class Disks(pulumi.dynamic.Resource, module="testbed", name="Disks"):
    """The guard; whatever makes or removes disks depends on it."""

    def __init__(
        self,
        name: str,
        testbed: str,
        disks: Kept,
        *,
        replace: bool,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Declare it.

        Args:
            name: the resource's.
            testbed: whose disks they are.
            disks: what ``kept`` returned.
            replace: whether disks may be lost.
            opts: the resource's.
        """
        props: dict[str, Any] = {"testbed": testbed, "disks": disks, "replace": replace}
        super().__init__(DisksProvider(), name, props, opts)


def kept(machines: Mapping[str, Machine], image: str) -> dict[str, dict[str, str]]:
    """Return the disks of machines, as the guard compares them."""
    return {
        name: {
            ROOT: f"image {image[:12]} on {machine.host.name}",
            **{
                disk: f"{units.show_size(known.size)} on {machine.host.name}"
                for disk, known in machine.node.disks.items()
            },
        }
        for name, machine in machines.items()
    }


def lost(before: Kept, after: Kept) -> list[str]:
    """Return what would be lost, a disk a line.

    The root disk of a node that goes is no loss: nothing was meant to stay there.
    """
    return [
        f"{node}'s {disk} ({was} → {after.get(node, {}).get(disk, 'gone')})"
        for node, disks in sorted(before.items())
        for disk, was in sorted(disks.items())
        if after.get(node, {}).get(disk) != was and (node in after or disk != ROOT)
    ]


def refusal(losses: list[str]) -> str:
    """Return why a change is refused, in one line."""
    more = f" and {len(losses) - _MOST} more" if len(losses) > _MOST else ""
    return (
        f"this would destroy what is on {', '.join(losses[:_MOST])}{more}; to allow it: "
        "pulumi config set replace_disks true"
    )
