# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

from pkgctl.local import namespaces

MOUNTS = """\
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
binfmt /proc/sys/fs/binfmt_misc autofs rw 0 0
tmpfs /run tmpfs rw 0 0
tmpfs /run/user/0 tmpfs rw 0 0
tmpfs /runner tmpfs rw 0 0
/dev/vdb /home ext4 rw 0 0
/dev/vdb /home ext4 rw 0 0
/dev/vdc /opt/tools ext4 ro 0 0
"""


def test_a_node_sees_the_machines_other_file_systems_once_and_not_its_own_kind():
    assert namespaces.carried_mounts(MOUNTS) == ("/runner", "/home", "/opt/tools")


def test_what_a_nodes_own_folders_would_hide_is_carried_by_its_outermost_folder() -> None:
    places = ["/tmp/lab/.venv", "/tmp/lab", "/usr", "/run/tools", "/tmpfiles", "/tmp/lab"]

    found = namespaces.hidden_folders(Path(place) for place in places)

    assert found == ("/run/tools", "/tmp/lab")
