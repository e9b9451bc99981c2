# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles of K3s keep on the controller for hosts of a handwritten inventory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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
    - ansible.builtin.debug: {msg: "{{ k3s_token }} {{ k3s_agent_token }}"}
      when: not forgets | default(false) | bool
"""


def play(folder: Path, *words: str) -> None:
    """Play what is in a folder, which has its inventory beside other things."""
    hosts, playbook = folder / "hosts.yml", folder / "play.yml"
    hosts.write_text(HOSTS)
    playbook.write_text(PLAY)
    subprocess.run(
        [f"{sys.prefix}/bin/ansible-playbook", "-i", hosts, playbook, *words],
        cwd=ANSIBLE,
        timeout=120,
        check=True,
    )


def test_secrets_have_a_folder_of_their_own_beside_the_inventory_and_alone_go_again(tmp_path):
    play(tmp_path, "--check")
    assert not (tmp_path / ".k3s").exists()

    play(tmp_path)
    assert {each.name for each in (tmp_path / ".k3s").iterdir()} == {"token", "agent-token"}
    assert {each.stat().st_mode & 0o777 for each in (tmp_path / ".k3s").iterdir()} == {0o600}

    (tmp_path / ".k3s" / "own").touch()
    play(tmp_path, "-e", "forgets=true")
    assert [each.name for each in (tmp_path / ".k3s").iterdir()] == ["own"]

    (tmp_path / ".k3s" / "own").unlink()
    play(tmp_path, "-e", "forgets=true")
    assert not (tmp_path / ".k3s").exists()
    assert (tmp_path / "play.yml").exists()
