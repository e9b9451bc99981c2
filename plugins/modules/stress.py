#!/usr/bin/python
# -*- coding: utf-8 -*-
# Copyright: (c) The pkgctl authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: stress
short_description: Load a node beside its jobs
version_added: 0.1.0
author: The pkgctl authors (@pkgctl)
description:
  - Lets stress-ng run on this node, as a named layer. The loads of several layers add up.
  - This is not a limit. The node keeps what it has, and its jobs share it with the load. Limits are
    set by M(pkgctl.testbed.quota).
options:
  cpu:
    description: Workers that compute, such as V(1.5) for one that always and one that half the
      time does.
    type: str
  memory:
    description: Bytes that are taken and kept in use, such as V(64Mi).
    type: str
  io:
    description: Workers that write and read files on the node's first data disk.
    type: int
extends_documentation_fragment:
  - pkgctl.testbed.layer
seealso:
  - module: pkgctl.testbed.layer
  - module: pkgctl.testbed.quota
  - module: pkgctl.testbed.perturbation
"""

EXAMPLES = r"""
- name: A neighbour takes half a core and 64 MiB
  pkgctl.testbed.stress:
    layer: busy
    cpu: 500m
    memory: 64Mi

- name: The neighbour is gone
  pkgctl.testbed.stress:
    layer: busy
    state: absent
"""

RETURN = r"""
actions:
  description: What was done, or would be done, a line each.
  returned: success
  type: list
  elements: str
  sample: ["begin the load of busy: stress-ng --cpu 1"]
diff:
  description: The load before and after, as text.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import parts, specifications
from ..module_utils.answering import answer


def main() -> None:
    answer(AnsibleModule(**specifications.STRESS, supports_check_mode=True), parts.set_stress)


if __name__ == "__main__":
    main()
