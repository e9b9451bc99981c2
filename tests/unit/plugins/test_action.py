# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.pkgctl.testbed.plugins.action import perturbation
from ansible_collections.pkgctl.testbed.plugins.module_utils.selection import Node


class HostVars:
    """The variables of hosts, as Ansible hands them to an action."""

    def __init__(self, hosts: dict[str, dict[str, Any]]) -> None:
        self._hosts = hosts

    def raw_get(self, name: str) -> dict[str, Any]:
        return self._hosts[name]


EDGE = {"pkgctl_site": "edge-a", "pkgctl_role": "edge", "pkgctl_disks": ["data"]}


def test_variables_for_ansible_and_for_the_inventory_are_no_words():
    variables = {"bw": "5mbit", "ansible_python_interpreter": "x", "pkgctl_limits": False}

    assert perturbation.given_words(variables) == {"bw": "5mbit"}


def test_the_nodes_of_the_inventory_are_known_by_their_variables():
    hosts = {"edge-1": {**EDGE, "pkgctl_labels": {"rack": 3}}, "old": {}}
    task_vars = {"groups": {"nodes": ["edge-1", "old"]}, "hostvars": HostVars(hosts)}

    assert perturbation.nodes(task_vars) == [
        Node("edge-1", "edge-a", "edge", "", {"rack": "3"}, ("data",)),
        Node("old"),
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"pkgctl_problem": "no testbed is up: run pkgctl up"}, "no testbed is up: run pkgctl up"),
        ({}, "the inventory has no group 'nodes'"),
    ],
)
def test_an_inventory_without_nodes_is_refused_with_its_own_reason(more, message):
    with pytest.raises(ValueError) as caught:
        perturbation.nodes({"groups": {"all": []}, **more})

    assert str(caught.value) == message
