# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes' own part: they answer by SSH, and the playbook has made nodes of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, UpdateResult

from pkgctl.errors import TestbedError
from pkgctl.remote import ssh
from testbed.provider import Props, Provider, say

# Ansible forks, which a process with threads must not: so it is played in one of its own.
_PLAY = """
import json, sys
from pkgctl import playbook
from pkgctl.errors import PkgctlError
try:
    print(playbook.play("site.yml", json.loads(sys.argv[2]), testbed=sys.argv[1]).changed)
except PkgctlError as error:
    sys.exit(str(error))
"""


class SettledProvider(Provider):
    """Waits for the nodes and plays the playbook, when they are new and when they are others."""

    compared = ("machines", "nodes", "links", "impairment")
    replaced = ("testbed",)

    def create(self, props: Props) -> CreateResult:
        """Settle all nodes."""
        return CreateResult(props["testbed"], _settle(props))

    def update(self, _id: str, _olds: Props, _news: Props) -> UpdateResult:
        """Settle all nodes again; on those that are as they should be nothing changes."""
        return UpdateResult(_settle(_news))


class Settled(pulumi.dynamic.Resource, module="testbed", name="Settled"):
    """The nodes, settled."""

    def __init__(
        self, name: str, props: Mapping[str, Any], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Declare it.

        Args:
            name: the resource's.
            props: the testbed, the path of its record, seconds of patience and the impairment; and
                what calls for settling again when it changes: machines, nodes, links.
            opts: the resource's.
        """
        super().__init__(SettledProvider(), name, dict(props), opts)


def _settle(props: Props) -> Props:
    record = json.loads(Path(props["path"]).read_text())
    ssh.wait_for_ssh(ssh.targets(record), time.monotonic() + props["patience"], say)
    began = time.monotonic()
    variables = {"pkgctl_impairment": props["impairment"]}
    changes = _play(props["testbed"], variables)
    nodes = len(record["nodes"])
    say(f"{nodes} nodes are set up: {changes} changes, {time.monotonic() - began:.0f} s")
    return dict(props)


def _play(testbed: str, variables: Mapping[str, Any]) -> int:
    """Play site.yml and return how many tasks changed anything.

    Raises:
        TestbedError: with what the hosts that failed said.
    """
    played = subprocess.run(
        [sys.executable, "-c", _PLAY, testbed, json.dumps(variables)],
        capture_output=True,
        text=True,
        check=False,
    )
    if played.returncode:
        said = played.stderr.strip().splitlines() or ["it was ended"]
        raise TestbedError(f"the nodes could not be set up: {said[-1]}")
    return int(played.stdout.split()[-1])
