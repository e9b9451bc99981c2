# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: testbed
short_description: The nodes of a running testbed
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Lists the nodes of a testbed that C(pkgctl up) or C(pulumi up) made, from the state that these
    keep. Without a testbed it warns and lists nothing.
  - All nodes are in the group C(nodes), and each in one group for its site, its kind and its role,
    such as C(site_edge_a), C(kind_server) and C(role_edge).
  - For a cluster of K3s each is in C(server) or C(agent), both of them in C(k3s_cluster), as its
    label C(k3s) says, which can be C(server), C(agent) or C(none). Without labels the first node of
    role C(cloud), else the first of all, is the server.
  - Nodes on this machine are entered by the connection C(pkgctl.testbed.node), virtual machines by
    SSH, with the testbed's own key and to host keys known beforehand. A virtual machine also has
    C(pkgctl_domain) and C(pkgctl_uri), by which libvirt knows it, C(pkgctl_identity) and
    C(pkgctl_base), which are what it is to be, and C(pkgctl_controller_directory), where its layers
    of health are.
  - C(pkgctl_code) is the folder in which a node finds the code of this collection.
  - The words of M(pkgctl.testbed.perturbation) may then be given with C(-e) without a warning, also
    those that are keywords of tasks, such as C(delay).
options:
  plugin:
    description: Marks a file as a source for this plugin.
    type: str
    required: true
    choices: [pkgctl.testbed.testbed]
  testbed:
    description: The testbed's name.
    type: str
    default: default
    env:
      - name: PKGCTL_TESTBED
  state:
    description:
      - The file with the testbed's state.
      - If left out it is C(/run/pkgctl/TESTBED/state.json), where local testbeds are, and if that
        is not there C(TESTBED/state.json) in C($PKGCTL_STATE), by default the folder C(pkgctl) in
        C($XDG_STATE_HOME), where those of virtual machines are.
    type: str
"""

EXAMPLES = r"""
# inventories/testbed.yml
plugin: pkgctl.testbed.testbed

---
# A testbed with a name of its own
plugin: pkgctl.testbed.testbed
testbed: lab
"""

import os
import sys
from pathlib import Path
from typing import Any

from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display
from ansible.vars import reserved

from ..module_utils import daemon, preparing, words
from ..plugin_utils import records

display = Display()

GROUP = "nodes"
CLUSTER = "k3s_cluster"


class InventoryModule(BaseInventoryPlugin):
    NAME = "pkgctl.testbed.testbed"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the testbed's nodes to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        allow_words()
        try:
            place, record = records.read(*self._places())
        except records.RecordError as error:
            # Ansible would try every other plugin on this file and tell of each failure at length.
            display.warning(str(error))
            self.inventory.set_variable("all", "pkgctl_problem", str(error))
        else:
            self._add_nodes(record, place.parent)

    def _places(self) -> tuple[Path, ...]:
        if given := self.get_option("state"):
            return (Path(given),)
        return records.places(self.get_option("testbed"), os.environ, Path.home())

    def _add_nodes(self, record: records.Record, folder: Path) -> None:
        """Add each node with its variables and to its groups."""
        self.inventory.add_group(GROUP)
        self.inventory.set_variable("all", "pkgctl_testbed", record["testbed"])
        for variable, value in shared(record).items():
            self.inventory.set_variable(GROUP, variable, value)
        for name, node in record["nodes"].items():
            self.inventory.add_host(name, group=GROUP)
            for variable, value in records.variables(record, name, folder).items():
                self.inventory.set_variable(name, variable, value)
            for kind in ("site", "kind", "role"):
                if node.get(kind):
                    group = to_safe_group_name(f"{kind}_{node[kind]}", force=True, silent=True)
                    self.inventory.add_child(self.inventory.add_group(group), name)
        self.inventory.set_variable(GROUP, "pkgctl_controller_folder", str(folder))
        self._add_cluster(record)

    def _add_cluster(self, record: records.Record) -> None:
        self.inventory.add_group(CLUSTER)
        for group in (records.SERVER, records.AGENT):
            self.inventory.add_child(CLUSTER, self.inventory.add_group(group))
        for name, group in records.cluster(record).items():
            self.inventory.add_child(group, name)


def shared(record: records.Record) -> dict[str, Any]:
    """Return the variables that all nodes share: how they are entered, and where our code is."""
    if records.is_remote(record):
        return {**records.common(record), "pkgctl_code": preparing.CODE}
    return {
        "ansible_connection": "pkgctl.testbed.node",
        "ansible_python_interpreter": sys.executable,
        "pkgctl_code": str(daemon.import_root()),
    }


def allow_words() -> None:
    """Let the words of a perturbation be variables without a warning.

    Some of them (delay, name) are keywords of tasks too. Ansible tells of that at every run, though
    ``-e delay=40ms`` is what is meant here; it offers no setting to turn that off.
    """
    names = getattr(reserved, "_RESERVED_NAMES", None)
    if isinstance(names, frozenset):
        reserved._RESERVED_NAMES = names.difference(words.WORDS)
