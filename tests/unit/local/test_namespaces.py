# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

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
