#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: quota
short_description: Bound a node's CPU, memory, disk throughput and processes
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Bounds what all processes of this node may use together, as a named layer. Of several layers the
    smallest limit holds.
  - Works on control groups of version 1 and of version 2.
options:
  cpu:
    description: Cores, such as V(0.5) or V(500m).
    type: str
  memory:
    description:
      - Bytes of memory, such as V(128Mi).
      - Less than what is in use is refused, unless O(force) is true.
    type: str
  io:
    description: Bytes a second, such as V(10Mi), for reads and for writes of the disks alike.
    type: str
  read_bps:
    description: Bytes a second that may be read from the node's disks. Overrides O(io).
    type: str
  write_bps:
    description: Bytes a second that may be written to the node's disks. Overrides O(io).
    type: str
  read_iops:
    description: Reads a second.
    type: int
  write_iops:
    description: Writes a second.
    type: int
  pids:
    description: Processes and threads.
    type: int
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.layer
  - module: pkgctl.testbed.perturbation
"""

EXAMPLES = r"""
- name: The node has a fifth of a core and 128 MiB
  pkgctl.testbed.quota:
    cpu: 200m
    memory: 128Mi

- name: The disks are slow
  pkgctl.testbed.quota:
    layer: worn-disk
    read_bps: 10Mi
    write_bps: 2Mi

- name: The node has again what its topology gives it
  pkgctl.testbed.quota:
    layer: "*"
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["cpu: 200m"]
diff:
  description: The limits before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.QUOTA, supports_check_mode=True), parts.set_quota)


if __name__ == "__main__":
    main()
