# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.vars import reserved

from ansible_collections.pkgctl.testbed.plugins.inventory import testbed

from .recorded import record

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
    return listed_from(source)


def listed_from(source: Path, **variables: str) -> tuple[dict[str, Any], str]:
    """Return what ansible-inventory lists from a source, and its warnings."""
    command = [f"{Path(sys.executable).parent}/ansible-inventory", "-i", str(source), "--list"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg"), "COLUMNS": "400"}
    environment.update(variables)
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
        "server": ["cloud-1"],
        "agent": ["edge-1"],
    }
    assert set(listed["k3s_cluster"]["children"]) == {"server", "agent"}
    assert warnings == ""


def test_a_node_has_its_facts_and_the_way_into_it_as_variables(tmp_path):
    listed, _ = listing(tmp_path, STATE)

    variables = listed["_meta"]["hostvars"]["edge-1"]
    interpreter = Path(variables.pop("ansible_python_interpreter"))
    code = Path(variables.pop("pkgctl_code"))
    assert interpreter.parent == Path(sys.executable).parent
    assert (code / "ansible_collections/pkgctl/testbed/plugins/module_utils/agent.py").is_file()
    assert variables == {
        "ansible_connection": "pkgctl.testbed.node",
        "pkgctl_testbed": "test",
        "pkgctl_controller_folder": str(tmp_path),
        "pkgctl_cpu": 1.0,
        "pkgctl_memory": 1 << 28,
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


def test_virtual_machines_are_reached_by_ssh_with_the_testbeds_own_keys(tmp_path):
    listed, warnings = listing(tmp_path, record())

    variables = listed["_meta"]["hostvars"]["edge-1"]
    known = "-o 'UserKnownHostsFile=\"/state/lab/known_hosts\"' -o StrictHostKeyChecking=yes"
    assert warnings == ""
    assert variables["ansible_ssh_common_args"].startswith(
        f"{known} -o GlobalKnownHostsFile=/dev/null -o HostKeyAlias=edge-1"
    )
    own = ("connection", "host", "user", "port", "ssh_private_key_file", "python_interpreter")
    assert [variables[f"ansible_{key}"] for key in own] == [
        *("ssh", "192.168.177.11", "root", 22, "/state/lab/id_ed25519", "/usr/bin/python3"),
    ]
    assert {key: variables[f"pkgctl_{key}"] for key in ("domain", "uri", "site", "testbed")} == {
        "domain": "pkgctl.lab.edge-1",
        "uri": "qemu:///system",
        "site": "edge-a",
        "testbed": "lab",
    }
    assert variables["pkgctl_controller_directory"] == f"{tmp_path}/nodes/edge-1"
    assert variables["pkgctl_base"]["limits"] == {"cpu": 1.0, "memory": 1 << 28, "pids": 256}
    assert variables["pkgctl_identity"]["peers"] == {"cloud-1": "10.77.0.2"}
    assert "pkgctl_namespaces" not in variables
    assert variables["pkgctl_code"] == "/usr/local/lib/pkgctl"
    assert listed["site_edge_a"]["hosts"] == ["edge-1"]


def test_a_testbed_of_virtual_machines_is_found_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "state.json").write_text(json.dumps(record()))
    source = tmp_path / "testbed.yml"
    source.write_text("plugin: pkgctl.testbed.testbed\n")
    monkeypatch.setenv("PKGCTL_STATE", str(tmp_path))

    found, _ = listed_from(source, PKGCTL_TESTBED="lab")
    assert found["_meta"]["hostvars"]["cloud-1"]["pkgctl_testbed"] == "lab"

    _, warnings = listed_from(source, PKGCTL_TESTBED="other")
    assert warnings.strip() == (
        "[WARNING]: no testbed is up: run pkgctl up (there is no /run/pkgctl/other/state.json"
        f" and no {tmp_path}/other/state.json)"
    )


def test_a_bad_record_is_one_line(tmp_path):
    bad = record()
    bad["nodes"]["edge-1"]["uri"] = "http://example.invalid"

    listed, warnings = listing(tmp_path, bad)

    assert listed["_meta"]["hostvars"] == {}
    assert warnings.strip() == (
        f"[WARNING]: {tmp_path}/state.json is not a testbed's state:"
        " the uri of node edge-1 is none of libvirt: 'http://example.invalid'"
    )


def test_the_words_of_a_perturbation_are_no_reserved_names_any_more(monkeypatch):
    monkeypatch.setattr(reserved, "_RESERVED_NAMES", frozenset({"delay", "loop", "name", "when"}))

    testbed.allow_words()

    assert not any(map(reserved.is_reserved_name, ("delay", "name", "when")))
    assert reserved.is_reserved_name("loop")
