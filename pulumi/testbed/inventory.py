# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed's record as an Ansible inventory, for those who keep no state of ours.

``pulumi stack output inventory --json > lab.json`` makes a file that ``ansible -i lab.json`` reads.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from pkgctl.nodeside import records
from pkgctl.remote import ssh

GROUPS = ("site", "kind", "role")


def inventory(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inventory: all nodes in the group nodes, and in one for each of GROUPS."""
    groups: dict[str, dict[str, Any]] = {"nodes": {}}
    for name, node in record["nodes"].items():
        groups["nodes"][name] = _variables(record, name, node)
        for kind in GROUPS:
            groups.setdefault(_group(kind, node[kind]), {})[name] = {}
    children = {group: {"hosts": hosts} for group, hosts in groups.items()}
    return {"all": {"children": children, "vars": {"pkgctl_testbed": record["testbed"]}}}


def _group(kind: str, name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "_", f"{kind}_{name}")


def _variables(record: Mapping[str, Any], name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    way = _by_ssh(record, name, node) if "access" in record else _inside(node)
    return {**way, **records.described(node)}


def _inside(node: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "ansible_connection": "pkgctl.testbed.node",
        "pkgctl_namespaces": node["namespaces"],
    }


def _by_ssh(record: Mapping[str, Any], name: str, node: Mapping[str, Any]) -> dict[str, Any]:
    access = record["access"]
    options = {
        "UserKnownHostsFile": access["known_hosts"],
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": name,
    }
    if jump := ssh.jump(node["uri"]):
        options["ProxyJump"] = jump
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return {
        "ansible_connection": "ssh",
        "ansible_host": node["host"],
        "ansible_user": access["user"],
        "ansible_port": access["port"],
        "ansible_ssh_private_key_file": access["key"],
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": shlex.join(words),
        "pkgctl_domain": node["domain"],
        "pkgctl_uri": node["uri"],
    }
