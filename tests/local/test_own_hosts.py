# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles of K3s keep on the controller for hosts of a handwritten inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ANSIBLE = Path(__file__).parents[2] / "ansible"
HOSTS = """
all:
  children:
    k3s_cluster: {children: {server: {hosts: {here: {ansible_connection: local}}}, agent: {}}}
"""
PLAY = """
- hosts: server
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: k3s_node, tasks_from: forget}
      when: forgets | default(false) | bool
    - ansible.builtin.import_role: {name: k3s_node, tasks_from: secrets}
      when: not forgets | default(false) | bool
"""


def play(folder: Path, *words: str) -> str:
    """Play what is in a folder, beside its inventory and other things, and return its words."""
    hosts, playbook = folder / "hosts.yml", folder / "play.yml"
    hosts.write_text(HOSTS)
    playbook.write_text(PLAY)
    done = ansible(playbook, hosts, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def ansible(playbook: str | Path, inventory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Return how a playbook on some hosts ended."""
    return subprocess.run(
        [f"{sys.prefix}/bin/ansible-playbook", "-i", inventory, playbook, *words],
        cwd=ANSIBLE,
        env={**os.environ, "COLUMNS": "400"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_secrets_have_a_folder_of_their_own_beside_the_inventory_and_alone_go_again(tmp_path):
    folder = tmp_path / ".k3s" / "hosts.yml"
    play(tmp_path, "--check")
    assert not folder.parent.exists()

    play(tmp_path)
    assert {each.name for each in folder.iterdir()} == {"token", "agent-token"}
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    drawn = {each.read_text() for each in folder.iterdir()}
    assert len(drawn) == 2 and all(len(each.strip()) == 48 for each in drawn)
    play(tmp_path)
    assert {each.read_text() for each in folder.iterdir()} == drawn

    (folder / "own").touch()
    play(tmp_path, "-e", "forgets=true")
    assert [each.name for each in folder.iterdir()] == ["own"]

    (folder / "own").unlink()
    (folder.parent / "another").mkdir()  # an inventory's in the same folder
    play(tmp_path, "-e", "forgets=true")
    assert [each.name for each in folder.parent.iterdir()] == ["another"]

    (folder.parent / "another").rmdir()
    play(tmp_path, "-e", "forgets=true")
    assert not folder.parent.exists()
    assert (tmp_path / "play.yml").exists()


def test_an_empty_file_is_no_secret_and_what_was_given_is_not_drawn(tmp_path):
    folder = tmp_path / ".k3s" / "hosts.yml"
    folder.mkdir(parents=True)
    (folder / "token").touch()  # of a run that was killed

    said = play(tmp_path, "-e", "agent_token=given", "--diff", "-vv")

    assert [each.name for each in folder.iterdir()] == ["token"]
    token = (folder / "token").read_text().strip()
    assert len(token) == 48 and token not in said


def test_the_folder_is_there_though_both_secrets_are_given(tmp_path):
    play(tmp_path, "-e", "token=given", "-e", "agent_token=given")

    assert list((tmp_path / ".k3s" / "hosts.yml").iterdir()) == []


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        (
            {"server": {"here": {"ansible_host": "127.0.0.1"}}, "agent": {"there": {}}},
            "api_endpoint is 127.0.0.1, where no other host reaches it",
        ),
        (
            {"server": {"here": {"ansible_host": "fd00::1"}}},
            "api_endpoint is fd00::1; nodes reach each other by IPv4 here",
        ),
        ({"server": {"one": {}, "two": {}}}, "the group server has 2 hosts"),
        ({"agent": {"one": {}}}, "the group server has 0 hosts"),
        ({"server": {"Edge_1": {}}}, "a node cannot be called Edge_1"),
    ],
)
def test_hosts_that_cannot_be_a_cluster_are_refused_before_anything(tmp_path, hosts, said):
    groups = {group: {"hosts": each} for group, each in hosts.items()}

    assert said in refused(tmp_path, groups)

    assert [each.name for each in tmp_path.iterdir()] == ["hosts.yml"]


def refused(folder: Path, groups: object, *words: str) -> str:
    """Return what is said of hosts that are not made a cluster; all are this machine."""
    inventory = folder / "hosts.yml"
    apart = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "k3s_data_dir": str(folder / "{{ inventory_hostname }}"),
    }
    inventory.write_text(json.dumps({"k3s_cluster": {"vars": apart, "children": groups}}))
    done = ansible("k3s/site.yml", inventory, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stdout


def test_a_first_server_alone_does_not_begin_another_cluster(tmp_path):
    servers = {"server": {"hosts": {"one": {}, "two": {}, "three": {}}}}

    said = refused(tmp_path, servers, "--limit", "one")

    assert "only the other servers know: have two, three in the play too" in said
    assert [each.name for each in tmp_path.iterdir()] == ["hosts.yml"]


@pytest.mark.parametrize("kept", [(), ("token",)])
def test_a_cluster_that_is_there_gets_no_other_secrets(tmp_path, kept):
    (tmp_path / "one" / "server" / "db").mkdir(parents=True)
    secrets = tmp_path / ".k3s" / "hosts.yml"
    secrets.mkdir(parents=True)
    for name in kept:
        (secrets / name).write_text("of the cluster")

    said = refused(tmp_path, {"server": {"hosts": {"one": {}}}})

    assert f"the secrets of the cluster are not in {secrets}" in said
    assert [each.name for each in secrets.iterdir()] == list(kept)
