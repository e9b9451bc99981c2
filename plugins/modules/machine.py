#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: machine
short_description: Prepare a machine to be a node
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Makes folders and files, installs the code of the nodes, sets what the kernel can be told, and
    enables and starts units of systemd. All of it is one task, since on an emulated machine each
    task takes seconds.
  - Of what is asked only what differs is changed. What is not asked is left as it is.
attributes:
  action:
    description:
      - Has a corresponding action plugin, which packs the code of the nodes on the controller, and
        sends it along where another is installed.
    support: full
  check_mode:
    description: Can run in check mode.
    support: full
  diff_mode:
    description: Will return details on what has changed when in diff mode.
    support: full
options:
  folders:
    description: Folders that are to be there.
    type: list
    elements: path
    default: []
  files:
    description: The content of files by their paths. A file that was there keeps its mode.
    type: dict
    default: {}
  blocks:
    description:
      - Lines by the paths of files that others write too. They come first in the file, between two
        marks. Without lines the marks go too.
    type: dict
    default: {}
  sysctls:
    description:
      - Settings of the kernel, by their paths below C(/proc/sys). They hold until the machine is
        started again; write a file for longer. One that the kernel lacks is passed over.
    type: dict
    default: {}
  enabled:
    description: Units that come up with the machine.
    type: list
    elements: str
    default: []
  started:
    description: Units that run now.
    type: list
    elements: str
    default: []
  code:
    description: Whether the code of the nodes is to be installed, and compiled there.
    type: bool
    default: false
  digest:
    description: What tells the code apart. The action plugin sets it.
    type: str
  archive:
    description: The code as a packed tar file in base64. The action plugin sets it.
    type: str
  agent:
    description:
      - Whether the node's agent is made of this. If anything changes, M(pkgctl.testbed.node) starts
        the agent again when it is called next.
    type: bool
    default: false
seealso:
  - module: pkgctl.testbed.node
"""

EXAMPLES = r"""
- name: The folder of the node is there after each start of the machine
  pkgctl.testbed.machine:
    folders: [/var/lib/pkgctl]
    files:
      /etc/systemd/system/run-pkgctl.mount: "{{ lookup('template', 'run-pkgctl.mount.j2') }}"
    enabled: [run-pkgctl.mount]
    started: [run-pkgctl.mount]

- name: The code of the nodes is that of this collection
  pkgctl.testbed.machine:
    code: true
    agent: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/gai.conf"]
diff:
  description: The files and settings before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import preparing
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**preparing.MACHINE, supports_check_mode=True), preparing.prepare)


if __name__ == "__main__":
    main()
