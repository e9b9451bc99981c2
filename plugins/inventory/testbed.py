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
  - Lists the nodes of a testbed that C(pkgctl up) made on this machine, from the state that it
    keeps. Without a testbed it warns and lists nothing.
  - All nodes are in the group C(nodes), and each in one group for its site, its kind and its role,
    such as C(site_edge_a), C(kind_server) and C(role_edge).
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
    description: The file with the testbed's state. C(/run/pkgctl/TESTBED/state.json) if left out.
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

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display
from ansible.vars import reserved

from ..module_utils import words

display = Display()

GROUP = "nodes"
FORMAT = 1


class InventoryModule(BaseInventoryPlugin):
    NAME = "pkgctl.testbed.testbed"

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add the testbed's nodes to the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        allow_words()
        try:
            state = read_state(self._path())
        except AnsibleParserError as error:
            # Ansible would try every other plugin on this file and tell of each failure at length.
            display.warning(error.message)
            self.inventory.set_variable("all", "pkgctl_problem", error.message)
        else:
            self._add_nodes(state)

    def _path(self) -> Path:
        name = self.get_option("testbed")
        return Path(self.get_option("state") or f"/run/pkgctl/{name}/state.json")

    def _add_nodes(self, state: Mapping[str, Any]) -> None:
        """Add each node with its variables and to its groups."""
        self.inventory.add_group(GROUP)
        self.inventory.set_variable("all", "pkgctl_testbed", state["testbed"])
        self.inventory.set_variable(GROUP, "ansible_connection", "pkgctl.testbed.node")
        self.inventory.set_variable(GROUP, "ansible_python_interpreter", sys.executable)
        for name, node in state["nodes"].items():
            self.inventory.add_host(name, group=GROUP)
            for variable, value in host_variables(node).items():
                self.inventory.set_variable(name, variable, value)
            for kind in ("site", "kind", "role"):
                if node.get(kind):
                    group = to_safe_group_name(f"{kind}_{node[kind]}", force=True, silent=True)
                    self.inventory.add_child(self.inventory.add_group(group), name)


def allow_words() -> None:
    """Let the words of a perturbation be variables without a warning.

    Some of them (delay, name) are keywords of tasks too. Ansible tells of that at every run, though
    ``-e delay=40ms`` is what is meant here; it offers no setting to turn that off.
    """
    names = getattr(reserved, "_RESERVED_NAMES", None)
    if isinstance(names, frozenset):
        reserved._RESERVED_NAMES = names.difference(words.WORDS)


def read_state(path: Path) -> Mapping[str, Any]:
    """Return the state that a file holds.

    Raises:
        AnsibleParserError: if there is none, or none that this version can read.
    """
    try:
        state = json.loads(path.read_text())
    except FileNotFoundError:
        raise AnsibleParserError(f"no testbed is up: run pkgctl up (there is no {path})") from None
    except OSError as error:
        raise AnsibleParserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise AnsibleParserError(f"{path} is not a testbed's state: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or "nodes" not in state:
        raise AnsibleParserError(f"{path} is not a testbed's state of format {FORMAT}")
    return state


def host_variables(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's own variables; what all nodes share is on their group."""
    return {
        "pkgctl_site": node["site"],
        "pkgctl_kind": node["kind"],
        "pkgctl_role": node["role"],
        "pkgctl_labels": node["labels"],
        "pkgctl_address": node["address"],
        "pkgctl_disks": sorted(node["disks"]),
        "pkgctl_namespaces": node["namespaces"],
        "pkgctl_cgroup": node["cgroup"],
        "pkgctl_directory": node["directory"],
    }
