# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleParserError
from ansible.vars import reserved

from ansible_collections.pkgctl.testbed.plugins.inventory import testbed

ANSIBLE = Path(__file__).parents[3] / "ansible"
NODE = {
    "site": "edge-a",
    "kind": "tiny",
    "role": "edge",
    "labels": {"gpu": "no"},
    "address": "10.77.0.2",
    "interface": "eth0",
    "cpu": 1.0,
    "memory": 1 << 28,
    "pids": 256,
    "disks": {"data": {"size": 1 << 26, "mount": "/data"}},
    "namespaces": "/run/pkgctl/test/ns/edge-1",
    "cgroup": "pkgctl/test/edge-1",
    "directory": "/run/pkgctl/test/nodes/edge-1",
}
STATE = {
    "format": 1,
    "testbed": "test",
    "nodes": {"edge-1": NODE, "cloud-1": {**NODE, "site": "cloud", "role": "cloud"}},
}


def listing(folder: Path, state: object) -> tuple[dict[str, Any], str]:
    """Return what ansible-inventory lists for a state, and its warnings."""
    if state is not None:
        (folder / "state.json").write_text(json.dumps(state))
    source = folder / "testbed.yml"
    source.write_text(f"plugin: pkgctl.testbed.testbed\nstate: {folder}/state.json\n")
    command = [f"{Path(sys.executable).parent}/ansible-inventory", "-i", str(source), "--list"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "COLUMNS": "400"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout, object_hook=plain), done.stderr


def plain(value: dict[str, Any]) -> Any:
    """Return a text that Ansible marked as no template as the text."""
    return value["__ansible_unsafe"] if [*value] == ["__ansible_unsafe"] else value


def test_the_nodes_are_grouped_by_site_kind_and_role(tmp_path):
    listed, warnings = listing(tmp_path, STATE)

    hosts = {group: body["hosts"] for group, body in listed.items() if "hosts" in body}
    assert hosts == {
        "nodes": ["edge-1", "cloud-1"],
        "site_edge_a": ["edge-1"],
        "site_cloud": ["cloud-1"],
        "kind_tiny": ["edge-1", "cloud-1"],
        "role_edge": ["edge-1"],
        "role_cloud": ["cloud-1"],
    }
    assert warnings == ""


def test_a_node_has_its_facts_and_the_way_into_it_as_variables(tmp_path):
    listed, _ = listing(tmp_path, STATE)

    variables = listed["_meta"]["hostvars"]["edge-1"]
    interpreter = Path(variables.pop("ansible_python_interpreter"))
    assert interpreter.parent == Path(sys.executable).parent
    assert variables == {
        "ansible_connection": "pkgctl.testbed.node",
        "pkgctl_testbed": "test",
        "pkgctl_site": "edge-a",
        "pkgctl_kind": "tiny",
        "pkgctl_role": "edge",
        "pkgctl_labels": {"gpu": "no"},
        "pkgctl_address": "10.77.0.2",
        "pkgctl_disks": ["data"],
        "pkgctl_namespaces": "/run/pkgctl/test/ns/edge-1",
        "pkgctl_cgroup": "pkgctl/test/edge-1",
        "pkgctl_directory": "/run/pkgctl/test/nodes/edge-1",
    }


def test_without_a_testbed_there_is_one_clear_line(tmp_path):
    listed, warnings = listing(tmp_path, None)

    assert listed["_meta"]["hostvars"] == {}
    message = f"no testbed is up: run pkgctl up (there is no {tmp_path}/state.json)"
    assert warnings.strip() == f"[WARNING]: {message}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", "is not a testbed's state: Expecting"),
        ("[]", "is not a testbed's state of format 1"),
        ('{"format": 2, "nodes": {}}', "is not a testbed's state of format 1"),
        ('{"format": 1}', "is not a testbed's state of format 1"),
    ],
)
def test_a_file_that_is_no_state_is_named(tmp_path, text, error):
    path = tmp_path / "state.json"
    path.write_text(text)

    with pytest.raises(AnsibleParserError) as caught:
        testbed.read_state(path)

    assert caught.value.message.startswith(f"{path} {error}")


def test_the_words_of_a_perturbation_are_no_reserved_names_any_more(monkeypatch):
    monkeypatch.setattr(reserved, "_RESERVED_NAMES", frozenset({"delay", "loop", "name", "when"}))

    testbed.allow_words()

    assert not any(map(reserved.is_reserved_name, ("delay", "name", "when")))
    assert reserved.is_reserved_name("loop")
